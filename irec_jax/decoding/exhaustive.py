"""Exact likelihood of every item of the catalog."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from irec_jax.decoding.score import first_step, later_steps
from irec_jax.decoding.steps import PromptTokens
from irec_jax.model.params import Params, Structure, merge
from irec_jax.model.seq2seq import Seq2SeqConfig
from irec_jax.tokens.text import PAD

FLOATS_AT_ONCE = 2**23
"""Logits and cached keys and values of one chunk: 32 MiB, about what a CPU caches; larger chunks
took up to twice the time (docs/decisions/0062-layout-of-exact-title-scores.md)."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["first_tokens", "chunks", "slots"],
    meta_fields=["length"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class CatalogSequences:
    """The legal sequences of all items, divided into chunks of one shape.

    Sequences of similar length share a chunk, so that a chunk takes few steps.
    Items of one token (all, with the atomic index) are in no chunk.

    Attributes:
        first_tokens: `[items]` the first token of each.
        chunks: `[chunks, chunk, length]` the longer sequences, padded with `PAD`.
        slots: `[items]` index of each item in the flattened chunks; `chunks * chunk` for items of
            one token.
        length: Tokens of the longest sequence.
    """

    first_tokens: Int[Array, " items"]
    chunks: Int[Array, "chunks chunk length"]
    slots: Int[Array, " items"]
    length: int


def chunk_size(config: Seq2SeqConfig, requests: int, length: int) -> int:
    """Computes how many items are scored together within `FLOATS_AT_ONCE`."""
    floats = config.vocabulary + config.cache_size(length)
    return int(np.clip(FLOATS_AT_ONCE // (requests * floats), 1, 256))


def catalog_sequences(
    offsets: Int[np.ndarray, " items_plus_one"], tokens: Int[np.ndarray, " total"], chunk: int
) -> CatalogSequences:
    """Arranges item sequences (`ItemSequences.offsets`, `.tokens`) for `catalog_scores`."""
    lengths = np.diff(offsets)
    items, length = len(lengths), int(lengths.max())
    padded = np.full((items, length), PAD, np.int32)
    padded[np.arange(length)[None] < lengths[:, None]] = tokens
    longer = np.flatnonzero(lengths > 1)
    longer = longer[np.argsort(lengths[longer], kind="stable")]
    chunk = min(chunk, max(len(longer), 1))
    count = -(-len(longer) // chunk)
    chunks = np.full((count * chunk, length), PAD, np.int32)
    chunks[: len(longer)] = padded[longer]
    slots = np.full(items, count * chunk, np.int32)
    slots[longer] = np.arange(len(longer), dtype=np.int32)
    return CatalogSequences(
        first_tokens=jnp.asarray(padded[:, 0]),
        chunks=jnp.asarray(chunks.reshape(count, chunk, length)),
        slots=jnp.asarray(slots),
        length=length,
    )


@functools.partial(jax.jit, static_argnames=("structure",))
def catalog_scores(
    structure: Structure, params: Params, prompts: PromptTokens, catalog: CatalogSequences
) -> Float[Array, "requests items"]:
    """Scores the whole catalog by log P(sequence | prompt), as `score_items` does for some items.

    With the atomic index this is one step of the decoder. With longer sequences it is teacher
    forcing of every item, chunk after chunk, with one encoding of the prompt.
    """
    model = merge(structure, params)
    first, cache = first_step(model, prompts, catalog.length)
    scores = first[:, catalog.first_tokens]
    if not len(catalog.chunks):
        return scores
    requests = scores.shape[0]

    def score_chunk(_: None, chunk: Int[Array, "chunk length"]) -> tuple[None, Array]:
        same = jnp.broadcast_to(chunk[None], (requests, *chunk.shape))
        return None, later_steps(model, cache, same)

    _, rest = jax.lax.scan(score_chunk, None, catalog.chunks)
    rest = jnp.moveaxis(rest, 1, 0).reshape(requests, -1)
    return scores + jnp.pad(rest, ((0, 0), (0, 1)))[:, catalog.slots]
