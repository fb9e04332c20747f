"""Spans of requests: the longest names, prices and years, and the text of a prompt."""

import dataclasses
import itertools
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.understanding.lexicon import Field, FieldValue, Lexicon, Phrase
from irec_jax.understanding.request_grammar import load_grammar
from irec_jax.understanding.roles import KIND_OF_FIELD, Kind
from irec_jax.understanding.spans import (
    ASKED,
    OTHER,
    Number,
    PriceLevel,
    RequestWords,
    find_spans,
    spans_prompt,
)
from irec_jax.understanding.words import split_request

pytestmark = pytest.mark.fast

ENGLISH = load_grammar("en").words
NO_LANGUAGE = RequestWords({}, {}, {}, {}, frozenset())
PHONE, CASE, SCARF = (FieldValue(Field.CATEGORY, name) for name in ("Phone", "Phone case", "Scarf"))
ZOLLA, GRELISH = FieldValue(Field.BRAND, "Bim Zolla"), FieldValue(Field.ATTRIBUTE, "grelish")
LEXICON = Lexicon(
    {
        ("phone",): PHONE,
        ("phone", "case"): CASE,
        ("scarf",): SCARF,
        ("bim", "zolla"): ZOLLA,
        ("grelish",): GRELISH,
    },
    frozenset(),
    has_price=True,
    has_year=True,
)


def found(text: str, lexicon: Lexicon = LEXICON) -> list[tuple[str, object]]:
    words = split_request(text)
    spans = find_spans(words, lexicon, ENGLISH)
    return [(" ".join(words[span.start : span.end]), span.value) for span in spans]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a phone", [("phone", PHONE)]),
        ("PHONES, please", [("phones", PHONE)]),
        ("phone cases", [("phone cases", CASE)]),
        ("a case for a phone", [("phone", PHONE)]),
        ("phone phone case", [("phone", PHONE), ("phone case", CASE)]),
        ("phones case", [("phones", PHONE)]),
        ("scarves", [("scarves", SCARF)]),
        ("bim zolla's scarf", [("bim zolla's", ZOLLA), ("scarf", SCARF)]),
        ("zolla bim", []),
        ("grelish-looking", [("grelish", GRELISH)]),
        ("grelishly", []),
        ("", []),
    ],
)
def test_names(text: str, expected):
    assert found(text) == expected


def year(first: int, years: int = 1) -> tuple[Kind, Number]:
    return Kind.YEAR, Number(first, years)


def price(value: float) -> tuple[Kind, Number]:
    return Kind.PRICE, Number(value)


@pytest.mark.parametrize(
    ("text", "has_both", "with_price", "with_year"),
    [
        ("under 80", price(80), price(80), None),
        ("under 1,200.50", price(1200.5), price(1200.5), None),
        ("under 9.99", price(9.99), price(9.99), None),
        ("twenty five", price(25), price(25), None),
        ("a hundred and fifty", price(150), price(150), None),
        ("1994", year(1994), price(1994), year(1994)),
        ("from 2003", year(2003), price(2003), year(2003)),
        ("1994 dollars", price(1994), price(1994), None),
        ("$1994", price(1994), price(1994), None),
        ("1994 $", price(1994), price(1994), None),
        ("usd 1994", price(1994), price(1994), None),
        ("1,994", year(1994), price(1994), year(1994)),
        ("1994.5", price(1994.5), price(1994.5), None),
        ("1869", price(1869), price(1869), None),
        ("1870", year(1870), price(1870), year(1870)),
        ("2099", year(2099), price(2099), year(2099)),
        ("2100", price(2100), price(2100), None),
        ("90s", year(1990, 10), None, year(1990, 10)),
        ("the 80's", year(1980, 10), None, year(1980, 10)),
        ("1990s", year(1990, 10), None, year(1990, 10)),
        ("the 1980's", year(1980, 10), None, year(1980, 10)),
        ("2010s", year(2010, 10), None, year(2010, 10)),
        ("nineties", year(1990, 10), None, year(1990, 10)),
        ("the Sixties", year(1960, 10), None, year(1960, 10)),
    ],
)
def test_prices_and_years(text: str, has_both, with_price, with_year):
    for has_price, has_year, expected in (
        (True, True, has_both),
        (True, False, with_price),
        (False, True, with_year),
        (False, False, None),
    ):
        lexicon = dataclasses.replace(LEXICON, has_price=has_price, has_year=has_year)
        spans = find_spans(split_request(text), lexicon, ENGLISH)
        assert [(span.kind, span.value) for span in spans] == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("text", "is_low"),
    [
        ("cheap", True),
        ("Affordable", True),
        ("budget-friendly", True),
        ("low priced", True),
        ("not too pricey", True),
        ("pricey", False),
        ("expensive", False),
        ("high-priced", False),
    ],
)
def test_price_levels(text: str, is_low: bool):
    (level,) = find_spans(split_request(text), LEXICON, ENGLISH)
    assert (level.kind, level.value) == (Kind.LEVEL, PriceLevel(is_low))
    assert (level.start, level.end) == (0, len(split_request(text)))
    without = dataclasses.replace(LEXICON, has_price=False)
    assert find_spans(split_request(text), without, ENGLISH) == []


def test_a_level_is_read_before_a_value_of_the_same_words():
    value = FieldValue(Field.ATTRIBUTE, "essential")
    lexicon = Lexicon({("cheap",): value}, frozenset(), has_price=True)
    assert found("cheap", lexicon) == [("cheap", PriceLevel(is_low=True))]
    assert found("cheap", dataclasses.replace(lexicon, has_price=False)) == [("cheap", value)]


def test_a_name_of_another_language_names_the_value_of_the_catalog():
    names = {
        ("手", "机"): ("Phone", "Mobile"),
        ("灯",): ("Lamp",),
        ("shell",): (CASE.text, PHONE.text),
    }
    language = dataclasses.replace(NO_LANGUAGE, names=names)
    cases = [("手机", [PHONE]), ("灯", []), ("手 机 phone case", [PHONE, CASE]), ("shell", [])]
    for text, expected in cases:
        spans = find_spans(split_request(text), LEXICON, language)
        assert [span.value for span in spans] == expected


def test_a_small_number_in_letters_is_a_price_beside_a_currency_only():
    assert found("two phones") == [("phones", PHONE)]
    assert found("two dollars") == [("two", Number(2.0))]
    assert found("$ nine") == [("nine", Number(9.0))]
    assert found("ten") == [("ten", Number(10.0))]
    assert found("2") == [("2", Number(2.0))]


def test_every_number_character_is_read_as_a_finite_number_or_not_at_all():
    marks = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isnumeric()]
    read = 0
    for mark in marks:
        for span in find_spans(split_request(f"under {mark} dollars"), LEXICON, ENGLISH):
            assert isinstance(span.value, Number)
            assert math.isfinite(span.value.value)
            read += 1
    assert read > 500


@pytest.mark.parametrize("text", ["under " + "9" * 400, "9" * 5_000, "1" + ",000" * 200 + " $"])
def test_a_price_beyond_all_numbers_is_not_infinite(text: str):
    for span in find_spans(split_request(text), LEXICON, ENGLISH):
        assert isinstance(span.value, Number)
        assert math.isfinite(span.value.value)


WORDS = st.sampled_from(["zorb", "quix", "florn"])
PHRASES = st.lists(WORDS, min_size=1, max_size=3).map(tuple)


@given(words=st.lists(WORDS, max_size=12), names=st.frozensets(PHRASES, max_size=6))
def test_spans_are_the_longest_names(words: list[str], names: frozenset[Phrase]):
    lexicon = Lexicon(
        {name: FieldValue(Field.CATEGORY, " ".join(name)) for name in names}, frozenset()
    )
    spans = find_spans(words, lexicon, NO_LANGUAGE)
    free = set(range(len(words)))
    for span in spans:
        assert span.value == FieldValue(Field.CATEGORY, " ".join(words[span.start : span.end]))
        longer = [tuple(words[span.start : end]) for end in range(span.end + 1, len(words) + 1)]
        assert not names & set(longer)
        assert free.issuperset(range(span.start, span.end))
        free -= set(range(span.start, span.end))
    assert spans == sorted(spans)
    starts_in_a_span = set(range(len(words))) - free
    for start in free - starts_in_a_span:
        assert not names & {tuple(words[start:end]) for end in range(start + 1, len(words) + 1)}


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("I want a phone", ["i want a <asked> <category>"]),
        (
            "phone cases by Bim Zolla, not grelish",
            [
                "<asked> <category> by <brand> , not <attribute>",
                "<category> by <asked> <brand> , not <attribute>",
                "<category> by <brand> , not <asked> <attribute>",
            ],
        ),
        (
            "cheap scarves from the 1990s under $80",
            [
                "<asked> <level> <category> from the <year> under $ <price>",
                "<level> <asked> <category> from the <year> under $ <price>",
                "<level> <category> from the <asked> <year> under $ <price>",
                "<level> <category> from the <year> under $ <asked> <price>",
            ],
        ),
        (
            "my zweebles wumbat; vun phone for wumbats",
            ["my <other> <asked> <category> for <other>"],
        ),
        (
            "vun phone vun scarf",
            [
                "<other> <asked> <category> <other> <category>",
                "<other> <category> <other> <asked> <category>",
            ],
        ),
        ("Options for my brothers: phone", ["options for my brother : <asked> <category>"]),
    ],
)
def test_text_of_a_prompt(text: str, prompts: list[str]):
    words = split_request(text)
    spans = find_spans(words, LEXICON, ENGLISH)
    made = [spans_prompt(words, spans, asked, ENGLISH) for asked in range(len(spans))]
    assert made == prompts


@given(
    words=st.lists(
        st.sampled_from(["a", "under", "80", "1994", "phone", "case", "bim", "zolla", "vun", "$"]),
        max_size=15,
    )
)
def test_a_prompt_has_every_span_in_order_and_one_mark(words: list[str]):
    spans = find_spans(words, LEXICON, ENGLISH)
    kinds = [span.kind.value for span in spans]
    for asked, span in enumerate(spans):
        shown = spans_prompt(words, spans, asked, ENGLISH).split(" ")
        assert shown.count(ASKED) == 1
        assert shown[shown.index(ASKED) + 1] == span.kind.value
        assert [word for word in shown if word in set(Kind)] == kinds
        assert [word for word in shown[: shown.index(ASKED)] if word in set(Kind)] == kinds[:asked]
        assert all(pair != (OTHER, OTHER) for pair in itertools.pairwise(shown))
        assert not set(shown) & {"phone", "bim", "zolla", "vun", "1994"}


def test_every_field_has_a_kind_of_its_own():
    assert set(KIND_OF_FIELD) == set(Field)
    assert len(set(KIND_OF_FIELD.values())) == len(Field)


def test_compounds_are_shown_as_one_word_and_the_longest_first():
    compounds = frozenset({("有", "没", "有"), ("没", "有"), ("不", "要")})
    known = frozenset({"有没有", "没有", "有", "不要", "的"})
    language = dataclasses.replace(NO_LANGUAGE, known=known, compounds=compounds)
    assert language.merged(("有", "没", "有", "没", "有", "不", "要", "的")) == [
        *("有没有", "没有", "不要", "的")
    ]
    words = split_request("有没有phone的不要")
    spans = find_spans(words, LEXICON, language)
    assert spans_prompt(words, spans, 0, language) == "有没有 <asked> <category> 的 不要"
