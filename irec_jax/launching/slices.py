"""TPU slices by the topology that `irec plan` takes, with their names in Cloud TPU and GKE."""

import dataclasses
import math
import shlex
from typing import NamedTuple

from irec_jax.bounds import check_numbers
from irec_jax.errors import InputError, nearest
from irec_jax.launching.launch_plan import Allocation, LaunchPlan
from irec_jax.launching.target_checks import (
    GRACE,
    RESTARTS,
    SLICES,
    bucket_name,
    check_bucket,
)
from irec_jax.planning.topology import datasheet

_ONE_CHIP = "1x1"
"""A slice of the two-dimensional generations that `irec plan` leaves out: nothing is exchanged."""
_HOST_CHIPS = 4


class TpuNames(NamedTuple):
    """Names of one TPU generation in Google Cloud.

    Attributes:
        accelerator: Prefix of Cloud TPU's accelerator type; "" if only GKE rents it.
        cores: Cores per chip in the size of the accelerator type.
        runtime: Image of a Cloud TPU VM.
        label: Node label of GKE.
        machine: Machine type of GKE, with `{}` for the chips of a host.
    """

    accelerator: str
    cores: int
    runtime: str
    label: str
    machine: str


# https://cloud.google.com/tpu/docs/supported-tpu-versions (types and images) and
# https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus (labels and machines).
GENERATIONS = {
    "v4": TpuNames("v4-", 2, "tpu-ubuntu2204-base", "tpu-v4-podslice", "ct4p-hightpu-{}t"),
    "v5e": TpuNames(
        "v5litepod-", 1, "v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", "ct5lp-hightpu-{}t"
    ),
    "v5p": TpuNames("v5p-", 2, "v2-alpha-tpuv5", "tpu-v5p-slice", "ct5p-hightpu-{}t"),
    "v6e": TpuNames("v6e-", 1, "v2-alpha-tpuv6e", "tpu-v6e-slice", "ct6e-standard-{}t"),
    "tpu7x": TpuNames("", 2, "", "tpu7x", "tpu7x-standard-{}t"),
}


class TpuSlice(NamedTuple):
    """One TPU slice.

    Attributes:
        generation: A key of `GENERATIONS`.
        shape: Chips along each side, such as `4x4`.
    """

    generation: str
    shape: str

    @property
    def names(self) -> TpuNames:
        """Names of its generation in Google Cloud."""
        return GENERATIONS[self.generation]

    @property
    def chips(self) -> int:
        """Number of chips."""
        return math.prod(int(side) for side in self.shape.split("x"))

    @property
    def host_chips(self) -> int:
        """Chips of a host under GKE: up to 8 of a small flat slice share one, otherwise 4."""
        if datasheet()[self.generation].dimensions == 2 and self.chips <= 2 * _HOST_CHIPS:
            return self.chips
        return _HOST_CHIPS

    @property
    def hosts(self) -> int:
        """Number of hosts under GKE."""
        return self.chips // self.host_chips

    @property
    def accelerator_type(self) -> str:
        """Accelerator type of Cloud TPU, such as `v5litepod-16`."""
        return f"{self.names.accelerator}{self.chips * self.names.cores}"

    @property
    def machine_type(self) -> str:
        """Machine type of GKE, such as `ct5lp-hightpu-4t`."""
        return self.names.machine.format(self.host_chips)

    @property
    def devices(self) -> int:
        """Number of JAX devices."""
        return self.chips * datasheet()[self.generation].devices


@dataclasses.dataclass(frozen=True, kw_only=True)
class SliceSettings:
    """Settings that the targets with TPU slices share.

    Attributes:
        topology: A TPU slice, such as v5e:4x4.
        slices: Number of slices; mesh.replica must be a multiple.
        spot: Use spot machines, which may be preempted at any time, for a lower price.
        grace: Seconds from SIGTERM to SIGKILL, for the checkpoint.
        restarts: Number of restarts after a preemption or a lost host.
        bucket: A Cloud Storage bucket; it holds configs/, data/ and runs/ as the folder here does.
    """

    topology: str
    slices: int = 1
    spot: bool = False
    grace: int = 300
    restarts: int = 100
    bucket: str

    @property
    def slice(self) -> TpuSlice:
        """The slice of `topology`."""
        return read_slice(self.topology)

    @property
    def bucket_name(self) -> str:
        """The bucket without `gs://`."""
        return bucket_name(self.bucket)

    @property
    def hosts(self) -> int:
        """Number of hosts of all slices under GKE."""
        return self.slices * self.slice.hosts

    def allocation(self) -> Allocation:
        """Returns the JAX devices of all slices."""
        return Allocation(self.slice.devices * self.slices, self.slices)

    def check_slices(self, plan: LaunchPlan) -> None:
        """Refuses an unknown slice, numbers out of bounds, and paths outside of the bucket.

        Raises:
            InputError: Naming the flag.
        """
        read_slice(self.topology)
        check_numbers(self, "--", slices=SLICES, grace=GRACE, restarts=RESTARTS)
        check_bucket(plan, self.bucket)

    def upload_commands(self, plan: LaunchPlan) -> list[str]:
        """Builds the commands that copy the experiment and its inputs into the bucket."""

        def copy(verb: str, path: str) -> str:
            return f"gcloud storage {verb} " + shlex.join([path, f"gs://{self.bucket_name}/{path}"])

        folders = [f"{copy('rsync', path)} --recursive" for path in plan.inputs]
        return [copy("cp", str(plan.experiment)), *folders]


def read_slice(topology: str) -> TpuSlice:
    """Parses a topology.

    Args:
        topology: Such as `v5e:4x4`.

    Raises:
        InputError: The slice does not exist.
    """
    generation, _, shape = topology.partition(":")
    if generation not in GENERATIONS:
        hint = f"{nearest(generation, GENERATIONS)} Write for example v5e:4x4."
        raise InputError(f"{topology!r} is not a TPU slice", where="--topology", hint=hint)
    if shape not in shapes_of(generation):
        hint = nearest(shape, shapes_of(generation))
        raise InputError(f"{generation} has no slice {shape!r}", where="--topology", hint=hint)
    return TpuSlice(generation, shape)


def shapes_of(generation: str) -> tuple[str, ...]:
    """Returns the shapes of slices that can be rented, small to large."""
    chip = datasheet()[generation]
    return (_ONE_CHIP, *chip.shapes) if chip.dimensions == 2 else chip.shapes
