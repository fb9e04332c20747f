"""`irec evaluate`: ranks the whole catalog with a run and the baselines, and writes a report."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from irec_jax.baselines.defaults import select_baselines
from irec_jax.baselines.oracle import oracle
from irec_jax.errors import InputError
from irec_jax.evaluation.ablations import ablations
from irec_jax.evaluation.figures import BEST, TUNED, Report
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.evaluation.report import TaskRankers, evaluate, report_folder, save_report
from irec_jax.evaluation.report_tables import differences_table, report_tables
from irec_jax.experiment.materials import prepare, sources_of
from irec_jax.experiment.run_config import load_run
from irec_jax.instructions.built_in_tasks import task_named
from irec_jax.instructions.forms import Ranker, TaskName
from irec_jax.instructions.tasks import Task
from irec_jax.instructions.teacher import add_teacher_texts
from irec_jax.log.events import MANIFEST_FILE, BehaviorLog
from irec_jax.log.simulate import SimulateConfig, SimulatedWorld
from irec_jax.log.split import Role, Split, SplitProtocol
from irec_jax.recommendation.recommender import Recommender
from irec_jax.run_checksums import refuse_other_sources
from irec_jax.run_folder import REPORT_FILE, REPORT_PAGE
from irec_jax.settings import from_json
from irec_jax.terminal import Console


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Ranks the whole catalog for every test request of a run and writes a report.

    The rows are chance, the baselines, the tuned model and, for a simulated log, the best
    possible ranking. It writes report.json, index.html and ranks.parquet. Example:

      irec evaluate runs/movies --max-requests 2000

    Attributes:
        folder: The folder that `irec tune` wrote.
        protocol: The protocol of the run, as a check.
        role: The role of the targets; default: the run's `evaluation.role`.
        tasks: The tasks; default: the run's `evaluation.tasks`, or those that it was tuned on.
        max_requests: Size of a random sample of the requests of each task; 0 for all requests.
        ablations: Also evaluate the model without the query, with the query of another user,
            with held-out templates, and in its other languages.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    protocol: tyro.conf.EnumChoicesFromValues[SplitProtocol | None] = None
    role: Literal["validation", "test"] | None = None
    tasks: tyro.conf.EnumChoicesFromValues[tuple[TaskName, ...]] = ()
    max_requests: int | None = None
    ablations: bool = False

    def run(self) -> None:
        """Evaluates the run, prints the tables and the paths of the report."""
        experiment = load_run(self.folder)
        if self.protocol not in (None, experiment.data.protocol):
            raise InputError(
                f"the run was tuned under {experiment.data.protocol.value}, so its training events "
                f"may contain targets of {self.protocol.value}",
                where="--protocol",
                hint=f"Tune another run with --data.protocol {self.protocol.value}.",
            )
        options = {"role": self.role, "tasks": self.tasks, "max_requests": self.max_requests}
        changes = {name: value for name, value in options.items() if value not in (None, ())}
        config = dataclasses.replace(experiment.evaluation, **changes)
        report = evaluate_run(self.folder, config, with_ablations=self.ablations)
        show(report, self.folder)


def evaluate_run(
    run: Path, config: EvaluationConfig | None = None, *, with_ablations: bool = False
) -> Report:
    """Evaluates a run and the baselines, and writes the report into the run folder.

    Args:
        run: The folder that `irec tune` wrote.
        config: Settings; None for the run's own.
        with_ablations: Whether the model is also evaluated with changed instructions.

    Raises:
        InputError: The run lacks a file, its log has changed, or a baseline cannot be imported.
    """
    experiment = load_run(run)
    recommender = Recommender.load(run)
    tuned = recommender.rank
    materials = prepare(experiment, run)
    refuse_other_sources(run, sources_of(materials))
    settings = config or experiment.evaluation
    if not settings.tasks:
        settings = dataclasses.replace(settings, tasks=_ranked_tasks(experiment.instructions.tasks))
    split, role = materials.split, Role[settings.role.upper()]
    packs = materials.renderer.prompt_writer.packs
    if experiment.instructions.teacher != "log":
        teacher = materials.renderer.teacher
        split = add_teacher_texts(split, teacher, packs[0].language, experiment.seed, role)

    def make_ablations(task: Task) -> Mapping[str, Ranker]:
        return ablations(tuned, packs, task, split, role, experiment.seed)

    task_rankers = make_ablations if with_ablations else None
    report = evaluate_ranker(tuned, materials.log, split, settings, experiment.seed, task_rankers)
    save_report(report, run)
    return report


def _ranked_tasks(names: Sequence[TaskName]) -> tuple[TaskName, ...]:
    """Returns the tasks that rank the whole catalog.

    Raises:
        InputError: There are no such tasks.
    """
    tasks = {name: task_named(name) for name in names}
    ranked = tuple(
        name for name, task in tasks.items() if task.is_ranked and not task.needs_context
    )
    if not ranked:
        raise InputError(
            "the run was tuned on no task that ranks the whole catalog",
            where="evaluation.tasks",
            hint=f"Tune it on one such as {TaskName.SEQUENTIAL_RECOMMENDATION.value} too.",
        )
    return ranked


def evaluate_ranker(
    tuned: Ranker,
    log: BehaviorLog,
    split: Split,
    config: EvaluationConfig,
    seed: int,
    task_rankers: TaskRankers | None = None,
) -> Report:
    """Evaluates a ranker and the baselines.

    A simulated log adds the best possible ranking.

    Args:
        tuned: The ranker.
        log: The behavior log.
        split: The split of the log.
        config: Tasks, requests and baselines.
        seed: Seed of the sample and of the bootstrap.
        task_rankers: Makes further rankers for each task, which come after the others.
    """
    baselines = select_baselines(config, log.manifest.time_unit)
    config = dataclasses.replace(config, baselines=baselines)
    rankers = {baseline.name: baseline.build(split) for baseline in baselines}
    rankers[TUNED] = tuned
    if log.manifest.source == "simulated":
        simulate = log.manifest.settings.get("simulate")
        where = f"{MANIFEST_FILE}: settings.simulate"
        world = SimulatedWorld.build(from_json(SimulateConfig, simulate, where=where))
        rankers[BEST] = oracle(world, split)
    tasks = [task_named(name) for name in config.tasks]
    return evaluate(rankers, split, tasks, config, seed, task_rankers)


def show(report: Report, run: Path) -> None:
    """Prints the tables of a report and the paths of its files."""
    console = Console()
    for task in report.tasks:
        if not task.rows:
            console.print(f"{task.task.replace('_', ' ')}: the log has no request of this task")
        for table in report_tables(task, console.width):
            console.print(table)
        if task.rows:
            console.print(differences_table(task, TUNED))
    folder = report_folder(report, run)
    console.print(f"report: {folder / REPORT_FILE}", soft_wrap=True, highlight=False)
    console.print(f"page:   {folder / REPORT_PAGE}", soft_wrap=True, highlight=False)
