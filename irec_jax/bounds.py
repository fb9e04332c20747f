"""Checks of settings: types, ranges of numbers, and sizes against the machine's memory."""

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from irec_jax.errors import InputError, shown
from irec_jax.settings import read_fields

Number = int | float

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class Range(NamedTuple):
    """The allowed values of a number.

    Attributes:
        low: Smallest value.
        high: Largest value.
        hint: What to set instead, a sentence.
        above: Whether `low` itself is excluded.
        below: Whether `high` itself is excluded.
    """

    low: Number
    high: Number
    hint: str = "Set it to a number in this range."
    above: bool = False
    below: bool = False

    def holds(self, value: Number) -> bool:
        """Whether `value` is allowed; NaN never is."""
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below else value <= self.high
        return over and under

    def __str__(self) -> str:
        low, high = shown(self.low), shown(self.high)
        if not (self.above or self.below):
            return f"between {low} and {high}"
        return f"{'above' if self.above else 'at least'} {low} and " + (
            f"{'below' if self.below else 'at most'} {high}"
        )


SEED = Range(0, 2**32 - 1)
"""JAX keeps the low 32 bits of a seed: larger ones would repeat smaller ones."""
COUNT = Range(1, 10**9)
COUNT_OR_NONE = Range(0, 10**9, "Set it to 0 for none.")
LENGTH = Range(1, 2**16)
SHARE = Range(0, 1)
BELOW_ONE = Range(0, 1, below=True)
DAYS = Range(0, 36_500, above=True)
TEMPERATURE = Range(0, 100, "Set it to 0 for the most likely tokens, to 1 for the model's own.")
PRICE = Range(0, 10**9, "Set it to 0 where cost is not counted.")


def check_between(value: Number | None, allowed: Range, key: str) -> None:
    """Refuses a number outside a range; None, for a setting that is not given, passes.

    Args:
        value: The number.
        allowed: The range.
        key: The key or option it was set with.

    Raises:
        InputError: It is outside, or is NaN.
    """
    if value is not None and not allowed.holds(value):
        raise InputError(f"must be {allowed}, got {shown(value)}", where=key, hint=allowed.hint)


def check_numbers(settings: Any, prefix: str, **allowed: Range) -> None:
    """Refuses fields of an object that are outside their ranges.

    Args:
        settings: The object.
        prefix: The text before a field's name in messages: `train.`, `--chat.` or `--`.
        **allowed: The range of each field.

    Raises:
        InputError: A number is outside its range.
    """
    for name, range_ in allowed.items():
        key = f"{prefix}{name}"
        key = key.replace("_", "-") if key.startswith("--") else key
        check_between(getattr(settings, name), range_, key)


def check_settings(settings: Any, prefix: str, **allowed: Range) -> None:
    """Checks the fields of a frozen dataclass, for its `__post_init__`.

    A value that reads as the field's type becomes one: `"title"` an `IndexKind`, a list a tuple,
    1 a float.

    Args:
        settings: The dataclass.
        prefix: As for `check_numbers`.
        **allowed: The range of each number.

    Raises:
        InputError: A field has another type, or a number is outside its range.
    """
    for name, value in read_fields(settings, prefix).items():
        object.__setattr__(settings, name, value)
    check_numbers(settings, prefix, **allowed)


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container, if that has less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        try:
            memory = min(memory, int(path.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return memory


def check_memory(needed: Number, available: Number, what: str, key: str, hint: str) -> None:
    """Refuses work that needs more memory than there is, before anything is allocated.

    Args:
        needed: Bytes, a lower bound.
        available: Bytes.
        what: The work, as the subject of the message.
        key: The keys that decide.
        hint: What to change, a sentence.

    Raises:
        InputError: There is not enough.
    """
    if needed > available:
        what = f"{what} needs at least {_gib(needed)}, and there are {_gib(available)}"
        raise InputError(what, where=key, hint=hint)


def _gib(size: Number) -> str:
    if not math.isfinite(size) or size >= 2**70:
        return "more than 10**12 GiB"
    return f"{size / 2**30:,.1f} GiB"
