"""Sums that tell whether an array is, to the bit, the one that was saved."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
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
    place = leaves[0].sharding if leaves else None
    everywhere = (
        NamedSharding(place.mesh, PartitionSpec()) if isinstance(place, NamedSharding) else None
    )
    return _summing(everywhere)(leaves)


@functools.lru_cache(maxsize=8)
def _summing(result: NamedSharding | None) -> Callable[[list[Array]], Array]:
    return jax.jit(_checksums, out_shardings=result)


def _checksums(leaves: list[Array]) -> UInt32[Array, " leaves"]:
    sums = [_checksum(leaf) for leaf in leaves]
    return jnp.stack(sums) if sums else jnp.zeros((0,), jnp.uint32)


def _checksum(leaf: Array) -> UInt32[Array, ""]:
    word = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(leaf, word).astype(jnp.uint32)
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for axis in range(leaf.ndim):
        step = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        place = place * jnp.uint32(0x01000193) + step
    # An odd weight keeps every bit of the word in the sum.
    return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)
