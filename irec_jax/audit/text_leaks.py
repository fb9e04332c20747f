"""Kinds of problems in a record, and the search for them in a prompt that is not as expected."""

import collections
import dataclasses
import enum
import functools
import re
from collections.abc import Iterator, Mapping, Sequence

from irec_jax.instructions.forms import Slot

_SLOT = re.compile(r"\{(?:" + "|".join(slot.value for slot in Slot) + r")\}")
_TOKEN = re.compile(r"<item_\d+>")
_MASK = " \x00 "


class Finding(enum.Enum):
    """Kind of problem in a record; the value is its name in reports."""

    TARGET = "target"
    FUTURE = "future"
    USER = "user"
    STRANGER = "stranger"
    HIDDEN = "hidden"
    CANDIDATES = "candidates"
    POPULAR = "popular"
    TEXT = "text"
    PROMPT = "prompt"
    SLOT = "slot"
    SPACES = "spaces"
    LABEL = "label"
    ROLE = "role"
    TEMPLATE = "template"
    ANSWER = "answer"
    EMPTY = "empty"


MEANINGS = {
    Finding.TARGET: "the prompt names the item that it hides",
    Finding.FUTURE: "the record shows what its user did later, or in a later part of the split",
    Finding.USER: "the prompt holds the user's number",
    Finding.STRANGER: "the prompt names an item that neither the history, the candidates nor what "
    "was popular explain",
    Finding.HIDDEN: "the prompt holds a part of the answer",
    Finding.CANDIDATES: "the candidates are not the target and items of training that its user "
    "has not had",
    Finding.POPULAR: "an item named as popular was not popular in the training events of the "
    "days before",
    Finding.TEXT: "the query or the preference is not the one of its event",
    Finding.PROMPT: "the prompt is not what its template and events give",
    Finding.SLOT: "a slot is not filled",
    Finding.SPACES: "there are spaces at an end, or two in a row",
    Finding.LABEL: "user, item, scenario, task, strategy or seed are not those of its event",
    Finding.ROLE: "its event is not of the part of the split that it says",
    Finding.TEMPLATE: "its template or language is not one that it may be written with",
    Finding.ANSWER: "the answer is not what its events give, or cannot be read back to the item",
    Finding.EMPTY: "the prompt or the answer is empty",
}

Problem = tuple[Finding, str]

_STRANGER_IN = {
    Slot.CONTEXT.value: Finding.POPULAR,
    Slot.CANDIDATE.value: Finding.CANDIDATES,
    Slot.FIRST.value: Finding.CANDIDATES,
    Slot.SECOND.value: Finding.CANDIDATES,
    Slot.CANDIDATES.value: Finding.CANDIDATES,
}
_OTHERWISE_IN = {
    **_STRANGER_IN,
    Slot.QUERY.value: Finding.TEXT,
    Slot.PREFERENCE.value: Finding.TEXT,
}


@dataclasses.dataclass(frozen=True)
class TemplatePieces:
    """A template, cut into what the audit reads it by.

    Attributes:
        first: The text before the first slot.
        pieces: Each slot and the text behind it.
    """

    first: str
    pieces: tuple[tuple[str, str], ...]

    @property
    def slots(self) -> list[str]:
        """Its slots."""
        return [slot for slot, _ in self.pieces]


@dataclasses.dataclass(frozen=True)
class ShownValues:
    """Values that a prompt may show, and those that it hides.

    Attributes:
        values: Slot -> the text that belongs there.
        items: Slot -> the items that may be named there.
        target: The item that it hides, None where it is shown.
        later: Items of the user's later events.
        texts: Texts that are a part of the answer.
        answers: Items that are a part of the answer, besides the target.
        user: The user's number.
    """

    values: Mapping[str, str]
    items: Mapping[str, Sequence[int]]
    target: int | None
    later: Sequence[int]
    texts: Sequence[str]
    answers: Sequence[int]
    user: int


@dataclasses.dataclass(frozen=True, eq=False)
class ItemNames:
    """How items are called, in prompts and in the catalog.

    Attributes:
        written: `[items]` names in prompts.
        titles: `[items]` cleaned titles of the catalog, "" for an item without a title.
        separator: The text between two names.
    """

    written: Sequence[str]
    titles: Sequence[str]
    separator: str

    def join(self, items: Sequence[int]) -> str:
        """Writes item numbers one after the other."""
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


def diagnose(
    inputs: str, wording: TemplatePieces | None, shown: ShownValues, names: ItemNames
) -> list[Problem]:
    """Says what is wrong with a prompt that is not what its template and events give.

    Args:
        inputs: The prompt.
        wording: Its template, None where that is not known: then the prompt is only searched for
            what it may not hold.
        shown: What belongs into it.
        names: How items are called.

    Returns:
        At least one problem where the template is known.
    """
    if not inputs.strip():
        return [(Finding.EMPTY, "the prompt is empty")]
    found = [(Finding.SLOT, f"'{mark}' is left") for mark in slot_marks(inputs)]
    if "  " in inputs or inputs != inputs.strip():
        found.append((Finding.SPACES, f"'{inputs}'"))
    parts = None if wording is None else _parts(inputs, wording, shown.values)
    if parts is None:
        slots = list(shown.values) if wording is None else wording.slots
        left, is_whole = _without(inputs, [shown.values.get(slot, "") for slot in slots])
        # What is left when all that belongs into a prompt is taken out may name nothing.
        bare = dataclasses.replace(shown, items={}) if wording and is_whole else shown
        found += _search(left, "", bare, names)
    else:
        for slot, text in parts:
            if text != shown.values.get(slot):
                belongs = shown.values.get(slot, "")
                what = _search(text, slot, shown, names)
                otherwise = _OTHERWISE_IN.get(slot, Finding.PROMPT)
                if not what and not found:
                    what = [(otherwise, f"{{{slot}}} is '{text}', and should be '{belongs}'")]
                found += what
    if not found and wording is not None:
        found.append((Finding.PROMPT, f"'{inputs}'"))
    return list(dict.fromkeys(found))


def holds_number(text: str, number: int) -> bool:
    """Says whether a number occurs in a text, alone among digits."""
    written = str(number)
    return written in text and bool(re.search(rf"(?<!\d){written}(?!\d)", text))


def item_tokens(text: str) -> list[str]:
    """Returns what looks like the token of an item."""
    return _TOKEN.findall(text.casefold())


def slot_marks(text: str) -> list[str]:
    """Returns what looks like a slot that is not filled."""
    return _SLOT.findall(text)


def _parts(
    inputs: str, wording: TemplatePieces, values: Mapping[str, str]
) -> list[tuple[str, str]] | None:
    """Cuts a prompt at the text of its template; None if that text is missing."""
    if not inputs.startswith(wording.first):
        return None
    place, parts = len(wording.first), []
    for number, (slot, literal) in enumerate(wording.pieces):
        value = values.get(slot, "")
        if inputs.startswith(value + literal, place):
            end = place + len(value)
        elif number + 1 == len(wording.pieces):
            end = len(inputs) - len(literal)
        else:
            end = inputs.find(literal, place)
        if end < place or not inputs.startswith(literal, end):
            return None
        parts.append((slot, inputs[place:end]))
        place = end + len(literal)
    return parts if place == len(inputs) else None


def _search(text: str, slot: str, shown: ShownValues, names: ItemNames) -> list[Problem]:
    """Looks for all that may not occur in a text, the longest names first.

    Args:
        text: A part of a prompt.
        slot: Where it occurs, "" for the whole prompt.
        shown: What may occur there.
        names: How items are called.
    """
    everywhere = [item for items in shown.items.values() for item in items]
    kinds: dict[str, Finding | None] = {}
    groups: tuple[tuple[Finding | None, Sequence[int]], ...] = (
        (None, shown.items.get(slot, ()) if slot else everywhere),
        (Finding.TARGET, () if shown.target is None else (shown.target,)),
        (Finding.HIDDEN, shown.answers),
        (Finding.FUTURE, shown.later),
    )
    for kind, items in groups:
        for item in items:
            for name in names.of(item):
                kinds.setdefault(name, kind)
    found: list[Problem] = []
    left = text.casefold()
    for name in sorted(kinds, key=len, reverse=True):
        if name not in left:
            continue
        left, times = re.subn(_alone(name), _MASK, left)
        kind = kinds[name]
        if times and kind is not None:
            found.append((kind, f"'{name}' in '{text}'"))
    hidden = [part for part in shown.texts if part and part.casefold() in text.casefold()]
    found += [(Finding.HIDDEN, f"'{one}'") for one in hidden]
    strangers = item_tokens(left)
    if not strangers:
        pieces = [piece.strip() for piece in left.split(names.separator.strip() or None)]
        strangers = [piece for piece in pieces if piece in names.known]
    stranger = _STRANGER_IN.get(slot, Finding.STRANGER)
    found += [(stranger, f"'{one}' in '{text}'") for one in strangers]
    if holds_number(left, shown.user):
        found.append((Finding.USER, f"{shown.user} in '{text}'"))
    return found


def _alone(name: str) -> str:
    """Returns the pattern of a name that is not a part of a longer word."""
    start = r"(?<![a-z0-9])" if name[:1].isascii() and name[:1].isalnum() else ""
    end = r"(?![a-z0-9])" if name[-1:].isascii() and name[-1:].isalnum() else ""
    return start + re.escape(name) + end


def _without(inputs: str, values: Sequence[str]) -> tuple[str, bool]:
    """Takes texts out of a prompt, each once, and says whether all were there."""
    is_whole = True
    for value in sorted(values, key=len, reverse=True):
        is_whole &= value in inputs
        inputs = inputs.replace(value, _MASK, 1) if value else inputs
    return inputs, is_whole
