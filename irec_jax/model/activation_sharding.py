"""Sharding and rematerialization of activations."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

TENSOR_AXIS = "tensor"
"""The mesh axis that shards weights within a layer; all other axes shard the batch."""


def shard_batch_axis(hidden_states: Float[Array, "rows *rest"]) -> Float[Array, "rows *rest"]:
    """Constrains the first axis to the batch axes of the mesh; without a mesh it does nothing.

    Every layer calls it on its input and output, so that the compiler gathers weights and not
    activations.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(name for name in mesh.axis_names if name != TENSOR_AXIS)
    if mesh.empty or not axes:
        return hidden_states
    return jax.lax.with_sharding_constraint(hidden_states, PartitionSpec(axes))


def apply_remat(layer: Callable[..., Any], remat: str) -> Any:
    """Wraps the body of a scan over layers in `jax.checkpoint`.

    Args:
        layer: `(carry, slices) -> (carry, outputs)`.
        remat: See `T5Config.remat`.
    """
    if remat == "none":
        return layer
    dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    policy = dots if remat == "dots" else jax.checkpoint_policies.nothing_saveable
    # Inside a scan nothing can be merged with the forward pass, so the costly guard is off.
    return jax.checkpoint(layer, policy=policy, prevent_cse=False)
