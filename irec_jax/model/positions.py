"""Relative position bias: one learned number per head and bucket of distances."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

BUCKETS = 32
"""Buckets of the relative position bias, in all published models."""

MAX_DISTANCE = 128
"""Distance from which all keys share the last bucket, in all published models."""


def buckets(distances: Int[np.ndarray, "..."], *, bidirectional: bool) -> Int[np.ndarray, "..."]:
    """Computes the bucket of each distance, as in T5 (Raffel et al. 2020, section 2.1).

    Half of the buckets hold one distance each, the others grow logarithmically up to
    `MAX_DISTANCE`; all larger distances share the last one.

    Args:
        distances: Key column minus query column.
        bidirectional: Whether keys after the query have separate buckets (encoder). If not
            (decoder), they share bucket 0 and must be masked.
    """
    count = BUCKETS
    if bidirectional:
        count //= 2
        base = np.where(distances > 0, count, 0)
        distances = np.abs(distances)
    else:
        base = np.zeros_like(distances)
        distances = np.maximum(-distances, 0)
    exact = count // 2
    ratio = np.maximum(distances, 1).astype(np.float32) / np.float32(exact)
    growth = np.log(ratio) / np.float32(np.log(MAX_DISTANCE / exact)) * np.float32(count - exact)
    far = np.minimum(exact + growth.astype(np.int32), count - 1)
    return (base + np.where(distances < exact, distances, far)).astype(np.int32)


def bias_by_distance(
    table: Float[Array, "buckets heads"],
    distances: Int[np.ndarray, " distances"],
    *,
    bidirectional: bool,
) -> Float[Array, "heads distances"]:
    """Looks up the bias of each head at each distance.

    It is a product with a one-hot matrix, whose gradient is a product and not a scatter.
    """
    bucket = buckets(distances, bidirectional=bidirectional)
    one_hot = jnp.asarray(np.eye(BUCKETS, dtype=np.float32)[bucket])
    return jnp.einsum("db,bh->hd", one_hot, table, precision=jax.lax.Precision.HIGHEST)


def bias_matrix(
    table: Float[Array, "buckets heads"], length: int, *, bidirectional: bool
) -> Float[Array, "heads length length"]:
    """Makes the float32 bias of each head for each query column (rows) and key column.

    Each diagonal has one value, so the matrix is a broadcast and reshaped vector: with period
    2 * length, row i of the flattened broadcast starts i columns later.
    """
    period = 2 * length
    distances = (np.arange(period) + length) % period - length
    vector = bias_by_distance(table, distances, bidirectional=bidirectional)
    heads = vector.shape[0]
    flat = jnp.broadcast_to(vector[:, None, :], (heads, length, period)).reshape(heads, -1)
    skewed = flat[:, : length * (period - 1)].reshape(heads, length, period - 1)
    return skewed[:, :, :length]
