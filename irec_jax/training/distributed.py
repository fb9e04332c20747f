"""Several processes as one run: how they meet, who writes, and how they agree."""

import contextlib
import itertools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # the coordinator's key-value store has no public name
from jax.experimental import multihost_utils

from irec_jax.errors import InputError
from irec_jax.exit_codes import EXIT_LOST
from irec_jax.progress import print_status

COORDINATOR, PROCESSES, PROCESS = "IREC_COORDINATOR", "IREC_PROCESSES", "IREC_PROCESS"
DISTRIBUTED, MEETING = "IREC_DISTRIBUTED", "IREC_MEETING_SECONDS"
HEARTBEAT_S = 60
MEETING_S = "300"
PARTING_S = 60
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_HINT_MEETING = f"Start all of them, with the same address, at about one time, or raise {MEETING}."
_FOR_EVER_MS = 7 * 24 * 3_600_000  # what hangs is ended by `irec_jax.training.watchdog`
_numbers = itertools.count()


def connect() -> None:
    """Joins the processes of a run as the environment says, before JAX is used for anything.

    `IREC_COORDINATOR` (host:port of process 0), `IREC_PROCESSES` (how many) and `IREC_PROCESS`
    (which one this is, from 0) go together. `IREC_DISTRIBUTED=auto` leaves it to JAX, which knows
    Cloud TPU, GKE, SLURM and Open MPI. Without any of them the process is alone. The first wait
    for the last for at most `IREC_MEETING_SECONDS`, 300 if it is not set. Which devices a process
    takes, where several share a host, JAX reads from `JAX_LOCAL_DEVICE_IDS`.

    Raises:
        InputError: The variables contradict each other, or the processes do not find each other.
    """
    wanted = arguments_of(os.environ)
    if wanted is None or jax.distributed.is_initialized():
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would take SIGTERM for itself, from the first moment on, and swallow it before the loop.
    jax.config.update("jax_enable_preemption_service", False)
    within_s = _number({MEETING: MEETING_S, **os.environ}, MEETING, 1)
    where = COORDINATOR if COORDINATOR in os.environ else DISTRIBUTED
    try:
        with _patience(within_s, where):
            jax.distributed.initialize(
                **wanted,
                initialization_timeout=within_s + PARTING_S,
                heartbeat_timeout_seconds=HEARTBEAT_S,
                shutdown_timeout_seconds=PARTING_S,
            )
    except (RuntimeError, ValueError) as error:
        what = f"the processes did not find each other: {first_line(error)}"
        raise InputError(what, where=where, hint=_HINT_MEETING) from error


@contextlib.contextmanager
def _patience(within_s: float, where: str) -> Iterator[None]:
    """Ends the process if what is inside lasts too long, or when Ctrl-C is pressed.

    JAX waits where Python sees no signal, and aborts with a stack trace when its own time is up.
    """

    def give_up() -> None:
        what = f"after {within_s} s not all processes were there"
        print_status(f"irec: error: {InputError(what, where=where, hint=_HINT_MEETING)}")
        os._exit(EXIT_LOST)

    timer = threading.Timer(within_s, give_up)
    timer.daemon = True
    timer.start()
    interruptible = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_DFL) if interruptible else None
    try:
        yield
    finally:
        timer.cancel()
        if interruptible:
            signal.signal(signal.SIGINT, before or signal.SIG_DFL)


def arguments_of(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments of `jax.distributed.initialize`; None for a process on its own.

    Raises:
        InputError: The variables contradict each other.
    """
    names = (COORDINATOR, PROCESSES, PROCESS)
    given = [name for name in names if environment.get(name)]
    mode = environment.get(DISTRIBUTED, "")
    if mode not in ("", "auto"):
        hint = f"Leave it out, or set it to auto; else set {', '.join(names)}."
        raise InputError(f"{mode!r} is not known", where=DISTRIBUTED, hint=hint)
    if mode and given:
        hint = f"Leave out {DISTRIBUTED}, or {', '.join(given)}."
        raise InputError(f"{mode!r} and {given[0]} contradict", where=DISTRIBUTED, hint=hint)
    if mode:
        return {}
    if not given:
        return None
    for name in names:
        if name not in given:
            hint = "Set all three, or none."
            raise InputError(f"it is not set, but {given[0]} is", where=name, hint=hint)
    count = _number(environment, PROCESSES, 1)
    index = _number(environment, PROCESS, 0, count - 1)
    address = environment[COORDINATOR]
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        hint = "Give host:port of process 0, such as 10.0.0.1:8476."
        raise InputError(f"{address!r} is no address", where=COORDINATOR, hint=hint)
    wanted: dict[str, Any] = {
        "coordinator_address": address,
        "num_processes": count,
        "process_id": index,
        "cluster_detection_method": "deactivate",
    }
    if host in _LOOPBACK:
        wanted["coordinator_bind_address"] = address  # else all the network could join
    return wanted


def process_count() -> int:
    """Processes of this run; asking does not start JAX's devices, as `jax.process_count` does."""
    return distributed.global_state.num_processes or 1


def process_index() -> int:
    """The number of this process, from 0."""
    return distributed.global_state.process_id or 0


def is_first() -> bool:
    """Whether this process writes what people read: logs, configs, progress."""
    return process_index() == 0


def coordination_store() -> Any:
    """The key-value store that all processes share; only where there are several."""
    return distributed.global_state.client


def gather(text: str) -> list[str]:
    """What each process says, by its number; all must come here, as often as the others.

    Goes through the coordinator, not the devices, so that it may be called from anywhere.
    """
    if process_count() == 1:
        return [text]
    place = f"irec/gather/{next(_numbers)}"
    coordination_store().key_value_set(f"{place}/{process_index()}", text)
    coordination_store().wait_at_barrier(place, _FOR_EVER_MS)
    said = {
        int(key.rpartition("/")[2]): value
        for key, value in coordination_store().key_value_dir_get(place)
    }
    return [said[number] for number in range(process_count())]


def on_first(work: Callable[[], object]) -> None:
    """Has process 0 do something while the others wait; all of them learn if it failed.

    Raises:
        InputError: The one of process 0, in every process.
    """
    trouble: list[str] = []
    if is_first():
        try:
            work()
        except InputError as error:
            trouble = [error.problem, error.where, error.hint]
            if process_count() == 1:
                raise
    told = json.loads(gather(json.dumps(trouble))[0])
    if told:
        what, where, hint = told
        raise InputError(what, where=where, hint=hint)


def on_host(array: jax.Array) -> np.ndarray:
    """An array as a whole, in every process, wherever its parts are; all must call it."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(jax.device_get(array))
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def first_line(error: BaseException) -> str:
    """What an error says, in a line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _number(environment: Mapping[str, str], name: str, low: int, high: int | None = None) -> int:
    text = environment[name]
    if not text.isdigit() or int(text) < low or (high is not None and int(text) > high):
        limit = " on" if high is None else f" to {high}"
        hint = f"Give a number from {low}{limit}."
        raise InputError(f"{text!r} is not possible", where=name, hint=hint)
    return int(text)
