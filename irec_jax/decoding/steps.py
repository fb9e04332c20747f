"""Encoding of prompts and steps of the decoder over beams."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from irec_jax.model.seq2seq import Cache, Seq2Seq


class PromptTokens(NamedTuple):
    """Prompts of a batch of requests.

    Attributes:
        tokens: Token ids, padded at the end.
        segments: 1 on the prompt, 0 on padding.
    """

    tokens: Int[Array | np.ndarray, "requests source"]
    segments: Int[Array | np.ndarray, "requests source"]


def start(model: Seq2Seq, prompts: PromptTokens, length: int) -> Cache:
    """Encodes the prompts; the cache has one beam per request and room for `length` steps."""
    tokens, segments = jnp.asarray(prompts.tokens), jnp.asarray(prompts.segments)
    return model.start_cache(model.encode(tokens, segments), segments, length)


def step(
    model: Seq2Seq, tokens: Int[Array, "requests beams"], cache: Cache
) -> tuple[Float[Array, "requests beams vocabulary"], Cache]:
    """Decodes one token of each beam; returns logits of the next token and the new cache."""
    logits, cache = model.step(tokens.reshape(-1), cache)
    return logits.reshape(*tokens.shape, -1), cache
