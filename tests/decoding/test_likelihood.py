"""Likelihoods, whole-catalog scores and the beam of a small T5 with random weights.

The oracle is teacher forcing without a cache, one request and one item at a time.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irec_jax.decoding.beam import beam_search
from irec_jax.decoding.exhaustive import catalog_scores, catalog_sequences, chunk_size
from irec_jax.decoding.legal import legal_sequences
from irec_jax.decoding.score import score_items
from irec_jax.decoding.steps import PromptTokens
from irec_jax.model import params as parameters
from irec_jax.model.config import T5Config
from irec_jax.model.seq2seq import shift_right

ITEMS, SOURCE = 30, 12
CONFIG = T5Config(
    vocabulary=64, width=16, head_dim=8, heads=2, mlp_dim=32, encoder_layers=1, decoder_layers=2
)
STRUCTURE = parameters.structure(CONFIG)


@pytest.fixture(scope="module")
def params():
    return jax.jit(parameters.initialize, static_argnums=0)(CONFIG, jax.random.key(0))


@pytest.fixture(scope="module", params=["title", "atomic"])
def index(request, make_index):
    return make_index(11, ITEMS, request.param, CONFIG.vocabulary)


def random_prompts(seed, requests):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, SOURCE + 1, requests)
    segments = (np.arange(SOURCE)[None] < lengths[:, None]).astype(np.int32)
    tokens = rng.integers(2, CONFIG.vocabulary, (requests, SOURCE)).astype(np.int32) * segments
    return PromptTokens(tokens, segments)


@functools.partial(jax.jit, static_argnames="structure")
def teacher_forced(structure, params, tokens, segments, sequences):
    """`[items]` scores of one request, every item a request of its own."""
    model = parameters.merge(structure, params)
    items = len(sequences)
    tokens = jnp.broadcast_to(tokens[None], (items, *tokens.shape))
    segments = jnp.broadcast_to(segments[None], (items, *segments.shape))
    real = (sequences != 0).astype(jnp.int32)
    shifted = shift_right(sequences, real)
    hidden = model.decode(shifted, real, model.encode(tokens, segments), segments)
    log_p = jax.nn.log_softmax(model.logits(hidden), axis=-1)
    chosen = jnp.take_along_axis(log_p, sequences[:, :, None], axis=-1)[:, :, 0]
    return jnp.sum(chosen * real, axis=1)


def truth_of(params, prompts, index):
    score = functools.partial(teacher_forced, STRUCTURE, params)
    return np.stack([np.asarray(score(*row, index.padded())) for row in zip(*prompts, strict=True)])


def test_scores_of_given_items_equal_teacher_forcing(params, index):
    prompts = random_prompts(0, 6)
    picks = np.random.default_rng(0).integers(0, ITEMS, (6, 4))
    scores = score_items(STRUCTURE, params, prompts, index.padded()[picks])
    truth = np.take_along_axis(truth_of(params, prompts, index), picks, axis=1)
    np.testing.assert_allclose(scores, truth, atol=1e-4)


@pytest.mark.parametrize("chunk", [7, 1000])
def test_scores_of_the_catalog_equal_teacher_forcing(params, index, chunk):
    prompts = random_prompts(1, 6)
    catalog = catalog_sequences(index.offsets, index.tokens, chunk)
    scores = catalog_scores(STRUCTURE, params, prompts, catalog)
    np.testing.assert_allclose(scores, truth_of(params, prompts, index), atol=1e-4)


def test_padding_a_prompt_changes_nothing(params, make_index):
    index = make_index(11, ITEMS, "title", CONFIG.vocabulary)
    prompts = random_prompts(2, 6)
    longer = PromptTokens(*(np.pad(array, ((0, 0), (0, 9))) for array in prompts))
    catalog = catalog_sequences(index.offsets, index.tokens, 7)
    np.testing.assert_allclose(
        catalog_scores(STRUCTURE, params, prompts, catalog),
        catalog_scores(STRUCTURE, params, longer, catalog),
        atol=1e-5,
    )


def test_for_200_requests_a_full_beam_ranks_as_brute_force(params, index, assert_is_best):
    """100 requests of each kind of index, each with its own mask of allowed items."""
    prompts, rng = random_prompts(3, 100), np.random.default_rng(3)
    allowed = rng.random((100, ITEMS)) < rng.choice([0.05, 0.4, 1.0], (100, 1))
    truth = truth_of(params, prompts, index)
    trie = legal_sequences(index.trie)
    answer = beam_search(STRUCTURE, params, trie, prompts, allowed, beams=ITEMS + 3)
    for row in range(100):
        found, best, bound = (np.asarray(part[row]) for part in answer)
        assert np.isneginf(bound), "nothing was dropped"
        assert_is_best(found, best, bound, truth[row], allowed[row], exact=True)
        found = found[found >= 0]
        order = np.flatnonzero(allowed[row])
        order = order[np.argsort(-truth[row][order], kind="stable")]
        gaps = -np.diff(truth[row][order], append=-np.inf, prepend=np.inf)
        clear = (gaps[:-1] > 1e-4) & (gaps[1:] > 1e-4)
        assert (found[clear] == order[clear]).all()


def test_a_narrow_beam_returns_legal_distinct_items(params, index, assert_is_best):
    prompts, rng = random_prompts(4, 50), np.random.default_rng(4)
    allowed = rng.random((50, ITEMS)) < 0.3
    truth = truth_of(params, prompts, index)
    trie = legal_sequences(index.trie)
    answer = beam_search(STRUCTURE, params, trie, prompts, allowed, beams=5)
    exact = trie.depth == 1
    for row in range(50):
        found = [np.asarray(part[row]) for part in answer]
        assert_is_best(*found, truth[row], allowed[row], exact)


def test_without_a_mask_every_item_is_allowed(params, make_index):
    index = make_index(11, ITEMS, "atomic", CONFIG.vocabulary)
    prompts = random_prompts(5, 2)
    items, _, _ = beam_search(STRUCTURE, params, legal_sequences(index.trie), prompts, beams=ITEMS)
    assert np.sort(items, axis=1).tolist() == [list(range(ITEMS))] * 2


def test_chunks_shrink_with_the_vocabulary_and_never_vanish():
    small = chunk_size(CONFIG, requests=8, length=4)
    large = chunk_size(T5Config.small(), requests=8, length=4)
    assert small > large >= 1
    assert chunk_size(T5Config.small(), requests=10_000, length=16) == 1
