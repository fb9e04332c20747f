"""All settings of an experiment, with type, default and explanation, from the docstrings."""

import dataclasses
import enum
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

import docstring_parser

from irec_jax.experiment.config import Experiment
from irec_jax.settings import ImportedSettings, to_json

MAX_VALUES = 8
"""Values of a setting that are all listed."""


class Setting(NamedTuple):
    """A leaf of the config tree.

    Attributes:
        key: Such as `train.batch_size`.
        kind: Its type, as a user writes it: `int`, `adafactor | adamw | muon`, `list of text`.
        default: Its value as JSON data.
        text: What it does.
        in_file_only: Whether it can be set in a config file only.
    """

    key: str
    kind: str
    default: Any
    text: str
    in_file_only: bool

    @property
    def flag(self) -> str:
        """The flag of the command line, such as `--train.batch_size`."""
        return f"--{self.key}"


class SettingGroup(NamedTuple):
    """The settings of one section.

    Attributes:
        name: Such as `train`; `general` for those outside of sections.
        text: What they decide.
        settings: In the order of their dataclass.
    """

    name: str
    text: str
    settings: tuple[Setting, ...]


def list_settings(experiment: Experiment | None = None) -> tuple[SettingGroup, ...]:
    """Lists all settings by section.

    Args:
        experiment: Its values are shown in place of the defaults.
    """
    experiment = Experiment() if experiment is None else experiment
    groups, general = [], []
    texts = _texts(Experiment)
    for field in dataclasses.fields(Experiment):
        value = getattr(experiment, field.name)
        if dataclasses.is_dataclass(value):
            settings = tuple(_settings(value, f"{field.name}."))
            groups.append(SettingGroup(field.name, texts[field.name], settings))
        else:
            general.append(_setting(Experiment, field.name, value, ""))
    return (SettingGroup("general", "What concerns all sections.", tuple(general)), *groups)


def find_settings(word: str, groups: tuple[SettingGroup, ...]) -> tuple[SettingGroup, ...]:
    """Returns the settings whose key, type or text holds a word, in any case.

    Args:
        word: The word; dashes and underscores are the same.
        groups: The settings to search.
    """
    wanted = word.removeprefix("--").replace("-", "_").casefold()

    def holds(setting: Setting) -> bool:
        texts = (setting.key, setting.kind, setting.text)
        return any(wanted in text.replace("-", "_").casefold() for text in texts)

    found = (group._replace(settings=tuple(filter(holds, group.settings))) for group in groups)
    return tuple(group for group in found if group.settings)


def _settings(section: Any, prefix: str) -> Iterator[Setting]:
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if typing.get_type_hints(type(section))[field.name] is type(value) and (
            dataclasses.is_dataclass(value)
        ):
            yield from _settings(value, f"{prefix}{field.name}.")
        else:
            yield _setting(type(section), field.name, value, prefix)


def _setting(cls: type, name: str, value: Any, prefix: str) -> Setting:
    hint = typing.get_type_hints(cls, include_extras=True)[name]
    marks = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    in_file_only = any("suppress" in str(mark).lower() for mark in marks)
    default = to_json(value)
    return Setting(f"{prefix}{name}", _kind(hint), default, _texts(cls)[name], in_file_only)


def _texts(cls: type) -> dict[str, str]:
    """Field -> its text in the docstring of a dataclass or of its bases, on one line."""
    parsed = [docstring_parser.parse(base.__doc__ or "") for base in reversed(cls.__mro__)]
    params = [param for docstring in parsed for param in docstring.params]
    return {param.arg_name: " ".join((param.description or "").split()) for param in params}


_NAMES = {int: "int", float: "float", str: "text", bool: "true or false"}


def _kind(hint: Any) -> str:
    """Writes a type as a user writes its values."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        kinds = dict.fromkeys(_kind(each) for each in arguments if each is not type(None))
        return " | ".join(filter(None, kinds))
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        values = [str(member.value) for member in hint]
        if len(values) > MAX_VALUES:
            values = [*values[:2], f"... ({len(values)} in all)"]
        return " | ".join(values)
    if hint is ImportedSettings:
        return ""
    return _NAMES.get(hint, getattr(hint, "__name__", str(hint)))
