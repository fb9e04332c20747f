"""Answers of a model: read strictly, and checked before they become notes."""

import enum
import json
import re
from collections.abc import Sequence

from irec_jax.teachers.teacher_texts import TextKind
from irec_jax.text_cleaning import clean
from irec_jax.word_overlap import STOP_WORDS, words_of

LENGTHS = {
    TextKind.PREFERENCE: (3.0, 60.0),
    TextKind.VAGUE: (1.0, 25.0),
    TextKind.SPECIFIC: (1.0, 25.0),
    TextKind.REASON: (3.0, 60.0),
}
"""Least and most words of a text; see `length`."""

_TITLE_RUN = 4  # words of a title in a row that may identify it,
_TITLE_TELLING = 3  # if so many of them say something
_SURE_DIGITS = 5  # a shorter number is also a year, a size or a price
_ENGLISH = 0.8  # share of letters that are Latin
_CHINESE = 0.5  # share of words that are Chinese characters: names of things stay as they are
_SENTENCE = 8  # words of a text that cannot do without a "the" or "of"
_FIRST_SPACELESS = "\u3040"
_MARK = re.compile(r"<item_\d+>|[{}]|<\|")
_FENCE = re.compile(r"\A```[a-z]*\s*(.*?)\s*```\Z", re.DOTALL)


class Rejection(enum.Enum):
    """Why an answer does not become a note; `again` of the prompts has a sentence for each."""

    CUT_OFF = "cut_off"
    EMPTY = "empty"
    NOT_JSON = "not_json"
    WRONG_SHAPE = "wrong_shape"
    WRONG_LANGUAGE = "wrong_language"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    NAMES_ITEM = "names_item"
    HOLDS_MARK = "holds_mark"
    REFUSED = "refused"


def read_answer(content: str) -> str | Rejection:
    """Takes the text out of `{"text": "..."}`, which may stand in a fence of Markdown.

    >>> read_answer('{"text": " a quiet  lamp"}'), read_answer("a lamp")
    ('a quiet lamp', <Rejection.NOT_JSON: 'not_json'>)
    """
    content = content.strip()
    if fenced := _FENCE.match(content):
        content = fenced[1]
    if not content:
        return Rejection.EMPTY
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return Rejection.NOT_JSON
    if not isinstance(value, dict) or set(value) != {"text"} or not isinstance(value["text"], str):
        return Rejection.WRONG_SHAPE
    return clean(value["text"])


def check_text(
    text: str, kind: TextKind, language: str, titles: Sequence[Sequence[str]], user: int
) -> Rejection | None:
    """Says why a text may not become a note, None where it may.

    Args:
        text: One cleaned line.
        kind: What it is meant to say.
        language: That it is meant to be in; only English and Chinese can be told.
        titles: What it may not name, in words.
        user: The user's number, which it may not hold.
    """
    words = words_of(text).run
    if not words:
        return Rejection.EMPTY
    if _MARK.search(text) or (str(user) in words and len(str(user)) >= _SURE_DIGITS):
        return Rejection.HOLDS_MARK
    least, most = LENGTHS[kind]
    if not least <= length(words) <= most:
        return Rejection.TOO_SHORT if length(words) < least else Rejection.TOO_LONG
    if not _is_in(language, words, is_sentence=kind in (TextKind.PREFERENCE, TextKind.REASON)):
        return Rejection.WRONG_LANGUAGE
    if any(names(words, title) for title in titles):
        return Rejection.NAMES_ITEM
    return None


def length(words: Sequence[str]) -> float:
    """Counts words; a character of a script without spaces counts as half a word."""
    return sum(0.5 if is_spaceless(word) else 1.0 for word in words)


def names(words: Sequence[str], title: Sequence[str]) -> bool:
    """Says whether a title stands in a text, or enough of it in a row to know it by.

    Enough is a run as long as four words with three that say something. A title that consists of
    stop words and single letters cannot be told from ordinary speech.

    >>> names(("like", "blue", "lamp"), ("blue", "lamp")), names(("it",), ("it",))
    (True, False)
    """
    words, title = tuple(words), tuple(title)
    if _telling(title) and _stands(title, words):
        return True
    for start in range(len(title)):
        end = start + 1
        while end < len(title) and length(title[start:end]) < _TITLE_RUN:
            end += 1
        run = title[start:end]
        if length(run) < _TITLE_RUN:
            return False
        if len(_telling(run)) >= _TITLE_TELLING and _stands(run, words):
            return True
    return False


def is_spaceless(word: str) -> bool:
    """Says whether a word is a letter of a script that has no spaces."""
    return len(word) == 1 and word >= _FIRST_SPACELESS and word.isalpha()


def _telling(words: Sequence[str]) -> list[str]:
    return [w for w in words if w not in STOP_WORDS and (len(w) > 1 or is_spaceless(w))]


def _stands(run: tuple[str, ...], words: tuple[str, ...]) -> bool:
    if not set(run) <= set(words):
        return False
    return any(words[at : at + len(run)] == run for at in range(len(words) - len(run) + 1))


def _is_in(language: str, words: Sequence[str], *, is_sentence: bool) -> bool:
    """Says whether words are in a language, as far as their letters tell."""
    written = [word for word in words if not word.isdigit()]
    if not written:
        return True
    if language == "zh":
        return sum(map(is_spaceless, written)) >= _CHINESE * len(written)
    if language != "en":
        return True
    letters = "".join(written)
    latin = sum(letter.isascii() for letter in letters)
    if latin < _ENGLISH * len(letters):
        return False
    return not is_sentence or len(written) < _SENTENCE or not STOP_WORDS.isdisjoint(written)
