"""The overlap of a query with a title."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.word_overlap import shared_share, words_of

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("query", "title", "share"),
    [
        ("a red lamp for reading", "Red Lamp, large", 2 / 3),
        ("lamp red", "red lamp", 1.0),
        ("for the", "the lamp", None),
        ("lamp", "lamp", 1.0),
        ("蓝色的台灯", "台灯 blue", 2 / 4),
        ("ÉCLAIR", "éclair", 1.0),
        ("red red", "red", 1.0),
    ],
)
def test_overlap_of_a_query_with_a_title(query, title, share):
    mine, theirs = words_of(query).content, words_of(title).content
    assert shared_share(mine, theirs) == share


@given(text=st.text(st.characters(max_codepoint=127)))
def test_plain_text_has_the_words_that_it_has_beside_other_letters(text: str):
    assert (*words_of(text).run, "色") == words_of(f"{text}色").run
