"""Frozen settings dataclasses to JSON and back, strictly."""

import dataclasses
import enum
import functools
import importlib
import importlib.util
import math
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import tyro

from irec_jax.errors import InputError, nearest, shown

T = TypeVar("T")
SHOWN_CHARACTERS = 60
_FILE_MODULE = "irec_jax config file "
_HINT_IMPORT = (
    "Run the command in the folder in which the run was tuned, with the same module path, or "
    "put the class back."
)


@dataclasses.dataclass(frozen=True)
class ImportedSettings:
    """Settings whose class is named in JSON by its import path; the class is not imported.

    A field that takes settings of any class, also a user's own, is declared as
    `SomeProtocol | ImportedSettings` (or a tuple of that), with `tyro.conf.Suppress` around it,
    as such a field is set in a config file and not on the command line. `to_json` writes the
    settings as `{"import": "module:Class", "file": ..., "settings": {...}}`, `from_json` reads
    this object back, and `load_settings` imports the class.

    Attributes:
        path: `module:Class`.
        file: The Python file that defines the class, where it is a config file; "" where the
            module is imported by its name.
        settings: The fields of the settings, as JSON.
        where: The file and key that it was read from, for messages.
    """

    path: str
    file: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    where: str = dataclasses.field(default="", compare=False)

    @classmethod
    def of(cls, value: Any, *, where: str = "") -> "ImportedSettings":
        """Names the class of settings and reads their fields.

        Args:
            value: An instance of a dataclass.
            where: The key of `value`, for messages.

        Raises:
            InputError: `value` is not an instance of a dataclass, or its class cannot be imported
                by its name.
        """
        kind = type(value)
        if not dataclasses.is_dataclass(kind):
            hint = "Give an instance of a frozen dataclass."
            raise InputError(
                f"{shown(value)} is not an instance of a dataclass", where=where, hint=hint
            )
        module = sys.modules.get(kind.__module__)
        file = getattr(module, "__config_file__", "")
        if kind.__module__ == "__main__":
            file = getattr(module, "__file__", "")
        if "<locals>" in kind.__qualname__ or (kind.__module__ == "__main__" and not file):
            raise InputError(
                f"the class {kind.__qualname__} cannot be imported by its name",
                where=where,
                hint="Define it at the top level of the config file or of a module.",
            )
        name = Path(file).stem if file else kind.__module__
        return cls(f"{name}:{kind.__qualname__}", file, to_json(value), where)

    def to_json(self) -> dict[str, Any]:
        """The object that `from_json` reads back."""
        file = {"file": self.file} if self.file else {}
        return {"import": self.path, **file, "settings": self.settings}


def name_or_settings(*names: str) -> Any:
    """Returns the annotation of a field that is a name on the command line or settings in a file.

    Args:
        names: The names that are allowed; none for any text.
    """
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{{','.join(names)}}}" if names else "STR",
        instance_from_str=lambda words: words[0],
        is_instance=lambda value: True,
        str_from_instance=lambda value: [value if isinstance(value, str) else type(value).__name__],
        choices=names or None,
    )


def to_json(value: Any) -> Any:
    """Turns settings into what `json.dump` can write.

    Dataclasses become dicts of their fields, enums their values, tuples lists, paths strings, and
    the values of fields that take `ImportedSettings` objects with an import path.
    """
    if isinstance(value, ImportedSettings):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        return {
            field.name: _field_to_json(hints[field.name], getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested objects by dotted key, such as `train.steps`."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        leaves |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return leaves


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
        prefix: The text before a field's name in messages.

    Raises:
        InputError: A value does not read as the type of its field.
    """
    hints = _hints(type(settings))
    return {
        field.name: _read(hints[field.name], getattr(settings, field.name), f"{prefix}{field.name}")
        for field in dataclasses.fields(settings)
    }


def load_settings(value: T | ImportedSettings) -> T:
    """Imports the class of `ImportedSettings` and builds it; returns any other value as it is.

    Only commands that need the settings call this, as it runs the code of a module or file.

    Raises:
        InputError: The class cannot be imported, is not a dataclass, or its fields do not fit.
    """
    if not isinstance(value, ImportedSettings):
        return value
    module, _, name = value.path.partition(":")
    try:
        found: Any = _module_of(Path(value.file)) if value.file else importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # the module's own code may raise anything
        place = f" from {value.file}" if value.file else ""
        problem = f"{value.path} cannot be imported{place}: {type(error).__name__}: {error}"
        raise InputError(problem, where=value.where, hint=_HINT_IMPORT) from error
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise InputError(f"{value.path} is not a dataclass", where=value.where, hint=_HINT_IMPORT)
    return from_json(typing.cast(type[T], found), value.settings, where=value.where)


def load_module(path: Path) -> types.ModuleType:
    """Runs a Python config file and returns its module.

    The module is registered in `sys.modules` under its absolute path, so that dataclasses can be
    defined in it, and `ImportedSettings` know the file.

    Raises:
        Exception: Any exception of the file's own code; `InputError` if it is not Python.
    """
    name = f"{_FILE_MODULE}{path.resolve()}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise InputError("this is not a Python file")
    module = importlib.util.module_from_spec(specification)
    vars(module)["__config_file__"] = str(path)
    before = sys.modules.get(name)
    sys.modules[name] = module
    written_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise
    finally:
        sys.dont_write_bytecode = written_bytecode
    return module


def _module_of(path: Path) -> types.ModuleType:
    """The module of a config file, which is run only if it has not been."""
    return sys.modules.get(f"{_FILE_MODULE}{path.resolve()}") or load_module(path)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _field_to_json(hint: Any, value: Any) -> Any:
    """`to_json` of the value of a field that is declared as `hint`."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and isinstance(value, tuple) and arguments:
        return [_field_to_json(arguments[0], item) for item in value]
    if ImportedSettings in arguments and dataclasses.is_dataclass(value):
        return to_json(value if isinstance(value, ImportedSettings) else ImportedSettings.of(value))
    return to_json(value)


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
    if ImportedSettings in rest:
        return _read_imported(rest, value, where)
    for argument in rest[1:]:
        # An object can only be a dataclass, and anything else only one of the other types.
        if dataclasses.is_dataclass(argument) and isinstance(value, Mapping | argument):
            return _read(argument, value, where)
    return _read(rest[0], value, where)


def _read_imported(arguments: list[Any], value: Any, where: str) -> Any:
    """Reads a field that takes `ImportedSettings`, a protocol and perhaps a plain type."""
    if dataclasses.is_dataclass(value):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("import"), str):
        names = {"import": "path", "file": "file", "settings": "settings"}
        for key in value:
            if key not in names:
                raise InputError(f"unknown key '{key}'", where=where, hint=nearest(key, names))
        read = from_json(ImportedSettings, {names[key]: value[key] for key in value}, where=where)
        return dataclasses.replace(read, where=where)
    plain = [
        argument
        for argument in arguments
        if argument is not ImportedSettings and not getattr(argument, "_is_protocol", False)
    ]
    if not plain:
        problem = (
            "expected an instance of a dataclass (in JSON, an object with the key 'import'), "
            f"got {shown(value)}"
        )
        raise InputError(problem, where=where)
    return _read(plain[0], value, where)


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
