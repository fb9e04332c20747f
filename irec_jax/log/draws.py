"""Draws the next item of every user, again and again, from the exact distribution."""

import numpy as np
from jaxtyping import Float, Int

from irec_jax.log.taste import RECENT, Dynamics, Tastes

CHUNK = 512
"""Rows of `[rows, items]` float32 worked on at a time, so that they stay in the cache."""


def draw_items(
    dynamics: Dynamics,
    tastes: Tastes,
    counts: Int[np.ndarray, " users"],
    times: Int[np.ndarray, " events"],
    rng: np.random.Generator,
) -> tuple[Int[np.ndarray, " events"], Float[np.ndarray, " items"]]:
    """Draws an item for each event; no user gets an item twice.

    Args:
        dynamics: What all users share.
        tastes: What each user likes.
        counts: `[users]` events of each.
        times: `[events]` seconds, users one after the other.
        rng: Source of randomness; one uniform number per event is used.

    Returns:
        `[events]` int64 items, and `[items]` float64, the mean of the distributions they were
        drawn from.
    """
    uniform = rng.random(len(times))
    items = np.full(len(times), -1, np.int64)
    total = np.zeros(len(dynamics.features))
    starts = np.cumsum(counts) - counts
    # Users with equally many events stand together, so that few rows idle.
    order = np.argsort(-counts, kind="stable")
    for first in range(0, len(order), CHUNK):
        users = order[first : first + CHUNK]
        for step in range(int(counts[users[0]])):
            active = users[counts[users] > step]
            events = starts[active] + step
            history = items[starts[active][:, None] + np.arange(step)]
            odds = masked_odds(dynamics, tastes, active, times[events], history)
            cumulative = np.cumsum(odds, axis=1)
            whole = cumulative[:, -1:]
            # Strictly below the whole, whatever the rounding: the last item with odds is legal.
            goal = np.minimum(
                uniform[events, None].astype(np.float32) * whole, np.nextafter(whole, np.float32(0))
            )
            items[events] = (cumulative <= goal).sum(1)
            total += (odds / whole).sum(0)
    return items, total / len(times)


def masked_odds(
    dynamics: Dynamics,
    tastes: Tastes,
    users: Int[np.ndarray, " rows"],
    times: Int[np.ndarray, " rows"],
    history: Int[np.ndarray, "rows length"],
) -> Float[np.ndarray, "rows items"]:
    """Odds of every item to be next, 0 for those of the history.

    Args:
        dynamics: What all users share.
        tastes: What each user likes.
        users: `[rows]` rows of `tastes`.
        times: `[rows]` seconds.
        history: `[rows, length]` items, oldest first, -1 in front of a shorter one.

    Returns:
        `[rows, items]` float32, the largest before masking is 1 in each row.
    """
    recent = np.full((len(users), len(RECENT)), -1, np.int64)
    depth = min(history.shape[1], len(RECENT))
    recent[:, :depth] = history[:, ::-1][:, :depth]
    weights = dynamics.weights(tastes, users, times, recent)
    odds = weights @ dynamics.features.T
    rows, places = np.nonzero(history >= 0)
    odds[rows, history[rows, places]] = -np.inf
    odds -= odds.max(1, keepdims=True)
    return np.exp(odds, out=odds)
