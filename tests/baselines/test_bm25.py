"""BM25 against its definition, written out in loops."""

import collections
import dataclasses
import doctest
import math
import sys
import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.baselines.bm25 import BM25, bm25, item_texts, words_of
from irec_jax.baselines.popularity import popularity
from irec_jax.errors import InputError
from irec_jax.instructions.forms import Intention, Preference, Request, Scenario, TaskForm
from irec_jax.log.split import Role

CATALOG = pl.DataFrame(
    {
        "item": ["a", "b", "c", "d", "e"],
        "title": ["Rain Jacket", "Jacket", "Wool hat", "Tent for two", "防水外套"],
        "categories": [["clothes", "rain"], [], ["clothes"], ["outdoors"], ["外套"]],
        "brand": ["Nordhem", None, "nordhem", None, None],
        "description": [None, "A jacket that keeps rain off", None, "Rain tested", ""],
    }
)
WORDS = st.sampled_from(["blue", "Blue", "rain", "jacket", "a", "防水", "水", "x2", "-", "", "é"])
TEXTS = st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=7)
SEARCH = Scenario(Preference.NONE, Intention.SPECIFIC, TaskForm.MATCHING)


def slow_words(text):
    """Character by character, by the characters' Unicode names."""
    words, run = [], ""
    for character in unicodedata.normalize("NFKC", text).lower():
        name = unicodedata.name(character, "")
        alone = name.startswith(("CJK", "HIRAGANA LETTER", "KATAKANA LETTER"))
        if character.isalnum() and not alone:
            run += character
            continue
        words += [run] * bool(run) + [character] * alone
        run = ""
    return words + [run] * bool(run)


def slow_scores(texts, query, k1=1.2, b=0.75):
    """The definition, text by text and word by word."""
    counted = [collections.Counter(slow_words(text)) for text in texts]
    lengths = [sum(count.values()) for count in counted]
    mean = sum(lengths) / max(len(lengths), 1)
    scores = []
    for count, length in zip(counted, lengths, strict=True):
        score = 0.0
        for word in slow_words(query):
            if count[word]:
                holding = sum(1 for other in counted if other[word])
                idf = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
                score += idf * count[word] / (count[word] + k1 * (1 - b + b * length / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Rain-Jacket, 3XL!", ["rain", "jacket", "3xl"]),
        ("under_score don't", ["under", "score", "don", "t"]),
        ("防水jacket外套", ["防", "水", "jacket", "外", "套"]),
        ("カメラ・ケース", ["カ", "メ", "ラ", "ケ", "ー", "ス"]),
        ("한국어 책", ["한국어", "책"]),
        ("\uff2e\uff4f.5 Cafe\u0301", ["no", "5", "café"]),
        ("\U00020000x", ["\U00020000", "x"]),
        (" \n—🎁 ", []),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


def test_the_examples_of_the_documentation():
    result = doctest.testmod(sys.modules[words_of.__module__])
    assert result.attempted
    assert not result.failed


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.lists(WORDS, max_size=6).map(" ".join), st.floats(0, 3), st.floats(0, 1))
def test_equals_the_definition(texts, query, k1, b):
    scores = BM25.build(texts, k1, b).scores(query)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, slow_scores(texts, query, k1, b), rtol=1e-5, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=4), st.randoms())
def test_what_cannot_change_a_score_does_not(texts, queries, random):
    index = BM25.build(texts)
    together = index.scores_of(queries)
    assert together.shape == (len(queries), len(texts))
    order = random.sample(range(len(texts)), len(texts))
    shuffled = BM25.build([texts[number] for number in order])
    for query, scores in zip(queries, together, strict=True):
        np.testing.assert_array_equal(index.scores(query), scores)
        np.testing.assert_allclose(shuffled.scores(query), scores[order], atol=1e-6)
        words = query.split(" ")
        mixed = " ".join(random.sample(words, len(words))).upper() + " neverseen"
        np.testing.assert_allclose(index.scores(mixed), scores, atol=1e-6)
        np.testing.assert_allclose(index.scores(f"{query} {query}"), 2 * scores, rtol=1e-5)
        shared = [bool(set(words_of(query)) & set(words_of(text))) for text in texts]
        assert ((scores > 0) == shared).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), st.floats(0.1, 3), st.floats(0, 1))
def test_more_of_a_word_and_rarer_words_weigh_more(filling, often, k1, b):
    length = filling + often
    texts = [
        " ".join(["rain"] * often + ["filler"] * filling),
        " ".join(["rain"] * (often + 1) + ["filler"] * (filling - 1)),
        " ".join(["hat"] * often + ["filler"] * filling),
        " ".join(["hat"] * often + ["filler"] * (filling + length)),
    ]
    index = BM25.build([*texts, "rain"], k1, b)
    rain, hat = index.scores("rain"), index.scores("hat")
    assert rain[1] > rain[0] > 0
    assert hat[2] > rain[0], "two texts hold one word, three the other"
    assert hat[3] <= hat[2], "a longer text is held back"


@pytest.fixture
def split(tiny):
    return dataclasses.replace(tiny, catalog=CATALOG)


def search(*queries, history=()):
    return [Request(SEARCH, tuple(history), query) for query in queries]


def order(scores):
    return np.sign(scores[:, None] - scores[None])


def test_every_text_of_an_item_is_searched():
    assert item_texts(CATALOG) == [
        "Rain Jacket clothes rain Nordhem",
        "Jacket  A jacket that keeps rain off",
        "Wool hat clothes nordhem",
        "Tent for two outdoors Rain tested",
        "防水外套 外套 ",
    ]
    assert item_texts(CATALOG.select("item", "title"))[1] == "Jacket"
    assert item_texts(CATALOG.select("item")) == [""] * 5


def test_queries_rank_by_the_definition_and_ties_by_popularity(split):
    queries = ["rain jacket", "NORDHEM hat", "外套", "nothing of this", "tent"]
    scores = bm25(split)(search(*queries)).scores
    counts = popularity(split)(search("")).scores[0]
    for query, row in zip(queries, scores, strict=True):
        exact = np.array(slow_scores(item_texts(CATALOG), query))
        np.testing.assert_allclose(row, exact, atol=1e-5)
        wanted = order(exact)
        np.testing.assert_array_equal(order(row), np.where(wanted, wanted, order(counts)))


def test_the_settings_reach_the_ranking(split):
    query = "rain jacket clothes"
    scores = bm25(split, k1=0.3, b=0.1)(search(query)).scores[0]
    np.testing.assert_allclose(scores, slow_scores(item_texts(CATALOG), query, 0.3, 0.1), atol=1e-5)


def test_without_words_it_is_popularity_whatever_the_history(tiny, split, ask):
    counts = popularity(split)(search("")).scores[0]
    for asked in (ask((), (3, 1)), search("", "?!", history=[1])):
        for row in bm25(split)(asked).scores:
            np.testing.assert_array_equal(order(row), order(counts))
    assert bm25(tiny)([]).scores.shape == (0, 5)


def test_held_out_events_teach_nothing(split):
    changed = split.items.copy()
    changed[split.roles != Role.TRAIN] = 0
    other = dataclasses.replace(split, items=changed)
    asked = search("rain", "")
    np.testing.assert_array_equal(bm25(split)(asked).scores, bm25(other)(asked).scores)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k1": -0.1}, "bm25.k1"),
        ({"k1": math.nan}, "bm25.k1"),
        ({"b": 1.5}, "bm25.b"),
        ({"b": math.nan}, "bm25.b"),
    ],
)
def test_impossible_settings_are_refused(tiny, given, message):
    with pytest.raises(InputError, match=message):
        bm25(tiny, **given)
