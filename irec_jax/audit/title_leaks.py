"""Leaks in the words of a query or a preference."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from irec_jax.audit.bias_tests import TYPED_TITLES, Counts, Measure
from irec_jax.audit.split_index import SplitIndex
from irec_jax.audit.text_leaks import (
    Finding,
    ItemNames,
    Problem,
    holds_number,
    item_tokens,
    slot_marks,
)
from irec_jax.log.split import Role
from irec_jax.random_draws import scramble
from irec_jax.text_cleaning import clean
from irec_jax.word_overlap import Words, ngrams, words_of

LATER_EVENTS = 50
"""How many of a user's next events a text is compared with."""

_SURE_DIGITS = 5  # shorter numbers are also years, prices and sizes
_SURE_WORDS = 3  # of the title of a later item, which nothing in a text has to do with
_KEPT_TITLES = 50_000
USERS, TITLES = "user numbers", "titles of one word"
_COINCIDENCES, _COUNTED = Measure.COINCIDENCES.value, Measure.COUNTED.value


class TitleWords(NamedTuple):
    """A title in words.

    Attributes:
        words: All of it.
        different: `words.run` as a set.
        ngrams: The runs of one and of two words of content.
    """

    words: Words
    different: frozenset[str]
    ngrams: tuple[frozenset[str], frozenset[str]]


class RequestText(NamedTuple):
    """A query or a preference, and its event.

    Attributes:
        text: As written in the prompt.
        words: The same in words.
        position: The event that it was written for.
        is_query: Whether it is a query.
        typed: Whether the user wrote it.
    """

    text: str
    words: Words
    position: int
    is_query: bool
    typed: bool


@dataclasses.dataclass(frozen=True, eq=False)
class TextLeaks:
    """Looks for titles and user numbers in texts that somebody wrote.

    A title of two words and more, or a number of five digits, occurs in a text for a reason. A
    shorter one can occur there by chance ("Her", or user 12), so it is only counted, beside how
    often the same texts hold that of another event, drawn at random: were it chance, both would
    be as many.

    Attributes:
        evidence: The split.
        names: How items are called.
        labels: `[items]` brand and categories.
        others: `[targets]` the positions that another event is drawn from.
    """

    evidence: SplitIndex
    names: ItemNames
    labels: Sequence[tuple[str, ...]]
    others: Int[np.ndarray, " targets"]
    _titles: dict[int, TitleWords] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def build(cls, evidence: SplitIndex, names: ItemNames, role: Role) -> "TextLeaks":
        """Reads the catalog of a split."""
        catalog = evidence.split.catalog
        columns = [catalog[name].to_list() for name in ("brand",) if name in catalog.columns]
        lists = catalog["categories"].to_list() if "categories" in catalog.columns else []
        labels = [
            tuple(str(label) for label in (*brand, *(categories or ())) if label)
            for brand, categories in zip(
                zip(*columns, strict=True) if columns else [()] * catalog.height,
                lists or [()] * catalog.height,
                strict=True,
            )
        ]
        return cls(evidence, names, labels, evidence.split.targets(role))

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name != "_anchors"}
        return {**kept, "_titles": {}}

    def title(self, item: int) -> TitleWords:
        """Returns the title of an item in words."""
        found = self._titles.get(item)
        if found is None:
            if len(self._titles) >= _KEPT_TITLES:
                self._titles.clear()
            words = words_of(self.names.titles[item] or self.names.written[item])
            pairs = (ngrams(words.content, 1), ngrams(words.content, 2))
            found = self._titles[item] = TitleWords(words, frozenset(words.run), pairs)
        return found

    @functools.cached_property
    def _anchors(self) -> "_Anchors":
        return _Anchors(self)

    def read(self, text: RequestText, counts: Counts) -> list[Problem]:
        """Says what a text gives away of what comes after it.

        Args:
            text: A text that the prompt shows while it hides the target.
            counts: Grows by what is counted of it.
        """
        found: list[Problem] = []
        if "{" in text.text and not text.typed:
            found += self._slots(text)
        if "<" in text.text and self.names.are_tokens:
            found += self._tokens(text)
        item: int = self.evidence.split.items.item(text.position)
        title, held = self.title(item), frozenset(text.words.run)
        whole = text.words.run
        if not (title.different or text.typed):
            found += self._signs(text, self.names.titles[item])
        if title.different <= held and _occurs(title, whole):
            if text.typed:
                counts[_COUNTED, "", TYPED_TITLES] += 1
            elif not self._explained(title, item, text):
                if len(title.words.content) > 1:
                    found.append((Finding.TARGET, f"'{self.names.titles[item]}' in '{text.text}'"))
                else:
                    counts[_COINCIDENCES, TITLES, "own"] += 1
        if not text.typed:
            if len(whole) >= _SURE_WORDS:
                found += self._later(text, held)
            self._compare(text, held, found, counts)
        return found

    def _slots(self, text: RequestText) -> list[Problem]:
        """Finds the marks of slots that are in no title."""
        items = [self.evidence.split.items.item(text.position)]
        titles = [self.names.titles[i] for i in items + self.evidence.before(text.position)]
        left = [mark for mark in slot_marks(text.text) if not any(mark in t for t in titles)]
        return [(Finding.SLOT, f"'{mark}' is left in '{text.text}'") for mark in left]

    def _signs(self, text: RequestText, title: str) -> list[Problem]:
        """Finds a title that has no words, such as one of emoji."""
        is_shown = not title.isascii() and title in text.text
        return [(Finding.TARGET, f"'{title}' in '{text.text}'")] if is_shown else []

    def _tokens(self, text: RequestText) -> list[Problem]:
        target: int = self.evidence.split.items.item(text.position)
        own = self.names.written[target].casefold()
        return [
            (Finding.TARGET if token == own else Finding.STRANGER, f"{token} in '{text.text}'")
            for token in item_tokens(text.text)
        ]

    def _later(self, text: RequestText, held: frozenset[str]) -> list[Problem]:
        later = self.evidence.later(text.position)[:LATER_EVENTS]
        # Hardly ever is there one, and this asks for all without a turn of Python's for each.
        if held.isdisjoint(map(self._anchors.__getitem__, later)):
            return []
        found, target = [], self.evidence.split.items.item(text.position)
        for item in later:
            title = self.title(item)
            if (
                title.different <= held
                and len(title.words.content) >= _SURE_WORDS
                and _occurs(title, text.words.run)
                and item != target
                and not self._explained(title, item, text)
            ):
                found.append((Finding.FUTURE, f"'{self.names.titles[item]}' in '{text.text}'"))
        return found

    def _compare(
        self,
        text: RequestText,
        held: frozenset[str],
        found: list[Problem],
        counts: Counts,
    ) -> None:
        """Looks for the user's number, and for the number and the title of another event."""
        users, items = self.evidence.users, self.evidence.split.items
        other = self.others.item(scramble(text.position) % len(self.others))
        user, stranger = users.item(text.position), users.item(other)
        if user >= 10 ** (_SURE_DIGITS - 1):
            if holds_number(text.text, user):
                found.append((Finding.USER, f"{user} in '{text.text}'"))
        elif str(user) in held and user != stranger:
            counts[_COINCIDENCES, USERS, "own"] += 1
        if stranger != user and stranger < 10 ** (_SURE_DIGITS - 1) and str(stranger) in held:
            counts[_COINCIDENCES, USERS, "other"] += 1
        item = items.item(other)
        title = self.title(item)
        if (
            title.different <= held
            and len(title.words.content) == 1
            and item != items.item(text.position)
            and _occurs(title, text.words.run)
            and not self._explained(title, item, text)
        ):
            counts[_COINCIDENCES, TITLES, "other"] += 1

    def _explained(self, title: TitleWords, item: int, text: RequestText) -> bool:
        """Says whether a title is also a name of something else that a text may speak of.

        Of a category or a brand of the item, say, or the end of a longer title in the history
        that a preference is written from.
        """
        history = () if text.is_query else self.evidence.before(text.position)
        about = [item, *history]
        if any(_occurs(title, words_of(name).run) for i in about for name in self.labels[i]):
            return True
        return any(_occurs(title, self.title(shown).words.run) for shown in history)


class _Anchors(dict[int, str]):
    """The longest word of the titles met so far, "" of one too short to look for."""

    def __init__(self, telling: TextLeaks) -> None:
        super().__init__()
        self._telling = telling

    def __missing__(self, item: int) -> str:
        if len(self) >= _KEPT_TITLES:
            self.clear()
        content = self._telling.title(item).words.content
        anchor = self[item] = max(content, key=len) if len(content) >= _SURE_WORDS else ""
        return anchor


def titles_of(evidence: SplitIndex) -> list[str]:
    """Returns `[items]` cleaned titles, "" for an item without a title."""
    return [clean(title or "") for title in evidence.split.catalog["title"].to_list()]


def _occurs(title: TitleWords, words: Sequence[str]) -> bool:
    """Says whether a title that says anything occurs in a text, word after word."""
    run = title.words.run
    if not title.words.content:
        return False
    return any(words[i : i + len(run)] == run for i in range(len(words) - len(run) + 1))
