"""Detection of failed, dead or hanging processes, so that all processes of a run exit together.

A process that fails writes the reason to the coordinator's store before it exits, and each
process has a thread that reads the store every second. A process that is killed is detected by
the collectives that it was part of and by JAX's heartbeats, one that hangs by the time since its
last heartbeat (docs/decisions/0150-peer-failure-detection.md).
"""

import atexit
import contextlib
import faulthandler
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

from irec_jax.errors import InputError
from irec_jax.exit_codes import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_LOST
from irec_jax.progress import print_status
from irec_jax.training.distributed import (
    coordination_store,
    first_line,
    is_first,
    process_count,
    process_index,
)
from irec_jax.training.preemption import Interrupted, Terminated

TICK_S = 1.0
PARTING_S = 3.0
"""Seconds that process 0, which holds the store, waits so that the others can read the reason."""

_FAILED, _ACTIVITY, _ALIVE = "irec/failed", "irec/activity", "irec/alive"
_PEER_FAILURES = ("Gloo", "coordination", "Coordination", "heartbeat", "UNAVAILABLE", "Connection")
_NO_STORE = "process 0, which holds the store of all processes, has exited"
_exiting = threading.Lock()


class Activity(NamedTuple):
    """The activity of a process.

    Attributes:
        step: Steps done.
        phase: The phase that follows them, such as "reading data".
    """

    step: int
    phase: str


class Watchdog:
    """A thread that ends this process when another has failed, or when this one hangs.

    A context manager; in a run of one process it does nothing. One may be opened inside another.

    Args:
        hang_s: Seconds without a heartbeat after which the run counts as hanging.
    """

    def __init__(self, hang_s: float = math.inf) -> None:
        self._hang_s = hang_s
        self._activity, self._last = Activity(0, "preparing"), time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        if process_count() > 1:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def heartbeat(self, step: int, phase: str) -> None:
        """Record progress.

        Args:
            step: Steps done.
            phase: The phase that starts now, for the message if it hangs.
        """
        self._activity, self._last = Activity(step, phase), time.monotonic()

    def _watch(self) -> None:
        while not self._closing.wait(TICK_S):
            is_hanging = time.monotonic() - self._last > self._hang_s
            try:
                reason = _failure_of_peer()
                _store(_ALIVE, str(time.monotonic()))
                if self._hang_s < math.inf:
                    _store(_ACTIVITY, json.dumps(self._activity))
                if is_hanging and not reason:
                    reason = f"no progress for {self._hang_s:.0f} s; {_describe_processes()}"
            except RuntimeError as error:
                reason = f"{_NO_STORE} ({first_line(error)})"
            # This process may have failed as well, and then reports its own error.
            if reason and not self._closing.wait(0.0 if is_hanging else TICK_S / 2):
                if is_hanging:
                    faulthandler.dump_traceback(sys.stderr)
                    _announce(reason)
                exit_now(reason)


@contextlib.contextmanager
def fail_together() -> Iterator[None]:
    """End all processes of a run if one fails in the `with` block.

    A run that was stopped by a signal and saved has not failed. After a peer failure the process
    exits with `EXIT_LOST`.
    """
    try:
        with Watchdog():
            try:
                yield
            except Exception as error:
                if process_count() > 1 and is_peer_failure(error):
                    exit_now(_describe_peer_failure(error))
                raise
    except (Interrupted, Terminated):
        raise
    except BaseException as error:
        if process_count() > 1:
            _announce(f"process {process_index()} failed: {first_line(error)}")
            _exit_without_waiting(_exit_code(error))
        raise


def is_peer_failure(error: BaseException) -> bool:
    """Return whether an error was caused by another process that does not respond."""
    text = str(error)
    return isinstance(error, (RuntimeError, ValueError)) and any(
        part in text for part in _PEER_FAILURES
    )


def exit_now(reason: str) -> None:
    """Exit with `EXIT_LOST` at once, without waiting for threads that wait for other processes."""
    if _exiting.acquire(blocking=False):
        print_status(f"irec: error: process {process_index()} of {process_count()} exits: {reason}")
        _exit(EXIT_LOST)
    else:
        time.sleep(2 * PARTING_S)  # another thread of this process is exiting


def _exit(code: int) -> None:
    if is_first():
        time.sleep(PARTING_S)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _exit_without_waiting(code: int) -> None:
    """Exit before JAX waits for the other processes, whose collectives may never finish."""
    atexit.register(_exit, code)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return EXIT_BAD_INPUT if isinstance(error, (InputError, OSError)) else 1


def _announce(reason: str) -> None:
    with contextlib.suppress(RuntimeError):
        _store(_FAILED, reason)


def _store(folder: str, text: str) -> None:
    coordination_store().key_value_set(f"{folder}/{process_index()}", text, allow_overwrite=True)


def _load(folder: str) -> dict[int, str]:
    entries = coordination_store().key_value_dir_get(folder)
    return {int(key.rpartition("/")[2]): text for key, text in entries}


def _failure_of_peer() -> str:
    failures = _load(_FAILED)
    return next((reason for number, reason in failures.items() if number != process_index()), "")


def _describe_peer_failure(error: Exception) -> str:
    """Return the reason that the failed process announced, else the state of all processes."""
    try:
        return _failure_of_peer() or f"{_describe_processes()} ({first_line(error)})"
    except RuntimeError:
        return f"{_NO_STORE} ({first_line(error)})"


def _describe_processes() -> str:
    """Return the state of each process; one whose watchdog does not tick has exited or stopped."""
    before = _load(_ALIVE)
    time.sleep(3 * TICK_S)
    now, activities = _load(_ALIVE), _load(_ACTIVITY)
    is_alive = [
        number == process_index() or now.get(number) != before.get(number)
        for number in range(process_count())
    ]
    states = []
    for number in sorted(range(process_count()), key=lambda number: is_alive[number]):
        state = "responds" if is_alive[number] else "does not respond"
        if number in activities:
            activity = Activity(*json.loads(activities[number]))
            state += f", {activity.phase} after step {activity.step}"
        states.append(f"process {number} {state}")
    return "; ".join(states)
