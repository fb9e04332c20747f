"""Tables of a report for the terminal."""

import math
from collections.abc import Iterator

from rich.box import SIMPLE_HEAVY
from rich.table import Table

from irec_jax.evaluation.bootstrap import Figure
from irec_jax.evaluation.figures import (
    TUNED,
    Group,
    Report,
    ReportRow,
    TaskReport,
    metric_title,
)
from irec_jax.evaluation.metrics import HEADLINES, METRICS
from irec_jax.evaluation.page.report_page import counts_line

WIDTH_OF_ALL_METRICS = 122
NARROW_METRICS = (*HEADLINES, "mrr")


def all_tables(report: Report, width: int) -> Iterator[Table | str]:
    """Makes the tables of all tasks, each with the tuned model's differences to the other rows.

    Args:
        report: The report.
        width: Width of the terminal in characters.
    """
    for task in report.tasks:
        if not task.rows:
            yield f"{task.task.replace('_', ' ')}: the log has no request of this task"
        yield from report_tables(task, width)
        if any(row.ranker == TUNED for row in task.rows):
            yield differences_table(task, TUNED)


def report_tables(task: TaskReport, width: int) -> list[Table]:
    """Makes a table for all requests, and for warm and cold targets if there are both.

    A row is a ranker; the headline metrics have their 95 % confidence intervals.

    Args:
        task: The results of a task.
        width: Width of the terminal in characters; all metrics are shown from 122 on.
    """
    metrics = tuple(METRICS) if width >= WIDTH_OF_ALL_METRICS else NARROW_METRICS
    tables = []
    for group in task.requests:
        rows = [row for row in task.rows if row.group == group]
        tables.append(_table(_title(task, group), rows, metrics))
    if tables:
        tables[0].caption = counts_line(task)
    return tables


def differences_table(task: TaskReport, ranker: str) -> Table:
    """Makes a table of the paired differences between a ranker and each one before it."""
    title = f"{task.task.replace('_', ' ')}: {ranker} minus"
    table = _empty_table(title, HEADLINES)
    for difference in task.differences:
        if difference.ranker == ranker and difference.group == "all":
            cells = [interval_text(difference.figures[name], signed=True) for name in HEADLINES]
            table.add_row(difference.minus, *cells)
    return table


def _table(title: str, rows: list[ReportRow], metrics: tuple[str, ...]) -> Table:
    table = _empty_table(title, metrics)
    for row in rows:
        cells = [
            interval_text(row.figures[name])
            if name in HEADLINES
            else _short(row.figures[name].value)
            for name in metrics
        ]
        table.add_row(row.ranker, *cells)
    return table


def _empty_table(title: str, metrics: tuple[str, ...]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAVY, title_justify="left", caption_justify="left")
    table.add_column("ranker", no_wrap=True)
    for metric in metrics:
        table.add_column(metric_title(metric), justify="right", no_wrap=True)
    return table


def _title(task: TaskReport, group: Group) -> str:
    title = task.task.replace("_", " ")
    if group == "all":
        return title
    return f"{title}, {group} targets ({task.requests[group]:,} requests)"


def interval_text(figure: Figure, *, signed: bool = False) -> str:
    """Formats a figure with its interval, escaped for rich."""
    value = _short(figure.value, signed=signed)
    if math.isnan(figure.low):
        return value
    low, high = (_short(end, 3, signed=signed) for end in (figure.low, figure.high))
    return rf"{value} \[{low}, {high}]"


def _short(value: float, decimals: int = 4, *, signed: bool = False) -> str:
    """Formats a share without the 0 before its point.

    >>> _short(0.14614), _short(1.0), _short(-0.0312, 3, signed=True)
    ('.1461', '1.0000', '-.031')
    """
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and text.lstrip("+-")[0] == "0" else text
