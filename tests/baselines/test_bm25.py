"""BM25 against its definition in loops."""

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

from irec_jax.baselines.bm25 import BM25, BM25Index, item_texts, words_of
from irec_jax.baselines.popularity import Popularity
from irec_jax.errors import InputError
from irec_jax.instructions.forms import Intention, Preference, Request, Scenario, TaskForm
from irec_jax.log.split import Role

pytestmark = pytest.mark.fast

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
    """Splits character by character, by the Unicode names of the characters."""
    words, run = [], ""
    for character in unicodedata.normalize("NFKC", text).lower():
        name = unicodedata.name(character, "")
        is_unspaced = name.startswith(("CJK", "HIRAGANA LETTER", "KATAKANA LETTER"))
        if character.isalnum() and not is_unspaced:
            run += character
            continue
        words += [run] * bool(run) + [character] * is_unspaced
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
                documents = sum(1 for other in counted if other[word])
                idf = math.log(1 + (len(texts) - documents + 0.5) / (documents + 0.5))
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
    scores = BM25Index.build(texts, k1, b).scores([query])[0]
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, slow_scores(texts, query, k1, b), rtol=1e-5, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=4), st.randoms())
def test_order_case_and_unknown_words_do_not_change_a_score(texts, queries, random):
    index = BM25Index.build(texts)
    together = index.scores(queries)
    assert together.shape == (len(queries), len(texts))
    order = random.sample(range(len(texts)), len(texts))
    shuffled = BM25Index.build([texts[number] for number in order])
    for query, scores in zip(queries, together, strict=True):
        np.testing.assert_array_equal(index.scores([query])[0], scores)
        np.testing.assert_allclose(shuffled.scores([query])[0], scores[order], atol=1e-6)
        words = query.split(" ")
        mixed = " ".join(random.sample(words, len(words))).upper() + " neverseen"
        np.testing.assert_allclose(index.scores([mixed])[0], scores, atol=1e-6)
        np.testing.assert_allclose(index.scores([f"{query} {query}"])[0], 2 * scores, rtol=1e-5)
        shared = [bool(set(words_of(query)) & set(words_of(text))) for text in texts]
        assert ((scores > 0) == shared).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), st.floats(0.1, 3), st.floats(0, 1))
def test_repeated_and_rarer_words_score_higher(filling, repeats, k1, b):
    length = filling + repeats
    texts = [
        " ".join(["rain"] * repeats + ["filler"] * filling),
        " ".join(["rain"] * (repeats + 1) + ["filler"] * (filling - 1)),
        " ".join(["hat"] * repeats + ["filler"] * filling),
        " ".join(["hat"] * repeats + ["filler"] * (filling + length)),
    ]
    index = BM25Index.build([*texts, "rain"], k1, b)
    rain, hat = index.scores(["rain", "hat"])
    assert rain[1] > rain[0] > 0
    assert hat[2] > rain[0], "two texts contain one word, three the other"
    assert hat[3] <= hat[2], "a longer text scores lower"


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
    scores = BM25().build(split)(search(*queries)).scores
    counts = Popularity().build(split)(search("")).scores[0]
    for query, row in zip(queries, scores, strict=True):
        exact = np.array(slow_scores(item_texts(CATALOG), query))
        np.testing.assert_allclose(row, exact, atol=1e-5)
        expected = order(exact)
        np.testing.assert_array_equal(order(row), np.where(expected, expected, order(counts)))


def test_the_settings_reach_the_ranking(split):
    query = "rain jacket clothes"
    scores = BM25(k1=0.3, b=0.1).build(split)(search(query)).scores[0]
    np.testing.assert_allclose(scores, slow_scores(item_texts(CATALOG), query, 0.3, 0.1), atol=1e-5)


def test_without_a_query_it_is_popularity_for_any_history(tiny, split, make_requests):
    counts = Popularity().build(split)(search("")).scores[0]
    for requests in (make_requests((), (3, 1)), search("", "?!", history=[1])):
        for row in BM25().build(split)(requests).scores:
            np.testing.assert_array_equal(order(row), order(counts))
    assert BM25().build(tiny)([]).scores.shape == (0, 5)


def test_held_out_events_change_no_score(split):
    changed = split.items.copy()
    changed[split.roles != Role.TRAIN] = 0
    other = dataclasses.replace(split, items=changed)
    requests = search("rain", "")
    scores = [BM25().build(log)(requests).scores for log in (split, other)]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k1": -0.1}, r"BM25\.k1: must be finite"),
        ({"k1": math.nan}, r"BM25\.k1: must be finite"),
        ({"b": 1.5}, r"BM25\.b: must be between 0 and 1"),
        ({"b": math.nan}, r"BM25\.b: must be between 0 and 1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        BM25(**settings)
