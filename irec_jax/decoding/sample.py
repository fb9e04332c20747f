"""Free text: one answer a prompt, token by token, as one compiled program."""

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
    """How the tokens of an answer are chosen.

    Attributes:
        temperature: What the logits are divided by before a token is drawn; 0 takes the most
            likely token each time.
        top_k: Only so many of the most likely tokens can be drawn; 0 draws from all.
        length: Most tokens of an answer, its end-of-sequence included.
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
    """What was written.

    Attributes:
        tokens: The answers, each with its `EOS` if it ended in time, then `PAD`.
        scores: Log-probability of each answer under the model itself, over its whole vocabulary
            and at temperature 1, as `decoding.score` gives it.
    """

    tokens: Int[Array, "batch length"]
    scores: Float[Array, " batch"]


class _State(NamedTuple):
    """The answers so far.

    Attributes:
        position: Tokens written so far.
        tokens: As in `Sampled`.
        scores: As in `Sampled`.
        last: The token before, the decoder's next input.
        ended: Whether an answer has its `EOS`.
        cache: What the decoder remembers.
    """

    position: Int[Array, ""]
    tokens: Int[Array, "batch length"]
    scores: Float[Array, " batch"]
    last: Int[Array, " batch"]
    ended: Bool[Array, " batch"]
    cache: Cache


def row_keys(seed: int, rows: UInt32[np.ndarray, " batch"]) -> Key[Array, " batch"]:
    """Makes the key of each row from the seed and the row's own number alone.

    Args:
        seed: Any; JAX itself would drop all but its lower 32 bits.
        rows: What names a row, wherever it stands; rows with one number and one prompt get one
            answer.
    """
    word = derive_key(seed)
    words = jnp.array([word >> 32, word & 0xFFFFFFFF], jnp.uint32)
    # Not the default implementation: of some, a key under vmap gives other bits than alone.
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
    """Writes an answer to each prompt; it takes as many steps as the longest answer has tokens.

    What is drawn for a row depends on its key and the position, not on the other rows; so a prompt
    that keeps its key gets its answer in any batch (a batch of another shape may round logits
    differently, which can turn a near tie).

    Args:
        structure: The model without its parameters.
        params: The parameters.
        prompts: The requests.
        allowed: Tokens that answers may hold. `EOS` always can be and `PAD` never.
        keys: One a row, as `row_keys` gives them.
        config: How tokens are chosen.
    """
    model = merge(structure, params)
    batch, token = len(keys), jnp.arange(len(allowed))
    legal = (jnp.asarray(allowed) & (token != PAD)) | (token == EOS)

    def unfinished(state: _State) -> Bool[Array, ""]:
        return (state.position < config.length) & ~jnp.all(state.ended)

    def write(state: _State) -> _State:
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
    written = jax.lax.while_loop(unfinished, write, first)
    return Sampled(written.tokens, written.scores)


def _choose(
    logits: Float[Array, "batch vocabulary"],
    keys: Key[Array, " batch"],
    position: Int[Array, ""],
    config: SampleConfig,
) -> Int[Array, " batch"]:
    """Picks the next token of each row; what has -inf is never picked.

    Args:
        logits: Of the next token.
        keys: One a row.
        position: Tokens before this one.
        config: How to pick.
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
