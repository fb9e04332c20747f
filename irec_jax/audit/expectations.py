"""Properties that all records of a task share, and the expected content of one record."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from irec_jax.audit.bias_tests import Measure
from irec_jax.instructions.examples import TaskVariant
from irec_jax.instructions.forms import ANSWER_MARK, Instruction, Part, Slot, TaskForm
from irec_jax.instructions.passes import RecordOrigin
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.slots import AnySlot
from irec_jax.instructions.tasks import INTENTION_CODES, Task
from irec_jax.instructions.templates import Template, TemplatePack

_CANDIDATES = {TaskForm.POINTWISE: 1, TaskForm.PAIRWISE: 2, TaskForm.MATCHING: 0}


@dataclasses.dataclass(frozen=True)
class TaskProfile:
    """Properties that all records of a task and kind of query share.

    Attributes:
        task: The task.
        labels: Scenario, strategy, task, split and seed, as records write them.
        kind: The kind of query, as reports write it.
        code: The same, a value of `INTENTION_CODES`, 0 for none.
        names_item: Whether records have a target item.
        candidates: Number of candidates in a prompt.
        answer_items: Largest number of items in an answer.
        answer_literals: The fixed text around the parts of an answer.
        templates: (language, template name) -> the template.
        cells: (language, whether there is a context) -> template name -> key of its count.
    """

    task: Task
    labels: tuple[str, str, str, str, int]
    kind: str
    code: int
    names_item: bool
    candidates: int
    answer_items: int
    answer_literals: tuple[str, ...]
    templates: Mapping[tuple[str, str], Template]
    cells: Mapping[tuple[str, bool], Mapping[str, tuple[str, str, str]]]

    @classmethod
    def build(cls, variant: TaskVariant, renderer: Renderer) -> "TaskProfile":
        """Collects the properties and templates of a task."""
        task, config = variant.task, renderer.prompt_writer.config
        by_name: dict[tuple[str, str], Template] = {}
        cells: dict[tuple[str, bool], Mapping[str, tuple[str, str, str]]] = {}
        for pack in renderer.prompt_writer.packs:
            templates = [
                template
                for template in pack.of(task.name, variant.intention)
                if config.context or Slot.CONTEXT not in template.slots
            ]
            by_name |= {(pack.language, template.name): template for template in templates}
            group = f"{task.name.value} {variant.intention.value} {pack.language}"
            for has_context in (True, False):
                cells[pack.language, has_context] = _cells(group, templates, has_context)
        has_several = task.is_ranked and not task.needs_query
        return cls(
            task=task,
            labels=(
                *(variant.scenario.code, task.strategy.value, task.name.value),
                *(renderer.role.name.lower(), renderer.seed),
            ),
            kind=variant.intention.value,
            code=INTENTION_CODES.get(variant.intention, 0),
            names_item=task.answer_parts != (Part.PREFERENCE,),
            candidates=_CANDIDATES.get(task.form, config.candidates),
            answer_items=config.answer_items if has_several else 1,
            answer_literals=("", *[ANSWER_MARK] * (len(task.answer_parts) - 1), ""),
            templates=by_name,
            cells=cells,
        )


class Expectations(NamedTuple):
    """A record, and the properties that follow from its number and the split.

    Attributes:
        origin: Its event, task and draw.
        record: Its content.
        profile: Its task.
        position: Its event.
        pack: Template pack of its language.
        target: Item of its event.
        items: Slot -> the items that it may name.
        context: Phrase of its request context, "" if the task has no slot for one.
    """

    origin: RecordOrigin
    record: Instruction
    profile: TaskProfile
    position: int
    pack: TemplatePack
    target: int
    items: Mapping[AnySlot, Sequence[int]]
    context: str


def _cells(
    group: str, templates: Sequence[Template], has_context: bool
) -> dict[str, tuple[str, str, str]]:
    """Returns the key of the count of each template that can be filled.

    Its cell is the name and the number of draws that lead to it: a draw of a template that cannot
    be filled leads to the next one that can.
    """
    fitting = [t for t in templates if has_context or Slot.CONTEXT not in t.slots]
    draws: collections.Counter[str] = collections.Counter()
    for place in range(len(templates) if fitting else 0):
        following = (*templates[place:], *templates)
        draws[next(template.name for template in following if template in fitting)] += 1
    group += "" if len(fitting) == len(templates) else " without a context"
    return {name: (Measure.TEMPLATES, group, f"{name}*{count}") for name, count in draws.items()}
