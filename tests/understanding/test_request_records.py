"""Training records of understanding, and their mixture with the instructions of a log."""

import collections
import copy
import dataclasses
import itertools
import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.instructions.forms import Instruction
from irec_jax.log.split import Split
from irec_jax.understanding.lexicon import Field, FieldValue, Lexicon
from irec_jax.understanding.request_grammar import load_grammar, parse_grammar
from irec_jax.understanding.request_records import (
    TASK,
    TEXTS_OF_LOG,
    UNKNOWN_WORDS,
    MixedRecords,
    RequestRecords,
)
from irec_jax.understanding.roles import Kind, RequestRole, roles_of
from irec_jax.understanding.spans import ASKED, OTHER

pytestmark = pytest.mark.fast

RECORDS = 4_000
ZORB, QUIX = FieldValue(Field.CATEGORY, "Zorb"), FieldValue(Field.CATEGORY, "Quix")
VARTOK, GRELISH = FieldValue(Field.BRAND, "Vartok"), FieldValue(Field.ATTRIBUTE, "grelish")
LEXICON = Lexicon(
    {("zorb",): ZORB, ("quix",): QUIX, ("vartok",): VARTOK, ("grelish",): GRELISH}, frozenset()
)
# One request, so that every other record is of the log; the words of titles are known.
GRAMMAR = parse_grammar(
    {
        "language": "en",
        "prompt": "p :",
        "levels": {},
        "numbers": {},
        "decades": {},
        "parts": {"request": ["buy {category}"], "unused": ["alpha beta gamma delta in with"]},
    }
)
DRAWN = {("p : buy <asked> <category>", "wanted")}
WITH_UNKNOWN = {
    ("p : <other> buy <asked> <category>", "wanted"),
    ("p : buy <other> <asked> <category>", "wanted"),
    ("p : buy <asked> <category> <other>", "wanted"),
}


@pytest.fixture(scope="module")
def split(make) -> Split:
    """Three items; of the queries only the first is before a training event."""
    titles = ["Alpha Zorb in grelish", "Beta zorb", "Gamma wumbat"]
    queries = {
        (0, 0): ("grelish quix with alpha", 2),
        (0, 1): ("delta zorb", 2),
        (0, 2): ("delta quix", 2),
    }
    split = make([[2, 0, 1]], titles, queries)
    columns = {
        "categories": [["Zorb"], ["Quix"], None],
        "brand": ["Vartok", None, "Vartok"],
        "attributes": [[], ["grelish"], ["grelish"]],
    }
    series = [pl.Series(name, values) for name, values in columns.items()]
    return dataclasses.replace(split, catalog=split.catalog.with_columns(series))


@pytest.fixture(scope="module")
def records(split: Split) -> RequestRecords:
    return RequestRecords(split, LEXICON, (GRAMMAR,), seed=3)


def test_spans_of_the_log_are_wanted_if_the_item_has_the_value(records: RequestRecords):
    of_log = {
        ("p : alpha <asked> <category> in <attribute>", "wanted"),
        ("p : alpha <category> in <asked> <attribute>", "open"),
        ("p : beta <asked> <category>", "open"),
        ("p : <asked> <attribute> <category> with alpha", "wanted"),
        ("p : <attribute> <asked> <category> with alpha", "open"),
    }
    made = collections.Counter(
        (record.inputs, record.targets) for record in map(records.record, range(RECORDS))
    )
    assert made.keys() == of_log | DRAWN | WITH_UNKNOWN
    unknown = sum(count for record, count in made.items() if record in WITH_UNKNOWN)
    assert unknown / (unknown + made[next(iter(DRAWN))]) == pytest.approx(
        1 / UNKNOWN_WORDS, abs=0.04
    )
    # One text of four has no span and gives way to the grammar; five standard errors are 0.03.
    share = sum(count for record, count in made.items() if record in of_log) / RECORDS
    assert share == pytest.approx(0.75 / TEXTS_OF_LOG, abs=0.03)


def test_a_record_depends_on_its_number_alone(split: Split, records: RequestRecords):
    numbers = list(range(300))
    expected = [records.record(number) for number in numbers]
    random.Random(0).shuffle(numbers)
    others = RequestRecords(split, LEXICON, (GRAMMAR,), seed=3)
    assert {n: others.record(n) for n in numbers} == dict(enumerate(expected))
    reseeded = RequestRecords(split, LEXICON, (GRAMMAR,), seed=4)
    assert [reseeded.record(n).inputs for n in range(300)] != [r.inputs for r in expected]


def test_fields_of_a_record(records: RequestRecords):
    for number in range(50):
        record = records.record(number)
        assert (record.task, record.split, record.seed) == (TASK, "train", 3)
        assert (record.user, record.target_item, record.candidates) == (-1, -1, ())
        assert record.language == record.template == "en"


@pytest.mark.parametrize(("has_price", "has_year"), [(True, False), (False, True), (False, False)])
def test_only_kinds_of_the_log_are_asked_about(split: Split, has_price: bool, has_year: bool):
    categories = Lexicon({("zorb",): ZORB}, frozenset(), has_price=has_price, has_year=has_year)
    records = RequestRecords(split, categories, (load_grammar("en"),), seed=0)
    asked = collections.Counter[Kind]()
    for number in range(400):
        record = records.record(number)
        words = record.inputs.split(" ")
        assert words.count(ASKED) == 1
        assert (OTHER, OTHER) not in itertools.pairwise(words), "a prompt has one for a run"
        kind = Kind(words[words.index(ASKED) + 1])
        assert RequestRole(record.targets) in roles_of(kind)
        asked[kind] += 1
    expected = {Kind.CATEGORY}
    expected |= {Kind.PRICE, Kind.LEVEL} if has_price else set()
    expected |= {Kind.YEAR} if has_year else set()
    assert asked.keys() == expected


def test_every_span_of_a_drawn_request_is_asked_about(split: Split):
    lexicon = dataclasses.replace(LEXICON, has_price=True)
    parts = {"request": ["{category} and {brand open} but {price below}"]}
    raw = {"language": "en", "prompt": "p :", "levels": {}, "numbers": {}, "decades": {}}
    grammar = parse_grammar({**copy.deepcopy(raw), "parts": parts})
    records = RequestRecords(split, lexicon, (grammar,), seed=0)
    drawn = [record for record in map(records.record, range(500)) if " but " in record.inputs]
    made = {(r.inputs, r.targets) for r in drawn if OTHER not in r.inputs}
    assert made == {
        ("p : <asked> <category> and <brand> but <price>", "wanted"),
        ("p : <category> and <asked> <brand> but <price>", "open"),
        ("p : <category> and <brand> but <asked> <price>", "below"),
    }


class Numbered:
    """Records that hold their own number."""

    def __init__(self, task: str) -> None:
        self.task = task

    def record(self, number: int) -> Instruction:
        return Instruction("", "", "", "plain", self.task, "", "en", -1, -1, (), "train", number)


def mixture(share: float) -> MixedRecords:
    return MixedRecords(Numbered("instruction"), Numbered("request"), share)


@settings(max_examples=40)
@given(share=st.floats(0, 1), count=st.integers(0, 2_000))
def test_a_mixture_has_every_record_once_and_in_order(share: float, count: int):
    mixed = mixture(share)
    seen: dict[str, list[int]] = {"instruction": [], "request": []}
    for number in range(count):
        record = mixed.record(number)
        seen[record.task].append(record.seed)
        is_request = record.task == "request"
        assert mixed.instruction_number(number) == (None if is_request else record.seed)
    assert seen["instruction"] == list(range(len(seen["instruction"])))
    assert seen["request"] == list(range(len(seen["request"])))
    assert abs(len(seen["request"]) - share * count) <= 1 + count / 2_000


@settings(max_examples=40)
@given(thousandths=st.integers(0, 1_000), start=st.integers(0, 10**12))
def test_the_share_of_requests_is_the_same_everywhere(thousandths: int, start: int):
    mixed = mixture(thousandths / 1_000)
    window = range(start, start + 1_000)
    requests = sum(mixed.instruction_number(number) is None for number in window)
    assert requests == thousandths


def test_a_mixture_is_even():
    mixed = mixture(0.25)
    kinds = "".join(mixed.record(number).task[0] for number in range(12))
    assert kinds == "iiir" * 3
