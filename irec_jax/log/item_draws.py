"""Draws of item sequences from the exact next-item distribution."""

import numpy as np
from jaxtyping import Float, Int

from irec_jax.log.taste import RECENCY_WEIGHTS, Dynamics, Tastes

CHUNK = 256
"""Requests computed at a time, so that `[items, CHUNK]` float32 stays in the CPU cache."""

_BLOCK_SIZE = 32


def draw_items(
    dynamics: Dynamics,
    tastes: Tastes,
    counts: Int[np.ndarray, " users"],
    times: Int[np.ndarray, " events"],
    rng: np.random.Generator,
) -> tuple[Int[np.ndarray, " events"], Float[np.ndarray, " items"]]:
    """Draws an item for each event; no user has an item twice.

    Args:
        dynamics: Shared parts of the distribution.
        tastes: Feature weights of the users.
        counts: `[users]` number of events of each user.
        times: `[events]` Unix seconds, user by user.
        rng: Source of random numbers; one uniform number per event is used.

    Returns:
        `[events]` int64 items, and `[items]` float64, the mean of their distributions.
    """
    uniform = rng.random(len(times)).astype(np.float32)
    items = np.full(len(times), -1, np.int64)
    total = np.zeros(len(dynamics.appeal))
    starts = np.cumsum(counts) - counts
    # Chunks of users with similar numbers of events waste few requests.
    order = np.argsort(-counts, kind="stable")
    for first in range(0, len(order), CHUNK):
        users = order[first : first + CHUNK]
        for step in range(int(counts[users[0]])):
            active = users[counts[users] > step]
            events = starts[active] + step
            history = items[starts[active][:, None] + np.arange(step)]
            odds = masked_odds(dynamics, tastes, active, times[events], history)
            items[events], total_odds = sample_items(odds, uniform[events])
            total += np.einsum("ir,r->i", odds, 1 / total_odds)
    return items, total / len(times)


def masked_odds(
    dynamics: Dynamics,
    tastes: Tastes,
    users: Int[np.ndarray, " requests"],
    times: Int[np.ndarray, " requests"],
    history: Int[np.ndarray, "requests length"],
) -> Float[np.ndarray, "items requests"]:
    """Returns the odds of every item to be the next one, 0 for items of the history.

    Args:
        dynamics: Shared parts of the distribution.
        tastes: Feature weights of the users.
        users: `[requests]` rows of `tastes`.
        times: `[requests]` Unix seconds.
        history: `[requests, length]` items, oldest first, padded in front with -1.

    Returns:
        `[items, requests]` float32.
    """
    recent = np.full((len(users), len(RECENCY_WEIGHTS)), -1, np.int64)
    depth = min(history.shape[1], len(RECENCY_WEIGHTS))
    recent[:, :depth] = history[:, ::-1][:, :depth]
    odds = dynamics.odds(dynamics.weights(tastes, users, times, recent))
    requests, columns = np.nonzero(history >= 0)
    odds[history[requests, columns], requests] = 0
    return odds


def sample_items(
    odds: Float[np.ndarray, "items requests"], uniform: Float[np.ndarray, " requests"]
) -> tuple[Int[np.ndarray, " requests"], Float[np.ndarray, " requests"]]:
    """Draws an item for each request in proportion to the odds.

    A block of items is drawn first, then an item of it: cumulative sums over all items would
    take longer than the rest of the simulation.

    Args:
        odds: `[items, requests]`, each column with a value above 0.
        uniform: `[requests]` numbers in [0, 1].

    Returns:
        `[requests]` items and `[requests]` the sums of the odds.
    """
    starts = np.arange(0, len(odds), _BLOCK_SIZE)
    blocks = np.cumsum(np.add.reduceat(odds, starts, axis=0), axis=0)
    total_odds = blocks[-1]
    # Strictly below the sum despite rounding, so that an item without odds is never drawn.
    threshold = np.minimum(uniform * total_odds, np.nextafter(total_odds, np.float32(0)))
    block = (blocks <= threshold).sum(axis=0)
    requests = np.arange(len(threshold))
    threshold = threshold - np.where(block > 0, blocks[block - 1, requests], 0)
    rows = starts[block] + np.arange(_BLOCK_SIZE)[:, None]
    inside = odds[np.minimum(rows, len(odds) - 1), requests]
    running = np.cumsum(np.where(rows < len(odds), inside, 0), axis=0)
    threshold = np.minimum(threshold, np.nextafter(running[-1], np.float32(0)))
    return starts[block] + (running <= threshold).sum(axis=0), total_odds
