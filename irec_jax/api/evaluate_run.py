"""Evaluating a run from Python, as `irec evaluate` does."""

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal

from irec_jax.api.process import set_up_process
from irec_jax.baselines.defaults import select_baselines
from irec_jax.baselines.oracle import oracle
from irec_jax.errors import InputError
from irec_jax.evaluation.ablations import ablation_rankers
from irec_jax.evaluation.figures import BEST, TUNED, Report
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.evaluation.report import TaskRankers, evaluate_rankers, save_report
from irec_jax.experiment.materials import prepare, sources_of
from irec_jax.experiment.run_config import load_run
from irec_jax.instructions.built_in_tasks import task_named
from irec_jax.instructions.forms import Ranker, TaskName
from irec_jax.instructions.tasks import Task
from irec_jax.instructions.teacher import add_teacher_texts
from irec_jax.log.events import MANIFEST_FILE, BehaviorLog
from irec_jax.log.simulate import SimulateConfig, SimulatedWorld
from irec_jax.log.split import Role, Split
from irec_jax.recommendation.recommender import Recommender
from irec_jax.run_checksums import refuse_missing_log, refuse_other_sources
from irec_jax.settings import from_json


def evaluate(
    run: PathLike[str] | str,
    *,
    ranker: Ranker | None = None,
    tasks: Sequence[TaskName | str] = (),
    role: Literal["validation", "test"] | None = None,
    max_requests: int | None = None,
    ablations: bool = False,
) -> Report:
    """Ranks the whole catalog for every test request of a run and compares the rankers.

    The rows are chance, the baselines, the tuned model, for a simulated log the best possible
    ranking, and `ranker`. Without a ranker the report is also written into the run folder.

    Args:
        run: The run: what `tune` returned, or its folder.
        ranker: A ranker of your own: it gets requests and returns scores `[requests, items]`,
            higher is better; its row has its `__name__`.
        tasks: The tasks; by default the run's `evaluation.tasks`, or those it was tuned on.
        role: The role of the targets; by default the run's `evaluation.role`.
        max_requests: Size of a random sample of the requests of each task, for a quick look; it
            has a report folder of its own. 0 for all requests.
        ablations: Whether the model is also evaluated with changed instructions.

    Raises:
        InputError: The run lacks a file, its log has changed, or a setting or ranker cannot be
            used.
    """
    set_up_process()
    run = Path(run)
    options = {"role": role, "tasks": tuple(tasks), "max_requests": max_requests}
    changes = {name: value for name, value in options.items() if value not in (None, ())}
    config = dataclasses.replace(load_run(run).evaluation, **changes)
    own_rankers = {} if ranker is None else {_name_of(ranker): ranker}
    report = _evaluate(run, config, own_rankers, with_ablations=ablations)
    if ranker is None:
        save_report(report, run)
    return report


def _name_of(ranker: Ranker) -> str:
    return getattr(ranker, "__name__", type(ranker).__name__)


def _evaluate(
    run: Path,
    settings: EvaluationConfig,
    own_rankers: Mapping[str, Ranker],
    *,
    with_ablations: bool,
) -> Report:
    experiment = load_run(run)
    refuse_missing_log(run, experiment.data.folder)
    tuned = Recommender.load(run).rank
    materials = prepare(experiment, run)
    refuse_other_sources(run, sources_of(materials))
    if not settings.tasks:
        settings = dataclasses.replace(settings, tasks=_ranked_tasks(experiment.instructions.tasks))
    split, role = materials.split, Role[settings.role.upper()]
    packs = materials.renderer.prompt_writer.packs
    if experiment.instructions.teacher != "log":
        teacher = materials.renderer.teacher
        split = add_teacher_texts(split, teacher, packs[0].language, experiment.seed, role)

    def make_rankers(task: Task) -> Mapping[str, Ranker]:
        if not with_ablations:
            return own_rankers
        changed = ablation_rankers(tuned, packs, task, split, role, experiment.seed)
        return {**own_rankers, **changed}

    return evaluate_ranker(tuned, materials.log, split, settings, experiment.seed, make_rankers)


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
    return evaluate_rankers(rankers, split, tasks, config, seed, task_rankers)
