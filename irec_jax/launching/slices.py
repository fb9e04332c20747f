"""TPU slices by the name that `irec plan` gives them: what Cloud TPU and GKE call the same."""

import math
from typing import NamedTuple

from irec_jax.errors import InputError, nearest
from irec_jax.planning.topology import datasheet

_ONE_CHIP = "1x1"
"""A slice of the flat families too, though none to plan for: nothing is exchanged."""
_HOST_CHIPS = 4


class Family(NamedTuple):
    """The names of one generation.

    Attributes:
        accelerator: What stands before the size in Cloud TPU's accelerator type; "" if Cloud TPU
            rents it through GKE alone.
        cores: What a chip counts in that size.
        runtime: The image of a Cloud TPU VM.
        label: GKE's node label.
        machine: GKE's machine type, with `{}` for the chips of a host.
    """

    accelerator: str
    cores: int
    runtime: str
    label: str
    machine: str


# https://cloud.google.com/tpu/docs/supported-tpu-versions (types and images) and
# https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus (labels and machines).
FAMILIES = {
    "v4": Family("v4-", 2, "tpu-ubuntu2204-base", "tpu-v4-podslice", "ct4p-hightpu-{}t"),
    "v5e": Family(
        "v5litepod-", 1, "v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", "ct5lp-hightpu-{}t"
    ),
    "v5p": Family("v5p-", 2, "v2-alpha-tpuv5", "tpu-v5p-slice", "ct5p-hightpu-{}t"),
    "v6e": Family("v6e-", 1, "v2-alpha-tpuv6e", "tpu-v6e-slice", "ct6e-standard-{}t"),
    "tpu7x": Family("", 2, "", "tpu7x", "tpu7x-standard-{}t"),
}


class Slice(NamedTuple):
    """One slice.

    Attributes:
        name: Of its generation.
        shape: Chips along each side, such as `4x4`.
    """

    name: str
    shape: str

    @property
    def family(self) -> Family:
        """What its generation is called."""
        return FAMILIES[self.name]

    @property
    def chips(self) -> int:
        """Chips in it."""
        return math.prod(int(side) for side in self.shape.split("x"))

    @property
    def host_chips(self) -> int:
        """Chips of a host under GKE: up to 8 of a small flat slice share one, else 4 do."""
        if datasheet()[self.name].dimensions == 2 and self.chips <= 2 * _HOST_CHIPS:
            return self.chips
        return _HOST_CHIPS

    @property
    def hosts(self) -> int:
        """Hosts of the slice under GKE."""
        return self.chips // self.host_chips

    @property
    def accelerator_type(self) -> str:
        """Cloud TPU's name, such as `v5litepod-16`."""
        return f"{self.family.accelerator}{self.chips * self.family.cores}"

    @property
    def machine_type(self) -> str:
        """GKE's machine type, such as `ct5lp-hightpu-4t`."""
        return self.family.machine.format(self.host_chips)

    @property
    def devices(self) -> int:
        """JAX devices in it."""
        return self.chips * datasheet()[self.name].devices


def read_slice(topology: str) -> Slice:
    """Reads a topology.

    Args:
        topology: Such as `v5e:4x4`.

    Raises:
        InputError: There is no such slice.
    """
    name, _, shape = topology.partition(":")
    if name not in FAMILIES:
        hint = f"{nearest(name, FAMILIES)} For example v5e:4x4."
        raise InputError(f"{topology!r} is no TPU slice", where="--topology", hint=hint)
    if shape not in shapes_of(name):
        hint = nearest(shape, shapes_of(name))
        raise InputError(f"{name} has no slice {shape!r}", where="--topology", hint=hint)
    return Slice(name, shape)


def shapes_of(name: str) -> tuple[str, ...]:
    """The slices of a generation that can be had, small to large; chips along each side."""
    chip = datasheet()[name]
    return (_ONE_CHIP, *chip.shapes) if chip.dimensions == 2 else chip.shapes
