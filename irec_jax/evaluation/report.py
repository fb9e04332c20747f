"""Grades rankers: asks them, ranks their answers, and says how sure the result is."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from irec_jax.errors import InputError
from irec_jax.evaluation.compare import Figure, bootstrap
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
from irec_jax.instructions.forms import Ranker, Request
from irec_jax.instructions.tasks import Task
from irec_jax.log.split import Split
from irec_jax.progress import track
from irec_jax.settings import to_json

MAX_REQUESTS_A_CALL = 512
RankersOf = Callable[[Task], Mapping[str, Ranker]]
SCORES_A_CALL = 2**24  # 64 MiB of float32, so that a million items go in calls of 16 requests


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """The ranks that rankers gave the right answers of one task.

    Attributes:
        kept: `[requests]` positions in the questions of those that could be asked.
        candidates: `[requests]` how many items competed in each.
        ranks: For each ranker `[requests]`.
        repeats: How many questions could not be asked.
    """

    kept: Int[np.ndarray, " requests"]
    candidates: Int[np.ndarray, " requests"]
    ranks: Mapping[str, Float[np.ndarray, " requests"]]
    repeats: int


def evaluate(
    rankers: Mapping[str, Ranker],
    split: Split,
    tasks: Sequence[Task],
    config: EvaluationConfig,
    seed: int,
    more: RankersOf | None = None,
) -> Report:
    """Ranks the whole catalog for every request of the tasks and compares the rankers.

    Args:
        rankers: By the name of their row, baselines first: each is compared with those before.
        split: Says who is asked what.
        tasks: What is asked.
        config: Which requests, and how many bootstrap draws.
        seed: Of the sample of requests and of the draws.
        more: Rankers that only make sense for some tasks, after the others.

    Raises:
        InputError: If a ranker answers with NaN or with scores of another shape, or no task has
            a request of the config's role.
    """
    if not rankers or CHANCE in rankers:
        raise InputError(f"rankers {list(rankers)}: name at least one, and none '{CHANCE}'")
    asked = [select_requests(task, split, config, seed) for task in tasks]
    if not any(len(questions) for questions in asked):
        names = ", ".join(task.name.value for task in tasks)
        raise InputError(
            f"no {config.role} request for {names or 'no task'} in this log",
            where="evaluation.tasks",
            hint="Search tasks need events with a query, the others users with a history.",
        )
    graded = [
        (questions, _ask({**rankers, **(more(questions.task) if more else {})}, split, questions))
        for questions in asked
    ]
    reports = [_compare(questions, answers, config, seed) for questions, answers in graded]
    ranks = [_rank_rows(split, questions, answers) for questions, answers in graded]
    return Report(
        protocol=split.protocol.value,
        role=config.role,
        seed=seed,
        settings=to_json(config),
        split=split_counts(split),
        split_sha256=split_hash(split),
        tasks=tuple(reports),
        ranks=pl.concat(ranks),
    )


def save_report(report: Report, run: Path) -> Path:
    """Writes report.json, index.html and ranks.parquet, all three or none.

    Returns:
        The folder, `RUN/reports/PROTOCOL` (`PROTOCOL_validation` for the validation role).
    """
    folder = run / "reports" / report.name
    data = report.to_json()
    with replaced_folder(folder) as temporary:
        write_text(temporary / "report.json", json.dumps(data, indent=1, allow_nan=False) + "\n")
        write_text(temporary / "index.html", render_page(report))
        report.ranks.write_parquet(temporary / "ranks.parquet")
    return folder


def requests_a_call(items: int) -> int:
    """How many requests a ranker is asked at once, so that its scores stay small.

    >>> requests_a_call(2_000), requests_a_call(1_000_000)
    (512, 16)
    """
    return max(1, min(MAX_REQUESTS_A_CALL, SCORES_A_CALL // max(items, 1)))


def _ask(rankers: Mapping[str, Ranker], split: Split, questions: EvaluationRequests) -> Answers:
    """Asks every ranker every question, a few at a time."""
    items = split.num_items
    kept: list[int] = []
    candidates: list[int] = []
    ranks: dict[str, list[np.ndarray]] = {name: [] for name in rankers}
    what = f"evaluate {questions.task.name.value}"
    with track(what, len(questions), unit="requests") as advance:
        for chunk, numbers, requests in _askable(split, questions):
            targets = questions.targets[numbers].astype(np.int64)
            excluded = [sorted(set(request.exclude)) for request in requests]
            for name, ranker in rankers.items():
                if not requests:
                    continue
                scores = _checked_scores(name, ranker, requests, items)
                ranks[name].append(full_ranks(scores, targets, excluded, name=name))
            kept += numbers
            candidates += [items - len(masked) for masked in excluded]
            advance(chunk, "")
    joined = {name: np.concatenate([np.zeros(0), *parts]) for name, parts in ranks.items()}
    number = len(questions) - len(kept)
    return Answers(np.array(kept, np.int64), np.array(candidates, np.int64), joined, number)


def _askable(
    split: Split, questions: EvaluationRequests
) -> Iterator[tuple[int, list[int], list[Request]]]:
    """Yields chunks of requests without those whose right answer may not be returned."""
    at_once = requests_a_call(split.num_items)
    for start in range(0, len(questions), at_once):
        numbers = range(start, min(start + at_once, len(questions)))
        pairs = [
            (number, questions.task.request(split, int(questions.positions[number])))
            for number in numbers
        ]
        open_pairs = [pair for pair in pairs if questions.targets[pair[0]] not in pair[1].exclude]
        chosen = [number for number, _ in open_pairs]
        yield len(numbers), chosen, [request for _, request in open_pairs]


def _checked_scores(
    name: str, ranker: Ranker, requests: list[Request], items: int
) -> Float[np.ndarray, "requests items"]:
    scores = ranker(requests).scores
    if scores.shape != (len(requests), items):
        raise InputError(
            f"scores of shape {scores.shape} for {len(requests)} requests and {items} items",
            where=name,
            hint="A ranker gives one row a request and one column an item of the catalog.",
        )
    return scores


def _compare(
    questions: EvaluationRequests, answers: Answers, config: EvaluationConfig, seed: int
) -> TaskReport:
    users = questions.users[answers.kept]
    groups = _groups(questions.warm[answers.kept])
    values = {CHANCE: chance(answers.candidates)}
    values |= {name: per_request(ranks) for name, ranks in answers.ranks.items()}
    rows: list[ReportRow] = []
    differences: list[Difference] = []
    for group, members in groups.items():
        stacked = np.concatenate([value[members] for value in values.values()], axis=1)
        drawn = bootstrap(stacked, users[members], config.resamples, seed)
        width = len(METRICS)
        parts = {
            name: drawn.columns(slice(number * width, (number + 1) * width))
            for number, name in enumerate(values)
        }
        rows += [ReportRow(name, group, _by_metric(part.figures())) for name, part in parts.items()]
        names = list(parts)
        for number, name in enumerate(names):
            for other in names[:number]:
                figures = _by_metric(parts[name].minus(parts[other]).figures())
                differences.append(Difference(name, other, group, figures))
    return TaskReport(
        task=questions.task.name.value,
        eligible=questions.eligible,
        repeats=answers.repeats,
        requests={group: int(members.sum()) for group, members in groups.items()},
        users={group: len(np.unique(users[members])) for group, members in groups.items()},
        candidates=float(answers.candidates.mean()) if len(users) else 0.0,
        rows=tuple(rows),
        differences=tuple(differences),
    )


def _groups(warm: Bool[np.ndarray, " requests"]) -> dict[Group, Bool[np.ndarray, " requests"]]:
    """All requests; and warm and cold ones apart where there are both."""
    if not warm.size:
        return {}
    groups: dict[Group, Bool[np.ndarray, " requests"]] = {"all": np.ones(len(warm), bool)}
    if warm.any() and not warm.all():
        groups |= {"warm": warm, "cold": ~warm}
    return groups


def _by_metric(figures: Sequence[Figure]) -> dict[str, Figure]:
    return dict(zip(METRICS, figures, strict=True))


def _rank_rows(split: Split, questions: EvaluationRequests, answers: Answers) -> pl.DataFrame:
    kept = answers.kept
    items = split.catalog["item"]
    parts = [
        pl.DataFrame(
            {
                "ranker": pl.Series([name], dtype=pl.String).new_from_index(0, len(kept)),
                "user": questions.users[kept],
                "target": items.gather(questions.targets[kept]),
                "position": questions.positions[kept],
                "warm": questions.warm[kept],
                "candidates": answers.candidates,
                "rank": ranks,
            }
        )
        for name, ranks in answers.ranks.items()
    ]
    task = pl.lit(questions.task.name.value).alias("task")
    return pl.concat(parts).select(task, pl.all())
