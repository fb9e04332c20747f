"""The request grammar: legal draws, refused files, and the same text in training and serving."""

import copy
import random
import re
import tomllib
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.random_draws import scramble
from irec_jax.understanding.lexicon import Field, FieldValue, Lexicon, name_phrases
from irec_jax.understanding.request_grammar import (
    LANGUAGES,
    DrawnRequest,
    RequestGrammar,
    load_grammar,
    parse_grammar,
)
from irec_jax.understanding.roles import KIND_OF_FIELD, NUMBER_KINDS, Kind, RequestRole, roles_of
from irec_jax.understanding.spans import ASKED, OTHER, find_spans, spans_prompt
from irec_jax.understanding.words import split_request

pytestmark = pytest.mark.fast

GRAMMARS = [load_grammar(language) for language in LANGUAGES]
ALL_KINDS = frozenset(Kind)
KEYS = st.integers(0, 2**64 - 1)
DRAWS = 3_000
TYPED = 800
"""Requests that are also read as a user's."""

SMALL = {
    "language": "en",
    "prompt": "p :",
    "levels": {"low": ["cheap"], "high": ["very costly"]},
    "numbers": {"twenty five": 25},
    "names": {"Knife set": ["chop-stuff"]},
    "decades": {"nineties": 1990},
    "parts": {
        "request": ["buy <thing>", "no <thing excluded>", "OTHER OTHER {price below} , or <free>"],
        "thing": ["{category}", "a {brand open} OTHER"],
        "free": ["{any}"],
    },
}


def small(**changes) -> RequestGrammar:
    raw = copy.deepcopy(SMALL)
    raw["parts"] |= changes
    return parse_grammar(raw)


@pytest.mark.parametrize("grammar", GRAMMARS, ids=LANGUAGES)
def test_the_same_key_gives_the_same_request(grammar: RequestGrammar):
    folder = resources.files("irec_jax.understanding").joinpath("grammars")
    text = folder.joinpath(f"{grammar.language}.toml").read_text("utf-8")
    again = parse_grammar(tomllib.loads(text))
    for key in map(scramble, range(300)):
        first = grammar.draw(key, ALL_KINDS)
        assert grammar.draw(key, ALL_KINDS) == first
        assert again.draw(key, ALL_KINDS) == first


@pytest.mark.parametrize("grammar", GRAMMARS, ids=LANGUAGES)
def test_keys_give_different_requests(grammar: RequestGrammar):
    drawn = {grammar.draw(key, ALL_KINDS).words for key in range(1_000)}
    assert len(drawn) > 700


@pytest.mark.parametrize("grammar", GRAMMARS, ids=LANGUAGES)
def test_roles_are_legal_and_every_legal_condition_is_drawn(grammar: RequestGrammar):
    seen: dict[Kind, set[RequestRole]] = {kind: set() for kind in Kind}
    for key in range(DRAWS):
        drawn = grammar.draw(scramble(key), ALL_KINDS)
        for place, role in drawn.roles.items():
            seen[Kind(drawn.words[place])].add(role)
    for kind, roles in seen.items():
        assert roles <= set(roles_of(kind))
        assert roles | {RequestRole.OPEN} == set(roles_of(kind))


@settings(max_examples=40)
@given(key=KEYS, kinds=st.frozensets(st.sampled_from(Kind), min_size=1))
def test_a_request_has_a_span_and_only_kinds_that_are_asked_for(key: int, kinds: frozenset[Kind]):
    for grammar in GRAMMARS:
        drawn = grammar.draw(key, kinds)
        assert drawn.roles
        spans = {place for place, word in enumerate(drawn.words) if word in set(Kind)}
        assert spans == set(drawn.roles)
        assert {drawn.words[place] for place in spans} <= kinds


@pytest.mark.parametrize("grammar", GRAMMARS, ids=LANGUAGES)
def test_words_of_requests_are_known(grammar: RequestGrammar):
    plain = {
        word
        for key in range(DRAWS)
        for word in grammar.draw(scramble(key), ALL_KINDS).words
        if word != OTHER and word not in set(Kind)
    }
    assert len(plain) > 150
    assert plain <= grammar.words.known


def test_roles_go_down_to_parts_and_a_slot_has_its_own():
    grammar = small()
    drawn = [grammar.draw(key, ALL_KINDS) for key in range(300)]
    requests = {(words, tuple(sorted(roles.items()))) for words, roles in drawn}
    wanted, excluded = RequestRole.WANTED, RequestRole.EXCLUDED
    expected = {
        (("buy", "<category>"), ((1, wanted),)),
        (("buy", "a", "<brand>", OTHER), ((2, RequestRole.OPEN),)),
        (("no", "<category>"), ((1, excluded),)),
        (("no", "a", "<brand>", OTHER), ((2, RequestRole.OPEN),)),
    }
    for kind in KIND_OF_FIELD.values():
        words = (OTHER, "<price>", ",", "or", kind.value)
        expected.add((words, ((1, RequestRole.BELOW), (4, wanted))))
    assert requests == expected


def test_words_of_a_grammar():
    words = small().words
    assert words.known == {"buy", "no", ",", "or", "a"}
    assert {phrase: level.is_low for phrase, level in words.levels.items()} == {
        ("cheap",): True,
        ("very", "costly"): False,
    }
    assert words.numbers == {("twenty", "five"): 25}
    assert words.decades == {("nineties",): 1990}
    assert words.names == {("chop", "stuff"): ("Knife set",)}
    assert words.longest == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("buy <thimg>", "<thimg> is not defined"),
        ("buy {categry}", "categry"),
        ("buy {category unwanted}", "unwanted"),
        ("buy <thing unwanted>", "unwanted"),
        ("buy {Category}", "Category"),
        ("buy {category 5}", "category 5"),
        ("buy <thing wanted excluded>", "thing wanted excluded"),
    ],
)
def test_a_wrong_grammar_is_refused(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        small(request=[text])


def test_literals_are_split_as_requests_are():
    grammar = small(request=["Buy top-notch,{category}of OTHER!", "<{price most}"])
    drawn = {grammar.draw(key, ALL_KINDS).words for key in range(50)}
    bought = ("buy", "top", "notch", ",", Kind.CATEGORY.value, "of", OTHER, "!")
    assert drawn == {bought, ("<", Kind.PRICE.value)}


KIND_NAMES = {
    Kind.CATEGORY: ("zorb", "quix lamper", "Florn"),
    Kind.BRAND: ("Vartok", "Bim Zolla"),
    Kind.ATTRIBUTE: ("grelish", "quonky dro", "plivver"),
}
NUMBERS = {
    "en": {
        Kind.PRICE: ("5", "12.50", "80", "1,200", "sixty"),
        Kind.YEAR: ("1994", "2003", "90s", "1980s", "nineties"),
        Kind.LEVEL: ("cheap", "affordable", "expensive"),
    },
    "zh": {
        Kind.PRICE: ("5", "12.50", "80", "1,200", "六十"),
        Kind.YEAR: ("1994", "2003"),
        Kind.LEVEL: ("便宜", "实惠", "昂贵"),
    },
}
UNKNOWN = ("wumbat", "zweeble vun")
CURRENCY = frozenset(
    (
        *("$", "€", "£", "元", "块", "yuan", "usd", "eur", "euro", "euros", "quid"),
        *("dollar", "dollars", "bucks", "pounds"),
    )
)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    fields = {kind: field for field, kind in KIND_OF_FIELD.items()}
    values = {
        name_phrases(name)[0]: FieldValue(Field(fields[kind]), name)
        for kind, names in KIND_NAMES.items()
        for name in names
    }
    return Lexicon(values, frozenset(), has_price=True, has_year=True)


def is_ambiguous(drawn: DrawnRequest) -> bool:
    """Whether a year is beside a currency, as in "for 250 euro 2003 or later"."""
    for place in drawn.roles:
        beside = {*drawn.words[max(place - 1, 0) : place], *drawn.words[place + 1 : place + 2]}
        if drawn.words[place] == Kind.YEAR and beside & CURRENCY:
            return True
    return False


def as_typed(drawn: DrawnRequest, language: str, rng: random.Random) -> str:
    """A request of a user: real words in the slots, and no space before an apostrophe."""
    phrases = KIND_NAMES | NUMBERS[language]
    words = [
        rng.choice(phrases[Kind(word)])
        if place in drawn.roles
        else rng.choice(UNKNOWN)
        if word == OTHER
        else word
        for place, word in enumerate(drawn.words)
    ]
    return re.sub(r" ' ?([ds]) ", r"'\1 ", " ".join(words))


@pytest.mark.parametrize("grammar", GRAMMARS, ids=LANGUAGES)
def test_a_typed_request_gives_the_text_that_was_trained_on(grammar: RequestGrammar, lexicon):
    rng, wrong, compared = random.Random(0), [], 0
    for key in range(TYPED):
        drawn = grammar.draw(scramble(key), ALL_KINDS)
        if is_ambiguous(drawn):
            continue
        places = sorted(drawn.roles)
        trained = [" ".join([*drawn.words[:p], ASKED, *drawn.words[p:]]) for p in places]
        text = as_typed(drawn, grammar.language, rng)
        words = split_request(text)
        spans = find_spans(words, lexicon, grammar.words)
        served = [spans_prompt(words, spans, asked, grammar.words) for asked in range(len(spans))]
        compared += len(trained)
        if served != trained:
            wrong.append((text, trained[0], served[:1]))
    assert compared > TYPED
    assert not wrong, f"{len(wrong)} of {TYPED}, such as {wrong[:3]}"


def test_numbers_have_other_roles_than_values():
    for kind in Kind:
        is_number = kind in NUMBER_KINDS
        assert (RequestRole.BELOW in roles_of(kind)) == is_number
        assert (RequestRole.EXCLUDED in roles_of(kind)) != is_number
        assert RequestRole.OPEN in roles_of(kind)
