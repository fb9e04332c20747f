"""Sampling of free text, one answer per prompt, as one compiled program."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from irec_jax.bounds import LENGTH, TEMPERATURE, Range, check_settings
from irec_jax.decoding.steps import PromptTokens, start, step
from irec_jax.model.params import Params, Structure, merge
from irec_jax.model.seq2seq import START, Cache
from irec_jax.random_draws import derive_key
from irec_jax.tokens.text import EOS, PAD


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """Settings of sampling.

    Attributes:
        temperature: Divisor of the logits before a token is drawn; 0 takes the most likely
            token.
        top_k: Number of most likely tokens to draw from; 0 draws from all.
        length: Maximum number of tokens of an answer, with its end-of-sequence.
    """

    temperature: float = 0.0
    top_k: int = 0
    length: int = 64

    def __post_init__(self) -> None:
        check_settings(
            self,
            "sample.",
            temperature=TEMPERATURE,
            top_k=Range(0, 10**9, "Set it to 0 to draw from all tokens."),
            length=LENGTH,
        )


class Sampled(NamedTuple):
    """Sampled answers.

    Attributes:
        tokens: The answers, each with `EOS` unless it was cut at the maximum length, then `PAD`.
        scores: Log-probability of each answer under the model itself, over its whole vocabulary
            and at temperature 1, as `decoding.score` gives it.
    """

    tokens: Int[Array, "batch length"]
    scores: Float[Array, " batch"]


class _State(NamedTuple):
    """State of the sampling loop.

    Attributes:
        position: Number of tokens sampled so far.
        tokens: As in `Sampled`.
        scores: As in `Sampled`.
        last: The last token, which is the decoder's next input.
        ended: Whether an answer has `EOS`.
        cache: The decoder's cache.
    """

    position: Int[Array, ""]
    tokens: Int[Array, "batch length"]
    scores: Float[Array, " batch"]
    last: Int[Array, " batch"]
    ended: Bool[Array, " batch"]
    cache: Cache


def row_keys(seed: int, rows: UInt32[np.ndarray, " batch"]) -> Key[Array, " batch"]:
    """Makes the random key of each row from the seed and the row's number.

    Args:
        seed: Any integer; all bits are used, while JAX itself uses the lower 32.
        rows: Number of each row, independent of its place in the batch; rows with equal number
            and prompt get equal answers.
    """
    word = derive_key(seed)
    words = jnp.array([word >> 32, word & 0xFFFFFFFF], jnp.uint32)
    # Fixed, because some implementations draw other bits under vmap than without.
    key = jax.random.wrap_key_data(words, impl="threefry2x32")
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.asarray(rows))


@functools.partial(jax.jit, static_argnames=("structure", "config"))
def sample(
    structure: Structure,
    params: Params,
    prompts: PromptTokens,
    allowed: Bool[Array | np.ndarray, " vocabulary"],
    keys: Key[Array, " batch"],
    *,
    config: SampleConfig,
) -> Sampled:
    """Samples an answer to each prompt, in as many steps as the longest answer has tokens.

    The draws of a row depend on its key and the position, not on other rows. So a prompt with the
    same key gets the same answer in any batch, except that a batch of another shape can round
    logits differently.

    Args:
        structure: The model without its parameters.
        params: The parameters.
        prompts: The requests.
        allowed: Tokens that answers may contain. `EOS` is always allowed and `PAD` never.
        keys: One per row, from `row_keys`.
        config: Temperature, top k and length.
    """
    model = merge(structure, params)
    batch, token = len(keys), jnp.arange(len(allowed))
    legal = (jnp.asarray(allowed) & (token != PAD)) | (token == EOS)

    def unfinished(state: _State) -> Bool[Array, ""]:
        return (state.position < config.length) & ~jnp.all(state.ended)

    def sample_token(state: _State) -> _State:
        logits, cache = step(model, state.last[:, None], state.cache)
        logits = logits[:, 0]
        open_logits = jnp.where(legal[None], logits, -jnp.inf)
        chosen = _choose(open_logits, keys, state.position, config)
        score = jnp.take_along_axis(logits, chosen[:, None], axis=1)[:, 0]
        score -= jax.nn.logsumexp(logits, axis=1)
        chosen = jnp.where(state.ended, PAD, chosen)
        return _State(
            position=state.position + 1,
            tokens=state.tokens.at[:, state.position].set(chosen),
            scores=state.scores + jnp.where(state.ended, 0.0, score),
            last=chosen,
            ended=state.ended | (chosen == EOS),
            cache=cache,
        )

    first = _State(
        position=jnp.int32(0),
        tokens=jnp.full((batch, config.length), PAD, jnp.int32),
        scores=jnp.zeros((batch,), jnp.float32),
        last=jnp.full((batch,), START, jnp.int32),
        ended=jnp.zeros((batch,), bool),
        cache=start(model, prompts, config.length),
    )
    last = jax.lax.while_loop(unfinished, sample_token, first)
    return Sampled(last.tokens, last.scores)


def _choose(
    logits: Float[Array, "batch vocabulary"],
    keys: Key[Array, " batch"],
    position: Int[Array, ""],
    config: SampleConfig,
) -> Int[Array, " batch"]:
    """Draws the next token of each row; a token with -inf is never drawn.

    Args:
        logits: Logits of the next token.
        keys: One per row.
        position: Number of tokens before.
        config: Temperature and top k.
    """
    if config.temperature == 0.0:
        return jnp.argmax(logits, axis=1).astype(jnp.int32)
    at_position = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, position)
    draw = jax.vmap(jax.random.categorical)
    if not 0 < config.top_k < logits.shape[1]:
        return draw(at_position, logits / config.temperature).astype(jnp.int32)
    best, token = jax.lax.top_k(logits, config.top_k)
    place = draw(at_position, best / config.temperature)
    return jnp.take_along_axis(token, place[:, None], axis=1)[:, 0].astype(jnp.int32)
