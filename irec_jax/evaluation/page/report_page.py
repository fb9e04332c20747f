"""HTML page of a report: one file that loads nothing from elsewhere."""

import html
import importlib.resources
import math
import string
from collections.abc import Iterable, Mapping, Sequence

from irec_jax.evaluation.bootstrap import Figure
from irec_jax.evaluation.figures import (
    Difference,
    Group,
    Report,
    ReportRow,
    TaskReport,
    metric_title,
)
from irec_jax.evaluation.metrics import HEADLINES, METRICS

PLOT_WIDTH, ROW_HEIGHT, LETTER_WIDTH, MARGIN = 440, 26, 7, 44
GROUPS: dict[Group, str] = {
    "all": "All requests",
    "warm": "Warm targets: items with a training event",
    "cold": "Cold targets: items without a training event",
}


def render_page(report: Report) -> str:
    """Renders the page as one HTML string."""
    template = importlib.resources.files("irec_jax.evaluation.page").joinpath("report.html")
    facts = {"protocol": report.protocol, "role": report.role, "seed": report.seed}
    facts |= {key.replace("_", " "): f"{value:,}" for key, value in report.split.items()}
    facts |= {key.replace("_", " "): value for key, value in report.settings.items() if value}
    facts["split sha256"] = report.split_sha256
    return string.Template(template.read_text(encoding="utf-8")).substitute(
        title=f"Full ranking, {_words(report.protocol)}",
        subtitle=f"{report.role} targets, seed {report.seed}",
        tasks="\n".join(_task(task) for task in report.tasks),
        resamples=f"{report.settings.get('resamples', 0):,}",
        facts="\n".join(f"<dt>{_safe(key)}</dt><dd>{_fact(facts[key])}</dd>" for key in facts),
    )


def _task(task: TaskReport) -> str:
    title = f"<h2>{_safe(_words(task.task).capitalize())}</h2>"
    if not task.rows:
        return f"<section>{title}<p>No request of this task in the log.</p></section>"
    parts = [title, f"<p class='quiet'>{_safe(counts_line(task))}</p>"]
    for group in task.requests:
        rows = [row for row in task.rows if row.group == group]
        heading = f"{GROUPS[group]} ({task.requests[group]:,})"
        parts.append(f"<h3>{_safe(heading)}</h3>")
        if group == "all":
            plots = "".join(_plot(metric, rows) for metric in HEADLINES)
            parts.append(f"<div class='plots'>{plots}</div>")
        parts.append(_table("ranker", METRICS, [(row.ranker, row) for row in rows]))
    pairs = [difference for difference in task.differences if difference.group == "all"]
    named = [(f"{pair.ranker} − {pair.minus}", pair) for pair in reversed(pairs)]  # noqa: RUF001
    parts += ["<h3>Paired differences, all requests</h3>", _table("pair", METRICS, named)]
    return f"<section>{''.join(parts)}</section>"


def counts_line(task: TaskReport) -> str:
    """Numbers of requests, users and candidates of a task, as a line."""
    line = f"{task.requests.get('all', 0):,} requests of {task.users.get('all', 0):,} users"
    line += f", {task.candidates:,.1f} candidates each"
    sampled = task.requests.get("all", 0) + task.repeats
    if sampled < task.eligible:
        line += f"; sampled from {task.eligible:,}"
    if task.repeats:
        line += f"; {task.repeats:,} left out, as their target is in the history"
    return line


def _table(
    first: str, metrics: Iterable[str], rows: Sequence[tuple[str, ReportRow | Difference]]
) -> str:
    names = list(metrics)
    head = "".join(f"<th scope='col'>{metric_title(name)}</th>" for name in names)
    body = "".join(
        f"<tr><td>{_safe(title)}</td>"
        + "".join(_cell(row.figures[name], isinstance(row, Difference)) for name in names)
        + "</tr>"
        for title, row in rows
    )
    return (
        f"<div class='wide'><table><thead><tr><th scope='col'>{first}</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(figure: Figure, signed: bool) -> str:
    sign = "+" if signed else ""
    is_significant = signed and (figure.low > 0 or figure.high < 0)
    value = f"{figure.value:{sign}.4f}"
    interval = f"<small>{figure.low:{sign}.4f} to {figure.high:{sign}.4f}</small>"
    if math.isnan(figure.low):
        interval = "<small>one user</small>"
    return f"<td{' class=significant' if is_significant else ''}>{value}{interval}</td>"


def _plot(metric: str, rows: list[ReportRow]) -> str:
    """Plots a dot and its interval for each ranker, on one axis from 0."""
    figures = [(row.ranker, row.figures[metric]) for row in rows]
    ends = [figure.value if math.isnan(figure.high) else figure.high for _, figure in figures]
    top, step = _scale(max(ends))
    height = ROW_HEIGHT * len(figures) + 24

    start = min(LETTER_WIDTH * (max(len(name) for name, _ in figures) + 1), PLOT_WIDTH / 2)

    def x_at(value: float) -> float:
        return start + (PLOT_WIDTH - start - MARGIN) * value / top

    marks = [
        f"<line class='axis' x1='{x_at(tick):.1f}' x2='{x_at(tick):.1f}' y1='0' "
        f"y2='{height - 20}'/><text class='tick' text-anchor='middle' x='{x_at(tick):.1f}' "
        f"y='{height - 5}'>{tick:.3g}</text>"
        for tick in (number * step for number in range(round(top / step) + 1))
    ]
    for number, (name, figure) in enumerate(figures):
        middle = ROW_HEIGHT * number + ROW_HEIGHT / 2
        low, high = (
            (figure.value, figure.value) if math.isnan(figure.low) else (figure.low, figure.high)
        )
        marks.append(
            f"<g><title>{_safe(name)}: {figure.value:.4f} ({low:.4f} to {high:.4f})</title>"
            f"<text x='0' y='{middle + 4}'>{_safe(name)}</text>"
            f"<line class='span' x1='{x_at(low):.1f}' x2='{x_at(high):.1f}' y1='{middle}' "
            f"y2='{middle}'/><circle class='dot' cx='{x_at(figure.value):.1f}' cy='{middle}' "
            f"r='4'/><text x='{x_at(high) + 8:.1f}' y='{middle + 4}'>{figure.value:.3f}</text>"
            "</g>"
        )
    title = metric_title(metric)
    return (
        f"<figure><figcaption>{title}</figcaption><svg viewBox='0 0 {PLOT_WIDTH} {height}' "
        f"role='img' aria-label='{title} of each ranker'>{''.join(marks)}</svg></figure>"
    )


def _scale(highest: float) -> tuple[float, float]:
    """Chooses the end and the step of an axis from 0, in round numbers.

    >>> _scale(0.23)
    (0.25, 0.05)
    """
    if highest <= 0:
        return 1.0, 0.5
    rough = highest / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    steps = math.ceil(highest / step - 1e-9)
    return round(steps * step, 10), round(step, 10)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _safe(text: object) -> str:
    return html.escape(str(text))


def _fact(value: object) -> str:
    text = ", ".join(map(_setting, value)) if isinstance(value, list | tuple) else str(value)
    return f"<code>{_safe(text)}</code>"


def _setting(value: object) -> str:
    """Formats an item of a setting, imported settings as a call of their class.

    >>> _setting({"import": "irec_jax.baselines.markov:Markov", "settings": {"window": 3}})
    'Markov(window=3)'
    """
    if not (isinstance(value, Mapping) and "import" in value):
        return str(value)
    fields = ", ".join(f"{key}={item!r}" for key, item in value["settings"].items())
    return f"{value['import'].rpartition(':')[2]}({fields})"
