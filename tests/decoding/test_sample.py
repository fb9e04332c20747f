"""Free text of a small T5 with random weights, against loops over the plain full decoder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.decoding.sample import SampleConfig, row_keys, sample
from irec_jax.decoding.score import score_items
from irec_jax.decoding.steps import PromptTokens, step
from irec_jax.errors import InputError
from irec_jax.model import params as parameters
from irec_jax.model.config import T5Config
from irec_jax.model.seq2seq import shift_right
from irec_jax.settings import from_json
from irec_jax.tokens.text import EOS, PAD

SOURCE, LENGTH, VOCABULARY = 12, 9, 24
CONFIG = T5Config(
    vocabulary=VOCABULARY,
    width=16,
    head_dim=8,
    heads=2,
    mlp_dim=32,
    encoder_layers=1,
    decoder_layers=2,
)
STRUCTURE = parameters.structure(CONFIG)
ALL = np.ones(VOCABULARY, bool)
GREEDY = SampleConfig(length=LENGTH)
DRAWN = SampleConfig(temperature=1.0, length=LENGTH)


@pytest.fixture(scope="module")
def params():
    made = jax.jit(parameters.initialize, static_argnums=0)(CONFIG, jax.random.key(4))
    # Random weights give nearly the same logits everywhere: larger ones make answers differ.
    made["decoder"]["norm"]["scale"] = made["decoder"]["norm"]["scale"] * 1.5
    return made


def random_prompts(seed, requests):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, SOURCE + 1, requests)
    segments = (np.arange(SOURCE)[None] < lengths[:, None]).astype(np.int32)
    tokens = rng.integers(2, VOCABULARY, (requests, SOURCE)).astype(np.int32) * segments
    return PromptTokens(tokens, segments)


def run(params, prompts, *, allowed=ALL, seed=0, rows=None, config=GREEDY):
    rows = np.arange(len(prompts.tokens), dtype=np.uint32) if rows is None else rows
    written = sample(STRUCTURE, params, prompts, allowed, row_keys(seed, rows), config=config)
    return np.asarray(written.tokens), np.asarray(written.scores)


@jax.jit
def full_logits(params, tokens, segments, answers):
    """`[batch, length, vocabulary]` of the whole decoder, no cache."""
    model = parameters.merge(STRUCTURE, params)
    ones = jnp.ones_like(answers)
    encoded = model.encode(tokens, segments)
    hidden = model.decode(shift_right(answers, ones), ones, encoded, segments)
    return model.logits(hidden)


def argmax_loop(params, prompts, allowed):
    """Token by token, the whole decoder again for each, one column at a time."""
    answers = np.zeros((len(prompts.tokens), LENGTH), np.int32)
    ended = np.zeros(len(answers), bool)
    for position in range(LENGTH):
        logits = np.asarray(full_logits(params, *prompts, answers))[:, position]
        best = np.where(allowed, logits, -np.inf).argmax(axis=1)
        answers[:, position] = np.where(ended, PAD, best)
        ended |= best == EOS
    return answers


def without_pad(allowed):
    return allowed & (np.arange(VOCABULARY) != PAD)


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_greedy_equals_an_argmax_loop_over_the_full_decoder(params, share):
    prompts = random_prompts(0, 40)
    allowed = np.random.default_rng(1).random(VOCABULARY) < share
    allowed[EOS] = True
    tokens, _ = run(params, prompts, allowed=allowed)
    np.testing.assert_array_equal(tokens, argmax_loop(params, prompts, without_pad(allowed)))
    lengths = (tokens != PAD).sum(axis=1)
    assert len(np.unique(lengths)) > 2, "answers of several lengths, or this shows little"
    assert len(np.unique(tokens, axis=0)) > 10


@pytest.mark.parametrize("config", [GREEDY, DRAWN, SampleConfig(0.7, 5, LENGTH)])
def test_scores_are_those_of_score_items(params, config):
    prompts = random_prompts(2, 30)
    allowed = np.random.default_rng(3).random(VOCABULARY) < 0.7
    tokens, scores = run(params, prompts, allowed=allowed, config=config)
    truth = score_items(STRUCTURE, params, prompts, tokens[:, None])[:, 0]
    np.testing.assert_allclose(scores, truth, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_only_allowed_tokens_and_padding_after_the_end(params, data):
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=VOCABULARY, max_size=VOCABULARY)))
    config = data.draw(st.sampled_from([GREEDY, DRAWN, SampleConfig(3.0, 4, LENGTH)]))
    seed = data.draw(st.integers(-(2**70), 2**70))
    tokens, _ = run(params, random_prompts(4, 16), allowed=allowed, seed=seed, config=config)
    legal = without_pad(allowed)
    legal[EOS] = True
    for row in tokens:
        ends = np.flatnonzero(row == EOS)
        end = ends[0] + 1 if len(ends) else LENGTH
        assert legal[row[:end]].all()
        assert (row[end:] == PAD).all()


@pytest.mark.parametrize("config", [GREEDY, DRAWN, SampleConfig(1.3, 6, LENGTH)])
def test_a_row_has_its_answer_in_any_batch(params, config):
    prompts = random_prompts(5, 24)
    rows = np.random.default_rng(6).integers(0, 2**32, 24, dtype=np.uint32)
    tokens, scores = run(params, prompts, rows=rows, config=config, seed=7)
    for size in (24, 5, 1):
        order = np.random.default_rng(size).permutation(24)[:size]
        some = PromptTokens(prompts.tokens[order], prompts.segments[order])
        again, their_scores = run(params, some, rows=rows[order], config=config, seed=7)
        np.testing.assert_array_equal(again, tokens[order])
        np.testing.assert_allclose(their_scores, scores[order], atol=1e-5)


def test_the_seed_and_the_number_of_a_row_change_its_answer(params):
    prompts = random_prompts(8, 1)
    same = PromptTokens(*(np.repeat(array, 32, axis=0) for array in prompts))
    tokens, _ = run(params, same, config=DRAWN)
    assert len(np.unique(tokens, axis=0)) > 16
    for other in (1, 2**32, -1, 2**64 - 2):
        changed, _ = run(params, same, config=DRAWN, seed=other)
        assert (changed != tokens).any(axis=1).mean() > 0.5
    one_number = np.full(32, 3, np.uint32)
    assert len(np.unique(run(params, same, config=DRAWN, rows=one_number)[0], axis=0)) == 1


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.6, 0), (1.7, 6)])
def test_frequencies_of_drawn_tokens_follow_the_softmax(params, temperature, top_k):
    """Chi-square of the first token, and of the second after the commonest first one."""
    draws = 20_000
    prompts = random_prompts(9, 1)
    same = PromptTokens(*(np.repeat(array, draws, axis=0) for array in prompts))
    config = SampleConfig(temperature, top_k, length=2)
    allowed = np.arange(VOCABULARY) % 5 != 4
    tokens, _ = run(params, same, allowed=allowed, config=config, seed=11)
    commonest = np.bincount(tokens[:, 0][tokens[:, 0] != EOS]).argmax()
    answer = np.array([[commonest, 0]], np.int32)
    logits = np.asarray(full_logits(params, *prompts, answer), np.float64)[0]
    seconds = tokens[tokens[:, 0] == commonest, 1]
    for drawn, column in ((tokens[:, 0], logits[0]), (seconds, logits[1])):
        column = np.where(without_pad(allowed), column, -np.inf) / temperature
        if top_k:
            column[column < np.sort(column)[-top_k]] = -np.inf
        chances = scipy.special.softmax(column)
        counts = np.bincount(drawn, minlength=VOCABULARY)
        assert (counts[chances == 0] == 0).all()
        expected = chances * len(drawn)
        rare = expected < 5
        observed = np.append(counts[~rare], counts[rare].sum())
        wanted = np.append(expected[~rare], expected[rare].sum())
        kept = wanted > 0
        assert kept.sum() > 4, "too few tokens to tell"
        assert scipy.stats.chisquare(observed[kept], wanted[kept]).pvalue > 1e-3


def test_of_equal_logits_only_top_k_are_drawn(params):
    flat = jax.tree.map(jnp.zeros_like, params)
    config = SampleConfig(1.0, 3, length=2)
    tokens, scores = run(flat, random_prompts(0, 200), config=config)
    assert np.unique(tokens[:, 0]).tolist() == [1, 2, 3]
    steps = (tokens != PAD).sum(axis=1)
    np.testing.assert_allclose(scores, -np.log(VOCABULARY) * steps, rtol=1e-5)


def test_it_stops_when_every_row_has_ended(params, monkeypatch):
    """With `EOS` alone allowed, one step is taken of the many that there is room for."""
    steps = []
    only_end = np.zeros(VOCABULARY, bool)

    def counting_step(*arguments):
        jax.debug.callback(lambda: steps.append(1))
        return step(*arguments)

    monkeypatch.setattr("irec_jax.decoding.sample.step", counting_step)
    config = dataclasses.replace(GREEDY, length=50)
    tokens, _ = run(params, random_prompts(0, 3), allowed=only_end, config=config)
    jax.effects_barrier()
    assert tokens[:, 0].tolist() == [EOS] * 3
    assert not tokens[:, 1:].any()
    assert len(steps) == 1


def test_a_second_batch_of_the_same_shape_compiles_nothing(params):
    run(params, random_prompts(0, 4), config=DRAWN)
    before = sample._cache_size()
    for seed in range(3):
        allowed = np.random.default_rng(seed).random(VOCABULARY) < 0.5
        run(params, random_prompts(seed, 4), config=DRAWN, seed=seed, allowed=allowed)
    assert sample._cache_size() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [("temperature", -1.0), ("temperature", float("nan")), ("top_k", -1), ("length", 0)],
)
def test_impossible_settings_name_their_key(key, value):
    with pytest.raises(InputError, match=f"sample.{key}"):
        from_json(SampleConfig, {key: value}, where="sample")
