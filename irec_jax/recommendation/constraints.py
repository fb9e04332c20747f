"""Conditions on the catalog from the spans of a request and their roles."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from irec_jax.recommendation.catalog import Catalog
from irec_jax.recommendation.filter_language import (
    And,
    Comparison,
    Condition,
    Contains,
    IsNull,
    Not,
    Or,
    to_polars,
    to_text,
)
from irec_jax.understanding.lexicon import Field, FieldValue
from irec_jax.understanding.roles import RequestRole
from irec_jax.understanding.spans import Number, PriceLevel, SpanValue

ABOUT = 0.2
"""Half of the width of the interval that "around" means, as a share of the number."""

_FIELD_NAMES = {Field.CATEGORY: "category", Field.BRAND: "brand", Field.ATTRIBUTE: ""}
_BOUNDS = {
    RequestRole.BELOW: "below",
    RequestRole.MOST: "at most",
    RequestRole.ABOVE: "above",
    RequestRole.LEAST: "at least",
    RequestRole.ABOUT: "about",
}


@dataclasses.dataclass(frozen=True)
class Constraint:
    """A condition that a request states on a value, a price, a year or a price level.

    Attributes:
        words: The user's words for it.
        value: What they name.
        role: What the request says of it.
        probability: Of the role under the model; of a bound, that it is an upper or a lower one.
        is_hard: Whether every returned item must meet it.
    """

    words: str
    value: SpanValue
    role: RequestRole
    probability: float
    is_hard: bool

    def __str__(self) -> str:
        negation = "not" if self.role is RequestRole.EXCLUDED else ""
        match self.value:
            case FieldValue(field, text):
                return " ".join(filter(None, [negation, _FIELD_NAMES[field], text]))
            case PriceLevel(is_low):
                return f"{negation} {'low' if is_low else 'high'} price".strip()
            case Number(value, years):
                number = f"{value:g}{'s' if years > 1 else ''}"
                return f"{'year' if years else 'price'} {_BOUNDS.get(self.role, '')} {number}"


def hard_condition(constraints: Sequence[Constraint], catalog: Catalog) -> Condition | None:
    """Joins the hard constraints of a request to one condition.

    Of wanted values of a column that no item has together, such as two brands, one suffices. A
    price level divides the prices of the items that meet the other constraints at their median.

    Args:
        constraints: All constraints of a request; soft ones are ignored.
        catalog: The items.

    Returns:
        The condition, None without a hard constraint.
    """
    hard = list(dict.fromkeys(c for c in constraints if c.is_hard))
    parts = _wanted_values(hard, catalog)
    for constraint in hard:
        value = constraint.value
        if isinstance(value, Number):
            parts += _number_conditions(value, constraint.role)
        elif isinstance(value, FieldValue) and constraint.role is RequestRole.EXCLUDED:
            parts.append(_without(value, catalog))
    for constraint in hard:
        if isinstance(constraint.value, PriceLevel):
            parts += _level_conditions(constraint, _joined(parts), catalog)
    return _joined(parts)


def _joined(parts: Sequence[Condition]) -> Condition | None:
    distinct = tuple(dict.fromkeys(parts))
    if len(distinct) > 1:
        return And(distinct)
    return next(iter(distinct), None)


def value_condition(value: FieldValue) -> Condition:
    """Returns the condition that an item has a value."""
    if value.field is Field.BRAND:
        return Comparison(value.field.value, "=", value.text)
    return Contains(value.field.value, value.text)


def _without(value: FieldValue, catalog: Catalog) -> Condition:
    """The condition that an item does not have a value; an empty cell does not have it."""
    condition = Not(value_condition(value))
    if catalog.table[value.field.value].null_count():
        return Or((IsNull(value.field.value), condition))
    return condition


def _wanted_values(hard: Sequence[Constraint], catalog: Catalog) -> list[Condition]:
    """Wanted values, alternatives of a column joined by `or`."""
    wanted = [
        constraint.value
        for constraint in hard
        if isinstance(constraint.value, FieldValue) and constraint.role is RequestRole.WANTED
    ]
    masks = {value: catalog.mask(to_text(value_condition(value))) for value in wanted}
    groups: list[list[FieldValue]] = []
    for value in masks:
        together = [
            group
            for group in groups
            if any(o.field is value.field and not (masks[o] & masks[value]).any() for o in group)
        ]
        joined = [value, *itertools.chain.from_iterable(together)]
        groups = [group for group in groups if group not in together] + [joined]
    conditions: list[Condition] = []
    for group in groups:
        alternatives = tuple(value_condition(v) for v in masks if v in group)
        conditions.append(alternatives[0] if len(group) == 1 else Or(alternatives))
    return conditions


def _number_conditions(number: Number, role: RequestRole) -> Sequence[Condition]:
    if number.years:
        return _year_conditions(int(number.value), number.years, role)
    low, high = (1 - ABOUT) * number.value, (1 + ABOUT) * number.value
    return {
        RequestRole.BELOW: [Comparison("price", "<", number.value)],
        RequestRole.MOST: [Comparison("price", "<=", number.value)],
        RequestRole.ABOVE: [Comparison("price", ">", number.value)],
        RequestRole.LEAST: [Comparison("price", ">=", number.value)],
        RequestRole.ABOUT: [
            Comparison("price", ">=", round(low, 2)),
            Comparison("price", "<=", round(high, 2)),
        ],
    }.get(role, [])


def _year_conditions(first: int, years: int, role: RequestRole) -> Sequence[Condition]:
    """Years are compared as texts, as ISO dates may follow them."""
    start = Comparison("released", ">=", str(first))
    end = Comparison("released", "<", str(first + years))
    return {
        RequestRole.BELOW: [Comparison("released", "<", str(first))],
        RequestRole.MOST: [end],
        RequestRole.ABOVE: [Comparison("released", ">=", str(first + years))],
        RequestRole.LEAST: [start],
        RequestRole.ABOUT: [start, end],
    }.get(role, [])


def _level_conditions(
    constraint: Constraint, others: Condition | None, catalog: Catalog
) -> list[Condition]:
    assert isinstance(constraint.value, PriceLevel)
    rows = catalog.table
    if others is not None:
        rows = rows.filter(to_polars(others, rows.schema))
    median = rows["price"].median()
    if not isinstance(median, float):
        return []
    is_low = constraint.value.is_low == (constraint.role is RequestRole.WANTED)
    return [Comparison("price", "<=" if is_low else ">=", round(median, 2))]


def contradiction(constraints: Sequence[Constraint]) -> str:
    """Says which hard constraints no item of any catalog could meet, "" if there are none."""
    hard = [constraint for constraint in constraints if constraint.is_hard]
    for constraint in hard:
        if constraint.role is RequestRole.EXCLUDED:
            for other in hard:
                if other.value == constraint.value and other.role is RequestRole.WANTED:
                    return f"{other} and {constraint}"
    for is_year in (True, False):
        numbers = [
            c for c in hard if isinstance(c.value, Number) and bool(c.value.years) == is_year
        ]
        for low, high in itertools.permutations(numbers, 2):
            if _lowest(low) > _highest(high):
                return f"{low} and {high}"
    levels = {
        constraint.value.is_low == (constraint.role is RequestRole.WANTED)
        for constraint in hard
        if isinstance(constraint.value, PriceLevel)
    }
    return "a low price and a high price" if len(levels) > 1 else ""


def _lowest(constraint: Constraint) -> float:
    assert isinstance(constraint.value, Number)
    value, years = constraint.value
    if constraint.role is RequestRole.ABOUT:
        return value if years else (1 - ABOUT) * value
    if constraint.role is RequestRole.ABOVE:
        return value + years
    return value if constraint.role is RequestRole.LEAST else -np.inf


def _highest(constraint: Constraint) -> float:
    assert isinstance(constraint.value, Number)
    value, years = constraint.value
    if constraint.role is RequestRole.ABOUT:
        return value + years - 1 if years else (1 + ABOUT) * value
    if constraint.role is RequestRole.BELOW:
        return value - 1 if years else np.nextafter(value, -np.inf)
    return value + max(years - 1, 0) if constraint.role is RequestRole.MOST else np.inf
