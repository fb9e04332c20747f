"""Conditions against a brute-force evaluation in Python, and as text and back."""

import datetime
import string

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.recommendation.filter_language import (
    And,
    Comparison,
    Condition,
    Contains,
    IsNull,
    Membership,
    Not,
    Or,
    parse,
    to_polars,
    to_text,
)

pytestmark = pytest.mark.fast

SCHEMA = pl.Schema(
    {
        "price": pl.Float64(),
        "pieces": pl.Int64(),
        "brand": pl.String(),
        "day": pl.Date(),
        "categories": pl.List(pl.String()),
    }
)
WORDS = st.sampled_from(["", "a", "b", "ab", "aé", "it's", 'a "b"', "2014-05-01"])
NUMBERS = st.integers(-3, 3) | st.sampled_from([-1.5, 0.0, 0.5, 2.0])
DAYS = st.dates(datetime.date(2014, 4, 30), datetime.date(2014, 5, 2))
VALUES = {"price": NUMBERS, "pieces": NUMBERS, "brand": WORDS | DAYS, "day": DAYS}
OPERATORS = ["=", "!=", "<", "<=", ">", ">="]
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "price": st.none() | st.sampled_from([-1.5, 0.0, 0.5, 1.0, 2.0]),
            "pieces": st.none() | st.integers(-3, 3),
            "brand": st.none() | WORDS,
            "day": st.none() | DAYS,
            "categories": st.none() | st.lists(WORDS, max_size=3),
        }
    ),
    max_size=8,
)


def of(kind: type, *parts: st.SearchStrategy) -> st.SearchStrategy[tuple]:
    """What `made` builds: type checks draw random numbers, which a strategy may not."""
    return st.tuples(st.just(kind), *parts)


def made(drawn):
    if isinstance(drawn, tuple) and drawn and isinstance(drawn[0], type):
        return drawn[0](*map(made, drawn[1:]))
    return tuple(map(made, drawn)) if isinstance(drawn, tuple) else drawn


def of_column(name: str) -> st.SearchStrategy[tuple]:
    column = st.just(name)
    if name == "categories":
        return of(Contains, column, WORDS) | of(IsNull, column)
    values = VALUES[name]
    several = st.lists(values, min_size=1, max_size=3).map(tuple)
    tests = [
        of(Comparison, column, st.sampled_from(OPERATORS), values),
        of(Membership, column, several),
        of(IsNull, column),
    ]
    return st.one_of(tests + [of(Contains, column, WORDS)] * (name == "brand"))


def joined(inner: st.SearchStrategy[tuple]) -> st.SearchStrategy[tuple]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return of(And, several) | of(Or, several) | of(Not, inner)


CONDITIONS = st.recursive(st.sampled_from(list(SCHEMA)).flatmap(of_column), joined, max_leaves=8)


def holds(condition: Condition, row: dict) -> bool | None:
    """What SQL says of one row: true, false, or null for unknown."""
    match condition:
        case And(parts):
            found = {holds(part, row) for part in parts}
            return False if False in found else None if None in found else True
        case Or(parts):
            found = {holds(part, row) for part in parts}
            return True if True in found else None if None in found else False
        case Not(inner):
            found = holds(inner, row)
            return None if found is None else not found
        case IsNull(column):
            return row[column] is None
    cell = row[condition.column]
    if cell is None:
        return None
    match condition:
        case Comparison(_, operator, value):
            return compare(cell, operator, value)
        case Membership(_, values):
            return any(compare(cell, "=", value) for value in values)
        case Contains(_, text):
            return text in cell


def compare(cell, operator, value) -> bool:
    if isinstance(cell, str):
        cell, value = cell.encode(), str(value).encode()
    return {
        "=": cell == value,
        "!=": cell != value,
        "<": cell < value,
        "<=": cell <= value,
        ">": cell > value,
        ">=": cell >= value,
    }[operator]


@given(CONDITIONS, ROWS)
def test_the_rows_are_those_of_a_brute_force_evaluation(drawn, rows):
    condition = made(drawn)
    table = pl.DataFrame(rows, schema=SCHEMA).with_row_index("number")
    kept = table.filter(to_polars(condition, table.schema))["number"].to_list()
    assert kept == [n for n, row in enumerate(rows) if holds(condition, row)]


NAMES = st.text(string.ascii_letters + "_é品", min_size=1, max_size=8).filter(
    lambda name: name.lower() not in {"and", "or", "not", "in", "is", "null", "contains"}
)
ANY_VALUE = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.dates()
)
ANY_TEST = (
    of(Comparison, NAMES, st.sampled_from(OPERATORS), ANY_VALUE)
    | of(Membership, NAMES, st.lists(ANY_VALUE, min_size=1, max_size=3).map(tuple))
    | of(Contains, NAMES, st.text(max_size=20))
    | of(IsNull, NAMES)
)


@given(st.recursive(ANY_TEST, joined, max_leaves=8))
def test_text_is_read_back_as_the_same_condition(drawn):
    condition = made(drawn)
    assert parse(to_text(condition)) == condition


@given(st.text(max_size=60) | st.text("()<>='\" andotricls0159.-,", max_size=60))
def test_any_text_is_a_condition_or_one_message(text):
    try:
        condition = parse(text)
    except InputError:
        return
    assert parse(to_text(condition)) == condition


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("price == 1", Comparison("price", "=", 1)),
        ("price <> -1.5e1", Comparison("price", "!=", -15.0)),
        ("brand = 'it''s'", Comparison("brand", "=", "it's")),
        ('brand = "a ""b"""', Comparison("brand", "=", 'a "b"')),
        ("day >= 2014-05-01", Comparison("day", ">=", datetime.date(2014, 5, 1))),
        ("a NOT IN (1, 'x')", Not(Membership("a", (1, "x")))),
        ("a not contains 'x'", Not(Contains("a", "x"))),
        ("a Is Not Null", Not(IsNull("a"))),
        ("android = 1 or nothing = 2", Or((parse("android=1"), parse("nothing=2")))),
        ("not a=1 and b=2 or c=3", Or((And((Not(parse("a=1")), parse("b=2"))), parse("c=3")))),
    ],
)
def test_how_text_is_read(text, condition):
    assert parse(text) == condition


def test_the_limits_themselves_are_allowed():
    deep = "(" * 64 + "a = 1" + ")" * 64
    assert parse(deep) == parse("a = 1")
    wide = " and ".join(["a<9"] * 512)
    table = pl.DataFrame({"a": [1, None, 10]})
    assert table.filter(to_polars(parse(wide), table.schema))["a"].to_list() == [1]
    nested = "a<9"
    for _ in range(64):
        nested = f"not (a=7 or {nested})" if nested.count("not") < 32 else nested
    assert table.filter(to_polars(parse(nested), table.schema))["a"].to_list() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 9223372036854775808", "the number 9223372036854775808 is too large"),
        ("a = 1e999", "the number 1e999 is too large"),
        ("a = 2014-02-30", "'2014-02-30' is not a date"),
        ("a = 1 b", "cannot be read from character 7: 'b'"),
        ("a = \udc80", "character 5 is not valid Unicode"),
    ],
)
def test_what_cannot_be_read_is_named(text, message):
    with pytest.raises(InputError, match=message):
        parse(text)


def test_a_text_that_is_no_date_is_refused_for_a_date_column():
    with pytest.raises(InputError, match="'May' is not a date"):
        to_polars(parse("day > 'May'"), SCHEMA)
    assert to_polars(parse("day > '2014-05-01'"), SCHEMA) is not None
