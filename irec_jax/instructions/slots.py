"""Slots: one function per slot that fills it, for rendering, serving and the audit."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from irec_jax.instructions.forms import Slot

NO_ITEM = -1

WriteItems = Callable[[Sequence[int]], str]
"""Writes item numbers as names with a separator; "" for no items."""


class SlotInputs(NamedTuple):
    """All that the slots of one prompt are filled from.

    Attributes:
        history: Item numbers, oldest first, cut to `max_history`.
        candidates: Item numbers that the prompt offers.
        query: The user's need in words, in the third person; "" if unknown.
        preference: A sentence about the user's taste, in the third person; "" if unknown.
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


def fill_slot(slot: Slot, inputs: SlotInputs, write: WriteItems) -> str:
    """Returns the text of a slot.

    Args:
        slot: The slot.
        inputs: Of the prompt.
        write: Writes item numbers.

    Returns:
        The text, "" where `inputs` hold nothing for the slot.
    """
    return SLOT_FILLERS[slot](inputs, write)
