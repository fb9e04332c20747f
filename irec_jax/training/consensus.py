"""What one process wants and all must do at the same step: to stop, or to save."""

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
    """What is wanted.

    Attributes:
        interrupt: To save and leave, as after SIGINT.
        terminate: To save and leave, as after SIGTERM.
        save: To save.
    """

    interrupt: bool = False
    terminate: bool = False
    save: bool = False

    @property
    def signal(self) -> signal.Signals | None:
        """The signal to leave by; SIGTERM where both came, as a scheduler waits for that one."""
        if self.terminate:
            return signal.SIGTERM
        return signal.SIGINT if self.interrupt else None


class CheckpointTimer:
    """Asks for a checkpoint every so many minutes; of several processes only the first asks.

    Args:
        minutes: Between two; 0 never asks.
    """

    def __init__(self, minutes: float) -> None:
        self._seconds, self._since = 60 * minutes, time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time; asks once, and then not before the next time."""
        if not self._seconds or not is_first() or time.monotonic() - self._since < self._seconds:
            return False
        self._since = time.monotonic()
        return True


class StepConsensus:
    """Tells all processes, at the same step, what any of them wants.

    Processes are not at the same step at the same time, so a wish goes through the devices as
    the steps do: behind each step a sum of a few bits is started, and read when the next step is
    under way. Nobody waits for it, and all read the same. A process on its own has no need of it.

    Args:
        mesh: The devices of the steps.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._any = jax.jit(_any, out_shardings=everywhere)
        self._shape = (mesh.devices.size, len(StopRequest._fields))
        self._placed: dict[StopRequest, jax.Array] = {}
        self._pending: jax.Array | None = None

    def exchange(self, mine: StopRequest) -> StopRequest:
        """To be called after every step by every process.

        Args:
            mine: What this process wants, from this step on.

        Returns:
            What any process wanted at the step before; of a process on its own, what it wants now.
        """
        if process_count() == 1:
            return mine
        before, self._pending = self._pending, self._any(self._place(mine))
        return StopRequest() if before is None else StopRequest(*jax.device_get(before).tolist())

    def _place(self, mine: StopRequest) -> jax.Array:
        if mine not in self._placed:  # nearly always the same, so that nothing is copied
            rows = np.broadcast_to(np.array(mine), self._shape)
            self._placed[mine] = jax.make_array_from_callback(
                self._shape, self._sharding, lambda part: rows[part]
            )
        return self._placed[mine]


def _any(wishes: Bool[Array, "devices kinds"]) -> Bool[Array, " kinds"]:
    return jnp.any(wishes, axis=0)
