"""The flags of a command, read from its settings: a new flag is swept as soon as it exists."""

import dataclasses
import functools
import importlib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from irec_jax.cli.launch import Launch
from irec_jax.cli.main import COMMANDS
from irec_jax.experiment.config import Experiment
from irec_jax.launching.targets import TARGETS


class Flag(NamedTuple):
    """An argument.

    Attributes:
        name: With its dashes, or in capitals if it is positional.
        kinds: The plain types that it takes: int, float, str, Path, bool.
    """

    name: str
    kinds: frozenset[type]


@functools.cache
def flags_of(command: str) -> tuple[Flag, ...]:
    """All arguments of a command, with the experiment's if it takes them."""
    about = COMMANDS[command]
    settings = getattr(importlib.import_module(f"irec_jax.cli.{about.module}"), about.settings)
    # The flags of `irec launch` depend on `--on`: here are those of all targets.
    classes = [settings] if isinstance(settings, type) else [Launch, *TARGETS.values()]
    found = list({flag.name: flag for each in classes for flag in _flags(each, "")}.values())
    if about.takes_overrides:
        known = {flag.name for flag in found}
        found += [flag for flag in _flags(Experiment, "") if flag.name not in known]
    return tuple(found)


def _flags(settings: type, prefix: str) -> Iterator[Flag]:
    hints = typing.get_type_hints(settings, include_extras=True)
    for field in dataclasses.fields(settings):
        hint, name, is_positional = hints[field.name], field.name, False
        if typing.get_origin(hint) is Annotated:
            hint, *marks = typing.get_args(hint)
            is_positional = any(mark is tyro.conf._markers.Positional for mark in marks)
            named = [getattr(mark, "name", None) for mark in marks]
            name = next(filter(None, named), name)
            shown = [getattr(mark, "metavar", None) for mark in marks]
            place = next(filter(None, shown), name)
        if isinstance(hint, typing.TypeVar):
            continue
        if is_positional:
            yield Flag(place.upper(), frozenset(_kinds(hint)))
        elif dataclasses.is_dataclass(hint):
            yield from _flags(typing.cast(type, hint), f"{prefix}{name}.")
        else:
            flag = f"{prefix}{name}".replace("_", "-")
            yield Flag(f"--{flag}", frozenset(_kinds(hint)))


def _kinds(hint: Any) -> Iterator[type]:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        yield from _kinds(typing.get_args(hint)[0])
    elif origin in (typing.Union, types.UnionType, tuple):
        for part in typing.get_args(hint):
            yield from _kinds(part)
    elif hint in (int, float, str, bool) or hint is Path:
        yield hint
