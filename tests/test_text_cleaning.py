"""Text from people, made safe."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax import text_cleaning as cleaning
from irec_jax.text_cleaning import clean

pytestmark = pytest.mark.fast


def test_the_example_in_the_docstring():
    assert doctest.testmod(cleaning).failed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{history} {0} %s $x", "{history} {0} %s $x"),
        ("a\r\n\tb\u2028c\u00a0d", "a b c d"),
        ("שלום עולם", "שלום עולם"),
        ("👩\u200d🚀 lamp", "👩\u200d🚀 lamp"),
        ("a\u202eb\u2066c", "abc"),
        ("half \ud83d pair", "half ? pair"),
        (" \x00\x07 ", ""),
    ],
)
def test_cleaning(text: str, expected: str):
    assert clean(text) == expected


@given(st.text(st.characters(exclude_categories=())))
def test_cleaning_gives_words_with_single_spaces_and_is_idempotent(text: str):
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert cleaned.split(" ") == (cleaned.split() or [""])
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
