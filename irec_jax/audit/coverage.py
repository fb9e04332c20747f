"""How many wordings and instructions there are of every scenario, in every language and domain."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import get_args

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


@dataclasses.dataclass(frozen=True)
class TemplateCounts:
    """The names of the templates of something.

    Attributes:
        trained: Those for training.
        held_out: Those that are kept from it.
    """

    trained: frozenset[str] = frozenset()
    held_out: frozenset[str] = frozenset()

    def __or__(self, other: "TemplateCounts") -> "TemplateCounts":
        return TemplateCounts(self.trained | other.trained, self.held_out | other.held_out)


@dataclasses.dataclass(frozen=True)
class CoverageRow:
    """One kind of question in one language.

    Attributes:
        task: The task's name.
        scenario: `Scenario.code`.
        strategy: A value of `Strategy`.
        language: BCP 47.
        wordings: Domain -> templates; a domain that a pack does not know is left out.
        instructions: How many one pass over the log makes, as languages are drawn; 0 where the
            settings do not list the task or the language.
    """

    task: str
    scenario: str
    strategy: str
    language: str
    wordings: dict[str, TemplateCounts]
    instructions: int


def count_coverage(renderer: Renderer) -> list[CoverageRow]:
    """Counts every task there is, in the settings' packs and the built-in ones.

    Args:
        renderer: Its packs are counted besides the built-in ones, and one pass of its records.
    """
    made = _instructions(renderer)
    names = dict.fromkeys((*renderer.prompt_writer.config.packs, *BUILT_IN_PACKS))
    own_tasks = renderer.prompt_writer.config.own_tasks
    packs = {name: _by_domain(name, own_tasks) for name in names}
    rows = []
    for asked in [
        TaskVariant(task, intention)
        for task in (*TASKS, *own_tasks)
        for intention in task.intentions
    ]:
        for name, domains in packs.items():
            wordings = {domain: _wordings(pack, asked) for domain, pack in domains.items()}
            language = next(iter(domains.values())).language
            is_used = name in renderer.prompt_writer.config.packs
            rows.append(
                CoverageRow(
                    task=asked.task.name.value,
                    scenario=asked.scenario.code,
                    strategy=asked.task.strategy.value,
                    language=language,
                    wordings=wordings,
                    instructions=made[asked, language] if is_used else 0,
                )
            )
    return rows


def count_templates(rows: Sequence[CoverageRow], domain: str) -> TemplateCounts:
    """Returns the different templates of some rows in a domain, a language apart from another."""
    total = TemplateCounts()
    for row in rows:
        here = row.wordings.get(domain, TemplateCounts())
        total |= TemplateCounts(
            *(
                frozenset(f"{row.language} {name}" for name in names)
                for names in (here.trained, here.held_out)
            )
        )
    return total


def _instructions(renderer: Renderer) -> collections.Counter[tuple[TaskVariant, str]]:
    """Counts one pass by task and language; the languages are those that are drawn."""
    made: collections.Counter[tuple[TaskVariant, str]] = collections.Counter()
    packs = renderer.prompt_writer.packs
    if len(packs) == 1:
        counts = np.bincount(
            renderer.record_order.examples.numbers, minlength=len(renderer.variants)
        ).tolist()
        for asked, count in zip(renderer.variants, counts, strict=True):
            made[asked, packs[0].language] = count
        return made
    with track("describe", len(renderer), unit="records") as advance:
        for number in range(len(renderer)):
            made[renderer.origin(number).variant, renderer.drawn_template(number)[0]] += 1
            if number % _PROGRESS_EVERY == _PROGRESS_EVERY - 1:
                advance(_PROGRESS_EVERY, "")
    return made


def _by_domain(name: str, own_tasks: tuple[Task, ...]) -> dict[str, TemplatePack]:
    packs = {}
    for domain in DOMAINS:
        try:
            packs[domain] = load_pack(name, domain, own_tasks)
        except InputError:  # a pack of one's own need not know every domain
            if name in BUILT_IN_PACKS:
                raise
    return packs


def _wordings(pack: TemplatePack, asked: TaskVariant) -> TemplateCounts:
    of_task = [
        template
        for template in pack.templates
        if template.task == asked.task.name and asked.intention in template.intentions
    ]
    return TemplateCounts(
        frozenset(template.name for template in of_task if not template.held_out),
        frozenset(template.name for template in of_task if template.held_out),
    )
