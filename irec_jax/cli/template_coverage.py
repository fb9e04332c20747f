"""Number of templates and instructions of every scenario, in every language and domain."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np

from irec_jax.errors import InputError
from irec_jax.instructions.built_in_tasks import TASKS
from irec_jax.instructions.config import BUILT_IN_PACKS, Domain
from irec_jax.instructions.examples import TaskVariant
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.tasks import Task
from irec_jax.instructions.templates import TemplatePack, load_pack
from irec_jax.progress import track

DOMAINS: tuple[str, ...] = get_args(Domain)

_PROGRESS_EVERY = 10_000


class TemplateId(NamedTuple):
    """A template of a pack.

    Attributes:
        language: BCP 47.
        name: Its name in the pack.
        held_out: Whether it is never used in training.
    """

    language: str
    name: str
    held_out: bool


@dataclasses.dataclass(frozen=True)
class CoverageRow:
    """Templates and instructions of one task and kind of query in one language.

    Attributes:
        task: The task's name.
        scenario: `Scenario.code`.
        strategy: A value of `Strategy`.
        language: BCP 47.
        templates: Domain -> templates; a domain that the pack lacks is absent.
        instructions: Number of one pass over the log, as languages are drawn; 0 if the settings
            do not list the task or the language.
    """

    task: str
    scenario: str
    strategy: str
    language: str
    templates: dict[str, frozenset[TemplateId]]
    instructions: int


def count_coverage(renderer: Renderer) -> list[CoverageRow]:
    """Counts templates and instructions of every task, in the settings' packs and the built-in.

    Args:
        renderer: Gives the packs and one pass of records.
    """
    instructions, config = _count_instructions(renderer), renderer.prompt_writer.config
    names = dict.fromkeys((*config.packs, *BUILT_IN_PACKS))
    packs = {name: _by_domain(name, config.own_tasks) for name in names}
    rows = []
    for task in (*TASKS, *config.own_tasks):
        for variant in (TaskVariant(task, intention) for intention in task.intentions):
            for name, domains in packs.items():
                language = next(iter(domains.values())).language
                row = CoverageRow(
                    task=task.name.value,
                    scenario=variant.scenario.code,
                    strategy=task.strategy.value,
                    language=language,
                    templates={d: _templates(pack, variant) for d, pack in domains.items()},
                    instructions=instructions[variant, language] if name in config.packs else 0,
                )
                rows.append(row)
    return rows


def distinct_templates(rows: Sequence[CoverageRow], domain: str) -> frozenset[TemplateId]:
    """Returns the templates of all rows in a domain."""
    return frozenset().union(*(row.templates.get(domain, ()) for row in rows))


def _count_instructions(renderer: Renderer) -> collections.Counter[tuple[TaskVariant, str]]:
    """Counts the records of one pass by task and drawn language."""
    counts: collections.Counter[tuple[TaskVariant, str]] = collections.Counter()
    packs = renderer.prompt_writer.packs
    if len(packs) == 1:
        numbers = renderer.record_order.examples.numbers
        records = np.bincount(numbers, minlength=len(renderer.variants)).tolist()
        for variant, count in zip(renderer.variants, records, strict=True):
            counts[variant, packs[0].language] = count
        return counts
    with track("describe", len(renderer), unit="records") as advance:
        for number in range(len(renderer)):
            origin = renderer.origin(number)
            counts[origin.variant, renderer.drawn_template(origin)[0]] += 1
            if number % _PROGRESS_EVERY == _PROGRESS_EVERY - 1:
                advance(_PROGRESS_EVERY, "")
    return counts


def _by_domain(name: str, own_tasks: tuple[Task, ...]) -> dict[str, TemplatePack]:
    packs = {}
    for domain in DOMAINS:
        try:
            packs[domain] = load_pack(name, domain, own_tasks)
        except InputError:  # a user's pack may lack domains
            if name in BUILT_IN_PACKS:
                raise
    return packs


def _templates(pack: TemplatePack, variant: TaskVariant) -> frozenset[TemplateId]:
    return frozenset(
        TemplateId(pack.language, template.name, template.held_out)
        for template in pack.templates
        if template.task == variant.task.name and variant.intention in template.intentions
    )
