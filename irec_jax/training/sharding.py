"""Where each array of the train state and of a batch lives on the mesh."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.experimental.mesh_utils import create_hybrid_device_mesh
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from irec_jax.bounds import Range, check_settings
from irec_jax.errors import InputError
from irec_jax.training.optimizer import TreePath, is_stacked, names

AXES = ("replica", "data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How many ways work and weights are cut. One device is a mesh too.

    Attributes:
        replica: Copies across slices, which are joined by the data center's network; 1 within
            one slice. Only the sum of the gradients crosses it.
        data: Copies of the weights within a slice, each with its part of the batch; -1 takes all
            the devices that the other axes leave.
        fsdp: Parts of the weights that are put together for each layer; cuts the batch as well.
        tensor: Parts of the heads, of the feed-forward dimension and of the vocabulary.
    """

    replica: int = 1
    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        axis = Range(1, 2**20, "Set it to a number of devices.")
        data = axis if self.data != -1 else Range(-1, -1)
        check_settings(self, "mesh.", replica=axis, data=data, fsdp=axis, tensor=axis)


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Arranges the devices.

    Args:
        config: The sizes.
        devices: Which devices; None for all.

    Raises:
        InputError: When the sizes do not use the devices exactly.
    """
    devices = jax.devices() if devices is None else list(devices)
    rest = config.replica * config.fsdp * config.tensor
    data = config.data if config.data > 0 else max(len(devices) // rest, 1)
    if data * rest != len(devices):
        wanted = f"{config.replica} x {data} x {config.fsdp} x {config.tensor}"
        hint = "Make replica * data * fsdp * tensor the number of devices; data=-1 takes the rest."
        what = f"{wanted} (replica x data x fsdp x tensor) does not fit {len(devices)} devices"
        raise InputError(what, where="mesh", hint=hint)
    sizes = (config.replica, data, config.fsdp, config.tensor)
    slices = {getattr(device, "slice_index", 0) for device in devices}
    # Said out loud: the default became Explicit, under which a lookup in a sharded table fails.
    kinds = (AxisType.Auto,) * len(AXES)
    if len(slices) == 1:
        return jax.make_mesh(sizes, AXES, axis_types=kinds, devices=devices)
    if config.replica % len(slices):
        raise InputError(
            f"{config.replica} copies cannot be dealt to {len(slices)} slices",
            where="mesh.replica",
            hint=f"Give {len(slices)}: the other axes would cross the data center's network.",
        )
    within = (config.replica // len(slices), *sizes[1:])
    across = (len(slices), 1, 1, 1)
    arranged = create_hybrid_device_mesh(within, across, devices)
    return Mesh(arranged, AXES, axis_types=kinds)


BATCH_AXES = ("replica", "data", "fsdp")
"""Rows of a batch go to all devices but those that share the tensor axis."""

RANK = "rank"
"""Stands for the inner axis of an adapter, which is never cut: a sum over its parts would be an
exchange of the size of the weight."""

RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"(^|/)(scale|bias)(/\d+/v)?$", ()),
    (r"/(query|key|value|gate|up)/down(/\d+/v)?$", ("fsdp", RANK)),
    (r"/(query|key|value|gate|up)/up(/\d+/v)?$", (RANK, "tensor")),
    (r"/(output|down)/down(/\d+/v)?$", ("tensor", RANK)),
    (r"/(output|down)/up(/\d+/v)?$", (RANK, "fsdp")),
    (r"(^|/)embedding/down(/\d+/v)?$", ("tensor", RANK)),
    (r"(^|/)embedding/up(/\d+/v)?$", (RANK, "fsdp")),
    (r"(^|/)head/down(/\d+/v)?$", ("fsdp", RANK)),
    (r"(^|/)head/up(/\d+/v)?$", (RANK, "tensor")),
    (r"(^|/)embedding(/\d+/v)?$", ("tensor", "fsdp")),
    (r"(^|/)head(/\d+/v)?$", ("fsdp", "tensor")),
    (r"/(query|key|value|gate|up)(/\d+/v)?$", ("fsdp", "tensor")),
    (r"/(output|down)(/\d+/v)?$", ("tensor", "fsdp")),
)
"""Path rules, first match wins: the mesh axis of each array axis, layer axis left out; () is whole.

The tensor axis cuts heads, the feed-forward dimension and the vocabulary, so that a layer needs
one sum over it at its end. An adapter's `down` and `up` are cut as the rows and the columns of
their weight. AdamW's moments end in the same names as their weights; `/0/v` is
Adafactor's second moment of a weight that it does not factor.
"""


def partition(path: TreePath, shape: tuple[int, ...], sizes: Mapping[str, int]) -> PartitionSpec:
    """Decides how one array of the train state is cut.

    Args:
        path: Its place in the train state, as `jax.tree_util` gives it.
        shape: Its shape; under `layers` the first axis is the layers', which is never cut.
        sizes: Devices along each mesh axis.

    Returns:
        What the first matching rule says, if it has as many axes as the array; an axis that the
        devices do not divide stays whole. Where that puts `fsdp` nowhere, the largest axis that it
        divides takes it; adapters are too small for that.
    """
    body = shape[1:] if is_stacked(path) else shape
    where = "/".join(names(path))
    rule = next((axes for pattern, axes in RULES if re.search(pattern, where)), None)
    if rule == ():
        return PartitionSpec()
    wanted = rule if rule and len(rule) == len(body) else (None,) * len(body)
    spec = [
        axis if axis and axis != RANK and _cuts(length, sizes[axis]) else None
        for axis, length in zip(wanted, body, strict=True)
    ]
    free = [at for at, axis in enumerate(spec) if axis is None and _cuts(body[at], sizes["fsdp"])]
    if "fsdp" not in spec and RANK not in wanted and free:
        spec[max(free, key=lambda at: body[at])] = "fsdp"
    if not any(spec):
        return PartitionSpec()
    return PartitionSpec(*([None] * (len(shape) - len(body))), *spec)


def state_shardings(mesh: Mesh, abstract_state: Any) -> Any:
    """The sharding of every array of a train state (or of any part of one, such as the weights).

    The whole state is told where to live: jitted without, an optimizer's moments are silently
    copied to every device.

    Args:
        mesh: The devices.
        abstract_state: The state as `jax.eval_shape` gives it.
    """
    sizes = dict(mesh.shape)

    def place(path: TreePath, leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, partition(path, tuple(leaf.shape), sizes))

    return jax.tree_util.tree_map_with_path(place, abstract_state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of each array of a batch: rows cut, columns whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def check_batch(mesh: Mesh, batch_size: int, accumulate: int = 1) -> None:
    """Refuses a batch that the mesh cannot cut into equal parts.

    Args:
        mesh: The devices.
        batch_size: Rows of a step.
        accumulate: Parts that each device computes its rows in.

    Raises:
        InputError: Naming the nearest sizes that fit.
    """
    devices = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    parts = devices * accumulate
    if batch_size % parts:
        low = batch_size // parts * parts
        near = f"{low} or {low + parts}" if low else str(parts)
        cut = f"{devices} (replica x data x fsdp)" + (f" x {accumulate}" if accumulate > 1 else "")
        what = f"{batch_size} rows cannot be cut into {cut} equal parts"
        raise InputError(what, where="train.batch_size", hint=f"Give {near}.")


def _cuts(length: int, size: int) -> bool:
    return size > 1 and length % size == 0
