"""When users come: numbers of events, sessions and times."""

import numpy as np
from jaxtyping import Float, Int

from irec_jax.log.taste import DAY, START

FEWEST, MOST = 8, 60
_NEW_SESSION = 0.4
_MINUTES_BETWEEN = 4.0


def draw_counts(rng: np.random.Generator, users: int, mean: float) -> Int[np.ndarray, " users"]:
    """`[users]` numbers of events, 8 to 60, skewed to the right, with about the given mean."""
    extra = rng.gamma(1.5, max(mean - FEWEST, 0.0) / 1.5, users)
    return np.clip(FEWEST + np.round(extra), FEWEST, MOST).astype(np.int64)


def draw_times(
    rng: np.random.Generator, counts: Int[np.ndarray, " users"], days: int
) -> Int[np.ndarray, " events"]:
    """Times of all events, in sessions within each user's own stretch of the log.

    Args:
        rng: Source of randomness.
        counts: `[users]` events of each.
        days: Length of the log.

    Returns:
        `[events]` int64 seconds, users one after the other, strictly rising within a user.
    """
    users = np.repeat(np.arange(len(counts)), counts)
    events = len(users)
    arrives = rng.uniform(0, 0.5, len(counts)) * days
    stays = rng.uniform(0.5, 1.0, len(counts)) * (days - arrives)
    firsts = np.zeros(events, bool)
    firsts[np.cumsum(counts) - counts] = True
    opens = firsts | (rng.random(events) < _NEW_SESSION)
    session = np.cumsum(opens) - 1
    owner = users[opens]
    day = np.floor(arrives[owner] + rng.random(len(owner)) * stays[owner])
    hour = _draw_hours(rng, len(owner))
    pauses = np.where(opens, 0.0, rng.exponential(_MINUTES_BETWEEN * 60, events) + 5)
    elapsed = np.cumsum(pauses)
    within = elapsed - elapsed[opens][session]
    seconds = START + (day * DAY + hour * 3600)[session] + within
    latest = START + days * DAY - 1 - counts[users]
    seconds = np.minimum(seconds, latest).astype(np.int64)
    order = np.lexsort((seconds, users))
    return _strictly_rising(seconds[order], counts)


def _draw_hours(rng: np.random.Generator, count: int) -> Float[np.ndarray, " count"]:
    """`[count]` hours of the day: few at night, some at noon, most in the evening."""
    evening = rng.random(count) < 0.6
    return np.where(evening, rng.normal(20, 2, count), rng.normal(12.5, 3, count)) % 24


def _strictly_rising(
    seconds: Int[np.ndarray, " events"], counts: Int[np.ndarray, " users"]
) -> Int[np.ndarray, " events"]:
    """Moves equal times of a user apart, a second each."""
    starts = np.cumsum(counts) - counts
    place = np.arange(len(seconds)) - np.repeat(starts, counts)
    offset = np.repeat(np.arange(len(counts)), counts) * (1 << 34)
    return np.maximum.accumulate(seconds - place + offset) - offset + place
