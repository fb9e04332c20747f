"""Checksums that detect any changed bit of a saved array."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, UInt32


def sums_of(arrays: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the `checksums` of named trees, on the host."""
    return {name: jax.device_get(checksums(tree)).tolist() for name, tree in arrays.items()}


def checksums(tree: Any) -> UInt32[Array, " leaves"]:
    """Return a 32-bit sum of each leaf's words, weighted by their positions.

    Orbax detects a missing or truncated file, but not a flipped bit
    (docs/decisions/0052-checkpoint-checksums.md). Sums of integers do not depend on their order,
    so they are the same on any mesh.
    """
    leaves = jax.tree.leaves(tree)
    return jit_checksums(leaves)(leaves, np.uint32(0))


def jit_checksums(leaves: Sequence[Any]) -> Any:
    """Return the jitted function of `checksums`, `(leaves, 0) -> sums`, for the leaves' mesh.

    Args:
        leaves: Arrays, or `jax.ShapeDtypeStruct` with shardings.
    """
    sharding = leaves[0].sharding if leaves else None
    replicated = (
        NamedSharding(sharding.mesh, PartitionSpec())
        if isinstance(sharding, NamedSharding)
        else None
    )
    return _cached_jit(replicated)


@functools.lru_cache(maxsize=8)
def _cached_jit(out_sharding: NamedSharding | None) -> Any:
    return jax.jit(_checksums, out_shardings=out_sharding)


def _checksums(leaves: list[Array], zero: UInt32[Array, ""]) -> UInt32[Array, " leaves"]:
    sums: list[Array] = []
    for leaf in leaves:
        # XLA for CPUs makes a temporary as large as the leaf. Each depends on the previous sum, so
        # that only one exists at a time; the compiler does not know that the argument is zero.
        first = sums[-1] * zero if sums else zero
        sums.append(_checksum(leaf, first))
    return jnp.stack(sums) if sums else jnp.zeros((0,), jnp.uint32)


def _checksum(leaf: Array, first: UInt32[Array, ""]) -> UInt32[Array, ""]:
    word = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(leaf, word).astype(jnp.uint32)
    position = jnp.broadcast_to(first, leaf.shape)
    for axis in range(leaf.ndim):
        index = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        position = position * jnp.uint32(0x01000193) + index
    # An odd weight keeps every bit of the word in the sum.
    return jnp.sum(bits * (2 * position + 1), dtype=jnp.uint32)
