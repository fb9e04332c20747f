"""Exact likelihood of given items."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from irec_jax.decoding.steps import PromptTokens, start, step
from irec_jax.model.params import Params, Structure, merge
from irec_jax.model.seq2seq import START, Cache, Seq2Seq
from irec_jax.tokens.text import PAD


@functools.partial(jax.jit, static_argnames=("structure",))
def score_items(
    structure: Structure,
    params: Params,
    prompts: PromptTokens,
    sequences: Int[Array | np.ndarray, "requests given length"],
) -> Float[Array, "requests given"]:
    """Scores given items of each request by log P(sequence | prompt).

    The encoder, its keys and values, and the decoder's first step are computed once per request.

    Args:
        structure: The model without its parameters.
        params: The parameters.
        prompts: The requests.
        sequences: The legal sequence of each item, padded with `PAD` at the end; the sequence of
            a title ends with `EOS`, that of an atomic item is one token.

    Returns:
        The sum of the sequence's token log-probabilities over the model's whole vocabulary.
    """
    sequences = jnp.asarray(sequences)
    model = merge(structure, params)
    first, cache = first_step(model, prompts, sequences.shape[2])
    scores = jnp.take_along_axis(first, sequences[:, :, 0], axis=1)
    return scores + later_steps(model, cache, sequences)


def first_step(
    model: Seq2Seq, prompts: PromptTokens, length: int
) -> tuple[Float[Array, "requests vocabulary"], Cache]:
    """Encodes the prompts and computes the first step of the decoder.

    Returns:
        The log-probabilities of the first token, and the cache after it, one beam per request.
    """
    root = jnp.full((prompts.tokens.shape[0], 1), START, jnp.int32)
    logits, cache = step(model, root, start(model, prompts, length))
    return jax.nn.log_softmax(logits[:, 0], axis=-1), cache


def later_steps(
    model: Seq2Seq, cache: Cache, sequences: Int[Array, "requests given length"]
) -> Float[Array, "requests given"]:
    """Sums the log-probabilities of all tokens but the first, in a step per token of the longest.

    Args:
        model: The model.
        cache: The cache after `first_step`.
        sequences: Padded legal sequences.
    """
    requests, given, length = sequences.shape
    real = sequences != PAD
    scores = jnp.zeros((requests, given), jnp.float32)
    if length == 1:
        return scores
    longest = jnp.max(jnp.sum(real, axis=-1))
    cache = model.gather_cache(cache, jnp.zeros((requests, given), jnp.int32))

    def add_token(
        position: Int[Array, ""], carry: tuple[Float[Array, "requests given"], Cache]
    ) -> tuple[Float[Array, "requests given"], Cache]:
        scores, cache = carry
        logits, cache = step(model, sequences[:, :, position - 1], cache)
        token = sequences[:, :, position, None]
        score = jnp.take_along_axis(logits, token, axis=-1)[:, :, 0]
        score -= jax.nn.logsumexp(logits, axis=-1)
        return scores + jnp.where(real[:, :, position], score, 0.0), cache

    return jax.lax.fori_loop(1, longest, add_token, (scores, cache))[0]
