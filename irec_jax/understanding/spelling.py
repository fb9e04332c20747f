"""Typing errors: unknown words that are one error away from a word of the log."""

import dataclasses
import functools
import string
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from spellchecker import SpellChecker

from irec_jax.understanding.lexicon import Lexicon
from irec_jax.understanding.spans import RequestWords
from irec_jax.understanding.words import base_form, is_letters

MIN_LETTERS = 3
RARE = 500
"""A dictionary word below this frequency is an error where it is near to the name of a value."""
FOREIGN_WORDS = 3
FOREIGN_SHARE = 0.4
"""Unknown words, and their share of all, from which a request is not corrected."""
DICTIONARIES = ("en",)
"""The languages that have a dictionary; in others nothing is corrected."""


class Correction(NamedTuple):
    """A word that was read as another one.

    Attributes:
        written: The user's word.
        read: What it was read as.
    """

    written: str
    read: str


@dataclasses.dataclass(frozen=True, eq=False)
class Speller:
    """Corrects the words of requests in a language.

    Attributes:
        lexicon: Names and words of the log.
        language: The words of the language's grammar.
        dictionary: Word -> frequency, of all words of the language.
    """

    lexicon: Lexicon
    language: RequestWords
    dictionary: Mapping[str, int]

    def correct(self, words: Sequence[str]) -> tuple[tuple[str, ...], tuple[Correction, ...]]:
        """Corrects words by one error.

        An error is a letter that is missing, wrong or there in excess, two letters that are
        swapped, or a space within the name of a value.

        Args:
            words: The request, as `split_request` splits it.

        Returns:
            The words, and what was changed.
        """
        read, changed = self._join(words)
        for place, word in enumerate(read):
            if is_letters(word) and word.isascii() and len(word) >= MIN_LETTERS:
                better = self._better(word)
                if better != word:
                    read[place] = better
                    changed.append(Correction(word, better))
        return tuple(read), tuple(changed)

    def _join(self, words: Sequence[str]) -> tuple[list[str], list[Correction]]:
        """Joins two words that are one in the name of a value, such as "rain proof"."""
        joined: list[str] = []
        changed = []
        for word in words:
            before = joined[-1] if joined else ""
            is_split = before + word in self._names and not self.lexicon.find((before, word))
            if before and is_letters(word) and is_letters(before) and is_split:
                joined[-1] = before + word
                changed.append(Correction(f"{before} {word}", before + word))
            else:
                joined.append(word)
        return joined, changed

    def unknown(self, words: Sequence[str]) -> tuple[str, ...]:
        """Returns the words of letters that neither log nor grammar nor dictionary has."""
        return tuple(word for word in words if is_letters(word) and not self._is_known(word))

    def is_foreign(self, words: Sequence[str]) -> bool:
        """Whether a request is of another language: many of its words are unknown."""
        unknown = len(self.unknown(words))
        return unknown >= FOREIGN_WORDS and unknown >= FOREIGN_SHARE * sum(map(is_letters, words))

    def _is_known(self, word: str) -> bool:
        base = base_form(word)
        return any(
            form in known
            for form in (word, base)
            for known in (self.lexicon.words, self.language.known, self._names, self.dictionary)
        )

    def _better(self, word: str) -> str:
        base = base_form(word)
        used = self.lexicon.words, self.language.known, self._names
        if any(form in known for form in (word, base) for known in used):
            return word
        frequency = max(self.dictionary.get(word, 0), self.dictionary.get(base, 0))
        if frequency >= RARE:
            return word
        near = _checker().edit_distance_1(word)
        candidates = near & self._names
        if not candidates and not frequency:
            candidates = near & (self.lexicon.words | self.language.known)
        return min(candidates, key=lambda other: self._distance(word, other), default=word)

    def _distance(self, word: str, other: str) -> tuple[bool, int, str]:
        """Swapped letters are likelier than others, and frequent words than rare ones."""
        is_swapped = sorted(word) == sorted(other)
        return not is_swapped, -self.dictionary.get(other, 0), other

    @functools.cached_property
    def _names(self) -> frozenset[str]:
        """The words of names, in singular and plural."""
        words = {
            word
            for table in (self.lexicon.values, self.language.levels)
            for phrase in table
            for word in phrase
            if is_letters(word)
        }
        return frozenset(words | {f"{word}s" for word in words if base_form(f"{word}s") == word})


@functools.cache
def dictionary(language: str) -> Mapping[str, int]:
    """Returns word -> frequency of one of `DICTIONARIES`."""
    return dict(SpellChecker(language=language).word_frequency.dictionary)


@functools.cache
def _checker() -> SpellChecker:
    checker = SpellChecker(language=None)
    checker.word_frequency.load_words([string.ascii_lowercase])  # the letters that it tries
    return checker
