"""Tables of `irec instruct`: stored records, findings of the audit, and possible requests."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.table import Table

from irec_jax.audit.audit import Audit
from irec_jax.cli.template_coverage import CoverageRow, TemplateId, distinct_templates
from irec_jax.instruction_sets.store import StoreManifest
from irec_jax.instructions.forms import Strategy, scenario_words, task_words


def stored_table(manifest: StoreManifest) -> Table:
    """Shows how many records there are of each template, and of each kind of request in all."""
    kinds: dict[RequestKind, list[tuple[str, int]]] = {}
    for count in manifest.counts:
        kind = RequestKind(*(count[column] for column in RequestKind._fields))
        kinds.setdefault(kind, []).append((count["template"], count["records"]))
    columns = _columns(list(kinds))
    table = Table(*columns, "template", title="Instructions")
    table.add_column("records", justify="right")
    for kind, templates in sorted(kinds.items()):
        for template, records in templates:
            table.add_row(*(columns[name](kind) for name in columns), template, f"{records:,}")
        total = sum(records for _, records in templates)
        cells = (columns[name](kind) for name in columns)
        table.add_row(*cells, "all", f"{total:,}", end_section=True)
    return table


class RequestKind(NamedTuple):
    """A kind of request, as records name it.

    Attributes:
        task: The task's name.
        scenario: `Scenario.code`.
        strategy: A value of `Strategy`.
        language: BCP 47.
    """

    task: str
    scenario: str
    strategy: str
    language: str


def _columns(kinds: Sequence[RequestKind]) -> dict[str, Callable[[RequestKind], str]]:
    """Returns how the columns of kinds are written; strategy and language only if they differ."""
    columns: dict[str, Callable[[RequestKind], str]] = {
        "task": lambda kind: task_words(kind.task),
        "request": lambda kind: scenario_words(kind.scenario),
    }
    if {kind.strategy for kind in kinds} - {Strategy.PLAIN.value}:
        columns["strategy"] = lambda kind: task_words(kind.strategy)
    if len({kind.language for kind in kinds}) > 1:
        columns["language"] = lambda kind: kind.language
    return columns


def audit_table(audit: Audit, source_length: int) -> Table:
    """Shows what an audit measured.

    Args:
        audit: Of a set.
        source_length: How many tokens of a prompt the model reads.
    """
    table = Table("measured", "result", title="Audit")
    for what, result in audit.summary(source_length):
        table.add_row(what, result)
    return table


def coverage_table(rows: Sequence[CoverageRow], domain: str) -> Table:
    """Shows the kinds of requests that a pass has, with their templates: for training + held out.

    Args:
        rows: What was counted.
        domain: The one of the settings, in which the instructions are.
    """
    made = [row for row in rows if row.instructions]
    kinds = [RequestKind(row.task, row.scenario, row.strategy, row.language) for row in made]
    columns = _columns(kinds)
    table = Table(*columns, title=f"One pass over the log ({domain})")
    table.add_column("templates", justify="right")
    table.add_column("instructions", justify="right")
    for row, kind in zip(made, kinds, strict=True):
        cells = (columns[name](kind) for name in columns)
        table.add_row(*cells, _both(row.templates.get(domain)), f"{row.instructions:,}")
    table.add_section()
    total = ("all", *[""] * (len(columns) - 1), _both(distinct_templates(made, domain)))
    table.add_row(*total, f"{sum(row.instructions for row in made):,}")
    table.caption = "templates: for training + kept for the test on unseen wordings"
    return table


def _both(templates: frozenset[TemplateId] | None) -> str:
    if templates is None:
        return "-"
    held_out = sum(template.held_out for template in templates)
    return f"{len(templates) - held_out} + {held_out}"
