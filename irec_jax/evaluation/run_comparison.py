"""Runs side by side: the tuned models' figures on the same requests, with paired differences."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import polars as pl
from rich.box import SIMPLE_HEAVY
from rich.console import Console, ConsoleOptions
from rich.jupyter import JupyterMixin
from rich.table import Table

from irec_jax.errors import InputError
from irec_jax.evaluation.bootstrap import Figure, bootstrap_each
from irec_jax.evaluation.figures import TUNED, metric_title
from irec_jax.evaluation.metrics import HEADLINES, METRICS, per_request
from irec_jax.evaluation.report_tables import interval_text

REQUEST = ("user", "target", "position")
"""The columns of ranks that say which request a row is of."""


@dataclasses.dataclass(frozen=True)
class RanksOfRun:
    """The ranks of one run's report.

    Attributes:
        name: The name of the run in the tables.
        split_sha256: Of the split; see `protocol.split_hash`.
        ranks: As `Report.ranks`.
    """

    name: str
    split_sha256: str
    ranks: pl.DataFrame


@dataclasses.dataclass(frozen=True)
class RunRow:
    """The figures of one run on one task.

    Attributes:
        task: The name of the task.
        run: The name of the run.
        figures: A figure for each metric.
        differences: The run minus the first one for each metric, paired by request; empty for the
            first.
    """

    task: str
    run: str
    figures: Mapping[str, Figure]
    differences: Mapping[str, Figure]


@dataclasses.dataclass(frozen=True, eq=False)
class RunComparison(JupyterMixin):
    """Runs compared on the tasks that all of them were evaluated on.

    Attributes:
        rows: By task, the runs in the order they were given.
        requests: Number of requests of each task.
    """

    rows: tuple[RunRow, ...]
    requests: Mapping[str, int]

    def to_frame(self) -> pl.DataFrame:
        """A row for each figure, with the difference to the first run (null for that run)."""
        schema = ("value", "low", "high")
        rows = []
        for row in self.rows:
            for metric, figure in row.figures.items():
                difference = row.differences.get(metric)
                ends = dataclasses.astuple(difference) if difference else (None,) * 3
                rows.append((row.task, row.run, metric, *dataclasses.astuple(figure), *ends))
        names = ("task", "run", "metric", *schema, *(f"difference_{name}" for name in schema))
        types = [pl.String] * 3 + [pl.Float64] * 6
        return pl.DataFrame(rows, dict(zip(names, types, strict=True)), orient="row")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        for task, requests in self.requests.items():
            title = f"{task.replace('_', ' ')} ({requests:,} requests)"
            table = Table(title=title, box=SIMPLE_HEAVY, title_justify="left")
            table.add_column("run", overflow="fold")
            for metric in HEADLINES:
                table.add_column(metric_title(metric), justify="right")
            for row in (row for row in self.rows if row.task == task):
                table.add_row(row.run, *(interval_text(row.figures[name]) for name in HEADLINES))
                if row.differences:
                    minus = [interval_text(row.differences[n], signed=True) for n in HEADLINES]
                    table.add_row("  minus the first", *minus)
            yield table


def compare_ranks(runs: Sequence[RanksOfRun], resamples: int, seed: int) -> RunComparison:
    """Compares the tuned models of runs request by request.

    Args:
        runs: At least two; differences are to the first.
        resamples: Bootstrap samples of the users.
        seed: Seed of the samples.

    Raises:
        InputError: Their splits or requests differ, a run is given twice, or no task is in all
            reports.
    """
    _check_comparable(runs)
    frames = [run.ranks.filter(pl.col("ranker") == TUNED).sort("task", *REQUEST) for run in runs]
    first = frames[0]
    others = [set(frame["task"].unique()) for frame in frames[1:]]
    tasks = [
        task
        for task in first["task"].unique(maintain_order=True)
        if all(task in names for names in others)
    ]
    if not tasks:
        hint = "Evaluate them on a common task with --tasks."
        raise InputError("the runs have no task in common", where=runs[0].name, hint=hint)
    rows: list[RunRow] = []
    requests = {}
    for task in tasks:
        ranks = [frame.filter(pl.col("task") == task) for frame in frames]
        for run, frame in zip(runs[1:], ranks[1:], strict=True):
            if not frame.select(REQUEST).equals(ranks[0].select(REQUEST)):
                raise InputError(
                    f"its requests of {task.replace('_', ' ')} are not those of {runs[0].name}",
                    where=run.name,
                    hint="Evaluate both runs again with the same settings.",
                )
        requests[task] = ranks[0].height
        rows += _rows_of_task(task, runs, ranks, resamples, seed)
    return RunComparison(tuple(rows), requests)


def _rows_of_task(
    task: str, runs: Sequence[RanksOfRun], ranks: Sequence[pl.DataFrame], resamples: int, seed: int
) -> list[RunRow]:
    values = {
        run.name: per_request(frame["rank"].to_numpy())
        for run, frame in zip(runs, ranks, strict=True)
    }
    parts = bootstrap_each(values, ranks[0]["user"].to_numpy(), resamples, seed)
    first = parts[runs[0].name]
    rows = []
    for name, part in parts.items():
        figures = dict(zip(METRICS, part.figures(), strict=True))
        differences = dict(zip(METRICS, part.minus(first).figures(), strict=True))
        rows.append(RunRow(task, name, figures, {} if part is first else differences))
    return rows


def _check_comparable(runs: Sequence[RanksOfRun]) -> None:
    for run in runs[1:]:
        if run.split_sha256 != runs[0].split_sha256:
            raise InputError(
                f"its requests come from another split than those of {runs[0].name}",
                where=run.name,
                hint="Tune both runs with the same log, data.core, data.protocol and seed.",
            )
    names = [run.name for run in runs]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise InputError("the run is given twice", where=repeated[0], hint="Name each run once.")
