"""The search against brute force, under a made-up language model of random tables."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.decoding.beam import search
from irec_jax.decoding.config import DecodeConfig
from irec_jax.decoding.legal import legal_sequences
from irec_jax.errors import InputError
from irec_jax.settings import from_json

pytestmark = pytest.mark.fast

VOCABULARY, STATES, REQUESTS = 96, 101, 20
TABLE = np.random.default_rng(0).normal(0, 2, (STATES, VOCABULARY)).astype(np.float32)


def next_state(state, token):
    return (state * 31 + token * 7 + 3) % STATES


def step(tokens, state):
    state = next_state(jnp.broadcast_to(state, tokens.shape), tokens)
    return jnp.asarray(TABLE)[state], state


def gather(state, parents):
    return jnp.take_along_axis(state, parents, axis=1)


@functools.partial(jax.jit, static_argnames="beams")
def run_search(starts, trie, allowed, *, beams):
    return search(step, gather, starts[:, None], trie, allowed, beams=beams)


def true_scores(starts, sequences):
    log_p = TABLE - np.log(np.exp(TABLE).sum(-1, keepdims=True))
    scores = np.zeros((len(starts), len(sequences)))
    for row, start in enumerate(starts):
        for column, sequence in enumerate(sequences):
            state = start
            for before, token in zip([0, *sequence], sequence, strict=False):
                state = next_state(state, before)
                scores[row, column] += log_p[state, token]
    return scores


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    items=st.integers(1, 40),
    kind=st.sampled_from(["title", "atomic"]),
    wide=st.booleans(),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_search_equals_brute_force(make_index, assert_is_best, seed, items, kind, wide, share):
    index = make_index(seed, items, kind, VOCABULARY)
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, STATES, REQUESTS)
    allowed = rng.random((REQUESTS, items)) < share
    beams = items + 2 if wide else 3
    answer = run_search(starts, legal_sequences(index.trie), allowed, beams=beams)
    truth = true_scores(starts, index.sequences)
    for row in range(REQUESTS):
        exact = wide or kind == "atomic"
        found = [np.asarray(part[row]) for part in answer]
        assert_is_best(*found, truth[row], allowed[row], exact)


def reference_beam(start, trie, allowed, beams):
    """An ordinary beam search over Python dicts."""
    children = {}
    for node in range(len(trie.node_item)):
        span = slice(trie.row_offsets[node], trie.row_offsets[node + 1])
        pairs = zip(trie.edge_tokens[span], trie.edge_targets[span], strict=True)
        children[node] = [(int(token), int(target)) for token, target in pairs]

    def is_open(node):
        item = trie.node_item[node]
        return allowed[item] if item >= 0 else any(is_open(below) for _, below in children[node])

    log_p = TABLE - np.log(np.exp(TABLE).sum(-1, keepdims=True))
    front = [(0.0, 0, start, 0)]
    while any(children[node] for _, node, _, _ in front):
        grown = []
        for score, node, state, token in front:
            if not children[node]:
                grown.append((score, node, state, token))
                continue
            state = next_state(state, token)
            grown += [
                (score + log_p[state, word], target, state, word)
                for word, target in children[node]
                if is_open(target)
            ]
        front = sorted(grown, reverse=True)[:beams]
    return [int(trie.node_item[node]) for _, node, _, _ in front]


@pytest.mark.parametrize("beams", [1, 4, 9])
def test_a_narrow_beam_equals_an_unconstrained_beam_search(make_index, beams):
    index = make_index(7, 50, "title", VOCABULARY)
    rng = np.random.default_rng(beams)
    starts, allowed = rng.integers(0, STATES, 20), rng.random((20, 50)) < 0.6
    found = run_search(starts, legal_sequences(index.trie), allowed, beams=beams).items
    for row in range(20):
        expected = reference_beam(int(starts[row]), index.trie, allowed[row], beams)
        got = np.asarray(found[row])
        assert got[got >= 0].tolist() == expected


def test_a_node_is_open_exactly_if_an_allowed_item_is_below_it(make_index):
    index = make_index(3, 40, "title", VOCABULARY)
    trie, legal = index.trie, legal_sequences(index.trie)

    def below(node):
        if trie.node_item[node] >= 0:
            return {int(trie.node_item[node])}
        span = slice(trie.row_offsets[node], trie.row_offsets[node + 1])
        return set().union(*(below(child) for child in trie.edge_targets[span]))

    allowed = np.random.default_rng(3).random((4, 40)) < 0.15
    nodes = np.arange(len(trie.node_item), dtype=np.int32)
    before = legal.allowed_before(jnp.asarray(allowed))
    is_open = legal.open_nodes(before, jnp.broadcast_to(nodes[None], (4, len(nodes))))
    for row in range(4):
        expected = [any(allowed[row, item] for item in below(node)) for node in nodes]
        assert is_open[row].tolist() == expected


def test_the_search_stops_when_every_beam_is_finished(make_index):
    steps = []

    def counting_step(tokens, state):
        jax.debug.callback(lambda: steps.append(1))
        return step(tokens, state)

    index = make_index(5, 40, "title", VOCABULARY)
    shortest = int(np.argmin([len(sequence) for sequence in index.sequences]))
    allowed = np.zeros((1, 40), bool)
    allowed[0, shortest] = True
    run = jax.jit(functools.partial(search, counting_step, gather, beams=4))
    found = run(jnp.zeros((1, 1), jnp.int32), legal_sequences(index.trie), allowed).items
    jax.effects_barrier()
    assert found[0].tolist() == [shortest, -1, -1, -1]
    assert len(steps) == len(index.sequences[shortest])


@pytest.mark.parametrize(
    ("key", "value"), [("method", "greedy"), ("beams", 0), ("widest", 8), ("diversity", 1.5)]
)
def test_impossible_settings_name_their_key(key, value):
    with pytest.raises(InputError, match=f"decode.{key}"):
        from_json(DecodeConfig, {key: value}, where="decode")
