"""Attention over packed rows, with T5's bias and without scaling."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from irec_jax.model.dropout import DropoutRng, dropout

# Finite, so that a row in which everything is masked (padding) does not give NaN.
MASKED = -1e9


@dataclasses.dataclass(frozen=True)
class AttentionMask:
    """Segments of queries and keys: a query attends to the keys of its own segment.

    Attributes:
        queries: [batch, queries] segment number of each query.
        keys: [batch, keys] segment number of each key.
        causal: Whether a query attends only to keys up to its own column.
    """

    queries: Int[Array, "batch queries"]
    keys: Int[Array, "batch keys"]
    causal: bool = False

    def mask(self) -> Bool[Array, "batch 1 queries keys"]:
        """Makes the mask, True where a query attends to a key."""
        same = self.queries[:, :, None] == self.keys[:, None, :]
        if self.causal:
            before = jnp.arange(same.shape[1])[:, None] >= jnp.arange(same.shape[2])[None, :]
            same = same & before[None]
        return same[:, None]


def attend(
    query: Float[Array, "batch heads queries size"],
    key: Float[Array, "batch heads keys size"],
    value: Float[Array, "batch heads keys size"],
    mask: AttentionMask,
    *,
    bias: Float[Array, "heads queries keys"] | None = None,
    dropout_rng: DropoutRng | None = None,
) -> Float[Array, "batch heads queries size"]:
    """Computes softmax attention in the dtype of `query`; the softmax itself is in float32."""
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
    if bias is not None:
        scores = scores + bias[None]
    weights = jax.nn.softmax(jnp.where(mask.mask(), scores, MASKED), axis=-1)
    weights = dropout(weights.astype(value.dtype), dropout_rng)
    return jnp.einsum("bhqk,bhkd->bhqd", weights, value)
