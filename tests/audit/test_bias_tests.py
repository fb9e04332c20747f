"""Whether counts are even: the chances are those of an independent source."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from irec_jax.audit.bias_tests import (
    chance_of_counts,
    chance_of_halves,
    chance_of_more,
    percentile,
)

pytestmark = pytest.mark.fast


@given(st.lists(st.integers(5, 400), min_size=2, max_size=9))
def test_chances_are_those_of_scipy(counts: list[int]):
    expected = stats.chisquare(counts).pvalue
    assert chance_of_counts(counts, [1] * len(counts)) == pytest.approx(expected, rel=1e-9)
    weights = list(range(1, len(counts) + 1))
    share = np.array(weights) / sum(weights) * sum(counts)
    if share.min() >= 5:
        expected = stats.chisquare(counts, share).pvalue
        assert chance_of_counts(counts, weights) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    first, second = counts[:2]
    halves = stats.binomtest(first, first + second).pvalue
    assert chance_of_halves(first, second) == pytest.approx(halves, rel=1e-9)
    more = stats.binomtest(first, first + second, alternative="greater").pvalue
    assert chance_of_more(first, second) == pytest.approx(more, rel=1e-6)


def test_too_few_records_say_nothing():
    assert chance_of_counts([9, 0, 0], [1, 1, 1]) == 1.0
    assert chance_of_counts([], []) == 1.0
    assert chance_of_more(0, 0) == 1.0
    assert chance_of_halves(0, 0) == 1.0


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.99, 1]))
def test_percentiles_are_those_of_numpy(values: list[int], share: float):
    counts = {value: values.count(value) for value in values}
    expected = np.percentile(values, share * 100, method="inverted_cdf")
    assert percentile(counts, float(share)) == expected


def test_a_percentile_of_nothing_is_0():
    assert percentile({}, 0.5) == 0
