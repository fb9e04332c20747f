"""Speaks one language about one catalog, and never says a title."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from irec_jax.teachers.phrases import Pattern, Phrases, pattern_of
from irec_jax.teachers.synonyms import Synonym, Synonyms
from irec_jax.teachers.title_words import Titles, tokens

_Words = tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class TextGenerator:
    """The wordings of a language that are safe for a catalog.

    Everything that texts are put together from holds no title of the catalog. So a text can
    only hold one across a seam, which is looked for where the two words at a seam follow one
    another in a title that can be said at all.

    Attributes:
        patterns: Aspect -> its wordings.
        values: Slot -> key -> the words for it.
        cues: Kind of cue -> for each cue its wordings; none where all held a title.
        ends: Text of a slot -> its first and last word; empty where no title can be said.
        risky: Titles that could be said across a seam.
        pairs: Their words that follow one another.
        edgy: Texts of slots that begin with the second word of a pair, or end with the first.
    """

    patterns: Mapping[str, tuple[Pattern, ...]]
    values: Mapping[str, Mapping[str, _Words]]
    cues: Mapping[str, tuple[_Words, ...]]
    ends: Mapping[str, tuple[str, str]]
    risky: Titles
    pairs: frozenset[tuple[str, str]]
    edgy: frozenset[str]
    _fits: dict[tuple[str, ...], tuple[Pattern, ...]] = dataclasses.field(
        default_factory=dict, repr=False
    )

    @classmethod
    def build(
        cls, phrases: Phrases, cues: Synonyms, titles: Titles, labels: Sequence[str]
    ) -> "TextGenerator":
        """Leaves out what holds a title.

        Args:
            phrases: The language.
            cues: The words for what items have and are for.
            titles: Of the catalog.
            labels: Categories and brands that will be said; none holds a title.
        """
        patterns = {
            aspect: tuple(p for p in found if not any(map(titles.found, _literals(p))))
            for aspect, found in phrases.patterns.items()
        }
        values = {
            slot: {key: _safe(words, titles) for key, words in table.items()}
            for slot, table in phrases.values.items()
        }
        kinds = {field.name: getattr(cues, field.name) for field in dataclasses.fields(cues)}
        said = {kind: _worded(found, phrases.language, titles) for kind, found in kinds.items()}
        fills = set(labels)
        for table in (*values.values(), dict(enumerate(itertools.chain(*said.values())))):
            fills.update(itertools.chain(*table.values()))
        split = {fill: tokens(fill) for fill in fills}
        every = itertools.chain(*patterns.values())
        spoken = {word for p in every for run in _literals(p) for word in run}
        risky = titles.of_words(frozenset(spoken).union(*split.values()))
        ends = {fill: (run[0], run[-1]) for fill, run in split.items()} if risky.runs else {}
        pairs = risky.pairs()
        lasts, firsts = ({pair[side] for pair in pairs} for side in (0, 1))
        edgy = frozenset(
            fill for fill, (first, last) in ends.items() if first in firsts or last in lasts
        )
        return cls(patterns, values, said, ends, risky, pairs, edgy)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fits": {}}

    def word(self, slot: str, key: str, draw: int) -> str:
        """Gives a word for a value, "" where none is safe."""
        words = self.values[slot][key]
        return words[draw % len(words)] if words else ""

    def cue(self, kind: str, number: int, draw: int) -> str:
        """Gives a wording of a cue, "" where it is none or no wording is safe."""
        if number < 0:
            return ""
        texts = self.cues[kind][number]
        return texts[draw % len(texts)] if texts else ""

    def say(self, aspect: str, values: Mapping[str, str], draw: int) -> str:
        """Says something of what is known.

        Args:
            aspect: One of `ASPECTS`.
            values: Slot -> its text; the first one says something on its own.
            draw: Chooses the wording.
        """
        fits = self._fits.get((aspect, *values)) or self._find(aspect, values)
        choice = draw % len(fits)
        if not self.pairs:
            return fits[choice].text.format_map(values)
        for step in range(len(fits)):
            pattern = fits[(choice + step) % len(fits)]
            text = pattern.text.format_map(values)
            if not (self._may_cross(pattern, values) and self.risky.found(tokens(text))):
                return text
        return next(iter(values.values()))

    def _find(self, aspect: str, values: Mapping[str, str]) -> tuple[Pattern, ...]:
        """Finds the wordings that say all of what is known, or all but one thing."""
        fits = [p for p in self.patterns[aspect] if values.keys() >= set(p.slots)]
        least = max((len(p.slots) for p in fits), default=1) - 1
        chosen = tuple(p for p in fits if len(p.slots) >= least)
        if not chosen:
            slot = next(iter(values))
            chosen = (pattern_of(f"{{{slot}}}", (slot,), ("", "")),)
        self._fits[aspect, *values] = chosen
        return chosen

    def _may_cross(self, pattern: Pattern, values: Mapping[str, str]) -> bool:
        """Says whether two words at a seam follow one another in a title."""
        if self.edgy.isdisjoint(values.values()):
            return False  # each seam has the text of a slot on at least one side
        last = ""
        for literal, slot in zip(pattern.seams, (*pattern.slots, ""), strict=True):
            if literal:
                if (last, literal[0]) in self.pairs:
                    return True
                last = literal[1]
            if slot:
                first, end = self.ends[values[slot]]
                if (last, first) in self.pairs:
                    return True
                last = end
        return False


def _literals(pattern: Pattern) -> list[_Words]:
    return [tokens(literal) for literal in pattern.literals]


def _safe(texts: Iterable[str], titles: Titles) -> _Words:
    return tuple(text for text in texts if not titles.found(tokens(text)))


def _worded(cues: Iterable[Synonym], language: str, titles: Titles) -> tuple[_Words, ...]:
    return tuple(_safe(cue.texts[language], titles) for cue in cues)
