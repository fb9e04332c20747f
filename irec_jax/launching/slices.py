"""TPU slices by the name that `irec plan` gives them: what Cloud TPU and GKE call the same."""

from typing import NamedTuple

from irec_jax.errors import InputError, nearest

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_DEEP = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")
_HOST_CHIPS = 4


class Family(NamedTuple):
    """The names of one generation.

    Attributes:
        shapes: The slices that can be had, small to large; chips along each side.
        accelerator: What stands before the size in Cloud TPU's accelerator type; "" if Cloud TPU
            rents it through GKE alone.
        cores: What a chip counts in that size.
        runtime: The image of a Cloud TPU VM.
        label: GKE's node label.
        machine: GKE's machine type, with `{}` for the chips of a host.
        devices: JAX devices of a chip.
    """

    shapes: tuple[str, ...]
    accelerator: str
    cores: int
    runtime: str
    label: str
    machine: str
    devices: int = 1


# https://cloud.google.com/tpu/docs/supported-tpu-versions (types and images) and
# https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus (labels and machines).
FAMILIES = {
    "v4": Family(_DEEP, "v4-", 2, "tpu-ubuntu2204-base", "tpu-v4-podslice", "ct4p-hightpu-{}t"),
    "v5e": Family(
        _FLAT, "v5litepod-", 1, "v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", "ct5lp-hightpu-{}t"
    ),
    "v5p": Family(_DEEP, "v5p-", 2, "v2-alpha-tpuv5", "tpu-v5p-slice", "ct5p-hightpu-{}t"),
    "v6e": Family(_FLAT, "v6e-", 1, "v2-alpha-tpuv6e", "tpu-v6e-slice", "ct6e-standard-{}t"),
    "tpu7x": Family(_DEEP, "", 2, "", "tpu7x", "tpu7x-standard-{}t", devices=2),
}


class Slice(NamedTuple):
    """One slice.

    Attributes:
        family: Its generation.
        shape: Chips along each side, such as `4x4`.
    """

    family: Family
    shape: str

    @property
    def chips(self) -> int:
        """Chips in it."""
        sides = [int(side) for side in self.shape.split("x")]
        product = 1
        for side in sides:
            product *= side
        return product

    @property
    def host_chips(self) -> int:
        """Chips of a host under GKE: up to 8 of a small flat slice share one, else 4 do."""
        if self.family.shapes is _FLAT and self.chips <= 2 * _HOST_CHIPS:
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
        return self.chips * self.family.devices


def read_slice(topology: str) -> Slice:
    """Reads a topology.

    Args:
        topology: Such as `v5e:4x4`.

    Raises:
        InputError: There is no such slice.
    """
    name, _, shape = topology.partition(":")
    if name not in FAMILIES:
        mend = f"{nearest(name, FAMILIES)} For example v5e:4x4."
        raise InputError(f"{topology!r} is no TPU slice", where="--topology", mend=mend)
    family = FAMILIES[name]
    if shape not in family.shapes:
        mend = nearest(shape, family.shapes)
        raise InputError(f"{name} has no slice {shape!r}", where="--topology", mend=mend)
    return Slice(family, shape)
