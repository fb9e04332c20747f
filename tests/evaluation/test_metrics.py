"""Metrics against hand-computed tables, brute force and the figures of ranx."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from irec_jax.errors import InputError
from irec_jax.evaluation import bootstrap, figures, metrics, report, report_tables
from irec_jax.evaluation.metrics import METRICS, chance, full_ranks, per_request
from irec_jax.evaluation.page import report_page

pytestmark = pytest.mark.fast

INF = math.inf
SCORES_WITH_TIES = st.sampled_from([-INF, -1.0, 0.0, 0.5, 2.0, INF])
sixty = settings(max_examples=60)


@pytest.mark.parametrize(
    "module", [bootstrap, figures, metrics, report_page, report, report_tables]
)
def test_the_examples_in_the_docstrings_hold(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("scores", "target", "excluded", "rank"),
    [
        ([5.0, 4.0, 3.0, 2.0], 0, [], 1.0),
        ([5.0, 4.0, 3.0, 2.0], 3, [], 4.0),
        ([5.0, 4.0, 3.0, 2.0], 3, [0], 3.0),
        ([5.0, 4.0, 3.0, 2.0], 3, [0, 0, 0], 3.0),
        ([5.0, 4.0, 3.0, 2.0], 0, [1, 2, 3], 1.0),
        ([1.0, 1.0, 1.0, 1.0], 2, [], 2.5),
        ([1.0, 1.0, 1.0, 1.0], 2, [0], 2.0),
        ([9.0, 1.0, 1.0, 0.0], 1, [], 2.5),
        ([9.0, 1.0, 1.0, 0.0], 1, [2], 2.0),
        ([9.0, -INF, -INF, -INF], 1, [], 3.0),
        ([9.0, -INF, -INF, -INF], 1, [3], 2.5),
        ([INF, INF, 0.0, -INF], 0, [], 1.5),
        ([0.0], 0, [], 1.0),
    ],
)
def test_rank_by_hand(scores, target, excluded, rank):
    assert full_ranks(np.array([scores]), np.array([target]), [excluded]).tolist() == [rank]


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (1.0, [1, 1, 1, 1, 1, 1, 1, 1]),
        (1.5, [0, 1, 1, 1, *[1 / math.log2(2.5)] * 3, 1 / 1.5]),
        (5.0, [0, 1, 1, 1, *[1 / math.log2(6)] * 3, 0.2]),
        (5.5, [0, 0, 1, 1, 0, *[1 / math.log2(6.5)] * 2, 1 / 5.5]),
        (10.0, [0, 0, 1, 1, 0, *[1 / math.log2(11)] * 2, 0.1]),
        (20.5, [0, 0, 0, 0, 0, 0, 0, 1 / 20.5]),
        (INF, [0] * 8),
    ],
)
def test_metrics_by_hand(rank, expected):
    names = ["recall@1", "recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20"]
    assert list(METRICS) == [*names, "mrr"]
    np.testing.assert_allclose(per_request(np.array([rank]))[0], expected, rtol=1e-12)


def test_no_request_gives_no_value():
    empty = np.zeros(0)
    assert full_ranks(np.zeros((0, 5)), np.zeros(0, int), []).shape == (0,)
    assert per_request(empty).shape == chance(np.zeros(0, int)).shape == (0, len(METRICS))


def test_means_equal_ranx():
    # ranx 0.3.21 on these 40 rankings of 30 items; it has no rule for ties, so there are none.
    rng = np.random.default_rng(7)
    scores = rng.permutation(40 * 30).reshape(40, 30).astype(float)
    targets = rng.integers(0, 30, 40)
    ours = per_request(full_ranks(scores, targets, [[]] * 40)).mean(axis=0)
    theirs = [0.05, 0.125, 0.325, 0.675]
    theirs += [0.0923134016304077, 0.15593661225520764, 0.24439379469346406, 0.14345201734014013]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@st.composite
def rankings(draw, elements=SCORES_WITH_TIES):
    """Scores with many ties, a target in each row, and excluded items without the target."""
    requests, items = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    scores = draw(arrays.arrays(np.float32, (requests, items), elements=elements))
    targets = np.array([draw(st.integers(0, items - 1)) for _ in range(requests)])
    excluded = [
        [item for item in draw(st.lists(st.integers(0, items - 1))) if item != target]
        for target in targets
    ]
    return scores, targets, excluded


@sixty
@given(rankings())
def test_rank_equals_brute_force(case):
    scores, targets, excluded = case
    for row, (target, masked) in enumerate(zip(targets, excluded, strict=True)):
        others = [
            scores[row, item]
            for item in range(scores.shape[1])
            if item != target and item not in masked
        ]
        own = scores[row, target]
        expected = 1 + sum(o > own for o in others) + 0.5 * sum(o == own for o in others)
        assert full_ranks(scores, targets, excluded)[row] == expected
        # Half of the ties is the mean over all orders in which they could be broken.
        ties = sum(o == own for o in others)
        best = 1 + sum(o > own for o in others)
        assert expected == np.mean(range(best, best + ties + 1))


@sixty
@given(rankings(), st.randoms(use_true_random=False))
def test_rank_ignores_the_numbering_of_items(case, random):
    scores, targets, excluded = case
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    new_number = np.argsort(order)
    renumbered = full_ranks(
        scores[:, order],
        new_number[targets],
        [[int(new_number[i]) for i in row] for row in excluded],
    )
    np.testing.assert_array_equal(renumbered, full_ranks(scores, targets, excluded))


@sixty
@given(rankings(st.sampled_from([float(value) for value in range(-20, 21)])))
def test_rank_depends_on_the_order_of_scores_only(case):
    scores, targets, excluded = case
    stretched = np.exp(scores.astype(np.float64) / 7) - 3
    np.testing.assert_array_equal(
        full_ranks(stretched, targets, excluded), full_ranks(scores, targets, excluded)
    )


@sixty
@given(rankings(), st.floats(0.1, 5))
def test_a_higher_score_never_lowers_the_target(case, gain):
    scores, targets, excluded = case
    before = full_ranks(scores, targets, excluded)
    raised = scores.copy()
    raised[np.arange(len(targets)), targets] += np.float32(gain)
    after = full_ranks(raised, targets, excluded)
    assert (after <= before).all()
    assert (per_request(after) >= per_request(before)).all()


@sixty
@given(rankings())
def test_a_rank_is_between_1_and_the_candidates(case):
    scores, targets, excluded = case
    ranks = full_ranks(scores, targets, excluded)
    candidates = np.array([scores.shape[1] - len(set(masked)) for masked in excluded])
    assert (ranks >= 1).all()
    assert (ranks <= candidates).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 60))
def test_chance_equals_monte_carlo(candidates):
    draws = 20_000
    ranks = np.random.default_rng(candidates).integers(1, candidates + 1, draws).astype(float)
    values = per_request(ranks)
    error = values.std(axis=0) / math.sqrt(draws)
    exact = chance(np.array([candidates]))[0]
    assert (np.abs(values.mean(axis=0) - exact) <= 5 * error + 1e-12).all()


def test_chance_is_the_mean_over_every_rank():
    exact = chance(np.array([7, 30]))
    for row, candidates in enumerate([7, 30]):
        every = per_request(np.arange(1.0, candidates + 1))
        np.testing.assert_allclose(exact[row], every.mean(axis=0))


def test_nan_is_refused_with_the_ranker_and_the_position():
    scores = np.zeros((2, 3), np.float32)
    scores[1, 2] = np.nan
    with pytest.raises(InputError, match=r"mine: the score of item 2 in request 1 is NaN"):
        full_ranks(scores, np.array([0, 0]), [[], []], name="mine")


def test_an_excluded_target_is_refused():
    with pytest.raises(InputError, match="item 1 is the target of request 0 and excluded"):
        full_ranks(np.zeros((1, 3)), np.array([1]), [[1]])
