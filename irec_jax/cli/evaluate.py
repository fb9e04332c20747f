"""`irec evaluate`: grades a run beside the baselines and writes the report."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from irec_jax.baselines.bm25 import bm25
from irec_jax.baselines.markov import markov
from irec_jax.baselines.oracle import oracle
from irec_jax.baselines.popularity import popularity
from irec_jax.errors import InputError
from irec_jax.evaluation.ablations import ablations
from irec_jax.evaluation.figures import Report
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.evaluation.report import RankersOf, evaluate, save_report
from irec_jax.evaluation.report_tables import differences_table, report_tables
from irec_jax.experiment import load_run, prepare, sources_of
from irec_jax.instructions.forms import Ranker, TaskName
from irec_jax.instructions.tasks import Task, task_named
from irec_jax.instructions.teacher import add_teacher_texts
from irec_jax.log.events import MANIFEST_FILE, BehaviorLog, TimeUnit
from irec_jax.log.simulate import SimulateConfig, World
from irec_jax.log.split import Role, Split, SplitProtocol
from irec_jax.recommendation.recommender import Recommender
from irec_jax.run_checksums import refuse_other_sources
from irec_jax.settings import from_json
from irec_jax.terminal import Console

TUNED = "tuned model"
BEST = "best possible"


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Ranks the whole catalog for every test request of a run and writes a report.

    The rows are chance, the baselines, the tuned model and, for a simulated log, the best that
    is possible. It writes report.json, index.html and ranks.parquet. Example:

      irec evaluate runs/movies --max-requests 2000

    Attributes:
        folder: The folder that `irec tune` wrote.
        protocol: The protocol that the run must have been tuned under, as a check.
        role: Whose targets; `test` unless the run's config says otherwise.
        tasks: Only these tasks; those that the run was tuned on unless its config says otherwise.
        max_requests: A random sample of so many requests a task; 0 = all of them.
        ablations: Also grade the model without the instruction, with another user's, with
            templates that it was not trained on, and in its other languages.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    protocol: tyro.conf.EnumChoicesFromValues[SplitProtocol | None] = None
    role: Literal["validation", "test"] | None = None
    tasks: tyro.conf.EnumChoicesFromValues[tuple[TaskName, ...]] = ()
    max_requests: int | None = None
    ablations: tyro.conf.FlagCreatePairsOff[bool] = False

    def run(self) -> None:
        """Grades the run, prints the tables, and says where the report lies."""
        experiment = load_run(self.folder)
        if self.protocol not in (None, experiment.data.protocol):
            raise InputError(
                f"the run was tuned under {experiment.data.protocol.value}, so it may have seen "
                f"the targets of {self.protocol.value}",
                where="protocol",
                hint=f"Tune another run with --data.protocol {self.protocol.value}.",
            )
        given = {"role": self.role, "tasks": self.tasks, "max_requests": self.max_requests}
        given["ablations"] = self.ablations or None
        changes = {name: value for name, value in given.items() if value not in (None, ())}
        config = dataclasses.replace(experiment.evaluation, **changes)
        show(evaluate_run(self.folder, config), self.folder)


def evaluate_run(run: Path, config: EvaluationConfig | None = None) -> Report:
    """Grades a run beside the baselines and writes the report into it.

    Args:
        run: The folder that `irec tune` wrote.
        config: Other settings than the run's own.

    Raises:
        InputError: If the run lacks a file, or its log has changed since it was tuned.
    """
    experiment = load_run(run)
    recommender = Recommender.load(run)
    tuned = recommender.rank
    materials = prepare(experiment, run)
    refuse_other_sources(run, sources_of(materials))
    settings = config or experiment.evaluation
    if not settings.tasks:
        settings = dataclasses.replace(settings, tasks=_ranked(experiment.instructions.tasks))
    split, role = materials.split, Role[settings.role.upper()]
    packs = materials.renderer.wording.packs
    if experiment.instructions.teacher != "log":
        teacher = materials.renderer.teacher
        split = add_teacher_texts(split, teacher, packs[0].language, experiment.seed, role)

    def ablated(task: Task) -> Mapping[str, Ranker]:
        return ablations(tuned, packs, task, split, role, experiment.seed)

    more = ablated if settings.ablations else None
    report = grade(tuned, materials.log, split, settings, experiment.seed, more)
    save_report(report, run)
    return report


def _ranked(names: Sequence[TaskName]) -> tuple[TaskName, ...]:
    """Returns the tasks that can be graded by ranking the whole catalog.

    Raises:
        InputError: There are none.
    """
    tasks = [task_named(name) for name in dict.fromkeys(names)]
    ranked = tuple(task.name for task in tasks if task.is_ranked and not task.needs_context)
    if not ranked:
        raise InputError(
            "the run was tuned on no task that ranks the whole catalog",
            where="evaluation.tasks",
            hint=f"tune it on one such as {TaskName.SEQUENTIAL_RECOMMENDATION.value} too.",
        )
    return ranked


def grade(
    tuned: Ranker,
    log: BehaviorLog,
    split: Split,
    config: EvaluationConfig,
    seed: int,
    more: RankersOf | None = None,
) -> Report:
    """Grades a ranker beside every baseline that the log allows.

    Recent popularity needs real times, and the best possible ranking a simulated log.

    Args:
        tuned: What is graded.
        log: Where the split comes from.
        split: Whose targets are asked for.
        config: Which tasks and requests.
        seed: Of the sample and the bootstrap.
        more: Rankers for some tasks, after all others.
    """
    rankers: dict[str, Ranker] = {"popularity": popularity(split)}
    if log.manifest.time_unit is TimeUnit.SECONDS:
        rankers["recent popularity"] = popularity(split, last_days=config.recent_days)
    rankers |= {"markov": markov(split), "bm25": bm25(split), TUNED: tuned}
    if log.manifest.source == "simulated":
        simulate = log.manifest.settings.get("simulate")
        where = f"{MANIFEST_FILE}: settings.simulate"
        world = World.build(from_json(SimulateConfig, simulate, where=where))
        rankers[BEST] = oracle(world, split)
    tasks = [task_named(name) for name in config.tasks]
    return evaluate(rankers, split, tasks, config, seed, more)


def show(report: Report, run: Path) -> None:
    """Prints the tables of a report and where `save_report` wrote it."""
    console = Console()
    for task in report.tasks:
        if not task.rows:
            console.print(f"{task.task.replace('_', ' ')}: no request in this log")
        for table in report_tables(task, console.width):
            console.print(table)
        if task.rows:
            console.print(differences_table(task, TUNED))
    folder = run / "reports" / report.name
    console.print(f"report: {folder / 'report.json'}", soft_wrap=True, highlight=False)
    console.print(f"page:   {folder / 'index.html'}", soft_wrap=True, highlight=False)
