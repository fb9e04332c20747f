"""Corrections of typing errors: all single errors in the words of the simulator's shop."""

import collections
import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.log.domain import load_domain
from irec_jax.understanding.lexicon import Field, FieldValue, Lexicon, name_phrases
from irec_jax.understanding.request_grammar import load_grammar
from irec_jax.understanding.spelling import RARE, Correction, Speller, dictionary
from irec_jax.understanding.words import base_form, split_request

pytestmark = pytest.mark.fast

KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
KINDS = ("swap", "drop", "double", "neighbor")
PER_KIND = 2
"""Errors of a kind that are drawn for each word."""


def neighbors(letter: str) -> str:
    """The letters beside a letter, and in the rows above and below it."""
    row, place = next((r, keys.index(letter)) for r, keys in enumerate(KEYBOARD) if letter in keys)
    near = [(row, place - 1), (row, place + 1), (row - 1, place), (row - 1, place + 1)]
    near += [(row + 1, place - 1), (row + 1, place)]
    return "".join(
        KEYBOARD[r][p] for r, p in near if 0 <= r < len(KEYBOARD) and 0 <= p < len(KEYBOARD[r])
    )


def errors(word: str, kind: str) -> Iterator[str]:
    """Yields the word with each error of a kind."""
    for place, letter in enumerate(word):
        before, after = word[:place], word[place + 1 :]
        if kind == "swap" and after:
            yield before + after[0] + letter + after[1:]
        elif kind == "drop":
            yield before + after
        elif kind == "double":
            yield before + 2 * letter + after
        elif kind == "neighbor":
            yield from (before + near + after for near in neighbors(letter))


def distance(first: str, second: str) -> int:
    """The number of single errors between two words, by dynamic programming."""
    table = {(row, -1): row + 1 for row in range(-1, len(first))}
    table |= {(-1, column): column + 1 for column in range(-1, len(second))}
    for row, column in itertools.product(range(len(first)), range(len(second))):
        cost = first[row] != second[column]
        choices = [table[row - 1, column] + 1, table[row, column - 1] + 1]
        choices.append(table[row - 1, column - 1] + cost)
        if row and column and first[row - 1 : row + 1] == second[column] + second[column - 1]:
            choices.append(table[row - 2, column - 2] + 1)
        table[row, column] = min(choices)
    return table[len(first) - 1, len(second) - 1]


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    """All forms of the shop; its words are those that texts of the shop have."""
    shop = load_domain("shop")
    groups = [(Field.CATEGORY, leaf.forms) for leaf in shop.categories]
    groups += [(Field.ATTRIBUTE, words) for slot in shop.slots for words in slot.values]
    groups += [(Field.BRAND, (brand,)) for brand in shop.brands]
    values = {
        name_phrases(f)[0]: FieldValue(field, words[0]) for field, words in groups for f in words
    }
    words = {word for _, forms in groups for form in forms for word in split_request(form)}
    return Lexicon(values, frozenset(words), has_price=True)


@pytest.fixture(scope="module")
def speller(lexicon: Lexicon) -> Speller:
    return Speller(lexicon, load_grammar("en").words, dictionary("en"))


@pytest.fixture(scope="module")
def names(lexicon: Lexicon) -> list[str]:
    words = {word for phrase in lexicon.values for word in phrase}
    return sorted(word for word in words if len(word) >= 4)


def test_single_errors_in_names_are_corrected(speller: Speller, names: list[str]):
    assert len(names) > 300
    rng = random.Random(0)
    drawn, right = collections.Counter[str](), collections.Counter[str]()
    for word, kind in itertools.product(names, KINDS):
        written = sorted({error for error in errors(word, kind) if error != word})
        for error in rng.sample(written, min(PER_KIND, len(written))):
            if speller.unknown((error,)):  # others are words, such as "and" of "band"
                drawn[kind] += 1
                (read,), _ = speller.correct((error,))
                right[kind] += base_form(read) == base_form(word)
    assert all(drawn[kind] > 500 for kind in KINDS)
    shares = {kind: right[kind] / drawn[kind] for kind in KINDS}
    assert min(shares.values()) >= 0.85, shares
    assert right.total() >= 0.93 * drawn.total(), shares


def test_words_of_the_log_and_of_the_grammar_stay(speller: Speller, lexicon: Lexicon):
    grammar = {word for word in load_grammar("en").words.known if word.isalpha()}
    for word in lexicon.words | grammar:
        assert speller.correct((word,)) == ((word,), ()), word
        assert not speller.unknown((word,))


def test_usual_words_of_the_language_stay(speller: Speller):
    usual = [word for word, count in dictionary("en").items() if count >= RARE]
    assert len(usual) > 10_000
    changed = [word for word in usual if speller.correct((word,)) != ((word,), ())]
    assert changed == []


@given(word=st.from_regex(r"[a-z]{1,7}", fullmatch=True))
def test_a_correction_changes_one_letter_into_a_known_word(speller: Speller, word: str):
    read, changes = speller.correct((word,))
    if read == (word,):
        assert changes == ()
    else:
        assert changes == (Correction(word, read[0]),)
        assert distance(word, read[0]) == 1
        assert not speller.unknown(read)


@given(data=st.data())
def test_words_are_corrected_one_by_one(speller: Speller, data):
    pool = ["watrproof", "sturdy", "bakpack", "xqzwvk", "80", ",", "the"]
    words = data.draw(st.lists(st.sampled_from(pool)))
    alone = [speller.correct((word,)) for word in words]
    read, changes = speller.correct(words)
    assert read == tuple(word for one, _ in alone for word in one)
    assert changes == tuple(change for _, made in alone for change in made)


@pytest.mark.parametrize(
    ("request_words", "read"),
    [
        ("rain proof jacket", "rainproof jacket"),
        ("a light weight back pack", "a lightweight backpack"),
        ("watrproof jackt by Haldr", "waterproof jacket by haldor"),
        ("a tnet , under 80", "a tent , under 80"),
        ("expensiv kettles", "expensive kettles"),
    ],
)
def test_a_request_is_corrected(speller: Speller, request_words: str, read: str):
    words, changes = speller.correct(split_request(request_words))
    assert " ".join(words) == read
    written = " ".join(split_request(request_words))
    for change in changes:
        assert change.written in written
        written = written.replace(change.written, change.read, 1)
    assert written == read


def test_two_words_of_a_name_are_not_joined(lexicon: Lexicon):
    case = FieldValue(Field.CATEGORY, "phone case")
    both = Lexicon({("phone", "case"): case, ("phonecase",): case}, frozenset({"phone", "case"}))
    speller = Speller(both, load_grammar("en").words, dictionary("en"))
    assert speller.correct(("phone", "case")) == (("phone", "case"), ())
    alone = Lexicon({("phonecase",): case}, frozenset({"phone", "case"}))
    speller = Speller(alone, load_grammar("en").words, dictionary("en"))
    joined = Correction("phone case", "phonecase")
    assert speller.correct(("phone", "case")) == (("phonecase",), (joined,))


@pytest.mark.parametrize(
    ("names", "written", "read"),
    [
        (("qiuxe", "quix"), "qiux", "quix"),  # swapped letters are likelier than a missing one
        (("zorb", "zorp"), "zorx", "zorp"),  # and frequent words than rare ones
    ],
)
def test_the_likeliest_of_several_corrections(names: tuple[str, str], written: str, read: str):
    values = {(name,): FieldValue(Field.CATEGORY, name) for name in names}
    speller = Speller(Lexicon(values, frozenset()), load_grammar("en").words, {"zorp": 900})
    assert speller.correct((written,)) == ((read,), (Correction(written, read),))


@pytest.mark.parametrize(
    ("text", "is_foreign"),
    [
        ("zorb quix florn", True),
        ("\u043c\u043d\u0435 \u043d\u0443\u0436\u043d\u0430 \u043b\u0430\u043c\u043f\u0430", True),
        ("zorb quix", False),
        ("zorb quix florn tent", True),
        ("a cheap zorb quix florn tent for my trip", False),
        ("80 90 100 , , ,", False),
        ("", False),
    ],
)
def test_a_request_of_unknown_words_is_foreign(speller: Speller, text: str, is_foreign: bool):
    assert speller.is_foreign(split_request(text)) == is_foreign


@pytest.mark.parametrize("word", ["xqzwvk", "blorptang", "quazzet", "\u0434\u043e\u043c"])
def test_an_unknown_word_stays_unknown(speller: Speller, word: str):
    assert speller.correct((word,)) == ((word,), ())
    assert speller.unknown((word, "80", "tent", ",")) == (word,)


@pytest.mark.parametrize("word", ["80", "90s", ",", "$", "te", "\u5e10"])
def test_numbers_marks_and_short_words_stay(speller: Speller, word: str):
    assert speller.correct((word,)) == ((word,), ())
