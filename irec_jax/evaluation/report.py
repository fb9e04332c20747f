"""Evaluation of rankers: ranks, metrics, confidence intervals and the written report."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from irec_jax.errors import InputError
from irec_jax.evaluation.bootstrap import Figure, bootstrap_each
from irec_jax.evaluation.figures import CHANCE, Difference, Group, Report, ReportRow, TaskReport
from irec_jax.evaluation.metrics import METRICS, chance, full_ranks, per_request
from irec_jax.evaluation.page.report_page import render_page
from irec_jax.evaluation.protocol import (
    EvaluationConfig,
    EvaluationRequests,
    select_requests,
    split_counts,
    split_hash,
)
from irec_jax.files import replaced_folder, write_text
from irec_jax.instructions.forms import Ranker, Ranking, Request, task_words
from irec_jax.instructions.tasks import Task
from irec_jax.log.split import Split
from irec_jax.progress import track
from irec_jax.run_folder import RANKS_FILE, REPORT_FILE, REPORT_PAGE, REPORTS_FOLDER
from irec_jax.settings import to_json

MAX_REQUESTS_PER_CALL = 512
SCORES_PER_CALL = 2**24  # 64 MiB of float32: 16 requests of a million items

TaskRankers = Callable[[Task], Mapping[str, Ranker]]
"""Makes rankers for a task, by the name of their row."""


@dataclasses.dataclass(frozen=True, eq=False)
class TargetRanks:
    """The ranks of the targets of one task under each ranker.

    Attributes:
        kept: `[requests]` row in `EvaluationRequests` of each ranked request.
        candidates: `[requests]` number of ranked items.
        by_ranker: For each ranker `[requests]`, the ranks.
        repeats: Number of requests that are left out, as their target is in the history.
    """

    kept: Int[np.ndarray, " requests"]
    candidates: Int[np.ndarray, " requests"]
    by_ranker: Mapping[str, Float[np.ndarray, " requests"]]
    repeats: int


def evaluate_rankers(
    rankers: Mapping[str, Ranker],
    split: Split,
    tasks: Sequence[Task],
    config: EvaluationConfig,
    seed: int,
    task_rankers: TaskRankers | None = None,
) -> Report:
    """Ranks the whole catalog for every request of the tasks and compares the rankers.

    Args:
        rankers: Rankers by the name of their row, baselines first: each is compared with those
            before it.
        split: The source of the requests.
        tasks: The tasks.
        config: Selects the requests and the number of bootstrap samples.
        seed: Seed of the sample of requests and of the bootstrap.
        task_rankers: Makes further rankers for each task, which come after the others.

    Raises:
        InputError: A ranker returns NaN or scores of another shape, two rankers have one name, or
            no task has a request of the config's role.
    """
    selected = [select_requests(task, split, config, seed) for task in tasks]
    if not any(len(requests) for requests in selected):
        names = ", ".join(task.name.value for task in tasks)
        raise InputError(
            f"no {config.role} request for {names or 'no task'} in this log",
            where="evaluation.tasks",
            hint="Use a log with queries for search tasks, with histories for the others.",
        )
    all_rankers = [
        _join_rankers(rankers, task_rankers(task) if task_rankers else {}) for task in tasks
    ]
    ranked = [
        (requests, _rank_targets(its_rankers, split, requests))
        for requests, its_rankers in zip(selected, all_rankers, strict=True)
    ]
    reports = [_compare(requests, ranks, config, seed) for requests, ranks in ranked]
    rank_rows = [_rank_rows(split, requests, ranks) for requests, ranks in ranked]
    return Report(
        protocol=split.protocol.value,
        role=config.role,
        seed=seed,
        settings=to_json(config),
        split=split_counts(split),
        split_sha256=split_hash(split),
        tasks=tuple(reports),
        ranks=pl.concat(rank_rows),
    )


def report_folder(report: Report, run: Path) -> Path:
    """The folder of a report: `RUN/reports/NAME`, see `figures.report_name`."""
    return run / REPORTS_FOLDER / report.name


def save_report(report: Report, run: Path) -> Path:
    """Writes `report.json`, `index.html` and `ranks.parquet`, all three or none.

    Returns:
        The folder, see `report_folder`.
    """
    folder = report_folder(report, run)
    data = report.to_json()
    with replaced_folder(folder) as temporary:
        write_text(temporary / REPORT_FILE, json.dumps(data, indent=1, allow_nan=False) + "\n")
        write_text(temporary / REPORT_PAGE, render_page(report))
        report.ranks.write_parquet(temporary / RANKS_FILE)
    return folder


def requests_per_call(items: int) -> int:
    """Number of requests in one call of a ranker, which bounds the size of its scores.

    >>> requests_per_call(2_000), requests_per_call(1_000_000)
    (512, 16)
    """
    return max(1, min(MAX_REQUESTS_PER_CALL, SCORES_PER_CALL // max(items, 1)))


def _join_rankers(
    rankers: Mapping[str, Ranker], more: Mapping[str, Ranker]
) -> Mapping[str, Ranker]:
    """Joins rankers in the order of their rows.

    Raises:
        InputError: There are none, or a name is taken.
    """
    taken = [name for name in more if name in rankers]
    taken += [name for name in (*rankers, *more) if name == CHANCE]
    if taken:
        hint = "Give each ranker its own name."
        raise InputError(f"the name '{taken[0]}' is taken", where="rankers", hint=hint)
    if not rankers:
        raise InputError("there are no rankers", hint="Give at least one ranker.")
    return {**rankers, **more}


def _rank_targets(
    rankers: Mapping[str, Ranker], split: Split, selected: EvaluationRequests
) -> TargetRanks:
    """Ranks the target of every request under every ranker, a chunk of requests at a time."""
    items = split.num_items
    kept: list[int] = []
    candidates: list[int] = []
    ranks: dict[str, list[np.ndarray]] = {name: [] for name in rankers}
    title = f"evaluate {task_words(selected.task.name.value)}"
    with track(title, len(selected), unit="requests") as advance:
        for chunk_size, rows, requests in _request_chunks(split, selected):
            targets = selected.targets[rows].astype(np.int64)
            excluded = [sorted(set(request.exclude)) for request in requests]
            for name, ranker in rankers.items():
                if not requests:
                    continue
                scores = _checked_scores(name, ranker, requests, items)
                ranks[name].append(full_ranks(scores, targets, excluded, name=name))
            kept += rows
            candidates += [items - len(masked) for masked in excluded]
            advance(chunk_size, "")
    joined = {name: np.concatenate([np.zeros(0), *parts]) for name, parts in ranks.items()}
    repeats = len(selected) - len(kept)
    return TargetRanks(np.array(kept, np.int64), np.array(candidates, np.int64), joined, repeats)


def _request_chunks(
    split: Split, selected: EvaluationRequests
) -> Iterator[tuple[int, list[int], list[Request]]]:
    """Yields chunks: their size, and rows and requests without excluded targets."""
    chunk_size = requests_per_call(split.num_items)
    for start in range(0, len(selected), chunk_size):
        rows = range(start, min(start + chunk_size, len(selected)))
        pairs = [(row, selected.task.request(split, int(selected.positions[row]))) for row in rows]
        kept = [pair for pair in pairs if selected.targets[pair[0]] not in pair[1].exclude]
        yield len(rows), [row for row, _ in kept], [request for _, request in kept]


def _checked_scores(
    name: str, ranker: Ranker, requests: list[Request], items: int
) -> Float[np.ndarray, "requests items"]:
    answer = ranker(requests)
    scores = answer.scores if isinstance(answer, Ranking) else np.asarray(answer, np.float32)
    if scores.shape != (len(requests), items):
        raise InputError(
            f"scores of shape {scores.shape} for {len(requests)} requests and {items} items",
            where=name,
            hint="Return one row for each request and one column for each item of the catalog.",
        )
    return scores


def _compare(
    selected: EvaluationRequests, ranks: TargetRanks, config: EvaluationConfig, seed: int
) -> TaskReport:
    users = selected.users[ranks.kept]
    groups = _groups(selected.warm[ranks.kept])
    values = {CHANCE: chance(ranks.candidates)}
    values |= {name: per_request(array) for name, array in ranks.by_ranker.items()}
    rows: list[ReportRow] = []
    differences: list[Difference] = []
    for group, members in groups.items():
        chosen = {name: value[members] for name, value in values.items()}
        parts = bootstrap_each(chosen, users[members], config.resamples, seed)
        rows += [ReportRow(name, group, _by_metric(part.figures())) for name, part in parts.items()]
        names = list(parts)
        for number, name in enumerate(names):
            for other in names[:number]:
                figures = _by_metric(parts[name].minus(parts[other]).figures())
                differences.append(Difference(name, other, group, figures))
    return TaskReport(
        task=selected.task.name.value,
        eligible=selected.eligible,
        repeats=ranks.repeats,
        requests={group: int(members.sum()) for group, members in groups.items()},
        users={group: len(np.unique(users[members])) for group, members in groups.items()},
        candidates=float(ranks.candidates.mean()) if len(users) else 0.0,
        rows=tuple(rows),
        differences=tuple(differences),
    )


def _groups(warm: Bool[np.ndarray, " requests"]) -> dict[Group, Bool[np.ndarray, " requests"]]:
    """Masks of all requests, and of warm and cold targets if there are both."""
    if not warm.size:
        return {}
    groups: dict[Group, Bool[np.ndarray, " requests"]] = {"all": np.ones(len(warm), bool)}
    if warm.any() and not warm.all():
        groups |= {"warm": warm, "cold": ~warm}
    return groups


def _by_metric(figures: Sequence[Figure]) -> dict[str, Figure]:
    return dict(zip(METRICS, figures, strict=True))


def _rank_rows(split: Split, selected: EvaluationRequests, ranks: TargetRanks) -> pl.DataFrame:
    kept = ranks.kept
    items = split.catalog["item"]
    parts = [
        pl.DataFrame(
            {
                "ranker": pl.Series([name], dtype=pl.String).new_from_index(0, len(kept)),
                "user": selected.users[kept],
                "target": items.gather(selected.targets[kept]),
                "position": selected.positions[kept],
                "warm": selected.warm[kept],
                "candidates": ranks.candidates,
                "rank": array,
            }
        )
        for name, array in ranks.by_ranker.items()
    ]
    task = pl.lit(selected.task.name.value).alias("task")
    return pl.concat(parts).select(task, pl.all())
