"""Conditions from constraints, compared with brute force over the rows of a catalog."""

import polars as pl
import pytest

from irec_jax.recommendation.catalog import Catalog
from irec_jax.recommendation.constraints import Constraint, contradiction, hard_condition
from irec_jax.recommendation.filter_language import parse, to_text
from irec_jax.understanding.lexicon import Field, FieldValue
from irec_jax.understanding.roles import RequestRole as Role
from irec_jax.understanding.spans import Number, PriceLevel

LAMP, TENT = (FieldValue(Field.CATEGORY, name) for name in ("lamp", "tent"))
HOME = FieldValue(Field.CATEGORY, "home")
ACME, BOLT = (FieldValue(Field.BRAND, name) for name in ("Acme", "Bolt"))
RED, LIGHT = (FieldValue(Field.ATTRIBUTE, name) for name in ("red", "light"))

ROWS = [
    ("lamp one", ["home", "lamp"], "Acme", ["red"], 10.0, "1989"),
    ("lamp two", ["home", "lamp"], "Bolt", ["red", "light"], 20.0, "1990-05-01"),
    ("lamp three", ["home", "lamp"], None, ["light"], 30.0, "1999-12-31"),
    ("tent one", ["garden", "tent"], "Acme", ["red", "light"], 40.0, "2000"),
    ("tent two", ["garden", "tent"], "Bolt", [], None, "2001"),
    ("tent three", ["garden", "tent"], "Cord", ["light"], 60.0, None),
]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    names = ("title", "categories", "brand", "attributes", "price", "released")
    table = pl.DataFrame(ROWS, names, orient="row")
    return Catalog.of(table.with_row_index("item").with_columns(pl.col("item").cast(pl.String)))


def hard(value, role=Role.WANTED, **changes) -> Constraint:
    settings = {"words": "", "value": value, "role": role, "probability": 1.0, "is_hard": True}
    return Constraint(**{**settings, **changes})


def titles(catalog: Catalog, *constraints: Constraint) -> list[str]:
    condition = hard_condition(constraints, catalog)
    if condition is None:
        return list(catalog.titles)
    text = to_text(condition)
    assert to_text(parse(text)) == text, "users can edit what they read"
    return [title for title, meets in zip(catalog.titles, catalog.mask(text), strict=True) if meets]


CASES = [
    ([hard(LAMP)], lambda row: "lamp" in row[1]),
    ([hard(LAMP), hard(HOME)], lambda row: "lamp" in row[1]),
    ([hard(LAMP), hard(TENT)], lambda row: "lamp" in row[1] or "tent" in row[1]),
    ([hard(RED), hard(LIGHT)], lambda row: {"red", "light"} <= set(row[3])),
    ([hard(ACME), hard(BOLT)], lambda row: row[2] in ("Acme", "Bolt")),
    (
        [hard(ACME), hard(BOLT), hard(RED)],
        lambda row: row[2] in ("Acme", "Bolt") and "red" in row[3],
    ),
    ([hard(BOLT, Role.EXCLUDED)], lambda row: row[2] != "Bolt"),
    (
        [hard(TENT), hard(RED, Role.EXCLUDED)],
        lambda row: "tent" in row[1] and "red" not in row[3],
    ),
    ([hard(HOME), hard(LAMP, Role.EXCLUDED)], lambda row: False),
    ([hard(Number(20.0), Role.BELOW)], lambda row: row[4] is not None and row[4] < 20),
    ([hard(Number(20.0), Role.MOST)], lambda row: row[4] is not None and row[4] <= 20),
    ([hard(Number(20.0), Role.ABOVE)], lambda row: row[4] is not None and row[4] > 20),
    ([hard(Number(20.0), Role.LEAST)], lambda row: row[4] is not None and row[4] >= 20),
    (
        [hard(Number(25.0), Role.ABOUT)],
        lambda row: row[4] is not None and 20 <= row[4] <= 30,
    ),
    (
        [hard(Number(1990.0, 1), Role.BELOW)],
        lambda row: bool(row[5]) and int(row[5][:4]) < 1990,
    ),
    (
        [hard(Number(1990.0, 1), Role.MOST)],
        lambda row: bool(row[5]) and int(row[5][:4]) <= 1990,
    ),
    (
        [hard(Number(1990.0, 1), Role.ABOVE)],
        lambda row: bool(row[5]) and int(row[5][:4]) > 1990,
    ),
    (
        [hard(Number(1990.0, 1), Role.LEAST)],
        lambda row: bool(row[5]) and int(row[5][:4]) >= 1990,
    ),
    (
        [hard(Number(1990.0, 1), Role.ABOUT)],
        lambda row: bool(row[5]) and int(row[5][:4]) == 1990,
    ),
    (
        [hard(Number(1990.0, 10), Role.ABOUT)],
        lambda row: bool(row[5]) and row[5][:3] == "199",
    ),
    (
        [hard(Number(1990.0, 10), Role.ABOVE)],
        lambda row: bool(row[5]) and int(row[5][:4]) >= 2000,
    ),
    ([hard(LAMP), hard(PriceLevel(True))], lambda row: "lamp" in row[1] and row[4] <= 20),
    (
        [hard(PriceLevel(False), Role.EXCLUDED), hard(LAMP)],
        lambda row: "lamp" in row[1] and row[4] <= 20,
    ),
    ([hard(LAMP), hard(PriceLevel(False))], lambda row: "lamp" in row[1] and row[4] >= 20),
    ([hard(LAMP, is_hard=False)], lambda row: True),
]


@pytest.mark.parametrize(("constraints", "meets"), CASES)
def test_the_items_that_meet_a_condition_are_those_of_brute_force(constraints, meets, catalog):
    assert titles(catalog, *constraints) == [row[0] for row in ROWS if meets(row)]


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        ([hard(RED), hard(RED, Role.EXCLUDED)], "red and not red"),
        (
            [hard(Number(20.0), Role.BELOW), hard(Number(500.0), Role.ABOVE)],
            "price above 500 and",
        ),
        (
            [hard(Number(30.0), Role.LEAST), hard(Number(20.0), Role.MOST)],
            "price at least 30 and",
        ),
        (
            [hard(Number(20.0), Role.BELOW), hard(Number(20.0), Role.LEAST)],
            "price at least 20 and",
        ),
        (
            [
                hard(Number(1990.0, 1), Role.ABOUT),
                hard(Number(2000.0, 10), Role.ABOUT),
            ],
            "year about 2000s and",
        ),
        ([hard(PriceLevel(True)), hard(PriceLevel(False))], "a low price and a high price"),
        ([hard(Number(20.0), Role.MOST), hard(Number(20.0), Role.LEAST)], ""),
        (
            [
                hard(Number(1995.0, 1), Role.LEAST),
                hard(Number(1990.0, 10), Role.MOST),
            ],
            "",
        ),
        ([hard(PriceLevel(True)), hard(PriceLevel(False), Role.EXCLUDED)], ""),
        ([hard(RED), hard(RED, Role.EXCLUDED, is_hard=False)], ""),
    ],
)
def test_contradictions_are_named(constraints, said):
    found = contradiction(constraints)
    assert found.startswith(said) if said.endswith("and") else found == said


def test_a_constraint_reads_like_words():
    assert str(hard(LAMP)) == "category lamp"
    assert str(hard(BOLT, Role.EXCLUDED)) == "not brand Bolt"
    assert str(hard(RED, Role.EXCLUDED)) == "not red"
    assert str(hard(Number(30.0), Role.BELOW)) == "price below 30"
    assert str(hard(Number(1990.0, 10), Role.ABOUT)) == "year about 1990s"
    assert str(hard(PriceLevel(True))) == "low price"
