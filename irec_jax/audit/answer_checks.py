"""Reads the answer of a record against what the split says that it is."""

from irec_jax.audit.expectations import Expectations
from irec_jax.audit.split_index import SplitIndex
from irec_jax.audit.text_leaks import Finding, ItemNames, Problem
from irec_jax.instructions.forms import ANSWER_MARK, Part, graded_part
from irec_jax.instructions.render import ANSWER_HISTORY, Renderer


def check_answer(
    subject: Expectations, evidence: SplitIndex, names: ItemNames, renderer: Renderer
) -> list[Problem]:
    """Says what is wrong with an answer.

    Args:
        subject: The record.
        evidence: The split.
        names: How items are called.
        renderer: Knows the teacher.
    """
    task, answer = subject.plan.task, subject.record.targets
    parts = [_part(part, subject, evidence, names, renderer) for part in task.answer_parts]
    expected = ANSWER_MARK.join(parts)
    if not answer.strip() or "" in parts:
        return [(Finding.EMPTY, f"the answer is '{answer}', and should be '{expected}'")]
    if answer != expected:
        message = f"the answer is '{answer}', and should be '{expected}'"
        is_later = _tells_later(subject, evidence, names, expected)
        return [(Finding.FUTURE if is_later else Finding.ANSWER, message)]
    if task.answer_parts[-1] is Part.ITEM:
        name = names.written[subject.target]
        if graded_part(answer) != parts[-1] or name in names.shared:
            return [(Finding.ANSWER, f"'{answer}' cannot be read back to '{name}'")]
    return []


def _part(
    part: Part, subject: Expectations, evidence: SplitIndex, names: ItemNames, renderer: Renderer
) -> str:
    """Writes what belongs into a part of an answer."""
    position = subject.position
    if part is Part.ITEM:
        end = min(position + subject.plan.listed, evidence.run_ends.item(position))
        return names.join(evidence.split.items[position:end].tolist())
    if part is Part.VERDICT:
        is_target = tuple(subject.candidates) == (subject.target,)
        return subject.pack.yes if is_target else subject.pack.no
    if part is Part.HISTORY:
        return names.join(subject.history[-ANSWER_HISTORY:])
    if part is Part.REASON:
        return renderer.teacher.reason(position, subject.pack.language)
    return subject.query if part is Part.QUERY else subject.preference


def _tells_later(
    subject: Expectations, evidence: SplitIndex, names: ItemNames, expected: str
) -> bool:
    """Says whether an answer lists an item of a later part of the split that does not belong."""
    end, stop = evidence.run_ends.item(subject.position), evidence.stops.item(subject.position)
    later = {names.written[item] for item in evidence.split.items[end:stop].tolist()}
    said = graded_part(subject.record.targets).split(names.separator)
    return bool(later & (set(said) - set(graded_part(expected).split(names.separator))))
