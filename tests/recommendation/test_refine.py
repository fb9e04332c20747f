"""Result optimization: filters, order and diversification of candidates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.recommendation.refine import (
    Candidates,
    best_first,
    diversify,
    drop_missing,
    drop_repeated,
)

pytestmark = pytest.mark.fast


def candidates(items, scores):
    return Candidates(np.array(items, np.int32), np.array(scores, np.float32))


pools = st.lists(
    st.tuples(st.integers(0, 19), st.floats(-50, 0, width=32)),
    max_size=20,
    unique_by=lambda pair: pair[0],
).map(lambda pairs: candidates([i for i, _ in pairs], [s for _, s in pairs]))


def test_empty_slots_are_dropped():
    kept = drop_missing(candidates([3, -1, 5], [-1.0, -np.inf, -np.inf]))
    assert kept.items.tolist() == [3]


def test_the_first_of_equal_titles_is_kept():
    titles = ["Blue  Jacket", "red shoe", "blue jacket", "hat"]
    kept = drop_repeated(candidates([2, 1, 0, 3], [-1, -2, -3, -4]), titles)
    assert kept.items.tolist() == [2, 1, 3]
    assert kept.scores.tolist() == [-1, -2, -4]


@given(pools)
def test_sorting_keeps_all_candidates_with_their_scores(pool):
    ordered = best_first(pool)
    pairs = zip(pool.items.tolist(), pool.scores.tolist(), strict=True)
    assert dict(zip(ordered.items.tolist(), ordered.scores.tolist(), strict=True)) == dict(pairs)
    assert (np.diff(ordered.scores) <= 0).all()


@given(pools, st.floats(0, 1), st.integers(1, 25))
def test_diversify_picks_distinct_items_and_starts_with_the_best(pool, weight, k):
    pool = best_first(pool)
    categories = [[f"c{item % 3}"] for item in range(20)]
    picked = diversify(pool, categories, weight, k)
    assert len(picked) == min(k, len(pool))
    assert len(set(picked.items.tolist())) == len(picked)
    assert set(picked.items.tolist()) <= set(pool.items.tolist())
    if weight == 0:
        assert picked.items.tolist() == pool.items[:k].tolist()
    elif weight < 1 and len(pool):
        assert picked.scores[0] == pool.scores[0]


def test_diversify_prefers_a_new_category_to_a_slightly_better_score():
    pool = candidates([0, 1, 2, 3], [-1.0, -1.1, -1.3, -4.0])
    categories = [["film"], ["film"], ["book"], ["film"]]
    assert diversify(pool, categories, 0.5, 3).items.tolist() == [0, 2, 1]
