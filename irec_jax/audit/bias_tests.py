"""Counts over many records, and statistical tests of them."""

import collections
import enum
import math
from collections.abc import Mapping, Sequence


class Measure(enum.Enum):
    """Quantities that an audit counts besides findings."""

    VERDICTS = "verdicts"
    PLACES = "places"
    TEMPLATES = "templates"
    LANGUAGES = "languages"
    OVERLAP = "overlap"
    OVERLAP_PAIRS = "overlap of pairs"
    COINCIDENCES = "coincidences"
    LENGTHS = "lengths"
    TOTALS = "totals"


CellCounts = collections.Counter[tuple[str, str, str | int | float]]
"""(value of a `Measure`, group, cell) -> count; a cell is a name, a length or a share."""

GroupCounts = dict[str, dict[str, int]]
"""Group -> cell -> count; the cell of a drawn outcome ends in `*` and its weight."""

MILLION = 1_000_000
RECORDS, MILLIONTHS = "records", "millionths"
"""Cells of an overlap: number of queries, and the sum of their shares in integer millionths."""

CUT_HISTORIES, FALLBACKS = "cut histories", "fallbacks"
LANGUAGE_FALLBACKS, TYPED_TITLES = "language fallbacks", "typed titles"
"""Cells of `Measure.TOTALS`."""

MIN_P_VALUE = 1e-6
"""A test with a smaller p-value refuses a set."""

_MIN_EXPECTED = 5

# SciPy is imported where it is used: workers count without it.


def chi_square_p_value(counts: Sequence[int], weights: Sequence[int]) -> float:
    """Returns the p-value of counts under draws with given weights (chi-square test).

    Args:
        counts: Number of draws of each outcome.
        weights: Relative probability of each outcome, more than 0.

    Returns:
        1.0 if an outcome is expected fewer than 5 times.
    """
    total, weight = sum(counts), sum(weights)
    expected = [total * w / weight for w in weights]
    if len(counts) < 2 or min(expected) < _MIN_EXPECTED:
        return 1.0
    from scipy import stats

    return float(stats.chisquare(counts, expected).pvalue)


def equal_odds_p_value(first: int, second: int) -> float:
    """Returns the two-sided binomial p-value of two outcomes with equal probability."""
    if not first + second:
        return 1.0
    from scipy import stats

    return float(stats.binomtest(first, first + second).pvalue)


def excess_p_value(own: int, other: int) -> float:
    """Returns the one-sided binomial p-value of `own` under equal probability of both."""
    if not own + other:
        return 1.0
    from scipy import stats

    return float(stats.binomtest(own, own + other, alternative="greater").pvalue)


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
