"""Facts that all records of a task share, and those of one record."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from irec_jax.audit.text_leaks import TemplatePieces
from irec_jax.instructions.examples import TaskVariant
from irec_jax.instructions.forms import Instruction, Part, Slot, TaskForm
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.tasks import INTENTION_CODES, Task
from irec_jax.instructions.templates import Template, TemplatePack

_SIZES = {TaskForm.POINTWISE: 1, TaskForm.PAIRWISE: 2, TaskForm.MATCHING: 0}


@dataclasses.dataclass(frozen=True)
class TaskProfile:
    """Facts that all records of a task and kind of query share.

    Attributes:
        task: The task.
        labels: Scenario, strategy and task, as records write them.
        code: Kind of query, as splits write it.
        size: Number of candidates in a prompt.
        listed: Largest number of items in an answer.
        kind: Kind of query, as reports write it.
        names_item: Whether records have a target item.
        shows_query: Whether prompts hold a query and hide the target.
        shows_preference: Whether prompts hold a preference and hide the target.
        templates: (language, template name) -> the template.
        groups: (language, whether there is a context) -> group name, and template name -> cell.
    """

    task: Task
    labels: tuple[str, str, str]
    code: int
    size: int
    listed: int
    kind: str
    names_item: bool
    shows_query: bool
    shows_preference: bool
    templates: Mapping[tuple[str, str], TemplatePieces]
    groups: Mapping[tuple[str, bool], tuple[str, Mapping[str, str]]]

    @classmethod
    def build(cls, variant: TaskVariant, renderer: Renderer) -> "TaskProfile":
        """Collects the facts and templates of a task."""
        task, config = variant.task, renderer.wording.config
        pieces: dict[tuple[str, str], TemplatePieces] = {}
        groups: dict[tuple[str, bool], tuple[str, dict[str, str]]] = {}
        for pack in renderer.wording.packs:
            templates = [
                template
                for template in pack.of(task.name, variant.intention)
                if config.context or Slot.CONTEXT not in template.slots
            ]
            for template in templates:
                pieces[pack.language, template.name] = _template_pieces(template)
            name = f"{task.name.value} {variant.intention.value} {pack.language}"
            for has_context in (True, False):
                cells = _cells(templates, has_context)
                suffix = "" if len(cells) == len(templates) else " without a context"
                groups[pack.language, has_context] = (name + suffix, cells)
        one_item = not task.is_ranked or task.needs_query
        return cls(
            task=task,
            labels=(variant.scenario.code, task.strategy.value, task.name.value),
            code=INTENTION_CODES.get(variant.intention, 0),
            size=_SIZES.get(task.form, config.candidates),
            listed=1 if one_item else config.answer_items,
            kind=variant.intention.value,
            names_item=task.answers != (Part.PREFERENCE,),
            shows_query=task.needs_query and task.hides_target,
            shows_preference=task.needs_preference and task.hides_target,
            templates=pieces,
            groups=groups,
        )


def _template_pieces(template: Template) -> TemplatePieces:
    pieces = zip([slot.value for slot in template.slots], template.literals[1:], strict=True)
    return TemplatePieces(template.literals[0], tuple(pieces))


class Expectations(NamedTuple):
    """A record, and the facts that follow from its number and the split.

    Attributes:
        number: Record number.
        record: Its content.
        profile: Its task.
        position: Its event.
        pack: Template pack of its language.
        target: Item of its event.
        history: Items that its prompt may show.
        candidates: Candidates of the record that are item numbers.
        popular: Items that a context may name.
    """

    number: int
    record: Instruction
    profile: TaskProfile
    position: int
    pack: TemplatePack
    target: int
    history: Sequence[int]
    candidates: Sequence[int]
    popular: Sequence[int]


def _cells(templates: Sequence[Template], has_context: bool) -> dict[str, str]:
    """Returns the cell of each template that can be filled: its name and its number of draws.

    A draw of a template that cannot be filled leads to the next one that can.
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
