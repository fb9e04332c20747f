"""Checks of responses: format, length, language, and titles that they must not name."""

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
"""Kind -> smallest and largest number of words; see `count_words`."""

_MIN_TITLE_WORDS = 4  # adjacent words of a title that may identify it,
_MIN_CONTENT_WORDS = 3  # if this many of them are content words
_MIN_USER_DIGITS = 5  # a shorter number may be a year, a size or a price
_MIN_LATIN_SHARE = 0.8  # share of Latin letters
_MIN_CHINESE_SHARE = 0.5  # share of words that are Chinese characters; names may keep their script
_MIN_SENTENCE_WORDS = 8  # words of an English sentence that must contain a stop word
_FIRST_SPACELESS = "\u3040"
_MARKUP = re.compile(r"<item_\d+>|[{}]|<\|")
_FENCE = re.compile(r"\A```[a-z]*\s*(.*?)\s*```\Z", re.DOTALL)


class Rejection(enum.StrEnum):
    """Reason to reject a response; `PromptTexts.corrections` has a sentence for each."""

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


def parse_response(content: str) -> str | Rejection:
    """Returns the text of `{"text": "..."}`, with or without a Markdown fence.

    >>> read_answer('{"text": " a quiet  lamp"}'), read_answer("a lamp")
    ('a quiet lamp', <Rejection.NOT_JSON: 'not_json'>)
    """
    content = content.strip()
    if fence_match := _FENCE.match(content):
        content = fence_match[1]
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
    """Returns why a text is rejected, None if it is accepted.

    Args:
        text: One cleaned line.
        kind: The kind of text that was requested.
        language: The requested language; only English and Chinese are checked.
        titles: Titles that the text must not name, split into words.
        user: The user's number, which the text must not contain.
    """
    words = words_of(text).run
    if not words:
        return Rejection.EMPTY
    if _MARKUP.search(text) or (str(user) in words and len(str(user)) >= _MIN_USER_DIGITS):
        return Rejection.HOLDS_MARK
    shortest, longest = LENGTHS[kind]
    if not shortest <= count_words(words) <= longest:
        return Rejection.TOO_SHORT if count_words(words) < shortest else Rejection.TOO_LONG
    if not _is_language(
        language, words, is_sentence=kind in (TextKind.PREFERENCE, TextKind.REASON)
    ):
        return Rejection.WRONG_LANGUAGE
    if any(names_title(words, title) for title in titles):
        return Rejection.NAMES_ITEM
    return None


def count_words(words: Sequence[str]) -> float:
    """Counts words; a character of a script without spaces is half a word."""
    return sum(0.5 if is_spaceless(word) else 1.0 for word in words)


def names_title(words: Sequence[str], title: Sequence[str]) -> bool:
    """Returns whether a text contains a title, or enough adjacent words of it to identify it.

    Enough are four words with three content words among them. A title without content words is
    ignored: it cannot be distinguished from ordinary text.

    >>> names(("like", "blue", "lamp"), ("blue", "lamp")), names(("it",), ("it",))
    (True, False)
    """
    words, title = tuple(words), tuple(title)
    if _content_words(title) and _contains(title, words):
        return True
    for start in range(len(title)):
        end = start + 1
        while end < len(title) and count_words(title[start:end]) < _MIN_TITLE_WORDS:
            end += 1
        run = title[start:end]
        if count_words(run) < _MIN_TITLE_WORDS:
            return False
        if len(_content_words(run)) >= _MIN_CONTENT_WORDS and _contains(run, words):
            return True
    return False


def is_spaceless(word: str) -> bool:
    """Returns whether a word is a character of a script without spaces."""
    return len(word) == 1 and word >= _FIRST_SPACELESS and word.isalpha()


def _content_words(words: Sequence[str]) -> list[str]:
    return [w for w in words if w not in STOP_WORDS and (len(w) > 1 or is_spaceless(w))]


def _contains(run: tuple[str, ...], words: tuple[str, ...]) -> bool:
    if not set(run) <= set(words):
        return False
    return any(words[start : start + len(run)] == run for start in range(len(words) - len(run) + 1))


def _is_language(language: str, words: Sequence[str], *, is_sentence: bool) -> bool:
    """Returns whether words are in a language, judged by letters and stop words."""
    letter_words = [word for word in words if not word.isdigit()]
    if not letter_words:
        return True
    if language == "zh":
        return sum(map(is_spaceless, letter_words)) >= _MIN_CHINESE_SHARE * len(letter_words)
    if language != "en":
        return True
    letters = "".join(letter_words)
    latin = sum(letter.isascii() for letter in letters)
    if latin < _MIN_LATIN_SHARE * len(letters):
        return False
    return (
        not is_sentence
        or len(letter_words) < _MIN_SENTENCE_WORDS
        or not STOP_WORDS.isdisjoint(letter_words)
    )
