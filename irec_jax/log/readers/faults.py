"""Finds the line of a text table that could not be read: polars names none."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from irec_jax.errors import InputError

SEPARATORS = {"tsv": "\t", "csv": ","}

# A value of a csv file: quoted, with its own quotes doubled, or plain.
_VALUE = re.compile(rb'"[^"]*(?:""[^"]*)*"|[^",\r\n]*')
_RECORD_END = re.compile(rb"\r?\n|\r?\Z")
_SHOWN = 80

Fault = tuple[int, str]


def refuse_duplicate_names(data: bytes, form: str, path: Path) -> None:
    """Refuses a header with a name that is there twice, which polars would rename.

    Args:
        data: The file, UTF-8 in its first line.
        form: `csv` or `tsv`.
        path: The file, for messages.

    Raises:
        InputError: Naming the first such name.
    """
    number, line = next((n, line) for n, line in _lines(data) if line.strip(b"\r\n"))
    text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    names = text.split("\t") if form == "tsv" else next(csv.reader([text]), [])
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        what = f"the header has the column {twice[0]!r} {names.count(twice[0])} times"
        hint = "Rename or remove all but one of these columns."
        raise InputError(what, where=f"{path}, line {number:,}", hint=hint)


def refuse_line(data: bytes, form: str, path: Path, hint: str) -> None:
    """Refuses the first line of a table that is malformed; returns if none is.

    Args:
        data: The file, UTF-8.
        form: `csv`, `tsv` or `jsonl`.
        path: The file, for messages.
        hint: How such a file must be.

    Raises:
        InputError: With the number of the line and what is wrong in it.
    """
    fault = _json_fault(data) if form == "jsonl" else _values_fault(data, form)
    if fault:
        raise InputError(fault[1], where=f"{path}, line {fault[0]:,}", hint=hint)


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    start, number = 0, 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        number += 1
        yield number, data[start:end]
        start = end


def _values_fault(data: bytes, form: str) -> Fault | None:
    """Finds the first record with more values than the header, or with a stray quote."""
    separator = SEPARATORS[form].encode()
    start, line, width = 0, 1, 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        if form == "csv" and b'"' in data[start:end]:
            count, end = _quoted_record(data, start)
            if not end:
                return line, f"a quote that does not enclose a value: {_shown(data, start)}"
        else:
            count = data.count(separator, start, end) + 1
        if width and count > width:
            what = f"{count} values, but the header has {width}: {_shown(data, start)}"
            return line, what
        width = width or (count if data[start:end].strip() else 0)
        line += data.count(b"\n", start, end)
        start = end
    return None


def _quoted_record(data: bytes, start: int) -> tuple[int, int]:
    """Counts the values of a csv record and finds its end, 0 where a quote is stray."""
    count = 0
    while True:
        found = _VALUE.match(data, start)
        start = found.end() if found else start
        count += 1
        end = _RECORD_END.match(data, start)
        if end:
            return count, end.end()
        if data[start : start + 1] != b",":
            return count, 0
        start += 1


def _json_fault(data: bytes) -> Fault | None:
    """Finds the first line that is not a JSON object, or of other types than lines before it."""
    kinds: dict[str, tuple[str, int]] = {}
    for number, line in _lines(data):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8-sig"), parse_constant=_not_json)
        except RecursionError:
            return number, f"the values are nested too deeply: {_shown(line)}"
        except json.JSONDecodeError as error:
            what = f"not JSON ({error.msg} at character {error.colno:,})"
            return number, f"{what}: {_shown(line)}"
        except ValueError as error:
            return number, f"not JSON ({error}): {_shown(line)}"
        if not isinstance(record, dict):
            return number, f"not a JSON object: {_shown(line)}"
        for name, value in record.items():
            kind = _kind(value)
            before, where = kinds.setdefault(name, (kind, number)) if kind else ("", 0)
            if kind != before:
                return number, f"{name!r} is {kind} here and {before} in line {where:,}"
    return None


def _kind(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else "text or a number"


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a value of JSON")


def _shown(data: bytes, start: int = 0) -> str:
    text = data[start : start + 4 * _SHOWN].split(b"\n")[0].decode("utf-8", "replace")
    return repr(text.rstrip("\r")[:_SHOWN])
