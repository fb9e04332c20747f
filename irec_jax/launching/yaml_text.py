"""Plain values as YAML, for manifests; reads back as the same values, whatever the words hold."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Only words that no YAML version takes for anything but text stand without quotes.
_BARE = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_KEYWORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def to_yaml(value: Any) -> str:
    """Writes mappings, lists, text, whole numbers and truth values in block style.

    Args:
        value: A mapping or a list that is not empty.

    >>> print(to_yaml({"kind": "Job", "words": ["irec", "a b", "4"], "spot": True}), end="")
    kind: Job
    words:
      - irec
      - "a b"
      - "4"
    spot: true
    """
    return "".join(f"{line}\n" for line in _lines(value))


def _lines(value: Any) -> list[str]:
    lines: list[str] = []
    if isinstance(value, Mapping):
        for key, item in value.items():
            if _is_block(item):
                lines += [f"{_scalar(key)}:", *(f"  {line}" for line in _lines(item))]
            else:
                lines.append(f"{_scalar(key)}: {_scalar(item)}")
        return lines
    for item in value:
        first, *rest = _lines(item) if _is_block(item) else [_scalar(item)]
        lines += [f"- {first}", *(f"  {line}" for line in rest)]
    return lines


def _is_block(value: Any) -> bool:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return bool(value) and (is_list or isinstance(value, Mapping))


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        return "{}" if isinstance(value, Mapping) else "[]"
    if _BARE.fullmatch(value) and value.lower() not in _KEYWORDS:
        return value
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"
