"""Search of queries and preferences for titles and user numbers."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from irec_jax.audit.bias_tests import TYPED_TITLES, CellCounts, Measure
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
"""Number of a user's next events whose titles are searched for."""

_SURE_NUMBER = 10_000  # smaller numbers are also years, prices and sizes
_SURE_WORDS = 3  # shorter titles of later items also occur by chance
_KEPT_TITLES = 50_000
USERS, TITLES = "user numbers", "titles of one word"
_COINCIDENCES, _TOTALS = Measure.COINCIDENCES.value, Measure.TOTALS.value


class TitleWords(NamedTuple):
    """Words of a title.

    Attributes:
        words: All words and the content words.
        different: `words.run` as a set.
        ngrams: Content words, and pairs of them.
    """

    words: Words
    different: frozenset[str]
    ngrams: tuple[frozenset[str], frozenset[str]]


class RequestText(NamedTuple):
    """A query or a preference of a prompt.

    Attributes:
        text: As in the prompt.
        words: Its words.
        position: Event of the record.
        is_query: Whether it is a query.
        is_typed: Whether the user typed it.
    """

    text: str
    words: Words
    position: int
    is_query: bool
    is_typed: bool


@dataclasses.dataclass(frozen=True, eq=False)
class TextLeaks:
    """Searches written texts for titles and user numbers.

    A title of two or more content words, or a number of five digits, is a leak. A shorter one
    can occur by chance ("Her", or user 12): it is counted, and so is that of another event drawn
    at random. Under chance both counts are equally likely.

    Attributes:
        split_index: The split.
        names: Names of items.
        labels: `[items]` brand and categories.
        others: `[targets]` positions from which the other event is drawn.
    """

    split_index: SplitIndex
    names: ItemNames
    labels: Sequence[tuple[str, ...]]
    others: Int[np.ndarray, " targets"]
    _titles: dict[int, TitleWords] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def build(cls, split_index: SplitIndex, names: ItemNames, role: Role) -> "TextLeaks":
        """Reads the brands and categories of a catalog."""
        catalog = split_index.split.catalog
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
        return cls(split_index, names, labels, split_index.split.targets(role))

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name != "_anchors"}
        return {**kept, "_titles": {}}

    def title(self, item: int) -> TitleWords:
        """Returns the words of an item's title."""
        title = self._titles.get(item)
        if title is None:
            if len(self._titles) >= _KEPT_TITLES:
                self._titles.clear()
            words = words_of(self.names.titles[item] or self.names.written[item])
            pairs = (ngrams(words.content, 1), ngrams(words.content, 2))
            title = self._titles[item] = TitleWords(words, frozenset(words.run), pairs)
        return title

    @functools.cached_property
    def _anchors(self) -> "_Anchors":
        return _Anchors(self)

    def read(self, text: RequestText, counts: CellCounts) -> list[Problem]:
        """Returns the leaks in a text.

        Args:
            text: A text of a prompt that hides the target.
            counts: Incremented by short titles and numbers.
        """
        problems: list[Problem] = []
        if "{" in text.text and not text.is_typed:
            problems += self._slots(text)
        if "<" in text.text and self.names.are_tokens:
            problems += self._tokens(text)
        item: int = self.split_index.split.items.item(text.position)
        title, words = self.title(item), frozenset(text.words.run)
        run = text.words.run
        if not (title.different or text.is_typed):
            problems += self._signs(text, self.names.titles[item])
        if title.different <= words and _occurs(title, run):
            if text.is_typed:
                counts[_TOTALS, "", TYPED_TITLES] += 1
            elif not self._explained(title, item, text):
                if len(title.words.content) > 1:
                    problems.append(
                        (Finding.TARGET, f"'{self.names.titles[item]}' in '{text.text}'")
                    )
                else:
                    counts[_COINCIDENCES, TITLES, "own"] += 1
        if not text.is_typed:
            if len(run) >= _SURE_WORDS:
                problems += self._later(text, words)
            problems += self._user_number(text)
            self._count_coincidences(text, words, counts)
        return problems

    def _slots(self, text: RequestText) -> list[Problem]:
        """Finds marks of slots that are not part of a title of the user."""
        items = [self.split_index.split.items.item(text.position)]
        titles = [self.names.titles[i] for i in items + self.split_index.before(text.position)]
        left = [mark for mark in slot_marks(text.text) if not any(mark in t for t in titles)]
        return [(Finding.SLOT, f"'{mark}' is not filled in '{text.text}'") for mark in left]

    def _signs(self, text: RequestText, title: str) -> list[Problem]:
        """Finds a title without words, such as one of emoji."""
        occurs = not title.isascii() and title in text.text
        return [(Finding.TARGET, f"'{title}' in '{text.text}'")] if occurs else []

    def _tokens(self, text: RequestText) -> list[Problem]:
        target: int = self.split_index.split.items.item(text.position)
        own = self.names.written[target].casefold()
        return [
            (
                Finding.TARGET if token == own else Finding.UNEXPLAINED_ITEM,
                f"{token} in '{text.text}'",
            )
            for token in item_tokens(text.text)
        ]

    def _later(self, text: RequestText, words: frozenset[str]) -> list[Problem]:
        later = self.split_index.later(text.position)[:LATER_EVENTS]
        # Most texts hold no later title: one C call excludes all of them.
        if words.isdisjoint(map(self._anchors.__getitem__, later)):
            return []
        problems, target = [], self.split_index.split.items.item(text.position)
        for item in later:
            title = self.title(item)
            if (
                title.different <= words
                and len(title.words.content) >= _SURE_WORDS
                and _occurs(title, text.words.run)
                and item != target
                and not self._explained(title, item, text)
            ):
                problems.append((Finding.FUTURE, f"'{self.names.titles[item]}' in '{text.text}'"))
        return problems

    def _user_number(self, text: RequestText) -> list[Problem]:
        user = self.split_index.users.item(text.position)
        is_leak = user >= _SURE_NUMBER and holds_number(text.text, user)
        return [(Finding.USER, f"{user} in '{text.text}'")] if is_leak else []

    def _count_coincidences(
        self, text: RequestText, words: frozenset[str], counts: CellCounts
    ) -> None:
        """Counts the user's short number, and the number and one-word title of another event."""
        users, items = self.split_index.users, self.split_index.split.items
        other = self.others.item(scramble(text.position) % len(self.others))
        user, other_user = users.item(text.position), users.item(other)
        if user != other_user:
            if user < _SURE_NUMBER and str(user) in words:
                counts[_COINCIDENCES, USERS, "own"] += 1
            if other_user < _SURE_NUMBER and str(other_user) in words:
                counts[_COINCIDENCES, USERS, "other"] += 1
        item = items.item(other)
        title = self.title(item)
        if (
            title.different <= words
            and len(title.words.content) == 1
            and item != items.item(text.position)
            and _occurs(title, text.words.run)
            and not self._explained(title, item, text)
        ):
            counts[_COINCIDENCES, TITLES, "other"] += 1

    def _explained(self, title: TitleWords, item: int, text: RequestText) -> bool:
        """Returns whether a text may hold a title for another reason.

        It may be a category or a brand of the item, or part of a longer title in the history
        that a preference is written from.
        """
        history = () if text.is_query else self.split_index.before(text.position)
        about = [item, *history]
        if any(_occurs(title, words_of(name).run) for i in about for name in self.labels[i]):
            return True
        return any(_occurs(title, self.title(shown).words.run) for shown in history)


class _Anchors(dict[int, str]):
    """Cache: item -> longest content word of its title, "" for a title that is too short."""

    def __init__(self, leaks: TextLeaks) -> None:
        super().__init__()
        self._leaks = leaks

    def __missing__(self, item: int) -> str:
        if len(self) >= _KEPT_TITLES:
            self.clear()
        content = self._leaks.title(item).words.content
        anchor = self[item] = max(content, key=len) if len(content) >= _SURE_WORDS else ""
        return anchor


def titles_of(split_index: SplitIndex) -> list[str]:
    """Returns `[items]` cleaned titles, "" for a missing one."""
    return [clean(title or "") for title in split_index.split.catalog["title"].to_list()]


def _occurs(title: TitleWords, words: Sequence[str]) -> bool:
    """Returns whether the words of a title with content occur in a row in a text."""
    run = title.words.run
    if not title.words.content:
        return False
    return any(words[i : i + len(run)] == run for i in range(len(words) - len(run) + 1))
