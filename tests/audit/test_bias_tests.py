"""Bias tests: the p-values are those of exact formulas."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from irec_jax.audit.bias_tests import (
    chi_square_p_value,
    equal_odds_p_value,
    excess_p_value,
    percentile,
)


def tail(successes: int, trials: int) -> float:
    """The exact probability of at least that many heads of a fair coin."""
    ways = sum(math.comb(trials, k) for k in range(successes, trials + 1))
    return float(Fraction(ways, 2**trials))


@given(st.lists(st.integers(5, 400), min_size=2, max_size=9))
def test_p_values_are_those_of_the_formulas(counts: list[int]):
    weights = list(range(1, len(counts) + 1))
    for shares in ([1] * len(counts), weights):
        expected = np.array(shares) / sum(shares) * sum(counts)
        if expected.min() >= 5:
            statistic = float(((np.array(counts) - expected) ** 2 / expected).sum())
            p_value = special.gammaincc((len(counts) - 1) / 2, statistic / 2)
            assert chi_square_p_value(counts, shares) == pytest.approx(
                p_value, rel=1e-9, abs=1e-300
            )
    first, second = counts[:2]
    two_sided = min(1.0, 2 * tail(max(first, second), first + second))
    assert equal_odds_p_value(first, second) == pytest.approx(two_sided, rel=1e-9)
    assert excess_p_value(first, second) == pytest.approx(tail(first, first + second), rel=1e-6)


def test_too_few_records_never_refuse():
    assert chi_square_p_value([9, 0, 0], [1, 1, 1]) == 1.0
    assert chi_square_p_value([], []) == 1.0
    assert excess_p_value(0, 0) == 1.0
    assert equal_odds_p_value(0, 0) == 1.0


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.99, 1]))
def test_percentiles_are_those_of_numpy(values: list[int], share: float):
    counts = {value: values.count(value) for value in values}
    expected = np.percentile(values, share * 100, method="inverted_cdf")
    assert percentile(counts, float(share)) == expected


def test_a_percentile_of_nothing_is_0():
    assert percentile({}, 0.5) == 0
