"""Beam search constrained to the catalog, as one compiled program."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from irec_jax.decoding.legal import LegalSequences
from irec_jax.decoding.steps import PromptTokens, start, step
from irec_jax.model.params import Params, Structure, merge
from irec_jax.model.seq2seq import START

Cache = Any
Step = Callable[
    [Int[Array, "requests front"], Cache], tuple[Float[Array, "requests front vocabulary"], Cache]
]
Gather = Callable[[Cache, Int[Array, "requests beams"]], Cache]


class BeamResult(NamedTuple):
    """Items found by a beam search.

    Attributes:
        items: Item numbers, best first and distinct, -1 where fewer items than beams are allowed.
        scores: Their log-probabilities under the model over its whole vocabulary (not
            renormalized to the legal tokens), -inf where there is no item.
        bound: The highest score of a dropped beam. A sequence is at most as likely as its prefix,
            so no other item scores above the bound, and items with at least this score have
            their rank of an exact ranking.
    """

    items: Int[Array, "requests beams"]
    scores: Float[Array, "requests beams"]
    bound: Float[Array, " requests"]


class Front(NamedTuple):
    """The beams of each request, best first; an empty slot has the score -inf.

    Attributes:
        nodes: Node of the trie that each beam has reached; at a leaf the beam is finished.
        scores: Log-probability of the tokens on the path to the node.
        tokens: The last of these tokens, which is the next input of the decoder.
        bound: The highest score dropped so far.
    """

    nodes: Int[Array, "requests beams"]
    scores: Float[Array, "requests beams"]
    tokens: Int[Array, "requests beams"]
    bound: Float[Array, " requests"]


@functools.partial(jax.jit, static_argnames=("structure", "beams"))
def beam_search(
    structure: Structure,
    params: Params,
    trie: LegalSequences,
    prompts: PromptTokens,
    allowed: Bool[Array | np.ndarray, "requests items"] | None = None,
    *,
    beams: int,
) -> BeamResult:
    """Finds likely items of each request among its allowed ones.

    Args:
        structure: The model without its parameters.
        params: The parameters.
        trie: All legal sequences.
        prompts: The requests.
        allowed: Items that may be returned; None allows all.
        beams: Beams kept and items returned. The result is exact with as many beams as items;
            otherwise `BeamResult.bound` shows which ranks are exact.
    """
    model = merge(structure, params)
    mask = jnp.ones((prompts.tokens.shape[0], trie.items), bool)
    mask = mask if allowed is None else jnp.asarray(allowed)
    decoder_step = functools.partial(step, model)
    cache = start(model, prompts, trie.depth)
    return search(decoder_step, model.gather_cache, cache, trie, mask, beams=beams)


def search(
    decoder_step: Step,
    gather: Gather,
    cache: Cache,
    trie: LegalSequences,
    allowed: Bool[Array, "requests items"],
    *,
    beams: int,
) -> BeamResult:
    """Searches `trie` with any step function; see `beam_search`.

    A finished beam stays in the front with its score. More tokens only lower a score, so only a
    beam that can still end above it replaces it.
    """
    before = trie.allowed_before(allowed)
    requests = allowed.shape[0]
    front = Front(
        nodes=jnp.zeros((requests, 1), jnp.int32),
        scores=jnp.zeros((requests, 1), jnp.float32),
        tokens=jnp.full((requests, 1), START, jnp.int32),
        bound=jnp.full((requests,), -jnp.inf, jnp.float32),
    )
    # The root has the most branches. Inner nodes have few, and their expansion, repeated for each
    # beam, takes most of the memory.
    logits, cache = decoder_step(front.tokens, cache)
    front, parents = _advance(trie, front, logits, before, trie.root_branching, beams)
    cache = gather(cache, parents)

    def unfinished(carry: tuple[Int[Array, ""], Front, Cache]) -> Bool[Array, ""]:
        depth, front, _ = carry
        return (depth < trie.depth) & jnp.any(_is_open(trie, front))

    def deepen(
        carry: tuple[Int[Array, ""], Front, Cache],
    ) -> tuple[Int[Array, ""], Front, Cache]:
        depth, front, cache = carry
        logits, cache = decoder_step(front.tokens, cache)
        front, parents = _advance(trie, front, logits, before, trie.inner_branching, beams)
        return depth + 1, front, gather(cache, parents)

    if trie.inner_branching:
        _, front, _ = jax.lax.while_loop(unfinished, deepen, (jnp.int32(1), front, cache))
    is_item = jnp.isfinite(front.scores)
    return BeamResult(
        jnp.where(is_item, trie.node_item[front.nodes], -1), front.scores, front.bound
    )


def _is_open(trie: LegalSequences, front: Front) -> Bool[Array, "requests beams"]:
    return (trie.node_item[front.nodes] < 0) & jnp.isfinite(front.scores)


def _advance(
    trie: LegalSequences,
    front: Front,
    logits: Float[Array, "requests front vocabulary"],
    before: Int[Array, "requests items_plus_one"],
    branching: int,
    beams: int,
) -> tuple[Front, Int[Array, "requests beams"]]:
    """Replaces each open beam by its legal continuations and keeps the best `beams` of all.

    Args:
        trie: All legal sequences.
        front: The beams.
        logits: Logits of the next token of each beam.
        before: Number of allowed items before each leaf.
        branching: Maximum number of edges of a node in `front`.
        beams: Beams to keep.

    Returns:
        The new front, and the old beam that each of its beams continues.
    """
    requests, width = front.nodes.shape
    is_open = _is_open(trie, front)
    first = trie.row_offsets[front.nodes]
    count = trie.row_offsets[front.nodes + 1] - first
    slots = jnp.arange(branching, dtype=jnp.int32)[None, None, :]
    legal = (slots < count[:, :, None]) & is_open[:, :, None]
    edges = jnp.where(legal, first[:, :, None] + slots, 0)
    tokens, nodes = trie.edge_tokens[edges], trie.edge_targets[edges]
    legal &= trie.open_nodes(before, nodes.reshape(requests, -1)).reshape(nodes.shape)
    log_normalizer = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    steps = jnp.take_along_axis(logits, tokens, axis=-1) - log_normalizer
    scores = jnp.where(legal, front.scores[:, :, None] + steps, -jnp.inf)

    def pool(kept: Array, grown: Array) -> Array:
        return jnp.concatenate([kept, grown.reshape(requests, -1)], axis=1)

    pooled = pool(jnp.where(is_open, -jnp.inf, front.scores), scores)
    pooled = jnp.pad(
        pooled, ((0, 0), (0, max(0, beams + 1 - pooled.shape[1]))), constant_values=-jnp.inf
    )
    best, chosen = jax.lax.top_k(pooled, beams + 1)
    bound = jnp.maximum(front.bound, best[:, beams])
    best, chosen = best[:, :beams], chosen[:, :beams]
    alive = jnp.isfinite(best)
    chosen = jnp.where(alive, chosen, 0)
    grown_from = jnp.maximum(chosen - width, 0) // max(branching, 1)
    parents = jnp.where(chosen < width, chosen, grown_from)
    nodes = jnp.take_along_axis(pool(front.nodes, nodes), chosen, axis=1)
    tokens = jnp.take_along_axis(pool(front.tokens, tokens), chosen, axis=1)
    return Front(jnp.where(alive, nodes, 0), best, tokens, bound), parents
