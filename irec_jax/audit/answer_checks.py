"""Checks of the answer of a record against the split."""

from irec_jax.audit.expectations import Expectations
from irec_jax.audit.split_index import SplitIndex
from irec_jax.audit.text_leaks import Finding, ItemNames, Problem
from irec_jax.instructions.forms import ANSWER_MARK, Part, graded_part
from irec_jax.instructions.render import ANSWER_HISTORY

_WRITTEN = (Part.QUERY, Part.PREFERENCE, Part.REASON)


def read_answer(
    expected: Expectations, split_index: SplitIndex, names: ItemNames
) -> tuple[list[Problem], dict[Part, str]]:
    """Checks the items and the verdict of an answer, and cuts out the texts of a teacher.

    Args:
        expected: The record.
        split_index: The split.
        names: Names of items.

    Returns:
        Problems, and the written parts as they are in the answer.
    """
    parts, answer = expected.profile.task.answers, expected.record.targets
    if not answer.strip():
        return [(Finding.EMPTY, "the answer is empty")], {}
    texts: dict[Part, str] = {}
    rest, last_text = answer, ""
    for place in range(len(parts) - 1, -1, -1):
        part, mark = parts[place], ANSWER_MARK if place else ""
        if part in _WRITTEN:
            text = texts[part] = rest.rpartition(ANSWER_MARK)[2] if place else rest
        else:
            text = _part_text(part, expected, split_index, names)
        if not text.strip():
            return [(Finding.EMPTY, f"the {part.value} in the answer '{answer}' is empty")], texts
        ending = mark + text
        if not rest.endswith(ending) or (not place and rest != text):
            problem = f"the answer is '{answer}', but its {part.value} should be '{text}'"
            is_later = _lists_later_item(expected, split_index, names, text)
            return [(Finding.FUTURE if is_later else Finding.ANSWER, problem)], texts
        rest = rest[: len(rest) - len(ending)]
        last_text = last_text or text
    if parts[-1] is Part.ITEM:
        name = names.written[expected.target]
        if graded_part(answer) != last_text or name in names.shared:
            return [(Finding.ANSWER, f"'{answer}' cannot be read back to '{name}'")], texts
    return [], texts


def _part_text(
    part: Part, expected: Expectations, split_index: SplitIndex, names: ItemNames
) -> str:
    """Returns the text of a part that follows from the split."""
    position = expected.position
    if part is Part.ITEM:
        end = min(position + expected.profile.listed, split_index.run_ends.item(position))
        return names.join(split_index.split.items[position:end].tolist())
    if part is Part.VERDICT:
        is_target = tuple(expected.candidates) == (expected.target,)
        return expected.pack.yes if is_target else expected.pack.no
    return names.join(expected.history[-ANSWER_HISTORY:])


def _lists_later_item(
    expected: Expectations, split_index: SplitIndex, names: ItemNames, text: str
) -> bool:
    """Returns whether an answer lists an item of a later part that is not in `text`."""
    position = expected.position
    end, stop = split_index.run_ends.item(position), split_index.stops.item(position)
    later = {names.written[item] for item in split_index.split.items[end:stop].tolist()}
    listed = graded_part(expected.record.targets).split(names.separator)
    return bool(later & (set(listed) - set(text.split(names.separator))))
