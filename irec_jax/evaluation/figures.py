"""The content of a report: figures with intervals, differences, counts and settings."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import polars as pl
from rich.console import Console, ConsoleOptions
from rich.jupyter import JupyterMixin
from rich.table import Table

from irec_jax.evaluation.bootstrap import Figure

CHANCE = "chance"
TUNED = "tuned model"
BEST = "best possible"
RESERVED_NAMES: tuple[str, ...] = (CHANCE, TUNED, BEST)
"""Names of rows that no baseline may have."""
Group = Literal["all", "warm", "cold"]


def metric_title(metric: str) -> str:
    """The title of a metric in tables.

    >>> metric_title("ndcg@10"), metric_title("recall@1")
    ('NDCG@10', 'Recall@1')
    """
    return metric.capitalize() if metric.startswith("recall") else metric.upper()


def report_name(protocol: str, role: str, max_requests: int) -> str:
    """The name of a report's folder; a sample has its own, so that it replaces no full report.

    >>> report_name("temporal", "test", 0), report_name("leave_one_out", "validation", 500)
    ('temporal', 'leave_one_out_validation_sample_500')
    """
    parts = [protocol]
    if role != "test":
        parts.append(role)
    if max_requests:
        parts.append(f"sample_{max_requests}")
    return "_".join(parts)


@dataclasses.dataclass(frozen=True)
class ReportRow:
    """The figures of one ranker on one group of requests.

    Attributes:
        ranker: The name of the row.
        group: `all` requests, or those whose target is `warm` (has a training event) or `cold`.
        figures: A figure for each metric.
    """

    ranker: str
    group: Group
    figures: Mapping[str, Figure]


@dataclasses.dataclass(frozen=True)
class Difference:
    """The paired difference of two rankers on one group of requests.

    Attributes:
        ranker: The first ranker.
        minus: The ranker that is subtracted.
        group: As in `ReportRow`.
        figures: A figure for each metric; an interval without 0 is a significant difference.
    """

    ranker: str
    minus: str
    group: Group
    figures: Mapping[str, Figure]


@dataclasses.dataclass(frozen=True)
class TaskReport:
    """The results of one task.

    Attributes:
        task: The name of the task.
        eligible: Number of requests before sampling.
        repeats: Sampled requests that are left out because the target is in the history, whose
            items may not be recommended.
        requests: Number of ranked requests, by group.
        users: Number of their users, by group.
        candidates: Mean number of ranked items of a request.
        rows: Chance first, then the rankers in their order.
        differences: Each ranker minus each one before it.
    """

    task: str
    eligible: int
    repeats: int
    requests: Mapping[Group, int]
    users: Mapping[Group, int]
    candidates: float
    rows: tuple[ReportRow, ...]
    differences: tuple[Difference, ...]

    def row(self, ranker: str, group: Group = "all") -> ReportRow:
        """Returns the row of a ranker.

        Raises:
            KeyError: If the report has no such row.
        """
        for row in self.rows:
            if (row.ranker, row.group) == (ranker, group):
                return row
        raise KeyError(f"no row {ranker!r} for {group} targets in {self.task}")

    def difference(self, ranker: str, minus: str, group: Group = "all") -> Difference:
        """Returns the difference of two rankers.

        Raises:
            KeyError: If the report has no such difference.
        """
        for difference in self.differences:
            if (difference.ranker, difference.minus, difference.group) == (ranker, minus, group):
                return difference
        raise KeyError(f"no difference {ranker!r} - {minus!r} for {group} targets in {self.task}")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Report(JupyterMixin):
    """The results of an evaluation.

    Attributes:
        protocol: The split's protocol.
        role: `test` or `validation`.
        seed: Seed of the sample and of the bootstrap.
        settings: The evaluation's settings, as JSON.
        split: Counts of the split.
        split_sha256: `protocol.split_hash`; equal hashes mean equal requests.
        tasks: One report for each task.
        ranks: A row for each request and ranker: `task`, `ranker`, `user`, `target`,
            `position`, `warm`, `candidates`, `rank`.
    """

    protocol: str
    role: str
    seed: int
    settings: Mapping[str, Any]
    split: Mapping[str, int]
    split_sha256: str
    tasks: tuple[TaskReport, ...]
    ranks: pl.DataFrame

    @property
    def name(self) -> str:
        """The name of the report's folder, see `report_name`."""
        return report_name(self.protocol, self.role, self.settings.get("max_requests", 0))

    def task(self, name: str) -> TaskReport:
        """Returns the report of a task.

        Raises:
            KeyError: If the report has no such task.
        """
        for task in self.tasks:
            if task.task == name:
                return task
        raise KeyError(f"no task {name!r}; there are {', '.join(task.task for task in self.tasks)}")

    def to_frame(self) -> pl.DataFrame:
        """A row for each figure: `task`, `ranker`, `group`, `metric`, `value`, `low`, `high`."""
        schema = ("task", "ranker", "group", "metric", "value", "low", "high")
        rows = [
            (task.task, row.ranker, row.group, metric, figure.value, figure.low, figure.high)
            for task in self.tasks
            for row in task.rows
            for metric, figure in row.figures.items()
        ]
        return pl.DataFrame(rows, schema, orient="row")

    def __repr__(self) -> str:
        tasks = ", ".join(task.task for task in self.tasks)
        return f"Report({self.name}: {tasks}; to_frame() has the figures)"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | str]:
        # Its module imports this one.
        from irec_jax.evaluation.report_tables import all_tables

        return all_tables(self, options.max_width)

    def to_json(self) -> dict[str, Any]:
        """Returns all but the ranks as JSON; NaN becomes null."""
        fields = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("tasks", "ranks")
        }
        return {"format": 1, **fields, "tasks": [_plain(task) for task in self.tasks]}


def _plain(value: Any) -> Any:
    """Converts dataclasses, mappings and tuples to JSON, floats to seven decimals."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 7) if math.isfinite(value) else None
    return value
