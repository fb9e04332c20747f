"""Windowed Markov against its definition in loops."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.baselines.markov import Markov
from irec_jax.baselines.popularity import Popularity
from irec_jax.errors import InputError
from irec_jax.instructions.built_in_tasks import SEQUENTIAL_RECOMMENDATION
from irec_jax.instructions.forms import Request
from irec_jax.log.split import Role, Split, SplitProtocol

pytestmark = pytest.mark.fast


def slow_scores(split, history, window, last):
    """The definition, pair by pair."""
    scores = np.zeros(split.num_items)
    for user in range(split.num_users):
        events = range(split.offsets[user], split.offsets[user + 1])
        items = [int(split.items[e]) for e in events if split.roles[e] == Role.TRAIN]
        for place, before in enumerate(items):
            for distance, after in enumerate(items[place + 1 :][:window], start=1):
                for back, item in enumerate(reversed(history[-last:]), start=1):
                    scores[after] += (item == before) / distance / back
    return scores


def test_by_hand(tiny, make_requests):
    scores = Markov(window=2, last=2).build(tiny)(make_requests((0,), (3, 0))).scores
    # After item 0: item 1 at 1 (twice), item 2 at 2. After item 3: item 0 at 1, item 1 at 2.
    np.testing.assert_allclose(scores[0], [0, 2, 0.5, 0, 0], atol=1e-5)
    np.testing.assert_allclose(scores[1], [0.5, 2.25, 0.5, 0, 0], atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 5))
def test_equals_the_definition(seed, window, last):
    split = random_split(seed)
    rng = np.random.default_rng(seed)
    histories = [rng.integers(0, 9, rng.integers(0, 7)).tolist() for _ in range(4)]
    scores = Markov(window, last).build(split)(requests_for(histories)).scores
    expected = [slow_scores(split, history, window, last) for history in histories]
    np.testing.assert_allclose(scores, expected, atol=2e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_equal_scores_are_ordered_by_popularity_and_no_others(seed):
    split = random_split(seed)
    rng = np.random.default_rng(seed)
    history = rng.integers(0, 9, 4).tolist()
    scores = Markov().build(split)(requests_for([history])).scores[0]
    exact = slow_scores(split, history, 10, 3).round(9)
    counts = Popularity().build(split)(requests_for([history])).scores[0]
    for a in range(9):
        for b in range(9):
            is_above = (exact[a], counts[a]) > (exact[b], counts[b])
            assert is_above == (scores[a] > scores[b] + 1e-12)


def test_without_a_history_it_is_popularity(tiny, make_requests):
    scores = Markov().build(tiny)(make_requests((), ())).scores
    counts = Popularity().build(tiny)(make_requests((), ())).scores
    assert (order(scores) == order(counts)).all()


def order(scores):
    return np.sign(scores[:, :, None] - scores[:, None])


def test_held_out_events_change_no_score(tiny, make_requests):
    changed = tiny.items.copy()
    changed[tiny.roles != Role.TRAIN] = 0
    other = dataclasses.replace(tiny, items=changed)
    requests = make_requests((0,), (1, 2), (4,))
    scores = [Markov().build(split)(requests).scores for split in (tiny, other)]
    np.testing.assert_array_equal(*scores)


def test_only_the_last_items_are_used(tiny, make_requests):
    scores = Markov(last=2).build(tiny)(make_requests((3, 3, 1, 0), (2, 1, 0))).scores
    np.testing.assert_array_equal(scores[0], scores[1])


@pytest.mark.parametrize("setting", ["window", "last"])
def test_impossible_settings_are_refused(setting):
    with pytest.raises(InputError, match=rf"Markov\.{setting}: must be between 1 and"):
        Markov(**{setting: 0})


def random_split(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 15, 6)
    roles = [[0] * max(n - 2, 1) + [1, 2][: n - max(n - 2, 1)] for n in lengths]
    events = int(lengths.sum())
    return Split(
        protocol=SplitProtocol.LEAVE_ONE_OUT,
        catalog=pl.DataFrame({"item": [f"i{number}" for number in range(9)]}),
        users=np.arange(6),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        items=rng.integers(0, 9, events).astype(np.int32),
        times=np.arange(events),
        queries=[""] * events,
        intentions=np.zeros(events, np.int8),
        roles=np.array([role for row in roles for role in row], np.int8),
    )


def requests_for(histories):
    scenario = SEQUENTIAL_RECOMMENDATION.scenario
    return [Request(scenario, tuple(history)) for history in histories]
