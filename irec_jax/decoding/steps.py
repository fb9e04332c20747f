"""What a decoder is asked, and asking it one token of every beam at a time."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from irec_jax.model.seq2seq import Cache, Seq2Seq


class PromptTokens(NamedTuple):
    """The encoder's side of some requests.

    Attributes:
        tokens: Token ids, padded at the end.
        segments: 1 where there is a prompt, 0 where padding is.
    """

    tokens: Int[Array | np.ndarray, "requests source"]
    segments: Int[Array | np.ndarray, "requests source"]


def start(model: Seq2Seq, prompts: PromptTokens, length: int) -> Cache:
    """Encodes each prompt once; the cache has one beam a request and room for `length` steps."""
    tokens, segments = jnp.asarray(prompts.tokens), jnp.asarray(prompts.segments)
    return model.start_cache(model.encode(tokens, segments), segments, length)


def step(
    model: Seq2Seq, tokens: Int[Array, "requests beams"], cache: Cache
) -> tuple[Float[Array, "requests beams vocabulary"], Cache]:
    """Feeds each beam its last token; the logits of its next one and the cache after."""
    logits, cache = model.step(tokens.reshape(-1), cache)
    return logits.reshape(*tokens.shape, -1), cache
