"""Kinds of findings, and the search of a prompt for names that it may not hold."""

import collections
import dataclasses
import enum
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from irec_jax.instructions.forms import Slot

_SLOT = re.compile(r"\{(?:" + "|".join(slot.value for slot in Slot) + r")\}")
_TOKEN = re.compile(r"<item_\d+>")
_MASK = " \x00 "


class Finding(enum.Enum):
    """A kind of problem of a record; the value is its name in reports."""

    TARGET = "target"
    FUTURE = "future"
    USER = "user"
    UNEXPLAINED_ITEM = "unexplained_item"
    HIDDEN = "hidden"
    CANDIDATES = "candidates"
    POPULAR = "popular"
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
    Finding.FUTURE: "the record holds a later event of its user, or of a later part of the split",
    Finding.USER: "the prompt holds the user's number",
    Finding.UNEXPLAINED_ITEM: "the prompt names an item that is not in the history, the "
    "candidates or the popular items of its slot",
    Finding.HIDDEN: "the prompt holds a part of the answer",
    Finding.CANDIDATES: "the candidates are not the target and items with training events that "
    "are new to the user",
    Finding.POPULAR: "the popular items are not those of the training events of the days before",
    Finding.PROMPT: "the prompt does not fit its template and events",
    Finding.SLOT: "a slot is not filled",
    Finding.SPACES: "there are spaces at an end, or two in a row",
    Finding.LABEL: "user, item, scenario, task, strategy or seed are not those of the event",
    Finding.ROLE: "the event is not of the part of the split that the record has",
    Finding.TEMPLATE: "the template or language is not allowed for the record",
    Finding.ANSWER: "the answer does not fit the events, or cannot be read back to the item",
    Finding.EMPTY: "the prompt, the answer or a text in them is empty",
}

Problem = tuple[Finding, str]

_FINDING_IN = {
    Slot.CONTEXT.value: Finding.POPULAR,
    Slot.CANDIDATE.value: Finding.CANDIDATES,
    Slot.FIRST.value: Finding.CANDIDATES,
    Slot.SECOND.value: Finding.CANDIDATES,
    Slot.CANDIDATES.value: Finding.CANDIDATES,
}
_WRITTEN_SLOTS = (Slot.QUERY.value, Slot.PREFERENCE.value)


@dataclasses.dataclass(frozen=True)
class TemplatePieces:
    """A template as the audit cuts prompts by it.

    Attributes:
        first: Text before the first slot.
        pieces: Each slot and the text behind it.
    """

    first: str
    pieces: tuple[tuple[str, str], ...]

    @functools.cached_property
    def item_slots(self) -> tuple[str, ...]:
        """Slots whose text follows from the split: all but queries and preferences."""
        return tuple(slot for slot, _ in self.pieces if slot not in _WRITTEN_SLOTS)


@dataclasses.dataclass(frozen=True)
class ShownValues:
    """Content that a prompt may show, and content that it hides.

    Attributes:
        items: Slot -> items that may be named there.
        target: The hidden target, None if the prompt shows it.
        later: Items of the user's later events.
        texts: Texts that are a part of the answer.
        answers: Items that are a part of the answer, besides the target.
        user: The user's number.
    """

    items: Mapping[str, Sequence[int]]
    target: int | None
    later: Sequence[int]
    texts: Sequence[str]
    answers: Sequence[int]
    user: int


@dataclasses.dataclass(frozen=True, eq=False)
class ItemNames:
    """Names of items in prompts and titles in the catalog.

    Attributes:
        written: `[items]` names in prompts.
        titles: `[items]` cleaned titles of the catalog, "" for a missing one.
        separator: Text between two names.
    """

    written: Sequence[str]
    titles: Sequence[str]
    separator: str

    def join(self, items: Sequence[int]) -> str:
        """Joins the names of item numbers."""
        return self.separator.join([self.written[item] for item in items])

    def of(self, item: int) -> Iterator[str]:
        """Yields the names of an item, case folded."""
        yield self.written[item].casefold()
        if self.titles[item]:
            yield self.titles[item].casefold()

    @functools.cached_property
    def are_tokens(self) -> bool:
        """Whether each name is one token, which means the item at any place of a text."""
        return all(item_tokens(name) == [name] for name in self.written)

    @functools.cached_property
    def shared(self) -> frozenset[str]:
        """Names in prompts that several items share."""
        times = collections.Counter(self.written)
        return frozenset(name for name, count in times.items() if count > 1)

    @functools.cached_property
    def known(self) -> frozenset[str]:
        """All names, case folded."""
        return frozenset(name for item in range(len(self.written)) for name in self.of(item))


def check_prompt(
    inputs: str,
    template: TemplatePieces | None,
    values: Mapping[str, str],
    list_shown: Callable[[], ShownValues],
    names: ItemNames,
) -> tuple[list[Problem], dict[str, str]]:
    """Cuts a prompt at the fixed text of its template and checks the slots of items.

    Args:
        inputs: The prompt.
        template: Its template; None if unknown: then the whole prompt is searched for names.
        values: Slot of items or of the context -> the text that belongs there.
        list_shown: Lists the content that the prompt may show; called only for a wrong prompt.
        names: Names of items.

    Returns:
        Problems, and the texts of the slots that a user or a teacher wrote.
    """
    if not inputs.strip():
        return [(Finding.EMPTY, "the prompt is empty")], {}
    problems: list[Problem] = []
    if "  " in inputs or inputs != inputs.strip():
        problems.append((Finding.SPACES, f"'{inputs}'"))
    parts = None if template is None else _cut(inputs, template, values)
    if parts is None:
        problems += [(Finding.SLOT, f"'{mark}' is not filled") for mark in slot_marks(inputs)]
        problems += _search_whole(inputs, template, values, list_shown(), names)
        if not problems and template is not None:
            problems.append((Finding.PROMPT, f"'{inputs}'"))
        return list(dict.fromkeys(problems)), {}
    texts = {slot: text for slot, text in parts if slot not in values}
    problems += [(Finding.EMPTY, f"{{{slot}}} is empty") for slot in texts if not texts[slot]]
    for slot, text in parts:
        if slot in values and text != values[slot]:
            found = [(Finding.SLOT, f"'{mark}' is not filled") for mark in slot_marks(text)]
            found += _search(text, slot, list_shown(), names)
            if not found and not problems:
                finding = _FINDING_IN.get(slot, Finding.PROMPT)
                found = [(finding, f"{{{slot}}} is '{text}', and should be '{values[slot]}'")]
            problems += found
    return list(dict.fromkeys(problems)), texts


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


def _cut(
    inputs: str, template: TemplatePieces, values: Mapping[str, str]
) -> list[tuple[str, str]] | None:
    """Cuts a prompt into the texts of its slots; None if the fixed text is not there."""
    if not inputs.startswith(template.first):
        return None
    place, parts = len(template.first), []
    last = len(template.pieces) - 1
    for number, (slot, literal) in enumerate(template.pieces):
        value = values.get(slot)
        if value is not None and inputs.startswith(value + literal, place):
            end = place + len(value)
        elif number == last:
            end = len(inputs) - len(literal)
        else:
            # A written text may hold the fixed text too; the value behind it decides.
            end = inputs.find(literal + values.get(template.pieces[number + 1][0], ""), place)
            if end < 0:
                end = inputs.find(literal, place)
        if end < place or not inputs.startswith(literal, end):
            return None
        parts.append((slot, inputs[place:end]))
        place = end + len(literal)
    return parts if place == len(inputs) else None


def _search_whole(
    inputs: str,
    template: TemplatePieces | None,
    values: Mapping[str, str],
    shown: ShownValues,
    names: ItemNames,
) -> list[Problem]:
    """Searches a prompt that does not fit its template."""
    if template is not None:
        # If all expected texts are there, what is left may name no item.
        is_complete = True
        for value in sorted(values.values(), key=len, reverse=True):
            is_complete &= value in inputs
            inputs = inputs.replace(value, _MASK, 1) if value else inputs
        shown = dataclasses.replace(shown, items={}) if is_complete else shown
    return _search(inputs, "", shown, names)


def _search(text: str, slot: str, shown: ShownValues, names: ItemNames) -> list[Problem]:
    """Searches a text for names, texts and numbers that it may not hold, longest names first.

    Args:
        text: A part of a prompt.
        slot: Its slot, "" for the whole prompt.
        shown: Content that the prompt may show.
        names: Names of items.
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
    problems: list[Problem] = []
    left = text.casefold()
    for name in sorted(kinds, key=len, reverse=True):
        if name not in left:
            continue
        left, times = re.subn(_alone(name), _MASK, left)
        kind = kinds[name]
        if times and kind is not None:
            problems.append((kind, f"'{name}' in '{text}'"))
    hidden = [part for part in shown.texts if part and part.casefold() in text.casefold()]
    problems += [(Finding.HIDDEN, f"'{part}'") for part in hidden]
    unexplained = item_tokens(left)
    if not unexplained:
        pieces = [piece.strip() for piece in left.split(names.separator.strip() or None)]
        unexplained = [piece for piece in pieces if piece in names.known]
    finding = _FINDING_IN.get(slot, Finding.UNEXPLAINED_ITEM)
    problems += [(finding, f"'{name}' in '{text}'") for name in unexplained]
    if holds_number(left, shown.user):
        problems.append((Finding.USER, f"{shown.user} in '{text}'"))
    return problems


def _alone(name: str) -> str:
    """Returns the pattern of a name that is not part of a longer word."""
    start = r"(?<![a-z0-9])" if name[:1].isascii() and name[:1].isalnum() else ""
    end = r"(?![a-z0-9])" if name[-1:].isascii() and name[-1:].isalnum() else ""
    return start + re.escape(name) + end
