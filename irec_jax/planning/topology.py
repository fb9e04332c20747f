"""Compile targets: named TPU slices, and the devices of this machine."""

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
STACK_SIZE_FLAG = "--fibers_default_thread_stack_size"
"""Stack size of libtpu's threads: 0.0.42.1 overflows the default for some fused products."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """The datasheet of one TPU generation, per chip; `chips.toml` gives units and sources.

    Attributes:
        source: Address of the datasheet.
        peak: Peak bfloat16 FLOP/s.
        hbm: Bytes of memory.
        usable: Bytes of memory that the compiler grants one device.
        hbm_bandwidth: Bytes per second.
        ici_links: Links to neighboring chips.
        ici_link: Bytes per second of one link in one direction.
        dcn: Bytes per second of the chip's share of its host's network, in one direction.
        wraps: A side of a slice that is a multiple of this is closed to a ring.
        devices: JAX devices per chip.
        chip_config: Name of the chip's configuration in libtpu, or "".
        shapes: Slices that can be rented, small to large.
    """

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
        """Number of sides of a slice."""
        return self.shapes[0].count("x") + 1


@functools.cache
def datasheet() -> dict[str, Chip]:
    """Reads the datasheets of all generations, by name."""
    text = importlib.resources.files("irec_jax.planning").joinpath("chips.toml").read_text("utf-8")
    return {
        name: Chip(**{**figures, "shapes": tuple(figures["shapes"])})
        for name, figures in tomllib.loads(text).items()
    }


@dataclasses.dataclass(frozen=True)
class Topology:
    """Slices of one TPU generation, all of one shape, or the devices of this machine.

    Attributes:
        generation: A key of the datasheet, or `local`.
        shape: Chips along each side of a slice; () for `local`.
        slices: Number of slices, connected by the data-center network.
    """

    generation: str
    shape: tuple[int, ...] = ()
    slices: int = 1

    @classmethod
    def parse(cls, text: str, slices: int = 1) -> "Topology":
        """Parses `v5e:4x4`, `v5e:4x4*2` (two slices) or `local`.

        Args:
            text: The name.
            slices: Number of slices, if the name does not contain it.

        Raises:
            InputError: The generation or the shape does not exist.
        """
        if text == LOCAL:
            return cls(LOCAL)
        match = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)(?:\*(\d+))?", text)
        if not match:
            hint = "Write for example v5e:8x8, v5p:4x4x4, v5e:4x4*2 (two slices) or local."
            raise InputError(f"{text!r} is not a topology", where="topology", hint=hint)
        generation, sides, count = match.groups()
        chips = datasheet()
        if generation not in chips:
            hint = nearest(generation, [*chips, LOCAL])
            raise InputError(f"unknown TPU generation {generation!r}", where="topology", hint=hint)
        shape = tuple(int(side) for side in sides.split("x"))
        number = int(count or slices)
        if len(shape) != chips[generation].dimensions or min(shape) < 1 or number < 1:
            hint = f"Choose one of {', '.join(chips[generation].shapes)}."
            raise InputError(
                f"{text!r} is not a slice of {generation}", where="topology", hint=hint
            )
        return cls(generation, shape, number)

    def __str__(self) -> str:
        if self.generation == LOCAL:
            return LOCAL
        sides = "x".join(str(side) for side in self.shape)
        return f"{self.generation}:{sides}" + (f"*{self.slices}" if self.slices > 1 else "")

    @property
    def chip(self) -> Chip | None:
        """The datasheet; None for `local`."""
        return None if self.generation == LOCAL else datasheet()[self.generation]

    @property
    def chips(self) -> int:
        """Number of chips of all slices; 0 for `local`, where only JAX knows it."""
        return 0 if self.generation == LOCAL else math.prod(self.shape) * self.slices

    @property
    def devices(self) -> int:
        """Number of JAX devices of all slices; 0 for `local`, where only JAX knows it."""
        return self.chips * self.chip.devices if self.chip else 0

    def larger(self) -> "list[Topology]":
        """Returns the larger slices of the generation, smallest first."""
        if self.chip is None:
            return []
        shapes = [tuple(int(side) for side in text.split("x")) for text in self.chip.shapes]
        chips = math.prod(self.shape)
        return [
            dataclasses.replace(self, shape=shape) for shape in shapes if math.prod(shape) > chips
        ]

    def links(self, coordinates: Sequence[Sequence[int]]) -> int:
        """Counts the links that each of some chips of one slice can use, one direction each.

        A ring along a side has two (both directions), a line one: its ends have one neighbor.

        Args:
            coordinates: Of the chips that exchange data.
        """
        if self.chip is None or not coordinates:
            return 0
        links = 0
        for axis, side in enumerate(self.shape):
            extent = {chip[axis] for chip in coordinates}
            if len(extent) > 1:
                ring = len(extent) == side and side % self.chip.wraps == 0
                links += 2 if ring else 1
        return links


def compiler_devices(topology: Topology) -> list[Any]:
    """Returns the devices to compile for; those of a TPU need libtpu, but no TPU.

    libtpu is loaded into this process, so call it in a process of its own.

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
            hint="Run pip install 'irec-jax[tpu]' (no TPU is needed), or plan for 'local'.",
        )
    arguments: dict[str, Any] = {}
    if topology.chip.chip_config:
        arguments["chip_config_name"] = topology.chip.chip_config
    if topology.slices > 1:
        arguments["num_slices"] = topology.slices
    name = str(dataclasses.replace(topology, slices=1))
    try:
        description = topologies.get_topology_desc(platform="tpu", topology_name=name, **arguments)
    except (jax.errors.JaxRuntimeError, ValueError, RuntimeError) as error:
        hint = f"Choose one of {', '.join(topology.chip.shapes)}."
        problem = f"libtpu does not know {topology} ({str(error).splitlines()[0]})"
        raise InputError(problem, where="topology", hint=hint) from error
    return list(description.devices)


def libtpu_arguments(given: str) -> str:
    """Returns `LIBTPU_INIT_ARGS` with stacks that are large enough to compile every program.

    Args:
        given: The present value; a stack size in it is kept.
    """
    return given if STACK_SIZE_FLAG in given else f"{given} {STACK_SIZE_FLAG}={8 * 2**20}".strip()
