"""Search of the texts that a user or a teacher wrote for titles and user numbers."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from irec_jax.audit.bias_tests import TYPED_TITLES, Counts, Measure
from irec_jax.audit.expectations import Expectations
from irec_jax.audit.split_index import SplitIndex
from irec_jax.audit.text_leaks import (
    Finding,
    ItemNames,
    Problem,
    holds_number,
    item_tokens,
    slot_marks,
)
from irec_jax.instructions.forms import Part, Slot
from irec_jax.random_draws import scramble
from irec_jax.word_overlap import Words, words_of

LATER_EVENTS = 50
"""Number of a user's next events whose titles are searched for."""

USERS, TITLES = "user numbers", "titles of one word"

_SURE_NUMBER = 10_000  # smaller numbers are also years, prices and sizes
_SURE_WORDS = 3  # shorter titles of other items also occur by chance
_KEPT_TITLES = 50_000


class TitleWords(NamedTuple):
    """Words of a title.

    Attributes:
        run: All of them.
        content: The content words.
        longest: The longest content word, "" without one.
    """

    run: tuple[str, ...]
    content: tuple[str, ...]
    longest: str


class TitleCache(dict[int, TitleWords]):
    """Item number -> `TitleWords`, computed when it is first asked for."""

    def __init__(self, names: ItemNames) -> None:
        super().__init__()
        self.names = names

    def __missing__(self, item: int) -> TitleWords:
        if len(self) >= _KEPT_TITLES:
            self.clear()
        words = words_of(self.names.titles[item] or self.names.written[item])
        title = self[item] = TitleWords(*words, max(words.content, key=len, default=""))
        return title


class RequestText(NamedTuple):
    """A text in the prompt of a record.

    Attributes:
        expected: The record.
        text: As in the prompt.
        words: Its words.
        is_query: Whether it is a query; another text may hold the titles of earlier events.
        is_typed: Whether the user typed it.
    """

    expected: Expectations
    text: str
    words: Words
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
        others: `[targets]` positions from which the other event is drawn.
        titles: The words of titles.
    """

    split_index: SplitIndex
    names: ItemNames
    others: Int[np.ndarray, " targets"]
    titles: TitleCache

    def read(self, text: RequestText, counts: Counts) -> list[Problem]:
        """Returns the leaks in a text.

        Args:
            text: The text.
            counts: Incremented by typed titles, short titles and short numbers.
        """
        index, titles, words = self.split_index, self.titles, frozenset(text.words.run)
        item, position = text.expected.target, text.expected.position
        task = text.expected.profile.task
        answers = text.expected.items[Slot.HISTORY] if Part.HISTORY in task.answer_parts else ()
        found = self._marks(text, answers) if "<" in text.text or "{" in text.text else []
        if text.is_typed:
            if task.hides_target and self._is_named(text, words, item):
                counts[Measure.COUNTED, "", TYPED_TITLES] += 1
            return found
        later = index.later(position)[:LATER_EVENTS]
        for i in [i for i in (*answers, *later) if titles[i].longest in words]:
            is_sure = len(titles[i].content) >= _SURE_WORDS
            if is_sure and i != item and self._is_named(text, words, i):
                finding = Finding.HIDDEN if i in answers else Finding.FUTURE
                found.append((finding, f"'{self.names.titles[i]}' in '{text.text}'"))
        user = index.users.item(position)
        if user >= _SURE_NUMBER and holds_number(text.text, user):
            found.append((Finding.USER, f"{user} in '{text.text}'"))
        if task.hides_target:
            title = titles[item]
            is_sure = len(title.content) > 1 and self._is_named(text, words, item)
            if is_sure or (not title.run and self._holds_signs(text, item)):
                found.append((Finding.TARGET, f"'{self.names.titles[item]}' in '{text.text}'"))
            self._count_coincidences(text, words, counts)
        return found

    def _marks(self, text: RequestText, answers: Sequence[int]) -> list[Problem]:
        """Finds the tokens of items, and the marks of slots that are in no title."""
        found, item, expected = [], text.expected.target, text.expected
        before = self.split_index.before(expected.position)
        if "<" in text.text and self.names.are_tokens:
            written = self.names.written
            kinds = {written[i].casefold(): Finding.HIDDEN for i in answers}
            kinds[written[item].casefold()] = Finding.TARGET
            explained = () if text.is_query else (*before, *expected.items.get(Slot.CANDIDATES, ()))
            names = {written[i].casefold() for i in explained} - set(kinds)
            tokens = [token for token in item_tokens(text.text) if token not in names]
            found += [(kinds.get(token, Finding.STRANGER), token) for token in tokens]
        if "{" in text.text and not text.is_typed:
            items = (item, *before)
            titles = " ; ".join(self.names.titles[i] for i in items)
            found += [(Finding.SLOT, m) for m in slot_marks(text.text) if m not in titles]
        return [(kind, f"'{what}' in '{text.text}'") for kind, what in found]

    def _holds_signs(self, text: RequestText, item: int) -> bool:
        """Returns whether a text holds a title without words, such as one of emoji."""
        title = self.names.titles[item]
        return not title.isascii() and title in text.text

    def _count_coincidences(self, text: RequestText, words: frozenset[str], counts: Counts) -> None:
        """Counts the short number and the one-word title of the event, and of another one."""
        users, items = self.split_index.users, self.split_index.split.items
        position = text.expected.position
        other = self.others.item(scramble(position) % len(self.others))
        for cell, own, compared in (("own", position, other), ("other", other, position)):
            user, item = users.item(own), items.item(own)
            if str(user) in words and user < _SURE_NUMBER and user != users.item(compared):
                counts[Measure.COINCIDENCES, USERS, cell] += 1
            if (
                self.titles[item].longest in words
                and len(self.titles[item].content) == 1
                and (own == position or item != items.item(position))
                and self._is_named(text, words, item)
            ):
                counts[Measure.COINCIDENCES, TITLES, cell] += 1

    def _is_named(self, text: RequestText, words: frozenset[str], item: int) -> bool:
        """Returns whether a text holds the title of an item, and for no other reason.

        Other reasons: the title is a category or brand of an item that the text is about, or
        occurs in the title of an earlier event, unless the text is a query. They do not count in
        a text that the user typed.
        """
        title = self.titles[item]
        if title.longest not in words or not _occurs(title, text.words.run):
            return False
        if text.is_typed:
            return True
        before = [] if text.is_query else self.split_index.before(text.expected.position)
        catalog, labels = self.split_index.split.catalog, []
        for i in (item, *before):
            row = catalog.row(i, named=True)
            labels += [row.get("brand"), *(row.get("categories") or ())]
        others = [words_of(str(label)).run for label in labels if label]
        others += [self.titles[i].run for i in before]
        return not any(_occurs(title, run) for run in others)


def _occurs(title: TitleWords, run: Sequence[str]) -> bool:
    """Returns whether the words of a title occur in a row in a text."""
    own = title.run
    return any(run[i : i + len(own)] == own for i in range(len(run) - len(own) + 1))
