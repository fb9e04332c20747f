"""The overlap of a text with a title, in words."""

import re
from collections.abc import Collection
from typing import NamedTuple

CJK_RANGES = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Chinese and Japanese characters, as ranges of a regular expression."""

# One ideograph is a word; elsewhere a word is a run of letters and digits.
_WORD = re.compile(rf"[{CJK_RANGES}]|[^\W_{CJK_RANGES}]+")
_CJK_CHARACTER = re.compile(rf"[{CJK_RANGES}]")
_ASCII_WORD = re.compile(r"[a-z0-9]+")  # the same where nothing else occurs, in half the time

_STOP_WORDS = """
a about after all also an and any are as at be been but by can could did do does for from had
has have he her him his how i if in into is it its just like likes me more most my new no not
of off on one only or other our out over own s she should so some such t than that the their
them then there these they this those to too under until up very was we were what when where
which while who will with would you your
的 了 和 是 在 我 有 不 这 那 一 个 你 他 她 们 就 也 都 与 及 或 要 想 给 用 之
"""

STOP_WORDS = frozenset(_STOP_WORDS.split())
"""Words that say nothing of an item; counted in no overlap."""


class Words(NamedTuple):
    """A text in words.

    Attributes:
        run: All of them, in order, case folded.
        content: Those that are no stop words, in order.
    """

    run: tuple[str, ...]
    content: tuple[str, ...]


def is_cjk(word: str) -> bool:
    """Returns whether a word is one Chinese or Japanese character.

    >>> is_cjk("蓝"), is_cjk("é"), is_cjk("蓝色")
    (True, False, False)
    """
    return _CJK_CHARACTER.fullmatch(word) is not None


def words_of(text: str) -> Words:
    """Cuts a text into words.

    >>> words_of("The Café-Lamp, 2nd").content, words_of("蓝色 lamp").run
    (('café', 'lamp', '2nd'), ('蓝', '色', 'lamp'))
    """
    text = text.casefold()
    run = (_ASCII_WORD if text.isascii() else _WORD).findall(text)
    return Words(tuple(run), tuple([word for word in run if word not in STOP_WORDS]))


def shared_share(text: Collection[str], title: Collection[str]) -> float | None:
    """Returns the share of a text's different words that a title has too, None without words.

    >>> shared_share(("red", "lamp", "red"), ("lamp", "large"))
    0.5
    """
    words = set(text)
    return len(words.intersection(title)) / len(words) if words else None
