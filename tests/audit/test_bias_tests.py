"""Whether counts are even: p-values of SciPy, and counts that are too small to judge."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from irec_jax.audit.bias_tests import drawn_p_value, excess_p_value, percentile

pytestmark = pytest.mark.fast


@given(st.lists(st.tuples(st.integers(5, 400), st.integers(1, 9)), min_size=2, max_size=9))
def test_draws_are_judged_by_their_weights(drawn: list[tuple[int, int]]):
    cells = {f"template{n}*{weight}": count for n, (count, weight) in enumerate(drawn)}
    counts, weights = np.array(drawn).T
    expected = weights / weights.sum() * counts.sum()
    p_value = stats.chisquare(counts, expected).pvalue if expected.min() >= 5 else 1.0
    assert drawn_p_value(cells) == pytest.approx(p_value, rel=1e-6, abs=1e-300)


def test_a_cell_without_a_weight_is_drawn_once():
    assert drawn_p_value({"yes": 40, "no": 10}) == drawn_p_value({"yes*1": 40, "no*1": 10})
    assert drawn_p_value({"a*b*3": 30, "c*1": 10}) == 1.0


@pytest.mark.parametrize(("own", "other"), [(30, 9), (9, 30), (20, 20), (1, 0)])
def test_an_excess_is_one_sided(own: int, other: int):
    tail = stats.binom.sf(own - 1, own + other, 0.5)
    assert excess_p_value(own, other) == pytest.approx(tail, rel=1e-9)


def test_too_few_records_say_nothing():
    assert drawn_p_value({"a": 9, "b": 0, "c": 0}) == 1.0
    assert drawn_p_value({}) == 1.0
    assert drawn_p_value({"a": 0, "b": 0}) == 1.0
    assert excess_p_value(0, 0) == 1.0


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.99, 1]))
def test_percentiles_are_those_of_numpy(values: list[int], share: float):
    counts = {value: values.count(value) for value in values}
    expected = np.percentile(values, share * 100, method="inverted_cdf")
    assert percentile(counts, float(share)) == expected


def test_a_percentile_of_nothing_is_0():
    assert percentile({}, 0.5) == 0
