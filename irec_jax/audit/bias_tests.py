"""Counts over many records, and tests whether they are as even as honest draws make them."""

import collections
import enum
import math
from collections.abc import Mapping, Sequence


class Measure(enum.Enum):
    """Kinds of counts that an audit keeps besides findings."""

    VERDICTS = "verdicts"
    PLACES = "places"
    TEMPLATES = "templates"
    LANGUAGES = "languages"
    OVERLAP = "overlap"
    OVERLAP_PAIRS = "overlap of pairs"
    COINCIDENCES = "coincidences"
    LENGTHS = "lengths"
    COUNTED = "counted"


Key = tuple[str, str, str | int | float]
"""The value of a `Measure`, a group, and what is counted: a name, a length or a share."""

Counts = collections.Counter[Key]

MILLION = 1_000_000
RECORDS, MILLIONTHS = "records", "millionths"
"""Cells of an overlap: how many queries, and the sum of their shares in whole millionths."""

CUT_HISTORIES, FALLBACKS = "cut histories", "fallbacks"
LANGUAGE_FALLBACKS, TYPED_TITLES = "language fallbacks", "typed titles"
"""What is counted of `Measure.COUNTED`."""

Tally = dict[str, dict[str, int]]
"""Group -> what is counted -> how often; an outcome that is drawn ends in `*` and its weight."""

LEAST_CHANCE = 1e-6
"""Counts that honest draws give more rarely than this are taken for a bias."""

_LEAST_EXPECTED = 5


def chance_of_counts(counts: Sequence[int], weights: Sequence[int]) -> float:
    """Returns the chi-square p-value of counts that were drawn with given weights.

    Args:
        counts: How often each outcome came.
        weights: How likely each is, in any unit, more than 0.

    Returns:
        1.0 where an outcome is expected fewer than 5 times: too little to judge.
    """
    total, whole = sum(counts), sum(weights)
    expected = [total * weight / whole for weight in weights]
    if len(counts) < 2 or min(expected) < _LEAST_EXPECTED:
        return 1.0
    from scipy import special  # workers count, and need no SciPy

    distance = sum((c - e) ** 2 / e for c, e in zip(counts, expected, strict=True))
    return float(special.chdtrc(len(counts) - 1, distance))


def chance_of_halves(first: int, second: int) -> float:
    """Returns the two-sided binomial p-value of two outcomes that are equally likely."""
    from scipy import special

    tail = float(special.bdtr(min(first, second), first + second, 0.5))
    return min(1.0, 2 * tail)


def chance_of_more(own: int, other: int) -> float:
    """Returns the p-value of `own` being that much larger than `other`, were both as likely."""
    from scipy import special

    return float(special.bdtr(other, own + other, 0.5))


def percentile(counts: Mapping[int, int], share: float) -> int:
    """Returns the smallest value that at least a share of all counted values do not exceed.

    >>> percentile({3: 90, 8: 9, 50: 1}, 0.5), percentile({3: 90, 8: 9, 50: 1}, 0.99)
    (3, 8)
    """
    needed, seen = math.ceil(share * sum(counts.values())), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= needed:
            return value
    return 0
