"""Frozen settings dataclasses to JSON and back, strictly."""

import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from irec_jax.errors import InputError, nearest, shown

T = TypeVar("T")
SHOWN_CHARACTERS = 60


def to_json(value: Any) -> Any:
    """Turns settings into what `json.dump` can write.

    Dataclasses become dicts of their fields, enums their values, tuples lists, paths strings.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def from_json(cls: type[T], data: Any, *, where: str = "") -> T:
    """Builds the dataclass `cls` from what `to_json` made of one.

    Args:
        cls: The dataclass to build; its field types say how each value is read.
        data: The parsed JSON.
        where: The file and key of `data`, for messages.

    Raises:
        InputError: On an unknown key (with the nearest match) or a value of another type. A
            missing key takes its default.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"expected an object, got {shown(data)}", where=where)
    hints = _hints(cls)
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls))}
    for key in data:
        if key not in fields:
            raise InputError(f"unknown key '{key}'", where=where, hint=nearest(key, fields))
    for key in sorted(fields.keys() - data.keys()):
        if fields[key].default is fields[key].default_factory is dataclasses.MISSING:
            raise InputError(f"the key '{key}' is missing", where=where)
    values = {
        key: _read(hints[key], value, f"{where}.{key}".lstrip(".")) for key, value in data.items()
    }
    return cls(**values)


def check_text(text: str, where: str) -> None:
    """Refuses text that can be no path and cannot be written as UTF-8.

    Args:
        text: An argument or a setting.
        where: Where it was given.

    Raises:
        InputError: It holds a NUL, or bytes that are not UTF-8 (as lone surrogates).
    """
    start = ascii(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}...")
    if "\0" in text:
        advice = "Take the NUL character out of it."
        raise InputError(f"{start} holds a NUL character", where=where, hint=advice)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        advice = "Write it in UTF-8; rename a file whose name is in another encoding."
        raise InputError(f"{start} is not valid UTF-8", where=where, hint=advice) from None


def check_texts(value: Any, where: str) -> None:
    """Applies `check_text` to all texts of what `to_json` made.

    Args:
        value: JSON's types.
        where: The file and key of `value`, for messages.

    Raises:
        InputError: Naming the key.
    """
    if isinstance(value, str):
        check_text(value, where)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            check_texts(item, f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            check_texts(item, where)


def read_fields(settings: Any, prefix: str) -> dict[str, Any]:
    """Reads the fields of a dataclass that was made in Python as the types they are declared with.

    Args:
        settings: The dataclass.
        prefix: What stands before a field's name in messages.

    Raises:
        InputError: A value does not read as the type of its field.
    """
    hints = _hints(type(settings))
    return {
        field.name: _read(hints[field.name], getattr(settings, field.name), f"{prefix}{field.name}")
        for field in dataclasses.fields(settings)
    }


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _read(hint: Any, value: Any, where: str) -> Any:
    """Reads one value as the type `hint`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, hint):
        return value
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, where=where)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _read_enum(hint, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            advice = nearest(str(value), [str(argument) for argument in arguments])
            raise InputError(f"{shown(value)} is not possible", where=where, hint=advice)
        return value
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"expected a list, got {shown(value)}", where=where)
        return tuple(_read(arguments[0], item, where) for item in value)
    if origin is dict:
        return _read_mapping(arguments[1], value, where)
    return _read_plain(hint, value, where)


def _read_mapping(hint: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"expected an object, got {shown(value)}", where=where)
    return {key: _read(hint, item, f"{where}.{key}") for key, item in value.items()}


def _read_enum(hint: type[enum.Enum], value: Any, where: str) -> enum.Enum:
    try:
        return hint(value)
    except ValueError:
        advice = nearest(str(value), [str(member.value) for member in hint])
        raise InputError(f"{shown(value)} is not possible", where=where, hint=advice) from None


def _read_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    rest = [argument for argument in arguments if argument is not type(None)]
    return _read(rest[0], value, where)


def _read_plain(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return _float(value)
    if hint is Path and isinstance(value, str):
        check_text(value, where)
        return Path(value)
    expected = hint if isinstance(hint, type) and hint is not Any else object
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is int):
        raise InputError(f"expected {hint.__name__}, got {shown(value)}", where=where)
    if isinstance(value, str):
        check_text(value, where)
    return value


def _float(value: int) -> float:
    """Infinity for what is too large, so that a check of the range refuses it by its key."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
