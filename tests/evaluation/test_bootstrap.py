"""The bootstrap against scipy, its coverage, and the effect of pairing and clusters."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.evaluation.bootstrap import bootstrap

pytestmark = pytest.mark.fast


def test_interval_equals_scipy():
    rng = np.random.default_rng(0)
    values = rng.beta(0.3, 2.0, 500)
    ours = bootstrap(values[:, None], np.arange(500), 4000, seed=1).figures()[0]
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_clustered_error_equals_the_ratio_estimators():
    # The delta method for a ratio of means over users is an independent way to the same error.
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 9, 800)
    users = np.repeat(np.arange(800), sizes)
    values = rng.normal(0.3, 0.2, 800)[users] + rng.normal(0, 0.2, len(users))
    clustered = bootstrap(values[:, None], users, 3000, seed=0)
    residuals = np.bincount(users, values - values.mean())
    expected = np.sqrt((residuals**2).sum()) / len(users)
    assert clustered.draws[:, 0].std() == pytest.approx(expected, rel=0.06)
    independent = bootstrap(values[:, None], np.arange(len(values)), 3000, seed=0)
    assert clustered.draws[:, 0].std() > 1.5 * independent.draws[:, 0].std()


def test_95_percent_intervals_cover_the_mean_95_percent_of_the_time():
    rng = np.random.default_rng(11)
    mean, trials, covered = 0.25, 400, 0
    for trial in range(trials):
        hits = (rng.random(400) < mean).astype(float)
        figure = bootstrap(hits[:, None], np.arange(400), 300, seed=trial).figures()[0]
        covered += figure.low <= mean <= figure.high
    # Three standard errors of a share of .95 in 400 trials, and a margin for 300 draws.
    assert 0.91 <= covered / trials <= 0.985


def test_pairing_narrows_a_difference():
    rng = np.random.default_rng(1)
    shared = rng.random(1000)
    values = np.stack([shared, shared + 0.01 + rng.normal(0, 0.01, 1000)], axis=1)
    drawn = bootstrap(values, np.arange(1000), 500, seed=0)
    first, second = drawn.columns(slice(0, 1)), drawn.columns(slice(1, 2))
    difference = second.minus(first).figures()[0]
    assert difference.value == pytest.approx((values[:, 1] - values[:, 0]).mean())
    assert difference.low > 0
    unpaired = second.figures()[0]
    assert difference.high - difference.low < 0.1 * (unpaired.high - unpaired.low)
    # The unpaired intervals overlap.
    assert not unpaired.is_above(first.figures()[0])
    direct = bootstrap((values[:, 1] - values[:, 0])[:, None], np.arange(1000), 500, seed=0)
    assert direct.figures()[0].low == pytest.approx(difference.low)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(1, 60))
def test_order_of_requests_and_numbers_of_users_change_nothing(seed, users, requests):
    rng = np.random.default_rng(seed)
    user_of = rng.integers(0, users, requests)
    values = rng.random((requests, 2))
    order = rng.permutation(requests)
    first = bootstrap(values, user_of, 100, seed=3)
    second = bootstrap(values[order], user_of[order] * 1000 - 7, 100, seed=3)
    np.testing.assert_allclose(first.means, second.means)
    np.testing.assert_allclose(first.draws, second.draws)
    same = first.minus(first).figures()
    assert all(np.isnan(figure.low) or figure.low == figure.high == 0 for figure in same)


def test_the_seed_decides_the_draws():
    values, users = np.random.default_rng(0).random((50, 1)), np.arange(50)
    first = bootstrap(values, users, 100, seed=0).draws
    np.testing.assert_array_equal(first, bootstrap(values, users, 100, seed=0).draws)
    assert not np.array_equal(first, bootstrap(values, users, 100, seed=1).draws)


def test_draws_in_chunks_have_the_right_mean(monkeypatch):
    monkeypatch.setattr("irec_jax.evaluation.bootstrap.DRAWS_AT_ONCE", 700)
    values = np.random.default_rng(4).random((100, 3))
    drawn = bootstrap(values, np.arange(100), 1000, seed=0)
    assert drawn.draws.shape == (1000, 3)
    np.testing.assert_allclose(drawn.draws.mean(axis=0), values.mean(axis=0), atol=0.005)
    np.testing.assert_allclose(drawn.draws.std(axis=0), values.std(axis=0) / 10, rtol=0.1)


def test_one_user_has_no_interval():
    figure = bootstrap(np.array([[0.0], [1.0]]), np.array([5, 5]), 100, seed=0).figures()[0]
    assert figure.value == 0.5
    assert np.isnan(figure.low)
    assert np.isnan(figure.high)
    assert not figure.is_above(figure)
