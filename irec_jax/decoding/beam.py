"""A beam search that cannot leave the catalog, as one compiled program."""

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
    """What a search found.

    Attributes:
        items: Item numbers, best first and distinct, -1 where fewer than the beams are allowed.
        scores: Their log-probabilities under the model over its whole vocabulary (not
            renormalized to the legal tokens), -inf where there is no item.
        bound: The highest score of anything that was dropped on the way. A title is never more
            likely than its beginning, so no item that was not found scores above it, and those
            that were found with at least this score stand where an exact ranking has them.
    """

    items: Int[Array, "requests beams"]
    scores: Float[Array, "requests beams"]
    bound: Float[Array, " requests"]


class Front(NamedTuple):
    """The beams of each request, best first; a slot that holds nothing scores -inf.

    Attributes:
        nodes: Node of the trie each beam has reached; at a leaf it is finished.
        scores: Log-probability of the tokens on the way there.
        tokens: The last of these tokens, the next input of the decoder.
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
        beams: Beams kept, and items returned. With as many as there are items the answer is exact;
            with fewer, `BeamResult.bound` tells how much of it is.
    """
    model = merge(structure, params)
    mask = jnp.ones((prompts.tokens.shape[0], trie.items), bool)
    mask = mask if allowed is None else jnp.asarray(allowed)
    ask = functools.partial(step, model)
    cache = start(model, prompts, trie.depth)
    return search(ask, model.gather_cache, cache, trie, mask, beams=beams)


def search(
    ask: Step,
    gather: Gather,
    cache: Cache,
    trie: LegalSequences,
    allowed: Bool[Array, "requests items"],
    *,
    beams: int,
) -> BeamResult:
    """Searches `trie` with any step function; see `beam_search`.

    A finished beam stays in the front with the score it has: more tokens only lower a score, so
    whatever it is pushed out by could still end above it, and nothing else can.
    """
    before = trie.allowed_before(allowed)
    requests = allowed.shape[0]
    front = Front(
        nodes=jnp.zeros((requests, 1), jnp.int32),
        scores=jnp.zeros((requests, 1), jnp.float32),
        tokens=jnp.full((requests, 1), START, jnp.int32),
        bound=jnp.full((requests,), -jnp.inf, jnp.float32),
    )
    # The root alone branches into most of the catalog; inner nodes branch into few, and their
    # expansion, repeated for each beam, is what memory is spent on.
    logits, cache = ask(front.tokens, cache)
    front, parents = _advance(trie, front, logits, before, trie.root_branching, beams)
    cache = gather(cache, parents)

    def unfinished(carry: tuple[Int[Array, ""], Front, Cache]) -> Bool[Array, ""]:
        depth, front, _ = carry
        return (depth < trie.depth) & jnp.any(_is_open(trie, front))

    def deepen(
        carry: tuple[Int[Array, ""], Front, Cache],
    ) -> tuple[Int[Array, ""], Front, Cache]:
        depth, front, cache = carry
        logits, cache = ask(front.tokens, cache)
        front, parents = _advance(trie, front, logits, before, trie.inner_branching, beams)
        return depth + 1, front, gather(cache, parents)

    if trie.inner_branching:
        _, front, _ = jax.lax.while_loop(unfinished, deepen, (jnp.int32(1), front, cache))
    found = jnp.isfinite(front.scores)
    return BeamResult(jnp.where(found, trie.node_item[front.nodes], -1), front.scores, front.bound)


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
        logits: What the model says after each of them.
        before: Allowed items before each leaf.
        branching: Most edges that a node of `front` can have.
        beams: Beams to keep.

    Returns:
        The new front, and from which old beam each of its beams comes.
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
