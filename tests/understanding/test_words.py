"""Words of requests: what is one word, what writings are equal, and singular and plural."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.understanding.lexicon import Field, FieldValue, Lexicon, name_phrases
from irec_jax.understanding.words import base_form, is_letters, singular_forms, split_request

pytestmark = pytest.mark.fast


def has_one_capital(letter: str) -> bool:
    """Whether capital and small letter are a pair; the Turkish dotless i, for one, has no such."""
    return len(letter.upper()) == 1 and letter.upper().lower() == letter.lower()


PAIRED = st.text(st.characters(codec="utf-8", max_codepoint=0x24FF).filter(has_one_capital))


@given(text=PAIRED)
def test_capitals_do_not_matter(text: str):
    assert split_request(text.upper()) == split_request(text.lower()) == split_request(text)


@given(text=st.text(), form=st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_unicode_normal_forms_do_not_matter(text: str, form):
    assert split_request(unicodedata.normalize(form, text)) == split_request(text)


@given(text=st.text())
def test_words_are_split_once(text: str):
    words = split_request(text)
    assert all(words)
    assert not any(character.isspace() for word in words for character in word)
    assert split_request(" ".join(words)) == words


@given(text=st.text(), spaces=st.lists(st.sampled_from(" \t\n\u00a0\u3000"), min_size=1))
def test_spaces_do_not_matter(text: str, spaces: list[str]):
    wide = "".join(spaces).join(["", *text.split(" "), ""])
    assert split_request(wide) == split_request(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (
            "Rain-proof T-Shirt/top snake_case",
            ["rain", "proof", "t", "shirt", "top", "snake", "case"],
        ),
        ("a - b", ["a", "-", "b"]),
        ("10-20", ["10", "-", "20"]),
        ("$1,200.50", ["$", "1,200.50"]),
        ("1,2", ["1", ",", "2"]),
        ("€80.", ["€", "80", "."]),
        ("under 9.99!", ["under", "9.99", "!"]),
        ("<=80 >= 3 < 4", ["<=", "80", ">=", "3", "<", "4"]),
        ("2XL", ["2", "xl"]),
        ("the 90s", ["the", "90s"]),
        ("80's", ["80's"]),
        ("1990s", ["1990s"]),
        ("the 1890S and 2010's", ["the", "1890s", "and", "2010's"]),
        ("don\u2019t l'Or\u00e9al", ["don't", "l'or\u00e9al"]),
        ("Fenwick's", ["fenwick's"]),
        ("\u2018quoted\u2019", ["'", "quoted", "'"]),
        ("\uff34\uff25\uff2e\uff34 \uff18\uff10", ["tent", "80"]),
        ("STRASSE stra\u00dfe \ufb01sh", ["strasse", "strasse", "fish"]),
        ("\u4e0d\u8981\u7ea2\u8272tent", [*"\u4e0d\u8981\u7ea2\u8272", "tent"]),
        ("100\u5143", ["100", "\u5143"]),
        ("\u30c6\u30f3\u30c8", list("\u30c6\u30f3\u30c8")),
    ],
)
def test_words_of_a_text(text: str, words: list[str]):
    assert list(split_request(text)) == words


@pytest.mark.parametrize("word", ["tent", "\u00e9", "\u4e0d", "don't"])
def test_letters(word: str):
    assert is_letters(word)


@pytest.mark.parametrize("word", ["80", "90s", "$", ",", "<="])
def test_numbers_and_marks_are_not_letters(word: str):
    assert not is_letters(word)


REGULAR = [
    *("kettle", "tent", "mug", "scarf", "shoe", "house", "vase", "watch", "brush", "dress"),
    *("glass", "box", "berry", "toy", "phone case", "yoga mat", "boss", "radio", "day", "torch"),
]


def regular_plural(noun: str) -> str:
    """The rules of a school book."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


@pytest.mark.parametrize("noun", REGULAR)
def test_base_form_of_a_regular_plural(noun: str):
    singular, plural = noun.split()[-1], regular_plural(noun).split()[-1]
    assert base_form(plural) == base_form(singular) == singular
    assert base_form(f"{singular}'s") == singular
    assert base_form(f"{plural}'") == singular


@pytest.mark.parametrize("word", ["glass", "bus", "gas", "cactus", "tennis", "this", "his", "less"])
def test_words_in_s_that_are_not_a_plural_stay(word: str):
    assert base_form(word) == word


@pytest.mark.parametrize(
    ("plural", "singular"),
    [("scarves", "scarf"), ("knives", "knife"), ("shelves", "shelf"), ("gloves", "glove")],
)
def test_a_plural_in_ves_has_its_singular_among_the_forms(plural: str, singular: str):
    assert singular in singular_forms(plural)


@given(word=st.from_regex(r"[a-z]{1,8}('s)?", fullmatch=True))
def test_the_base_form_is_the_first_singular_form(word: str):
    assert singular_forms(word)[0] == base_form(word)
    assert word.startswith(base_form(word)[:-1])


PAIRS = [
    *((noun, regular_plural(noun)) for noun in REGULAR),
    *(("hoodie", "hoodies"), ("cookie", "cookies"), ("movie", "movies"), ("tie", "ties")),
    *(("knife", "knives"), ("scarf", "scarves"), ("headphones", "headphones")),
]


@pytest.mark.parametrize(("singular", "plural"), PAIRS)
def test_a_name_is_found_in_singular_and_plural(singular: str, plural: str):
    value = FieldValue(Field.CATEGORY, singular)
    lexicon = Lexicon(dict.fromkeys(name_phrases(singular), value), frozenset())
    assert lexicon.find(split_request(singular)) == value
    assert lexicon.find(split_request(plural)) == value


@pytest.mark.parametrize(("singular", "plural"), PAIRS)
def test_a_name_in_plural_is_found_in_singular(singular: str, plural: str):
    value = FieldValue(Field.CATEGORY, plural)
    lexicon = Lexicon(dict.fromkeys(name_phrases(plural), value), frozenset())
    assert lexicon.find(split_request(singular)) == value
    assert lexicon.find(split_request(plural)) == value
