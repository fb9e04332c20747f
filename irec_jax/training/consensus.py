"""Agreement of all processes on the step at which they save or stop."""

import signal
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool

from irec_jax.training.distributed import is_first, process_count


class StopRequest(NamedTuple):
    """A request to save or to stop.

    Attributes:
        interrupt: Save and stop, as after SIGINT.
        terminate: Save and stop, as after SIGTERM.
        save: Save.
    """

    interrupt: bool = False
    terminate: bool = False
    save: bool = False

    @property
    def signal(self) -> signal.Signals | None:
        """The signal to stop by; SIGTERM of both, because a scheduler waits for its exit code."""
        if self.terminate:
            return signal.SIGTERM
        return signal.SIGINT if self.interrupt else None


class CheckpointTimer:
    """Requests a checkpoint at a fixed interval of time, in process 0 only.

    Args:
        minutes: The interval; 0 for never.
    """

    def __init__(self, minutes: float) -> None:
        self._seconds, self._last = 60 * minutes, time.monotonic()

    def is_due(self) -> bool:
        """Return whether the interval has passed; if so, the next one starts."""
        if not self._seconds or not is_first() or time.monotonic() - self._last < self._seconds:
            return False
        self._last = time.monotonic()
        return True


class StepConsensus:
    """Combines the requests of all processes, with the same result at the same step in each.

    Processes run ahead of their devices by different times, so requests go through the devices
    as the steps do: a sum of a few flags is dispatched after each step, and read after the next
    one is dispatched. No process waits for it (docs/decisions/0151-step-consensus-for-stops.md).
    A single process exchanges nothing.

    Args:
        mesh: The devices of the steps.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        replicated = NamedSharding(mesh, PartitionSpec())
        self._any = jax.jit(_any, out_shardings=replicated)
        self._shape = (mesh.devices.size, len(StopRequest._fields))
        self._on_devices: dict[StopRequest, jax.Array] = {}
        self._pending: jax.Array | None = None

    def exchange(self, own: StopRequest) -> StopRequest:
        """Combine the requests of all processes; each calls this after every step.

        Args:
            own: The request of this process.

        Returns:
            The combined requests of the step before; of a single process, its own of this step.
        """
        if process_count() == 1:
            return own
        before, self._pending = self._pending, self._any(self._put(own))
        return StopRequest() if before is None else StopRequest(*jax.device_get(before).tolist())

    def _put(self, own: StopRequest) -> jax.Array:
        if own not in self._on_devices:  # nearly always the same, so nothing is copied
            rows = np.broadcast_to(np.array(own), self._shape)
            self._on_devices[own] = jax.make_array_from_callback(
                self._shape, self._sharding, lambda part: rows[part]
            )
        return self._on_devices[own]


def _any(requests: Bool[Array, "devices flags"]) -> Bool[Array, " flags"]:
    return jnp.any(requests, axis=0)
