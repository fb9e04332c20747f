"""Flags of a command line: switches in all their forms, and misspelled names."""

import dataclasses
import difflib
import typing
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

from irec_jax.errors import InputError, shown

_VALUES = {"true": True, "false": False}
_SIMILAR = 0.6


class Flag(NamedTuple):
    """A flag of a settings class.

    Attributes:
        key: Such as `chat.json_mode`, as in Python.
        is_switch: Whether it is true or false.
    """

    key: str
    is_switch: bool


def flags_of_settings(settings: Any) -> list[Flag]:
    """Lists the flags of a dataclass and of those in it.

    Args:
        settings: The class; `Launch[Target]` has the flags of `Launch` and of `Target`.
    """
    classes = [typing.get_origin(settings) or settings, *typing.get_args(settings)]
    return [flag for each in classes for flag in _flags(each, "")]


def _flags(settings: Any, prefix: str) -> Iterator[Flag]:
    hints = typing.get_type_hints(settings, include_extras=True)
    for field in dataclasses.fields(settings):
        hint, key = hints[field.name], f"{prefix}{field.name}"
        if typing.get_origin(hint) is Annotated:
            hint = typing.get_args(hint)[0]
        if dataclasses.is_dataclass(hint):
            yield from _flags(hint, f"{key}.")
        elif not isinstance(hint, typing.TypeVar):
            yield Flag(key, hint is bool)


def normalize_switches(arguments: Sequence[str], switches: Collection[str]) -> list[str]:
    """Writes every switch as `--x` or `--no-x`, the forms that tyro reads.

    `--x true`, `--x=true`, `--no-x`, `--x false` and `--x=false` are read too, a section's switch
    also as `--no-section.x`; dashes and underscores are the same.

    Args:
        arguments: The command line.
        switches: Keys of the switches, as in Python.

    Raises:
        InputError: A switch has a value that is neither true nor false.

    >>> normalize_switches(["--model.tied_head", "false", "--audit=true"], {"model.tied_head"})
    ['--model.no-tied-head', '--audit=true']
    """
    written, words = [], list(arguments)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        found = _find_switch(name, switches)
        if found is None:
            written.append(word)
            continue
        key, is_on = found
        if not equals and words and words[0].casefold() in _VALUES:
            equals, value = "=", words.pop(0)
        if equals:
            if value.casefold() not in _VALUES:
                hint = f"Give {name}, {name}=true or {name}=false."
                problem = f"must be true or false, got {shown(value)}"
                raise InputError(problem, where=name, hint=hint)
            is_on = is_on == _VALUES[value.casefold()]
        section, dot, leaf = key.rpartition(".")
        written.append(f"--{section}{dot}{'' if is_on else 'no-'}{leaf}".replace("_", "-"))
    return written


def _find_switch(name: str, switches: Collection[str]) -> tuple[str, bool] | None:
    """Returns the key of a switch, and whether the name is its positive form."""
    if not name.startswith("--"):
        return None
    key = name.removeprefix("--").replace("-", "_")
    if key in switches:
        return key, True
    section, dot, leaf = key.rpartition(".")
    for other in (f"{section}{dot}{leaf.removeprefix('no_')}", key.removeprefix("no_")):
        if other != key and other in switches:
            return other, False
    return None


def refuse_misspelled(
    command: str, settings: Any, rest: Sequence[str], sections: Collection[str]
) -> None:
    """Refuses arguments that are neither flags of a command nor settings of an experiment.

    Args:
        command: Such as `tune`.
        settings: As for `flags_of_settings`.
        rest: The arguments that the command does not have.
        sections: Names of the fields of an experiment, which are checked elsewhere.

    Raises:
        InputError: A name is close to one of the command's flags.
    """
    flags = [flag.key.replace("_", "-") for flag in flags_of_settings(settings)]
    for word in rest:
        name = word.partition("=")[0].removeprefix("--").replace("_", "-")
        if not word.startswith("--") or name.partition(".")[0] in sections:
            continue
        close = difflib.get_close_matches(name, flags, n=1, cutoff=_SIMILAR)
        if close:
            hint = f"Did you mean '--{close[0]}'? Run `irec {command} --help` for all flags."
            raise InputError("there is no such flag", where=f"--{name}", hint=hint)
