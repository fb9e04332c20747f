"""Slots: one function per slot that fills it, for rendering, serving and the audit."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from irec_jax.errors import InputError
from irec_jax.instructions.forms import Slot
from irec_jax.settings import ImportedSettings, load_settings
from irec_jax.text_cleaning import clean

NO_ITEM = -1

WriteItems = Callable[[Sequence[int]], str]
"""Writes item numbers as names with a separator; "" for no items."""


class SlotInputs(NamedTuple):
    """All that the slots of one prompt are filled from.

    Attributes:
        history: Item numbers, oldest first, cut to `max_history`.
        candidates: Item numbers that the prompt offers.
        query: The user's need in words; "" if unknown.
        preference: A sentence about the user's taste; "" if unknown.
        context: Time, place, season or popular items as a phrase; "" if unknown.
        target: The item that the prompt is about, `NO_ITEM` for the request of a user.
    """

    history: Sequence[int] = ()
    candidates: Sequence[int] = ()
    query: str = ""
    preference: str = ""
    context: str = ""
    target: int = NO_ITEM


SlotFiller = Callable[[SlotInputs, WriteItems], str]


@runtime_checkable
class CustomSlot(Protocol):
    """A slot that is defined outside the package: an instance of a frozen dataclass."""

    @property
    def name(self) -> str:
        """The name in braces in templates; a field of the dataclass."""
        ...

    def fill(self, inputs: SlotInputs, write: WriteItems) -> str:
        """Returns the text of the slot, never an empty one."""
        ...


AnySlot = Slot | CustomSlot | ImportedSettings
"""A slot in a task or template; `ImportedSettings` is a `CustomSlot` that was read from a run."""


def fill_history(inputs: SlotInputs, write: WriteItems) -> str:
    """Names the items of the history."""
    return write(inputs.history)


def fill_preference(inputs: SlotInputs, write: WriteItems) -> str:
    """Copies the preference."""
    return inputs.preference


def fill_query(inputs: SlotInputs, write: WriteItems) -> str:
    """Copies the query."""
    return inputs.query


def fill_first_candidate(inputs: SlotInputs, write: WriteItems) -> str:
    """Names the first candidate, which is the only one of a pointwise prompt."""
    return write(inputs.candidates[:1])


def fill_second_candidate(inputs: SlotInputs, write: WriteItems) -> str:
    """Names the second candidate."""
    return write(inputs.candidates[1:2])


def fill_candidates(inputs: SlotInputs, write: WriteItems) -> str:
    """Names all candidates."""
    return write(inputs.candidates)


def fill_target(inputs: SlotInputs, write: WriteItems) -> str:
    """Names the item that the prompt is about."""
    return write((inputs.target,)) if inputs.target != NO_ITEM else ""


def fill_context(inputs: SlotInputs, write: WriteItems) -> str:
    """Copies the phrase of the request context."""
    return inputs.context


SLOT_FILLERS: Mapping[Slot, SlotFiller] = {
    Slot.HISTORY: fill_history,
    Slot.PREFERENCE: fill_preference,
    Slot.QUERY: fill_query,
    Slot.CANDIDATE: fill_first_candidate,
    Slot.FIRST: fill_first_candidate,
    Slot.SECOND: fill_second_candidate,
    Slot.CANDIDATES: fill_candidates,
    Slot.TARGET: fill_target,
    Slot.CONTEXT: fill_context,
}


def slot_name(slot: AnySlot) -> str:
    """Returns the name of a slot in templates."""
    if isinstance(slot, Slot):
        return slot.value
    return str(slot.settings["name"]) if isinstance(slot, ImportedSettings) else slot.name


def is_custom(slot: AnySlot) -> bool:
    """Returns whether a slot is defined outside the package."""
    return not isinstance(slot, Slot)


def slot_filler(slot: AnySlot) -> SlotFiller:
    """Returns the function that fills a slot.

    It returns "" where the inputs hold nothing for a slot of the package, and raises `InputError`
    if the class of a custom slot cannot be imported or its text is empty.
    """
    if isinstance(slot, Slot):
        return SLOT_FILLERS[slot]
    return functools.partial(_fill_custom, slot)


def _fill_custom(slot: CustomSlot | ImportedSettings, inputs: SlotInputs, write: WriteItems) -> str:
    text = clean(_load(slot).fill(inputs, write))
    if not text:
        raise InputError(
            f"there is no text for {len(inputs.history)} items of history",
            where=f"slot {{{slot_name(slot)}}}",
            hint="Return a text for every history that has an item.",
        )
    return text


@functools.lru_cache(maxsize=64)
def _load(slot: CustomSlot | ImportedSettings) -> CustomSlot:
    return load_settings(slot)
