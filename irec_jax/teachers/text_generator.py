"""Texts from the phrases of one language, without any title of a catalog."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from irec_jax.teachers.phrases import Pattern, Phrases, make_pattern
from irec_jax.teachers.synonyms import Synonym, Synonyms
from irec_jax.teachers.title_words import TitleMatcher, split_words

_Texts = tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class TextGenerator:
    """Fills the patterns of a language; no generated text contains a title of the catalog.

    No pattern or value contains a title. A text can therefore contain one only across the border
    of a literal and a value. `generate` searches for titles only where the two words at such a
    border are adjacent in a title that these phrases can form at all.

    Attributes:
        patterns: Aspect -> its patterns.
        values: Slot -> key -> texts for it.
        synonyms: Table of `Synonyms` -> for each synonym its texts; empty if all contain titles.
        end_words: Value of a slot -> its first and last word; empty if no title can be formed.
        formable: Titles that could be formed across a border.
        word_pairs: Pairs of words that are adjacent in a title of `formable`.
        border_values: Values of slots that begin with the second word of a pair or end with the
            first.
    """

    patterns: Mapping[str, tuple[Pattern, ...]]
    values: Mapping[str, Mapping[str, _Texts]]
    synonyms: Mapping[str, tuple[_Texts, ...]]
    end_words: Mapping[str, tuple[str, str]]
    formable: TitleMatcher
    word_pairs: frozenset[tuple[str, str]]
    border_values: frozenset[str]
    _fitting: dict[tuple[str, ...], tuple[Pattern, ...]] = dataclasses.field(
        default_factory=dict, repr=False
    )

    @classmethod
    def build(
        cls, phrases: Phrases, synonyms: Synonyms, titles: TitleMatcher, labels: Sequence[str]
    ) -> "TextGenerator":
        """Builds a generator and removes all patterns and values that contain a title.

        Args:
            phrases: Patterns and values of one language.
            synonyms: Synonyms of the domain.
            titles: Titles of the catalog.
            labels: Categories and brands that fill slots; none contains a title.
        """
        patterns = {
            aspect: tuple(p for p in group if not any(map(titles.occurs_in, _literals(p))))
            for aspect, group in phrases.patterns.items()
        }
        values = {
            slot: {key: _without_titles(texts, titles) for key, texts in table.items()}
            for slot, table in phrases.values.items()
        }
        tables = {f.name: getattr(synonyms, f.name) for f in dataclasses.fields(synonyms)}
        synonym_texts = {
            name: _synonym_texts(table, phrases.language, titles) for name, table in tables.items()
        }
        fills = set(labels)
        for table in (*values.values(), dict(enumerate(itertools.chain(*synonym_texts.values())))):
            fills.update(itertools.chain(*table.values()))
        fill_words = {fill: split_words(fill) for fill in fills}
        vocabulary = {
            word
            for pattern in itertools.chain(*patterns.values())
            for words in _literals(pattern)
            for word in words
        }
        formable = titles.within(frozenset(vocabulary).union(*fill_words.values()))
        end_words = {}
        if formable.titles:
            end_words = {fill: (words[0], words[-1]) for fill, words in fill_words.items()}
        pairs = formable.word_pairs()
        firsts, seconds = ({pair[side] for pair in pairs} for side in (0, 1))
        border_values = frozenset(
            fill for fill, (first, last) in end_words.items() if first in seconds or last in firsts
        )
        return cls(patterns, values, synonym_texts, end_words, formable, pairs, border_values)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fitting": {}}

    def value(self, slot: str, key: str, draw: int) -> str:
        """Returns a text for a key of a slot, "" if all contain titles."""
        texts = self.values[slot][key]
        return texts[draw % len(texts)] if texts else ""

    def synonym(self, table: str, number: int, draw: int) -> str:
        """Returns a text of a synonym, "" if `number` is negative or all texts contain titles."""
        if number < 0:
            return ""
        texts = self.synonyms[table][number]
        return texts[draw % len(texts)] if texts else ""

    def generate(self, aspect: str, values: Mapping[str, str], draw: int) -> str:
        """Fills a pattern.

        Args:
            aspect: One of `ASPECTS`.
            values: Slot -> its text; not empty. If every pattern forms a title, the first text is
                returned alone.
            draw: A random number that selects the pattern.
        """
        patterns = self._fitting.get((aspect, *values)) or self._find_patterns(aspect, values)
        choice = draw % len(patterns)
        if not self.word_pairs:
            return patterns[choice].text.format_map(values)
        for step in range(len(patterns)):
            pattern = patterns[(choice + step) % len(patterns)]
            text = pattern.text.format_map(values)
            if not (
                self._may_form_title(pattern, values) and self.formable.occurs_in(split_words(text))
            ):
                return text
        return next(iter(values.values()))

    def _find_patterns(self, aspect: str, values: Mapping[str, str]) -> tuple[Pattern, ...]:
        """Returns the patterns that use all slots in `values`, or all but one."""
        fitting = [p for p in self.patterns[aspect] if values.keys() >= set(p.slots)]
        min_slots = max((len(p.slots) for p in fitting), default=1) - 1
        chosen = tuple(p for p in fitting if len(p.slots) >= min_slots)
        if not chosen:
            slot = next(iter(values))
            chosen = (make_pattern(f"{{{slot}}}", (slot,), ("", "")),)
        self._fitting[aspect, *values] = chosen
        return chosen

    def _may_form_title(self, pattern: Pattern, values: Mapping[str, str]) -> bool:
        """Returns whether the words at any border are adjacent in a title."""
        if self.border_values.isdisjoint(values.values()):
            return False  # each border has the value of a slot on at least one side
        last = ""
        for literal, slot in zip(pattern.seams, (*pattern.slots, ""), strict=True):
            if literal:
                if (last, literal[0]) in self.word_pairs:
                    return True
                last = literal[1]
            if slot:
                value_first, value_last = self.end_words[values[slot]]
                if (last, value_first) in self.word_pairs:
                    return True
                last = value_last
        return False


def _literals(pattern: Pattern) -> list[_Texts]:
    return [split_words(literal) for literal in pattern.literals]


def _without_titles(texts: Iterable[str], titles: TitleMatcher) -> _Texts:
    return tuple(text for text in texts if not titles.occurs_in(split_words(text)))


def _synonym_texts(
    synonyms: Iterable[Synonym], language: str, titles: TitleMatcher
) -> tuple[_Texts, ...]:
    return tuple(_without_titles(synonym.texts[language], titles) for synonym in synonyms)
