"""Popularity against counts by hand."""

import numpy as np
import pytest

from irec_jax.baselines.popularity import Popularity
from irec_jax.errors import InputError

pytestmark = pytest.mark.fast


def test_only_training_events_count(tiny, make_requests):
    scores = Popularity().build(tiny)(make_requests((), (0, 1))).scores
    assert scores.tolist() == [[2, 3, 2, 1, 0]] * 2


@pytest.mark.parametrize(
    ("days", "counts"),
    [
        (1.0, [0, 1, 0, 0, 0]),
        (4.5, [0, 1, 1, 0, 0]),
        (7.5, [1, 2, 2, 0, 0]),
        (99.0, [2, 3, 2, 1, 0]),
    ],
)
def test_the_window_ends_with_training(tiny, make_requests, days, counts):
    # The last training event is on day 9; held-out events after it do not move the window.
    scores = Popularity(days=days).build(tiny)(make_requests(())).scores
    assert np.floor(scores).tolist() == [counts]
    # Equal recent counts are ordered by all training events: b, then a and c, then d, then e.
    assert (scores - np.floor(scores)).tolist() == [[0.5, 0.75, 0.5, 0.25, 0]]


def test_no_request_gives_no_row(tiny):
    assert Popularity().build(tiny)([]).scores.shape == (0, 5)


@pytest.mark.parametrize("days", [0.0, -1.0, float("nan")])
def test_an_empty_window_is_refused(days):
    with pytest.raises(InputError, match=r"Popularity\.days: must be positive and finite"):
        Popularity(days=days)
