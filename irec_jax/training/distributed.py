"""Several processes as one run: start-up, process numbers, and exchange of texts."""

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
_HINT_MEETING = (
    f"Start all processes with the same address at about the same time, or raise {MEETING}."
)
_WEEK_MS = 7 * 24 * 3_600_000  # a hanging process is ended by `irec_jax.training.watchdog`
_numbers = itertools.count()


def connect() -> None:
    """Join the processes of a run, before JAX is used for anything.

    The environment variables `IREC_COORDINATOR` (host:port of process 0), `IREC_PROCESSES` (their
    number) and `IREC_PROCESS` (the number of this one, from 0) are set together.
    `IREC_DISTRIBUTED=auto` leaves it to JAX, which knows Cloud TPU, GKE, SLURM and Open MPI.
    Without any of them the run has one process. Processes wait for each other for at most
    `IREC_MEETING_SECONDS`, 300 by default. If several share a host, JAX reads the devices of each
    from `JAX_LOCAL_DEVICE_IDS`.

    Raises:
        InputError: The variables contradict each other, or the processes did not connect.
    """
    arguments = arguments_of(os.environ)
    if arguments is None or jax.distributed.is_initialized():
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would catch SIGTERM from the start and ignore it before the loop.
    jax.config.update("jax_enable_preemption_service", False)
    within_s = _number({MEETING: MEETING_S, **os.environ}, MEETING, 1)
    where = COORDINATOR if COORDINATOR in os.environ else DISTRIBUTED
    try:
        with _exit_after(within_s, where):
            jax.distributed.initialize(
                **arguments,
                initialization_timeout=within_s + PARTING_S,
                heartbeat_timeout_seconds=HEARTBEAT_S,
                shutdown_timeout_seconds=PARTING_S,
            )
    except (RuntimeError, ValueError) as error:
        problem = f"the processes did not connect: {first_line(error)}"
        raise InputError(problem, where=where, hint=_HINT_MEETING) from error


@contextlib.contextmanager
def _exit_after(within_s: float, where: str) -> Iterator[None]:
    """End the process if the `with` block takes too long, or on SIGINT.

    JAX waits in C++, where Python sees no signal, and its own time-out aborts with a stack trace.
    """

    def give_up() -> None:
        problem = f"not all processes connected within {within_s} s"
        print_status(f"irec: error: {InputError(problem, where=where, hint=_HINT_MEETING)}")
        os._exit(EXIT_LOST)

    timer = threading.Timer(within_s, give_up)
    timer.daemon = True
    timer.start()
    is_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL) if is_main_thread else None
    try:
        yield
    finally:
        timer.cancel()
        if is_main_thread:
            signal.signal(signal.SIGINT, handler or signal.SIG_DFL)


def arguments_of(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the arguments of `jax.distributed.initialize`; None for a run of one process.

    Args:
        environment: The environment variables.

    Raises:
        InputError: The variables contradict each other.
    """
    names = (COORDINATOR, PROCESSES, PROCESS)
    given = [name for name in names if environment.get(name)]
    mode = environment.get(DISTRIBUTED, "")
    if mode not in ("", "auto"):
        hint = f"Set it to auto, or unset it and set {', '.join(names)}."
        raise InputError(f"must be auto or unset, got {mode!r}", where=DISTRIBUTED, hint=hint)
    if mode and given:
        hint = f"Unset {DISTRIBUTED}, or {', '.join(given)}."
        raise InputError(f"contradicts {given[0]}", where=DISTRIBUTED, hint=hint)
    if mode:
        return {}
    if not given:
        return None
    for name in names:
        if name not in given:
            hint = f"Set all of {', '.join(names)}, or none."
            raise InputError(f"is not set, but {given[0]} is", where=name, hint=hint)
    count = _number(environment, PROCESSES, 1)
    index = _number(environment, PROCESS, 0, count - 1)
    address = environment[COORDINATOR]
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        hint = "Set it to host:port of process 0, for example 10.0.0.1:8476."
        raise InputError(f"{address!r} is not a valid address", where=COORDINATOR, hint=hint)
    arguments: dict[str, Any] = {
        "coordinator_address": address,
        "num_processes": count,
        "process_id": index,
        "cluster_detection_method": "deactivate",
    }
    if host in _LOOPBACK:
        arguments["coordinator_bind_address"] = address  # else all the network could join
    return arguments


def process_count() -> int:
    """Return the number of processes; unlike `jax.process_count` it does not start the devices."""
    return distributed.global_state.num_processes or 1


def process_index() -> int:
    """Return the number of this process, from 0."""
    return distributed.global_state.process_id or 0


def is_first() -> bool:
    """Return whether this is process 0, which writes logs, configs and progress."""
    return process_index() == 0


def coordination_store() -> Any:
    """Return the key-value store that all processes share; None in a run of one process."""
    return distributed.global_state.client


def gather(text: str) -> list[str]:
    """Gather a text of each process; all processes must call this equally often.

    It uses the coordinator, not the devices, and so may be called at any time.

    Args:
        text: The text of this process.

    Returns:
        The texts of all processes, by process number.
    """
    if process_count() == 1:
        return [text]
    folder = f"irec/gather/{next(_numbers)}"
    coordination_store().key_value_set(f"{folder}/{process_index()}", text)
    coordination_store().wait_at_barrier(folder, _WEEK_MS)
    texts = {
        int(key.rpartition("/")[2]): value
        for key, value in coordination_store().key_value_dir_get(folder)
    }
    return [texts[number] for number in range(process_count())]


def on_first(function: Callable[[], object]) -> None:
    """Call a function in process 0 while the other processes wait.

    Args:
        function: The function.

    Raises:
        InputError: The one of process 0, in every process.
    """
    failure: list[str] = []
    if is_first():
        try:
            function()
        except InputError as error:
            failure = [error.problem, error.where, error.hint]
            if process_count() == 1:
                raise
    failure = json.loads(gather(json.dumps(failure))[0])
    if failure:
        problem, where, hint = failure
        raise InputError(problem, where=where, hint=hint)


def on_host(array: jax.Array) -> np.ndarray:
    """Return an array with any sharding as numpy, in every process; all processes call this."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(jax.device_get(array))
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _number(environment: Mapping[str, str], name: str, low: int, high: int | None = None) -> int:
    text = environment[name]
    if not text.isdigit() or int(text) < low or (high is not None and int(text) > high):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        hint = f"Set it to a whole number, {bounds}."
        raise InputError(f"must be {bounds}, got {text!r}", where=name, hint=hint)
    return int(text)
