"""JSON lines files of a run: what can still be read of them, whatever happened to the rest."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from irec_jax.progress import print_status

T = TypeVar("T")


def read_json_lines(path: Path, parse: Callable[[dict[str, Any]], T]) -> list[T]:
    """Reads the lines that are whole, and warns once of the others with their count.

    A last line without its end is what a kill leaves, and needs no warning.

    Args:
        path: The file; a missing one has no lines.
        parse: Makes an entry of a JSON object. It raises a KeyError, TypeError or ValueError if
            the object is not one.

    Returns:
        What `parse` gave for each line, in their order.
    """
    if not path.is_file():
        return []
    *lines, unfinished = path.read_bytes().split(b"\n")
    entries, damaged = [], 0
    for line in filter(None, [*lines, unfinished]):
        try:
            entries.append(parse(_parse_object(line)))
        except (KeyError, TypeError, ValueError, RecursionError):
            damaged += line is not unfinished
    if damaged:
        print_status(
            f"warning: {path}: {damaged:,} of {len(lines):,} lines are damaged and left out"
        )
    return entries


def step_of(entry: dict[str, Any]) -> int:
    """The step of an entry.

    Raises:
        KeyError: It has none.
        ValueError: It is not a number of steps.
    """
    step = entry["step"]
    if type(step) is not int or step < 0:
        raise ValueError(step)
    return step


def loss_of(entry: dict[str, Any]) -> tuple[int, float]:
    """The step and the loss of an entry; NaN where the loss was not finite.

    Raises:
        KeyError: It lacks one of them.
        ValueError: One of them is not a number.
    """
    loss = entry["loss"]
    if loss is not None and type(loss) not in (int, float):
        raise ValueError(loss)
    return step_of(entry), math.nan if loss is None else float(loss)


def _parse_object(line: bytes) -> dict[str, Any]:
    entry = json.loads(line.decode("utf-8"))
    if not isinstance(entry, dict):
        raise ValueError(entry)
    return entry
