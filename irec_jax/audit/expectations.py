"""Properties that all records of a task share, and the expected content of one record."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from irec_jax.audit.text_leaks import TemplatePieces
from irec_jax.instructions.examples import TaskVariant
from irec_jax.instructions.forms import Instruction, Part, Slot, TaskForm
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.slots import slot_name
from irec_jax.instructions.tasks import INTENTION_CODES, Task
from irec_jax.instructions.templates import Template, TemplatePack

_SIZES = {TaskForm.POINTWISE: 1, TaskForm.PAIRWISE: 2, TaskForm.MATCHING: 0}


@dataclasses.dataclass(frozen=True)
class TaskProfile:
    """Properties that all records of a task and kind of query share.

    Attributes:
        asked: The task and the kind of query.
        task: The task alone.
        labels: Scenario, strategy and task, as records write them.
        code: Of the kind of query, as splits write it.
        size: How many candidates a prompt has.
        listed: How many items an answer lists at most.
        kind: Of the query, as reports write it.
        names_item: Whether records name an item as their target.
        reads_preference: As the task says.
        shows_query: Whether prompts hold one and hide the target.
        shows_preference: Whether prompts hold one and hide the target.
        wordings: (language, template) -> the template.
        groups: (language, whether there is a context) -> its name, and the cell of each template.
    """

    asked: TaskVariant
    task: Task
    labels: tuple[str, str, str]
    code: int
    size: int
    listed: int
    kind: str
    names_item: bool
    reads_preference: bool
    shows_query: bool
    shows_preference: bool
    wordings: Mapping[tuple[str, str], TemplatePieces]
    groups: Mapping[tuple[str, bool], tuple[str, Mapping[str, str]]]

    @classmethod
    def build(cls, asked: TaskVariant, renderer: Renderer) -> "TaskProfile":
        """Reads the templates of a task."""
        task, config = asked.task, renderer.prompt_writer.config
        wordings: dict[tuple[str, str], TemplatePieces] = {}
        groups: dict[tuple[str, bool], tuple[str, dict[str, str]]] = {}
        for pack in renderer.prompt_writer.packs:
            templates = [
                template
                for template in pack.of(task.name, asked.intention)
                if config.context or Slot.CONTEXT not in template.slots
            ]
            for template in templates:
                wordings[pack.language, template.name] = template_pieces(template)
            name = f"{task.name.value} {asked.intention.value} {pack.language}"
            for has_context in (True, False):
                cells = _cells(templates, has_context)
                suffix = "" if len(cells) == len(templates) else " without a context"
                groups[pack.language, has_context] = (name + suffix, cells)
        one_item = not task.is_ranked or task.needs_query
        return cls(
            asked=asked,
            task=task,
            labels=(asked.scenario.code, task.strategy.value, task.name.value),
            code=INTENTION_CODES.get(asked.intention, 0),
            size=_SIZES.get(task.form, config.candidates),
            listed=1 if one_item else config.answer_items,
            kind=asked.intention.value,
            names_item=task.answer_parts != (Part.PREFERENCE,),
            reads_preference=task.reads_preference,
            shows_query=task.needs_query and task.hides_target,
            shows_preference=task.needs_preference and task.hides_target,
            wordings=wordings,
            groups=groups,
        )


def template_pieces(template: Template) -> TemplatePieces:
    """Cuts a template into what the audit reads it by."""
    pieces = zip([slot_name(slot) for slot in template.slots], template.literals[1:], strict=True)
    return TemplatePieces(template.literals[0], tuple(pieces))


class Expectations(NamedTuple):
    """A record, and what its number says that it is about.

    Attributes:
        number: The record's.
        record: Its content.
        plan: Its task.
        position: Its event.
        pack: The words of its language.
        target: The item of its event.
        history: Item numbers that its prompt may show.
        candidates: Those of the record that are items.
        query: What the user wants, "" where the task reads none.
        preference: What the user likes, "" where the task reads none.
        popular: Item numbers that a context may name.
    """

    number: int
    record: Instruction
    plan: TaskProfile
    position: int
    pack: TemplatePack
    target: int
    history: Sequence[int]
    candidates: Sequence[int]
    query: str
    preference: str
    popular: Sequence[int]


def _cells(templates: Sequence[Template], has_context: bool) -> dict[str, str]:
    """Names the templates that can be filled, and how many draws of the list lead to each.

    A draw of one that cannot be filled continues with the next that can.
    """
    fits = [has_context or Slot.CONTEXT not in template.slots for template in templates]
    draws = dict.fromkeys((t.name for t, f in zip(templates, fits, strict=True) if f), 0)
    for place in range(len(templates)):
        for step in range(len(templates)):
            other = (place + step) % len(templates)
            if fits[other]:
                draws[templates[other].name] += 1
                break
    return {name: f"{name}*{count}" for name, count in draws.items()}
