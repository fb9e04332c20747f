"""Popularity counted by hand."""

import numpy as np
import pytest

from irec_jax.baselines.popularity import popularity
from irec_jax.errors import InputError


def test_only_training_events_count(tiny, ask):
    scores = popularity(tiny)(ask((), (0, 1))).scores
    assert scores.tolist() == [[2, 3, 2, 1, 0]] * 2


@pytest.mark.parametrize(
    ("days", "counts"),
    [(1, [0, 1, 0, 0, 0]), (4.5, [0, 1, 1, 0, 0]), (7.5, [1, 2, 2, 0, 0]), (99, [2, 3, 2, 1, 0])],
)
def test_the_window_ends_with_training(tiny, ask, days, counts):
    # The last training event lies at day 9; held-out events after it do not move the window.
    scores = popularity(tiny, last_days=days)(ask(())).scores
    assert np.floor(scores).tolist() == [counts]
    # Equal recent counts are ordered by all training events: b, then a and c, then d, then e.
    assert (scores - np.floor(scores)).tolist() == [[0.5, 0.75, 0.5, 0.25, 0]]


def test_no_request_gives_no_row(tiny):
    assert popularity(tiny)([]).scores.shape == (0, 5)


@pytest.mark.parametrize("days", [0, -1.0, float("nan")])
def test_an_empty_window_is_refused(tiny, days):
    with pytest.raises(InputError, match="last_days"):
        popularity(tiny, last_days=days)
