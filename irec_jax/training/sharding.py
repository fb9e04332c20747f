"""Shardings of the train state and of a batch on a device mesh."""

import dataclasses
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
from jax.experimental.mesh_utils import create_hybrid_device_mesh
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from irec_jax.bounds import Range, check_settings
from irec_jax.errors import InputError
from irec_jax.model.t5_sharding import RANK, RULES
from irec_jax.training.optimizer import TreePath, is_stacked, path_name

AXES = ("replica", "data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the mesh axes; their product is the number of devices.

    Attributes:
        replica: Copies across slices, which are joined by the data center's network; 1 within
            one slice. Only the sum of the gradients crosses it.
        data: Copies of the weights within a slice, each with its shard of the batch; -1 takes all
            the devices that the other axes leave.
        fsdp: Shards of the weights, gathered for each layer; shards the batch as well.
        tensor: Shards of the heads, of the feed-forward dimension and of the vocabulary.
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
    """Build the mesh with the axes `AXES`.

    Args:
        config: The sizes.
        devices: The devices; None for all.

    Raises:
        InputError: The product of the sizes is not the number of devices, or `replica` is not a
            multiple of the number of slices.
    """
    devices = jax.devices() if devices is None else list(devices)
    rest = config.replica * config.fsdp * config.tensor
    data = config.data if config.data > 0 else max(len(devices) // rest, 1)
    if data * rest != len(devices):
        product = f"{config.replica} x {data} x {config.fsdp} x {config.tensor}"
        problem = f"{product} (replica x data x fsdp x tensor) does not fit {len(devices)} devices"
        hint = (
            "Set the sizes so that their product is the number of devices; data=-1 takes the rest."
        )
        raise InputError(problem, where="mesh", hint=hint)
    sizes = (config.replica, data, config.fsdp, config.tensor)
    slices = {getattr(device, "slice_index", 0) for device in devices}
    # The default is Explicit, under which a lookup in a sharded table fails.
    axis_types = (AxisType.Auto,) * len(AXES)
    if len(slices) == 1:
        return jax.make_mesh(sizes, AXES, axis_types=axis_types, devices=devices)
    if config.replica % len(slices):
        raise InputError(
            f"must be a multiple of the number of slices, {len(slices)}, got {config.replica}",
            where="mesh.replica",
            hint=f"Set it to {len(slices)}; otherwise other axes cross the data center's network.",
        )
    within = (config.replica // len(slices), *sizes[1:])
    across = (len(slices), 1, 1, 1)
    arranged = create_hybrid_device_mesh(within, across, devices)
    return Mesh(arranged, AXES, axis_types=axis_types)


BATCH_AXES = ("replica", "data", "fsdp")
"""Mesh axes that shard the rows of a batch; devices along `tensor` hold the same rows."""


def state_shardings(mesh: Mesh, tree: Any, params: Any = None) -> Any:
    """Return the sharding of every array of a train state or of a part of it.

    All of them must be given to `jax.jit`: without, the optimizer's moments are silently
    replicated.

    Args:
        mesh: The devices.
        tree: Arrays or `jax.ShapeDtypeStruct` leaves.
        params: The trained weights that the leaves of `tree` belong to, as in
            `partition_specs`; None if `tree` is the weights.

    Returns:
        A tree like `tree` with `NamedSharding` leaves.
    """
    specs = partition_specs(dict(mesh.shape), tree, params)
    return jax.tree.map(lambda _, spec: NamedSharding(mesh, spec), tree, specs)


def partition_specs(sizes: Mapping[str, int], tree: Any, params: Any = None) -> Any:
    """Return the partition spec of every array of a train state or of a part of it.

    An array belongs to the parameter whose path is a part of its own path, wherever the optimizer
    keeps it. It is sharded like the parameter if it has its shape (moments, averages). Any other
    array (factored moments, counts) has `fsdp` on its largest axis that `fsdp` divides.

    Args:
        sizes: Devices along each mesh axis.
        tree: Arrays or `jax.ShapeDtypeStruct` leaves.
        params: The trained weights that the leaves of `tree` belong to; None if `tree` is the
            weights.

    Returns:
        A tree like `tree` with `PartitionSpec` leaves.
    """
    shapes = {
        tuple(path_name(path).split("/")): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree if params is None else params)
    }

    def spec(path: TreePath, leaf: Any) -> PartitionSpec:
        names, shape = tuple(path_name(path).split("/")), tuple(leaf.shape)
        parameter = names if params is None else _parameter_path(names, shapes)
        rule = _find_rule("/".join(parameter)) if shapes.get(parameter) == shape else None
        return _partition(rule, shape, is_stacked(path), sizes)

    return jax.tree_util.tree_map_with_path(spec, tree)


def _parameter_path(
    path: tuple[str, ...], parameters: Collection[tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the longest part of `path` that is the path of a parameter; empty if none is."""
    for length in range(len(path), 0, -1):
        for start in range(len(path) - length + 1):
            if path[start : start + length] in parameters:
                return path[start : start + length]
    return ()


def _find_rule(parameter: str) -> tuple[str, ...] | None:
    return next((axes for pattern, axes in RULES if re.search(pattern, parameter)), None)


def _partition(
    rule: tuple[str, ...] | None, shape: tuple[int, ...], stacked: bool, sizes: Mapping[str, int]
) -> PartitionSpec:
    """Return the partition spec of one array.

    Args:
        rule: The entry of `RULES` for the array's parameter; None for none.
        shape: The array's shape.
        stacked: Whether the first axis is the layer axis, which is never sharded.
        sizes: Devices along each mesh axis.

    Returns:
        The axes of the rule if it has as many as the array. An axis that the devices do not
        divide is not sharded. If `fsdp` then shards no axis, it shards the largest that it
        divides, except in adapters, which are too small.
    """
    if rule == ():
        return PartitionSpec()
    body = shape[1:] if stacked else shape
    axes = rule if rule and len(rule) == len(body) else (None,) * len(body)
    spec = [
        axis if axis and axis != RANK and _divides(sizes[axis], length) else None
        for axis, length in zip(axes, body, strict=True)
    ]
    free = [
        at for at, axis in enumerate(spec) if axis is None and _divides(sizes["fsdp"], body[at])
    ]
    if "fsdp" not in spec and RANK not in axes and free:
        spec[max(free, key=lambda at: body[at])] = "fsdp"
    if not any(spec):
        return PartitionSpec()
    return PartitionSpec(*([None] * (len(shape) - len(body))), *spec)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of each array of a batch `[rows, tokens]`: only rows are sharded."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def check_batch(mesh: Mesh, batch_size: int, accumulate: int = 1) -> None:
    """Check that the mesh divides the batch.

    Args:
        mesh: The devices.
        batch_size: Rows of a step.
        accumulate: Microbatches of a step.

    Raises:
        InputError: It does not; the hint names the nearest sizes that it divides.
    """
    devices = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    parts = devices * accumulate
    if batch_size % parts:
        low = batch_size // parts * parts
        nearest = f"{low} or {low + parts}" if low else str(parts)
        factors = f"{devices} (replica x data x fsdp)"
        factors += f" x {accumulate} (accumulate)" if accumulate > 1 else ""
        problem = f"must be a multiple of {factors}, got {batch_size}"
        raise InputError(problem, where="train.batch_size", hint=f"Set it to {nearest}.")


def _divides(size: int, length: int) -> bool:
    """Return whether a mesh axis of more than one device divides an array axis."""
    return size > 1 and length % size == 0
