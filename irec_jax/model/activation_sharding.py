"""Where activations live on a mesh, and which of them the backward pass finds again."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

TENSOR_AXIS = "tensor"
"""The mesh axis that cuts weights within a layer; every other axis cuts the rows of a batch."""


def shard_batch_axis(hidden_states: Float[Array, "rows *rest"]) -> Float[Array, "rows *rest"]:
    """Says that each device holds its own rows, whole; without a mesh it says nothing.

    Said at the borders of every layer, so that the compiler gathers weights there and never
    activations.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(name for name in mesh.axis_names if name != TENSOR_AXIS)
    if mesh.empty or not axes:
        return hidden_states
    return jax.lax.with_sharding_constraint(hidden_states, PartitionSpec(axes))


def apply_remat(layer: Callable[..., Any], remat: str) -> Any:
    """Wraps the body of a scan over layers, so that its backward pass remembers less.

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
