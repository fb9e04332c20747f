"""Several processes as one run: how they meet, who speaks, and how they end together.

A process that fails tells the others through the coordinator before it ends, and each has a
thread that waits to be told; so that nobody waits for ever in a sum that one of them will never
join. What kills a process outright is seen by JAX's heartbeats and by the sums themselves, what
stops it from moving by `Watch`. Why, with figures: docs/decisions/0150-ending-together.md.
"""

import math
import os
from collections.abc import Mapping
from typing import Any

import jax

from irec_jax.errors import InputError

COORDINATOR, PROCESSES, PROCESS = "IREC_COORDINATOR", "IREC_PROCESSES", "IREC_PROCESS"
DISTRIBUTED = "IREC_DISTRIBUTED"
EXIT_LOST = 75
"""A run that lost one of its processes: EX_TEMPFAIL of sysexits.h, worth another try."""

HEARTBEAT_S = 60
MEET_S = 300
PARTING_S = 60
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class LostProcess(SystemExit):
    """Another process of the run is gone or hangs; the process exits with 75."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(EXIT_LOST)


def connect() -> None:
    """Joins the processes of a run as the environment says, before JAX is used for anything.

    `IREC_COORDINATOR` (host:port of process 0), `IREC_PROCESSES` (how many) and `IREC_PROCESS`
    (which one this is, from 0) go together. `IREC_DISTRIBUTED=auto` leaves it to JAX, which knows
    Cloud TPU, GKE, SLURM and Open MPI. Without any of them the process is alone. Which devices a
    process takes, where several share a host, JAX reads from `JAX_LOCAL_DEVICE_IDS`.

    Raises:
        InputError: The variables contradict each other, or the processes do not find each other.
    """
    wanted = _wanted(os.environ)
    if wanted is None or jax.distributed.is_initialized():
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would take SIGTERM for itself, from the first moment on, and swallow it before the loop.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **wanted,
            initialization_timeout=MEET_S,
            heartbeat_timeout_seconds=HEARTBEAT_S,
            shutdown_timeout_seconds=PARTING_S,
        )
    except (RuntimeError, ValueError) as error:
        where = COORDINATOR if wanted else DISTRIBUTED
        what = f"the processes did not find each other: {first_line(error)}"
        mend = "Start all of them, with the same address, within five minutes."
        raise InputError(what, where=where, mend=mend) from error


def is_first() -> bool:
    """Whether this process writes what people read: logs, configs, progress."""
    return jax.process_index() == 0


def first_line(error: BaseException) -> str:
    """What an error says, in a line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _wanted(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments of `jax.distributed.initialize`; None for a process on its own."""
    names = (COORDINATOR, PROCESSES, PROCESS)
    given = [name for name in names if environment.get(name)]
    mode = environment.get(DISTRIBUTED, "")
    if mode not in ("", "auto"):
        mend = f"Leave it out, or set it to auto; else set {', '.join(names)}."
        raise InputError(f"{mode!r} is not known", where=DISTRIBUTED, mend=mend)
    if mode and given:
        mend = f"Leave out {DISTRIBUTED}, or {', '.join(given)}."
        raise InputError(f"{mode!r} and {given[0]} contradict", where=DISTRIBUTED, mend=mend)
    if mode:
        return {}
    if not given:
        return None
    for name in names:
        if name not in given:
            mend = "Set all three, or none."
            raise InputError(f"it is not set, but {given[0]} is", where=name, mend=mend)
    count = _number(environment, PROCESSES, 1, math.inf)
    index = _number(environment, PROCESS, 0, count - 1)
    address = environment[COORDINATOR]
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        mend = "Give host:port of process 0, such as 10.0.0.1:8476."
        raise InputError(f"{address!r} is no address", where=COORDINATOR, mend=mend)
    wanted: dict[str, Any] = {
        "coordinator_address": address,
        "num_processes": count,
        "process_id": index,
        "cluster_detection_method": "deactivate",
    }
    if host in _LOOPBACK:
        wanted["coordinator_bind_address"] = address  # else all the network could join
    return wanted


def _number(environment: Mapping[str, str], name: str, low: float, high: float) -> int:
    text = environment[name]
    if not text.isdigit() or not low <= int(text) <= high:
        limit = f" to {high:.0f}" if high < math.inf else " on"
        raise InputError(f"{text!r} is not possible", where=name, mend=f"Give {low:.0f}{limit}.")
    return int(text)
