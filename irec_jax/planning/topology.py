"""Named slices of TPU chips, and this machine's own devices, as something to compile for."""

import dataclasses
import functools
import importlib.resources
import importlib.util
import math
import re
import tomllib
from collections.abc import Sequence
from typing import Any

from irec_jax.errors import InputError, nearest

LOCAL = "local"
STACKS = "--fibers_default_thread_stack_size"
"""libtpu 0.0.42.1 recurses deeper than the stacks of its own threads for some fused products."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """The datasheet of one family; see `chips.toml`, which says where each figure is from."""

    source: str
    peak: float
    hbm: int
    usable: int
    hbm_bandwidth: float
    ici_links: int
    ici_link: float
    dcn: float
    wraps: int
    devices: int
    chip_config: str
    shapes: tuple[str, ...]

    @property
    def dimensions(self) -> int:
        """Sides of a slice."""
        return self.shapes[0].count("x") + 1


@functools.cache
def datasheet() -> dict[str, Chip]:
    """All families by name."""
    text = importlib.resources.files("irec_jax.planning").joinpath("chips.toml").read_text("utf-8")
    return {
        name: Chip(**{**figures, "shapes": tuple(figures["shapes"])})
        for name, figures in tomllib.loads(text).items()
    }


@dataclasses.dataclass(frozen=True)
class Topology:
    """Some slices of one family, all of one shape; or this machine's devices.

    Attributes:
        family: A key of the datasheet, or `local`.
        shape: Chips along each side of a slice; () for `local`.
        slices: Slices that are joined by the data center's network.
    """

    family: str
    shape: tuple[int, ...] = ()
    slices: int = 1

    @classmethod
    def parse(cls, text: str, slices: int = 1) -> "Topology":
        """Reads `v5e:4x4`, `v5e:4x4*2` (two slices) or `local`.

        Args:
            text: The name.
            slices: Slices, where the name does not say how many.

        Raises:
            InputError: There is no such family or shape.
        """
        if text == LOCAL:
            return cls(LOCAL)
        match = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)(?:\*(\d+))?", text)
        if not match:
            hint = "Write for example v5e:8x8, v5p:4x4x4, v5e:4x4*2 (two slices) or local."
            raise InputError(f"'{text}' is no topology", where="topology", hint=hint)
        family, sides, told = match.groups()
        chips = datasheet()
        if family not in chips:
            hint = nearest(family, [*chips, LOCAL])
            raise InputError(f"there is no family '{family}'", where="topology", hint=hint)
        shape = tuple(int(side) for side in sides.split("x"))
        count = int(told or slices)
        if len(shape) != chips[family].dimensions or min(shape) < 1 or count < 1:
            hint = f"Slices of {family} are {', '.join(chips[family].shapes)}."
            raise InputError(f"'{text}' cannot be", where="topology", hint=hint)
        return cls(family, shape, count)

    def __str__(self) -> str:
        if self.family == LOCAL:
            return LOCAL
        sides = "x".join(str(side) for side in self.shape)
        return f"{self.family}:{sides}" + (f"*{self.slices}" if self.slices > 1 else "")

    @property
    def chip(self) -> Chip | None:
        """The datasheet of a chip; None for `local`."""
        return None if self.family == LOCAL else datasheet()[self.family]

    @property
    def chips(self) -> int:
        """Chips of all slices; of `local`, what JAX counts as devices is not asked for here: 0."""
        return 0 if self.family == LOCAL else math.prod(self.shape) * self.slices

    @property
    def devices(self) -> int:
        """JAX devices of all slices; 0 for `local`, where JAX must be asked."""
        return self.chips * self.chip.devices if self.chip else 0

    def larger(self) -> "list[Topology]":
        """The slices of the family that have more chips, smallest first."""
        if self.chip is None:
            return []
        shapes = [tuple(int(side) for side in text.split("x")) for text in self.chip.shapes]
        own = math.prod(self.shape)
        return [
            dataclasses.replace(self, shape=shape) for shape in shapes if math.prod(shape) > own
        ]

    def links(self, places: Sequence[Sequence[int]]) -> int:
        """How many links, one direction each, the chips at `places` of one slice can all use.

        A ring along a side uses two (both ways round), a line one: its ends have one neighbor.

        Args:
            places: Coordinates of the chips that exchange with each other.
        """
        if self.chip is None or not places:
            return 0
        used = 0
        for axis, side in enumerate(self.shape):
            extent = {place[axis] for place in places}
            if len(extent) > 1:
                ring = len(extent) == side and side % self.chip.wraps == 0
                used += 2 if ring else 1
        return used


def compiler_devices(topology: Topology) -> list[Any]:
    """The devices to compile for; a TPU's need libtpu and no TPU.

    libtpu is loaded into this process: call it in one that does nothing else.

    Raises:
        InputError: libtpu is not installed, or does not know the slice.
    """
    import jax
    from jax.experimental import topologies

    if topology.chip is None:
        return list(jax.devices())
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            "planning for a TPU needs its compiler, libtpu",
            where="topology",
            hint="pip install 'irec-jax[tpu]' (no TPU is needed), or plan for 'local'.",
        )
    arguments: dict[str, Any] = {}
    if topology.chip.chip_config:
        arguments["chip_config_name"] = topology.chip.chip_config
    if topology.slices > 1:
        arguments["num_slices"] = topology.slices
    name = str(dataclasses.replace(topology, slices=1))
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name, **arguments)
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError) as error:
        hint = f"Slices of {topology.family} are {', '.join(topology.chip.shapes)}."
        what = f"libtpu knows no {topology} ({str(error).splitlines()[0]})"
        raise InputError(what, where="topology", hint=hint) from error
    return list(found.devices)


def libtpu_arguments(given: str) -> str:
    """What `LIBTPU_INIT_ARGS` shall be for the compiler to outlive every program of ours.

    Args:
        given: What it is; a size of stacks that it names stays.
    """
    return given if STACKS in given else f"{given} {STACKS}={8 * 2**20}".strip()
