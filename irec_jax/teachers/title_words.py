"""Words of titles and labels, to find titles in other texts and compare texts with titles."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from irec_jax.word_overlap import STOP_WORDS, words_of


def split_words(text: str) -> tuple[str, ...]:
    """Splits a text into words, case folded; an ideograph is a word.

    >>> split_words("Men's {Care} 洗发")
    ('men', 's', 'care', '洗', '发')
    """
    return words_of(text).run


def stem(word: str) -> str:
    """Removes the ending of an English plural.

    >>> [stem(word) for word in ("brushes", "oils", "bodies", "gas")]
    ['brush', 'oil', 'body', 'gas']
    """
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("shes", "ches", "sses", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def content_stems(words: Sequence[str]) -> frozenset[str]:
    """Returns the stems of the content words; two adjacent ideographs form a stem.

    Args:
        words: As from `split_words`. Stop words and single letters have no stem.

    >>> sorted(content_stems(split_words("Oils for 洗发水")))
    ['oil', '发水', '洗发']
    """
    stems, previous_ideograph = set(), ""
    for word in words:
        if is_ideograph(word):
            if previous_ideograph:
                stems.add(previous_ideograph + word)
            previous_ideograph = word
        else:
            previous_ideograph = ""
            if len(word) > 1 and word not in STOP_WORDS:
                stems.add(stem(word))
    return frozenset(stems)


def is_ideograph(word: str) -> bool:
    """Returns whether a word is a character of a script without spaces between words."""
    return len(word) == 1 and ("\u3040" <= word <= "\u9fff" or "\uf900" <= word <= "\ufaff")


@dataclasses.dataclass(frozen=True, eq=False)
class TitleMatcher:
    """The titles of a catalog as word sequences, to find them in other texts.

    A title occurs in a text if its words are adjacent there, whatever their case and the
    punctuation between them. A title of stop words and single letters alone is left out: it
    cannot be distinguished from ordinary text.

    Attributes:
        titles: The words of each title.
        lengths: The different numbers of words of `titles`, ascending.
    """

    titles: frozenset[tuple[str, ...]]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, titles: Iterable[Sequence[str]]) -> "TitleMatcher":
        """Builds a matcher from titles that are split into words."""
        kept = frozenset(title for title in map(tuple, titles) if content_stems(title))
        return cls(kept, tuple(sorted({len(title) for title in kept})))

    def occurs_in(self, words: Sequence[str]) -> bool:
        """Returns whether any title occurs in a text that is split into words."""
        words = tuple(words)
        return any(
            words[start : start + length] in self.titles
            for length in self.lengths
            if length <= len(words)
            for start in range(len(words) - length + 1)
        )

    def within(self, vocabulary: frozenset[str]) -> "TitleMatcher":
        """Returns a matcher of the titles of two or more words, all of them in a vocabulary."""
        return TitleMatcher.of(
            title for title in self.titles if len(title) > 1 and vocabulary.issuperset(title)
        )

    def word_pairs(self) -> frozenset[tuple[str, str]]:
        """Returns all pairs of words that are adjacent in a title."""
        return frozenset(pair for title in self.titles for pair in itertools.pairwise(title))
