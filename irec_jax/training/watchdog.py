"""Processes of one run end together: none waits for ever for one that failed, died or hangs.

A process that fails tells the others through the coordinator before it ends, and each has a
thread that looks every second. What was killed outright is seen by the sums that it was part of
and by JAX's heartbeats; what no longer moves, by the time since it last did. Why so:
docs/decisions/0150-peer-failure-detection.md.
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
"""Process 0 holds the store; it stays that long, so that the others can read there why."""

_ENDED, _AT, _ALIVE = "irec/ended", "irec/at", "irec/alive"
_SIGNS_OF_LOSS = ("Gloo", "coordination", "Coordination", "heartbeat", "UNAVAILABLE", "Connection")
_NO_STORE = "process 0, through which all agree, is gone"
_leaving = threading.Lock()


class Activity(NamedTuple):
    """What a process is at.

    Attributes:
        step: Steps done.
        doing: What it began then.
    """

    step: int
    doing: str


class Watchdog:
    """A thread that ends this process when another has failed, or when this one hangs.

    A context manager; for a process on its own it does nothing. One may be opened inside another.

    Args:
        hang_s: After so many seconds without a call of `heartbeat` the run hangs.
    """

    def __init__(self, hang_s: float = math.inf) -> None:
        self._hang_s = hang_s
        self._move, self._since = Activity(0, "preparing"), time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

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

    def heartbeat(self, step: int, doing: str) -> None:
        """Notes that this process is not stuck.

        Args:
            step: Steps done.
            doing: What it does next, for the message if that never ends.
        """
        self._move, self._since = Activity(step, doing), time.monotonic()

    def _look(self) -> None:
        while not self._closing.wait(TICK_S):
            hanging = time.monotonic() - self._since > self._hang_s
            try:
                why = _told_by_others()
                _show(_ALIVE, str(time.monotonic()))
                if self._hang_s < math.inf:
                    _show(_AT, json.dumps(self._move))
                if hanging and not why:
                    why = f"nothing moved in {self._hang_s:.0f} s; {_where_all_are()}"
            except RuntimeError as error:
                why = f"{_NO_STORE} ({first_line(error)})"
            # This process may have failed as well, and then says so itself.
            if why and not self._closing.wait(0.0 if hanging else TICK_S / 2):
                if hanging:
                    faulthandler.dump_traceback(sys.stderr)
                    _announce(why)
                exit_now(why)


@contextlib.contextmanager
def fail_together() -> Iterator[None]:
    """Around all that a process of a run does: if it fails the others end, and the other way.

    A run that was stopped by a signal and saved does not count as failed. A process that lost
    another one exits with `EXIT_LOST`.
    """
    try:
        with Watchdog():
            try:
                yield
            except Exception as error:
                if process_count() > 1 and is_peer_failure(error):
                    exit_now(_why_lost(error))
                raise
    except (Interrupted, Terminated):
        raise
    except BaseException as error:
        if process_count() > 1:
            _announce(f"process {process_index()} failed: {first_line(error)}")
            _exit_without_waiting(_exit_code(error))
        raise


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error says that another process does not answer."""
    text = str(error)
    return isinstance(error, (RuntimeError, ValueError)) and any(
        sign in text for sign in _SIGNS_OF_LOSS
    )


def exit_now(why: str) -> None:
    """Ends the process at once: what waits for another process cannot be waited for."""
    if _leaving.acquire(blocking=False):
        print_status(f"irec: error: process {process_index()} of {process_count()} ends: {why}")
        _end(EXIT_LOST)
    else:
        time.sleep(2 * PARTING_S)  # another thread of this process is at it


def _end(code: int) -> None:
    if is_first():
        time.sleep(PARTING_S)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _exit_without_waiting(code: int) -> None:
    """At exit JAX would wait for the others, which may be busy with sums that never end."""
    atexit.register(_end, code)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return EXIT_BAD_INPUT if isinstance(error, (InputError, OSError)) else 1


def _announce(why: str) -> None:
    with contextlib.suppress(RuntimeError):
        _show(_ENDED, why)


def _show(what: str, text: str) -> None:
    coordination_store().key_value_set(f"{what}/{process_index()}", text, allow_overwrite=True)


def _shown(what: str) -> dict[int, str]:
    entries = coordination_store().key_value_dir_get(what)
    return {int(key.rpartition("/")[2]): text for key, text in entries}


def _told_by_others() -> str:
    return next((why for number, why in _shown(_ENDED).items() if number != process_index()), "")


def _why_lost(error: Exception) -> str:
    """What is known of a process that does not answer: best what it said itself, else its trace."""
    try:
        return _told_by_others() or f"{_where_all_are()} ({first_line(error)})"
    except RuntimeError:
        return f"{_NO_STORE} ({first_line(error)})"


def _where_all_are() -> str:
    """Each process and its last move; one whose thread does not tick is gone or stopped."""
    before = _shown(_ALIVE)
    time.sleep(3 * TICK_S)
    now, moves = _shown(_ALIVE), _shown(_AT)
    alive = [
        number == process_index() or now.get(number) != before.get(number)
        for number in range(process_count())
    ]
    words = []
    for number in sorted(range(process_count()), key=lambda number: alive[number]):
        state = "is there" if alive[number] else "gives no sign of life"
        if number in moves:
            move = Activity(*json.loads(moves[number]))
            state += f", {move.doing} after step {move.step}"
        words.append(f"process {number} {state}")
    return "; ".join(words)
