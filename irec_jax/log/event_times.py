"""Simulated event times: numbers of events, sessions and seconds."""

import numpy as np
from jaxtyping import Float, Int

from irec_jax.log.taste import DAY, START

MIN_EVENTS, MAX_EVENTS = 8, 60
_NEW_SESSION_PROBABILITY = 0.4
_MEAN_PAUSE_MINUTES = 4.0


def draw_counts(rng: np.random.Generator, users: int, mean: float) -> Int[np.ndarray, " users"]:
    """Draws `[users]` int64 numbers of events, 8 to 60, right-skewed, with about this mean."""
    extra = rng.gamma(1.5, max(mean - MIN_EVENTS, 0.0) / 1.5, users)
    return np.clip(MIN_EVENTS + np.round(extra), MIN_EVENTS, MAX_EVENTS).astype(np.int64)


def draw_times(
    rng: np.random.Generator, counts: Int[np.ndarray, " users"], days: int
) -> Int[np.ndarray, " events"]:
    """Draws the times of all events, in sessions within each user's period of activity.

    Args:
        rng: Source of random numbers.
        counts: `[users]` number of events of each user.
        days: Length of the log in days.

    Returns:
        `[events]` int64 Unix seconds, user by user, strictly increasing within a user.
    """
    users = np.repeat(np.arange(len(counts)), counts)
    events = len(users)
    first_day = rng.uniform(0, 0.5, len(counts)) * days
    active_days = rng.uniform(0.5, 1.0, len(counts)) * (days - first_day)
    is_first = np.zeros(events, bool)
    is_first[np.cumsum(counts) - counts] = True
    starts_session = is_first | (rng.random(events) < _NEW_SESSION_PROBABILITY)
    session = np.cumsum(starts_session) - 1
    owner = users[starts_session]
    day = np.floor(first_day[owner] + rng.random(len(owner)) * active_days[owner])
    hour = _draw_hours(rng, len(owner))
    pauses = np.where(starts_session, 0.0, rng.exponential(_MEAN_PAUSE_MINUTES * 60, events) + 5)
    elapsed = np.cumsum(pauses)
    within = elapsed - elapsed[starts_session][session]
    seconds = START + (day * DAY + hour * 3600)[session] + within
    latest = START + days * DAY - 1 - counts[users]
    seconds = np.minimum(seconds, latest).astype(np.int64)
    order = np.lexsort((seconds, users))
    return _separate_ties(seconds[order], counts)


def _draw_hours(rng: np.random.Generator, count: int) -> Float[np.ndarray, " count"]:
    """Draws `[count]` hours of the day: 60 % around 20 h, 40 % around 12:30 h."""
    evening = rng.random(count) < 0.6
    return np.where(evening, rng.normal(20, 2, count), rng.normal(12.5, 3, count)) % 24


def _separate_ties(
    seconds: Int[np.ndarray, " events"], counts: Int[np.ndarray, " users"]
) -> Int[np.ndarray, " events"]:
    """Separates equal times of a user by one second each."""
    starts = np.cumsum(counts) - counts
    index = np.arange(len(seconds)) - np.repeat(starts, counts)
    offset = np.repeat(np.arange(len(counts)), counts) * (1 << 34)
    return np.maximum.accumulate(seconds - index + offset) - offset + index
