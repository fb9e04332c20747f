"""Numbers of templates and instructions of each scenario, language and domain."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import get_args

import numpy as np

from irec_jax.errors import InputError
from irec_jax.instructions.config import BUILT_IN_PACKS, Domain
from irec_jax.instructions.examples import TaskVariant
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.tasks import TASKS
from irec_jax.instructions.templates import TemplatePack, load_pack
from irec_jax.progress import track

DOMAINS: tuple[str, ...] = get_args(Domain)

_PROGRESS_EVERY = 10_000


@dataclasses.dataclass(frozen=True)
class TemplateCounts:
    """Names of templates.

    Attributes:
        trained: Templates of training.
        held_out: Templates that are never used in training.
    """

    trained: frozenset[str] = frozenset()
    held_out: frozenset[str] = frozenset()

    def __or__(self, other: "TemplateCounts") -> "TemplateCounts":
        return TemplateCounts(self.trained | other.trained, self.held_out | other.held_out)


@dataclasses.dataclass(frozen=True)
class CoverageRow:
    """Templates and instructions of one task and kind of query in one language.

    Attributes:
        task: The task's name.
        scenario: `Scenario.code`.
        strategy: A value of `Strategy`.
        language: BCP 47.
        templates: Domain -> templates; domains that a pack lacks are absent.
        instructions: Number of one pass over the log; 0 if the settings do not list the task or
            the language.
    """

    task: str
    scenario: str
    strategy: str
    language: str
    templates: dict[str, TemplateCounts]
    instructions: int


def count_coverage(renderer: Renderer) -> list[CoverageRow]:
    """Counts templates and instructions of every task, in the packs of the settings and built-in.

    Args:
        renderer: Gives the packs and one pass of records.
    """
    instructions = _count_instructions(renderer)
    names = dict.fromkeys((*renderer.wording.config.packs, *BUILT_IN_PACKS))
    packs = {name: _by_domain(name) for name in names}
    rows = []
    for variant in [
        TaskVariant(task, intention) for task in TASKS for intention in task.intentions
    ]:
        for name, domains in packs.items():
            templates = {domain: _templates(pack, variant) for domain, pack in domains.items()}
            language = next(iter(domains.values())).language
            is_used = name in renderer.wording.config.packs
            rows.append(
                CoverageRow(
                    task=variant.task.name.value,
                    scenario=variant.scenario.code,
                    strategy=variant.task.strategy.value,
                    language=language,
                    templates=templates,
                    instructions=instructions[variant, language] if is_used else 0,
                )
            )
    return rows


def count_templates(rows: Sequence[CoverageRow], domain: str) -> TemplateCounts:
    """Returns the distinct templates of rows in a domain; languages are counted apart."""
    total = TemplateCounts()
    for row in rows:
        here = row.templates.get(domain, TemplateCounts())
        total |= TemplateCounts(
            *(
                frozenset(f"{row.language} {name}" for name in names)
                for names in (here.trained, here.held_out)
            )
        )
    return total


def _count_instructions(renderer: Renderer) -> collections.Counter[tuple[TaskVariant, str]]:
    """Counts the records of one pass by task and drawn language."""
    counts: collections.Counter[tuple[TaskVariant, str]] = collections.Counter()
    packs = renderer.wording.packs
    if len(packs) == 1:
        numbers = np.bincount(
            renderer.passes.examples.numbers, minlength=len(renderer.asked)
        ).tolist()
        for variant, count in zip(renderer.asked, numbers, strict=True):
            counts[variant, packs[0].language] = count
        return counts
    with track("describe", len(renderer), unit="records") as advance:
        for number in range(len(renderer)):
            counts[renderer.source(number).asked, renderer.drawn(number)[0]] += 1
            if number % _PROGRESS_EVERY == _PROGRESS_EVERY - 1:
                advance(_PROGRESS_EVERY, "")
    return counts


def _by_domain(name: str) -> dict[str, TemplatePack]:
    packs = {}
    for domain in DOMAINS:
        try:
            packs[domain] = load_pack(name, domain)
        except InputError:  # a user's pack may lack domains
            if name in BUILT_IN_PACKS:
                raise
    return packs


def _templates(pack: TemplatePack, variant: TaskVariant) -> TemplateCounts:
    of_task = [
        template
        for template in pack.templates
        if template.task is variant.task.name and variant.intention in template.intentions
    ]
    return TemplateCounts(
        frozenset(template.name for template in of_task if not template.held_out),
        frozenset(template.name for template in of_task if template.held_out),
    )
