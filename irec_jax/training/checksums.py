"""Sums that tell whether an array is, to the bit, the one that was saved."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, UInt32


def sums_of(arrays: Mapping[str, Any]) -> dict[str, list[int]]:
    """The `checksums` of named trees, on the host."""
    return {name: jax.device_get(checksums(tree)).tolist() for name, tree in arrays.items()}


def checksums(tree: Any) -> UInt32[Array, " leaves"]:
    """A 32-bit sum of each leaf's bits, each weighted by its place.

    Orbax finds a missing or cut file, but gives a flipped bit back as a weight without a word
    (docs/decisions/0052-checkpoint-checksums.md). Sums of integers do not depend on their order,
    so they agree on any mesh.
    """
    leaves = jax.tree.leaves(tree)
    return summing(leaves)(leaves, np.uint32(0))


def summing(leaves: Sequence[Any]) -> Any:
    """The jitted program behind `checksums`, `(leaves, 0) -> sums`, for arrays placed as these.

    Args:
        leaves: Arrays, or shapes with shardings.
    """
    place = leaves[0].sharding if leaves else None
    everywhere = (
        NamedSharding(place.mesh, PartitionSpec()) if isinstance(place, NamedSharding) else None
    )
    return _summing(everywhere)


@functools.lru_cache(maxsize=8)
def _summing(result: NamedSharding | None) -> Any:
    return jax.jit(_checksums, out_shardings=result)


def _checksums(leaves: list[Array], zero: UInt32[Array, ""]) -> UInt32[Array, " leaves"]:
    sums: list[Array] = []
    for leaf in leaves:
        # XLA for CPUs makes an array of products as large as the leaf. That each has to wait for
        # the sum before it keeps them from being there all at once; `zero` is an argument, so
        # that the compiler cannot know it.
        first = sums[-1] * zero if sums else zero
        sums.append(_checksum(leaf, first))
    return jnp.stack(sums) if sums else jnp.zeros((0,), jnp.uint32)


def _checksum(leaf: Array, first: UInt32[Array, ""]) -> UInt32[Array, ""]:
    word = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(leaf, word).astype(jnp.uint32)
    place = jnp.broadcast_to(first, leaf.shape)
    for axis in range(leaf.ndim):
        step = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        place = place * jnp.uint32(0x01000193) + step
    # An odd weight keeps every bit of the word in the sum.
    return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)
