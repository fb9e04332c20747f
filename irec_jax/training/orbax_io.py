"""Named trees of arrays in an Orbax folder, with checksums."""

import errno
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from irec_jax.training.checksums import sums_of
from irec_jax.training.distributed import first_line, process_count, process_index

_MISSING = (errno.ENOENT, errno.ENOTDIR)
_SPOILED = (ValueError, LookupError, TypeError, AttributeError, EOFError)
_OS_ERROR = re.compile(r"os_error_code='(\d+)'")  # as TensorStore writes it into its messages

READ_AT_ONCE = 16 * 2**20
"""Minimum bytes of each tree that are read at the same time."""


def load_trees(path: Path, targets: dict[str, Any]) -> dict[str, Any]:
    """Read trees of a folder; each process reads the shards of its devices.

    Args:
        path: The folder.
        targets: Trees of `jax.ShapeDtypeStruct` with shardings by name; None for JSON values.
    """
    quiet_orbax()
    # Each process reads on its own, so that none waits for one whose reading fails.
    settings = orbax_context()
    # While it is read an array is in memory twice; all at once would be the state twice. Orbax
    # refuses a limit that is less than the largest array.
    sizes = [math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(targets)]
    settings.memory.read_concurrent_bytes = max([READ_AT_ONCE, *(2 * size for size in sizes)])
    if process_count() > 1:
        settings.multiprocessing.active_processes = {process_index()}
        settings.multiprocessing.primary_host = process_index()
    with settings:
        return ocp.load_checkpointables(str(path.resolve()), targets)


def load_about(path: Path) -> dict[str, Any]:
    """Read the description of a folder: checksums and, in checkpoints, step and fingerprint."""
    return load_trees(path, {"about": None})["about"]


def load_checked(
    path: Path, targets: dict[str, Any], expected: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """Read trees of arrays and check their checksums.

    Args:
        path: The folder.
        targets: Trees of `jax.ShapeDtypeStruct` with shardings by name.
        expected: The checksums by name.

    Raises:
        ValueError: A checksum is wrong.
    """
    arrays = load_trees(path, targets)
    for name, sums in sums_of(arrays).items():
        if sums != list(expected[name]):
            raise ValueError(f"the checksum of {name} is wrong")
    return arrays


def why_unreadable(error: BaseException) -> str:
    """Why a folder could not be read, although nothing is wrong with what it holds.

    Args:
        error: What reading it raised. Orbax and TensorStore wrap the error of the system.

    Returns:
        The cause in a line; "" if a part is missing, cut short or of another form.
    """
    inner = error.__cause__ or error.__context__
    for other in (*getattr(error, "exceptions", ()), *filter(None, [inner])):
        if cause := why_unreadable(other):
            return cause
    if isinstance(error, OSError):  # Orbax raises some of its own, without a number
        return "" if error.errno in (None, *_MISSING) else first_line(error)
    number = _OS_ERROR.search(str(error))
    if number:
        return "" if int(number[1]) in _MISSING else os.strerror(int(number[1]))
    return "" if inner is not None or isinstance(error, _SPOILED) else first_line(error)


def orbax_context() -> ocp.Context:
    """Return an Orbax context that writes `about` and `data` as readable JSON."""
    registry = ocp.handlers.local_registry()
    for name in ("about", "data"):
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
    settings = ocp.Context()
    settings.checkpointables.registry = registry
    return settings


def quiet_orbax() -> None:
    """Silences what Orbax prints besides raising it.

    It logs each array at the level of warnings and information. When one array cannot be read,
    the other reads meet a closed event loop, and each prints that from a thread of TensorStore.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if not isinstance(sys.unraisablehook, _LateReads):
        sys.unraisablehook = _LateReads(sys.unraisablehook)


class _LateReads:
    """A hook for what threads raise that drops reads whose event loop has been closed."""

    def __init__(self, hook: Callable[[Any], None]) -> None:
        self._hook = hook

    def __call__(self, raised: Any) -> None:
        late = raised.exc_type is RuntimeError and str(raised.exc_value) == "Event loop is closed"
        if not late:
            self._hook(raised)
