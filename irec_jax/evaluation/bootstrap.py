"""Confidence intervals: the paired bootstrap over users.

Requests of one user are not independent, so whole users are drawn, with all of their requests
(a cluster bootstrap). All rankers share the draws, so the difference of two rankers has the
narrower interval of paired samples.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

CONFIDENCE = 0.95
DRAWS_AT_ONCE = 2**22


@dataclasses.dataclass(frozen=True)
class Figure:
    """A mean over requests and its 95 % confidence interval, NaN for fewer than two users."""

    value: float
    low: float
    high: float

    def is_above(self, other: "Figure") -> bool:
        """Whether the whole interval is above the other's.

        >>> Figure(0.3, 0.28, 0.32).is_above(Figure(0.2, 0.18, 0.25))
        True
        >>> Figure(0.3, 0.24, 0.36).is_above(Figure(0.2, 0.18, 0.25))
        False
        """
        return self.low > other.high


@dataclasses.dataclass(frozen=True, eq=False)
class Bootstrap:
    """Means of several columns, and the same means for each draw of users.

    Attributes:
        means: Means over all requests.
        draws: Means over the requests of each draw.
    """

    means: Float[np.ndarray, " columns"]
    draws: Float[np.ndarray, "resamples columns"]

    def figures(self) -> list[Figure]:
        """Returns the mean and the percentile interval of each column."""
        tail = 100 * (1 - CONFIDENCE) / 2
        lows, highs = np.percentile(self.draws, [tail, 100 - tail], axis=0)
        return [
            Figure(float(mean), float(low), float(high))
            for mean, low, high in zip(self.means, lows, highs, strict=True)
        ]

    def columns(self, chosen: slice) -> "Bootstrap":
        """Selects columns."""
        return Bootstrap(self.means[chosen], self.draws[:, chosen])

    def minus(self, other: "Bootstrap") -> "Bootstrap":
        """Returns the bootstrap of the differences; both must come from the same draws."""
        return Bootstrap(self.means - other.means, self.draws - other.draws)


def bootstrap(
    values: Float[np.ndarray, "requests columns"],
    users: Int[np.ndarray, " requests"],
    resamples: int,
    seed: int,
) -> Bootstrap:
    """Draws users with replacement and computes the means over their requests.

    A draw is a multinomial vector of counts per user, so all columns of all rankers cost one
    matrix product for each draw.

    Args:
        values: A metric of a ranker in each column.
        users: A user number for each row; any integers.
        resamples: Number of draws.
        seed: Seed of the draws.

    Returns:
        The means and their draws; draws are NaN if there are fewer than two users.
    """
    _, rows = np.unique(users, return_inverse=True)
    counts = np.bincount(rows).astype(np.float64)
    sums = np.stack([np.bincount(rows, column) for column in values.T], axis=1)
    means = sums.sum(axis=0) / counts.sum()
    number = len(counts)
    if number < 2:
        return Bootstrap(means, np.full((resamples, len(means)), np.nan))
    rng = np.random.default_rng([seed, resamples])
    at_once = max(1, DRAWS_AT_ONCE // number)
    draws = []
    for start in range(0, resamples, at_once):
        rows_now = min(at_once, resamples - start)
        picked = rng.integers(number, size=(rows_now, number))
        picked += number * np.arange(rows_now)[:, None]
        times = np.bincount(picked.ravel(), minlength=rows_now * number).astype(np.float64)
        times = times.reshape(rows_now, number)
        draws.append((times @ sums) / (times @ counts)[:, None])
    return Bootstrap(means, np.concatenate(draws))


def bootstrap_each(
    values: Mapping[str, Float[np.ndarray, "requests columns"]],
    users: Int[np.ndarray, " requests"],
    resamples: int,
    seed: int,
) -> dict[str, Bootstrap]:
    """Bootstraps several rankers with the same draws, so that they can be subtracted.

    Args:
        values: The metrics of each ranker, all of one shape.
        users: As for `bootstrap`.
        resamples: Number of draws.
        seed: Seed of the draws.
    """
    joint = bootstrap(np.concatenate(list(values.values()), axis=1), users, resamples, seed)
    width = len(joint.means) // len(values)
    return {
        name: joint.columns(slice(number * width, (number + 1) * width))
        for number, name in enumerate(values)
    }
