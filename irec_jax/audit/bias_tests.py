"""Counts over many records, and tests whether they are as even as honest draws make them."""

import collections
import enum
import math
from collections.abc import Mapping


class Measure(enum.StrEnum):
    """Kinds of counts that an audit keeps besides findings."""

    VERDICTS = "verdicts"
    PLACES = "places"
    TEMPLATES = "templates"
    LANGUAGES = "languages"
    OVERLAP = "overlap"
    COINCIDENCES = "coincidences"
    LENGTHS = "lengths"
    COUNTED = "counted"


Counts = collections.Counter[tuple[str, str, str | int]]
"""(`Measure`, group, cell) -> count; a cell is a name or a length."""

Tally = dict[str, dict[str, int]]
"""Group -> cell -> count; a cell that is drawn several times as often ends in `*` and a weight."""

MILLION = 1_000_000
RECORDS, MILLIONTHS = "records", "millionths"
"""Cells of an overlap: number of queries, and the sum of their shares in whole millionths."""

CUT_HISTORIES, FALLBACKS = "cut histories", "fallbacks"
LANGUAGE_FALLBACKS, TYPED_TITLES = "language fallbacks", "typed titles"
"""Cells of `Measure.COUNTED`."""

MIN_P_VALUE = 1e-6
"""A test with a smaller p-value refuses a set."""

_MIN_EXPECTED = 5

# SciPy is imported where it is used: workers count without it.


def drawn_p_value(cells: Mapping[str, int]) -> float:
    """Returns the p-value of counts under draws with the weights of their cells (chi-square).

    Args:
        cells: Cell -> count; a cell without `*` has the weight 1.

    Returns:
        1.0 if an outcome is expected fewer than 5 times.
    """
    weights = [int(cell.rpartition("*")[2]) if "*" in cell else 1 for cell in cells]
    total, counts = sum(cells.values()), list(cells.values())
    expected = [total * weight / sum(weights) for weight in weights]
    if len(counts) < 2 or min(expected) < _MIN_EXPECTED:
        return 1.0
    from scipy import stats

    return float(stats.chisquare(counts, expected).pvalue)


def excess_p_value(own: int, other: int) -> float:
    """Returns the p-value of `own` being that much larger if both are equally likely (binomial)."""
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
