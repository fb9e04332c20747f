"""Habits of a user: favorite values, the usual price level, focused or varied choices."""

from irec_jax.random_draws import DrawField, draw_field
from irec_jax.teachers.synonyms import MISSING
from irec_jax.teachers.text_generator import TextGenerator

MIN_EVENTS = 4
"""Events with a category from which a habit is stated."""

_FOCUSED_SHARE, _VARIED_SHARE = 0.6, 0.34  # shares of the favorite category


def count_known(indices: list[int]) -> dict[int, int]:
    """Counts the values that are not `MISSING`, latest first, so that `max` prefers the latest."""
    counts: dict[int, int] = {}
    for index in reversed(indices):
        if index >= 0:
            counts[index] = counts.get(index, 0) + 1
    return counts


def usual_price_level(levels: list[int]) -> int:
    """Returns the price level of at least half of the items with a price, else `MISSING`."""
    counts = count_known(levels)
    if not counts:
        return MISSING
    level = max(counts, key=counts.__getitem__)
    known = sum(counts.values())
    return level if known >= 2 and counts[level] * 2 >= known else MISSING


def describe_spread(
    counts: dict[int, int], top_count: int, generator: TextGenerator, draw: int
) -> str:
    """Returns a text for focused or varied choices, "" in between or with few events."""
    known = sum(counts.values())
    if known < MIN_EVENTS:
        return ""
    if top_count >= _FOCUSED_SHARE * known:
        return generator.value("spread", "focused", draw_field(draw, DrawField.SPREAD))
    is_varied = top_count <= _VARIED_SHARE * known
    return (
        generator.value("spread", "varied", draw_field(draw, DrawField.SPREAD)) if is_varied else ""
    )
