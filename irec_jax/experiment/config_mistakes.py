"""Hints for the Python errors that a mistake in a config file raises."""

import dataclasses
import re
import sys
from collections.abc import Iterable

from irec_jax.errors import nearest
from irec_jax.experiment.config import Experiment

_UNKNOWN_FIELD = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
_UNKNOWN_IMPORT = re.compile(r"cannot import name '(\w+)' from '(irec_jax[\w.]*)'")


def hint_for(error: BaseException) -> str:
    """Returns what to change in a config file that raised an error; "" where that is unknown.

    Args:
        error: What the code of the file raised.
    """
    if isinstance(error, SyntaxError):
        return "Close every bracket and quote, and end each setting with a comma."
    if isinstance(error, NameError):
        return _hint_name(error.name or "")
    if isinstance(error, AttributeError):
        return _guess(error.name or "", vars(error.obj) if isinstance(error.obj, type) else ())
    if found := _UNKNOWN_FIELD.search(str(error)):
        return _hint_field(*found.groups())
    if found := _UNKNOWN_IMPORT.search(str(error)):
        module = sys.modules.get(found[2])
        return _guess(found[1], getattr(module, "__all__", vars(module) if module else ()))
    return ""


def _hint_name(name: str) -> str:
    exported = sys.modules["irec_jax"].__all__
    if name in exported:
        return f"Add it to the imports: from irec_jax import {name}."
    return _guess(name, exported)


def _hint_field(cls: str, name: str) -> str:
    """The nearest field of a class of settings, or the section that has a field of this name."""
    sections = {
        field.name: field.default_factory
        for field in dataclasses.fields(Experiment)
        if isinstance(field.default_factory, type)
    }
    fields = {key: [field.name for field in dataclasses.fields(s)] for key, s in sections.items()}
    homes = [key for key, names in fields.items() if name in names]
    if homes:
        return f"It is a setting of {sections[homes[0]].__name__}: {homes[0]}.{name}."
    for key, section in sections.items():
        if section.__name__ == cls:
            return _guess(name, fields[key])
    return _guess(name, sections) if cls == Experiment.__name__ else ""


def _guess(name: str, known: Iterable[str]) -> str:
    public = [other for other in known if not other.startswith("_")]
    return nearest(name, public) if public else ""
