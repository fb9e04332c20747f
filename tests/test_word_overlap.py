"""The overlap of a query with a title."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.word_overlap import ngrams, overlaps, shared_share, words_of

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("query", "title", "words", "pairs"),
    [
        ("a red lamp for reading", "Red Lamp, large", 2 / 3, 1 / 2),
        ("lamp red", "red lamp", 1.0, 0.0),
        ("for the", "the lamp", None, None),
        ("lamp", "lamp", 1.0, None),
        ("蓝色的台灯", "台灯 blue", 2 / 4, 1 / 3),
        ("ÉCLAIR", "éclair", 1.0, None),
        ("red red", "red", 1.0, 0.0),
    ],
)
def test_overlap_of_a_query_with_a_title(query, title, words, pairs):
    mine, theirs = words_of(query).content, words_of(title).content
    assert shared_share(ngrams(mine, 1), ngrams(theirs, 1)) == words
    assert shared_share(ngrams(mine, 2), ngrams(theirs, 2)) == pairs


@given(text=st.text(st.characters(max_codepoint=127)))
def test_plain_text_has_the_words_that_it_has_beside_other_letters(text: str):
    assert (*words_of(text).run, "色") == words_of(f"{text}色").run


few = st.lists(st.sampled_from(["red", "lamp", "large", "desk"]), max_size=5)


@given(text=few, title=few)
def test_words_and_pairs_are_counted_as_each_alone(text: list[str], title: list[str]):
    sets = (ngrams(title, 1), ngrams(title, 2))
    alone = tuple(shared_share(ngrams(text, size), sets[size - 1]) for size in (1, 2))
    assert overlaps(text, sets) == alone
