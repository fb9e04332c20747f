"""Draws the next item of every user, again and again, from the exact distribution."""

import numpy as np
from jaxtyping import Float, Int

from irec_jax.log.taste import RECENT, Dynamics, Tastes

CHUNK = 256
"""Requests worked on at a time, so that `[items, CHUNK]` float32 stays in the cache."""

_BLOCK = 32


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
    uniform = rng.random(len(times)).astype(np.float32)
    items = np.full(len(times), -1, np.int64)
    total = np.zeros(len(dynamics.appeal))
    starts = np.cumsum(counts) - counts
    # Users with equally many events stand together, so that few requests idle.
    order = np.argsort(-counts, kind="stable")
    for first in range(0, len(order), CHUNK):
        users = order[first : first + CHUNK]
        for step in range(int(counts[users[0]])):
            active = users[counts[users] > step]
            events = starts[active] + step
            history = items[starts[active][:, None] + np.arange(step)]
            odds = masked_odds(dynamics, tastes, active, times[events], history)
            items[events], whole = pick(odds, uniform[events])
            total += np.einsum("ir,r->i", odds, 1 / whole)
    return items, total / len(times)


def masked_odds(
    dynamics: Dynamics,
    tastes: Tastes,
    users: Int[np.ndarray, " requests"],
    times: Int[np.ndarray, " requests"],
    history: Int[np.ndarray, "requests length"],
) -> Float[np.ndarray, "items requests"]:
    """Odds of every item to be next, 0 for those of the history.

    Args:
        dynamics: What all users share.
        tastes: What each user likes.
        users: `[requests]` rows of `tastes`.
        times: `[requests]` seconds.
        history: `[requests, length]` items, oldest first, -1 in front of a shorter one.

    Returns:
        `[items, requests]` float32.
    """
    recent = np.full((len(users), len(RECENT)), -1, np.int64)
    depth = min(history.shape[1], len(RECENT))
    recent[:, :depth] = history[:, ::-1][:, :depth]
    odds = dynamics.odds(dynamics.weights(tastes, users, times, recent))
    requests, places = np.nonzero(history >= 0)
    odds[history[requests, places], requests] = 0
    return odds


def pick(
    odds: Float[np.ndarray, "items requests"], uniform: Float[np.ndarray, " requests"]
) -> tuple[Int[np.ndarray, " requests"], Float[np.ndarray, " requests"]]:
    """Draws an item for each request in proportion to the odds.

    First a block of items is drawn, then an item of it: running sums over all items would take
    longer than everything else.

    Args:
        odds: `[items, requests]`, each column with something above 0.
        uniform: `[requests]` numbers in [0, 1].

    Returns:
        `[requests]` items and `[requests]` the sums of the odds.
    """
    starts = np.arange(0, len(odds), _BLOCK)
    blocks = np.cumsum(np.add.reduceat(odds, starts, axis=0), axis=0)
    whole = blocks[-1]
    # Strictly below the sum, whatever the rounding: what has no odds is never drawn.
    goal = np.minimum(uniform * whole, np.nextafter(whole, np.float32(0)))
    block = (blocks <= goal).sum(axis=0)
    requests = np.arange(len(goal))
    goal = goal - np.where(block > 0, blocks[block - 1, requests], 0)
    rows = starts[block] + np.arange(_BLOCK)[:, None]
    inside = odds[np.minimum(rows, len(odds) - 1), requests]
    running = np.cumsum(np.where(rows < len(odds), inside, 0), axis=0)
    goal = np.minimum(goal, np.nextafter(running[-1], np.float32(0)))
    return starts[block] + (running <= goal).sum(axis=0), whole
