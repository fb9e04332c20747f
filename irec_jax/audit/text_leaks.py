"""Kinds of problems in a record, and the search for them in a text that is not as expected."""

import collections
import dataclasses
import enum
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from irec_jax.instructions.forms import Slot
from irec_jax.instructions.slots import AnySlot

_SLOT = re.compile(r"\{(?:" + "|".join(slot.value for slot in Slot) + r")\}")
_TOKEN = re.compile(r"<item_\d+>")


class Finding(enum.StrEnum):
    """Kind of problem in a record; the value is its meaning."""

    TARGET = "the prompt names the item that it hides"
    FUTURE = "the record shows what its user did later, or in a later part of the split"
    USER = "the prompt holds the user's number"
    STRANGER = (
        "the prompt names an item that neither the history, the candidates nor what was popular "
        "explain"
    )
    HIDDEN = "the prompt holds a part of the answer"
    CANDIDATES = "the candidates are not the target and items of training that its user has not had"
    POPULAR = "an item named as popular was not popular in the training events of the days before"
    PROMPT = "the prompt is not what its template and events give"
    SLOT = "a slot is not filled"
    SPACES = "there are spaces at an end, or two in a row"
    LABEL = "user, item, scenario, task, strategy or seed are not those of its event"
    ROLE = "its event is not of the part of the split that it says"
    TEMPLATE = "its template or language is not one that it may be written with"
    ANSWER = "the answer is not what its events give, or cannot be read back to the item"
    EMPTY = "the prompt or the answer is empty"

    @property
    def label(self) -> str:
        """Its name in reports."""
        return self.name.lower()


Problem = tuple[Finding, str]

_FINDING_OF_SLOT: dict[AnySlot, Finding] = {
    Slot.CONTEXT: Finding.POPULAR,
    Slot.CANDIDATE: Finding.CANDIDATES,
    Slot.FIRST: Finding.CANDIDATES,
    Slot.SECOND: Finding.CANDIDATES,
    Slot.CANDIDATES: Finding.CANDIDATES,
}
"""The finding of an item that does not belong into a slot; `Finding.STRANGER` in other slots."""


@dataclasses.dataclass(frozen=True, eq=False)
class ItemNames:
    """Names of items, in prompts and in the catalog.

    Attributes:
        written: `[items]` names in prompts.
        titles: `[items]` cleaned titles of the catalog, "" for a missing one.
        separator: Text between two names.
    """

    written: Sequence[str]
    titles: Sequence[str]
    separator: str

    def join(self, items: Sequence[int]) -> str:
        """Returns the names of item numbers with the separator between them."""
        return self.separator.join([self.written[item] for item in items])

    def of(self, item: int) -> Iterator[str]:
        """Yields the names of an item, case folded."""
        yield self.written[item].casefold()
        if self.titles[item]:
            yield self.titles[item].casefold()

    @functools.cached_property
    def are_tokens(self) -> bool:
        """Whether each name is one token, so that it means the item wherever it occurs."""
        return all(item_tokens(name) == [name] for name in self.written)

    @functools.cached_property
    def shared(self) -> frozenset[str]:
        """Names in prompts that more than one item has."""
        times = collections.Counter(self.written)
        return frozenset(name for name, count in times.items() if count > 1)

    @functools.cached_property
    def known(self) -> frozenset[str]:
        """All names, case folded."""
        return frozenset(name for item in range(len(self.written)) for name in self.of(item))


def cut_text(
    text: str, literals: Sequence[str], slots: Sequence[Any], values: Mapping[Any, str]
) -> dict[Any, str] | None:
    """Cuts a prompt or an answer at its fixed text, and compares the slots that are known.

    Args:
        text: The prompt or the answer.
        literals: Its fixed text, one piece more than slots.
        slots: Its slots, or the parts of the answer, in order.
        values: Slot -> the text that belongs there; another slot may hold any text.

    Returns:
        The texts of the slots that `values` lacks; None if the text is not as expected.
    """
    fixed, free, last = [], [], literals[0]
    for slot, literal in zip(slots, literals[1:], strict=True):
        if slot in values:
            last += values[slot] + literal
        else:
            free.append(slot)
            fixed.append(last)
            last = literal
    if not free:
        return {} if text == last else None
    fixed.append(last)
    start, end = len(fixed[0]), len(text) - len(fixed[-1])
    if start > end or not (text.startswith(fixed[0]) and text.endswith(fixed[-1])):
        return None
    texts, rest = {}, text[start:end]
    for slot, literal in zip(free[:-1], fixed[1:-1], strict=True):
        texts[slot], literal, rest = rest.partition(literal)
        if not literal:
            return None
    texts[free[-1]] = rest
    return texts


def search_prompt(
    prompt: str,
    literals: Sequence[str],
    values: Mapping[AnySlot, str],
    items: Mapping[AnySlot, Sequence[int]],
    hidden: Mapping[str, Finding],
    names: ItemNames,
) -> list[Problem]:
    """Searches a prompt that is not as expected for all that it may not hold.

    Args:
        prompt: The prompt.
        literals: The fixed text of its template, () if the template is unknown.
        values: Slot -> the text that belongs there, "" if unknown.
        items: Slot -> the items that may be named there.
        hidden: Case-folded text that may occur nowhere else -> the finding that it is.
        names: Names of items.
    """
    rest, wrong_slots = _unexpected(prompt, literals, values, names.separator)
    found = [(Finding.SLOT, mark) for mark in slot_marks(rest)]
    rest = rest.casefold()
    allowed = [item for slot in wrong_slots for item in items.get(slot, ())]
    kinds = {**hidden, **{name: None for item in allowed for name in names.of(item)}}
    for text in sorted(filter(rest.__contains__, kinds), key=len, reverse=True):
        rest, times = re.subn(_alone(text), names.separator, rest)
        kind = kinds[text]
        found += [(kind, text)] if times and kind is not None else []
    pieces = map(str.strip, rest.split(names.separator.strip() or None))
    known = item_tokens(rest) or [piece for piece in pieces if piece in names.known]
    unknown = [_FINDING_OF_SLOT[slot] for slot in wrong_slots if slot in _FINDING_OF_SLOT]
    found += [((*unknown, Finding.STRANGER)[0], name) for name in known]
    return [(kind, f"'{what}' in '{prompt}'") for kind, what in dict.fromkeys(found)]


def _unexpected(
    prompt: str, literals: Sequence[str], values: Mapping[AnySlot, str], mask: str
) -> tuple[str, list[AnySlot]]:
    """Returns a prompt with `mask` for the expected texts, and the slots with another text."""
    wrong_slots, place = [], 0
    for slot, value in sorted(values.items(), key=lambda pair: -len(pair[1])):
        if value and value in prompt:
            prompt = prompt.replace(value, mask, 1)
        else:
            wrong_slots.append(slot)
    for literal in literals:
        start = prompt.find(literal, place)
        if start >= 0:
            prompt = prompt[:start] + mask + prompt[start + len(literal) :]
            place = start + len(mask)
    return prompt, wrong_slots


def holds_number(text: str, number: int) -> bool:
    """Returns whether a number occurs in a text without digits beside it."""
    written = str(number)
    return written in text and bool(re.search(rf"(?<!\d){written}(?!\d)", text))


def item_tokens(text: str) -> list[str]:
    """Returns the item tokens in a text, such as `<item_17>`."""
    return _TOKEN.findall(text.casefold())


def slot_marks(text: str) -> list[str]:
    """Returns the marks of slots in a text, such as `{history}`."""
    return _SLOT.findall(text)


def _alone(name: str) -> str:
    """Returns the pattern of a name that is not part of a longer word."""
    start = r"(?<![a-z0-9])" if name[:1].isascii() and name[:1].isalnum() else ""
    end = r"(?![a-z0-9])" if name[-1:].isascii() and name[-1:].isalnum() else ""
    return start + re.escape(name) + end
