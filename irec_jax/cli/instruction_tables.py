"""Tables of `irec instruct`: stored records, audit and coverage."""

from collections.abc import Sequence

from rich.table import Table

from irec_jax.audit.audit import Audit
from irec_jax.audit.coverage import DOMAINS, CoverageRow, TemplateCounts, count_templates
from irec_jax.instruction_sets.store import StoreManifest


def stored_table(manifest: StoreManifest) -> Table:
    """Returns a table of the records of each template and each task."""
    table = Table("task", "scenario", "strategy", "language", "template", title="Instructions")
    table.add_column("records", justify="right")
    columns = ("task", "scenario", "strategy", "language")
    kinds: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for count in manifest.counts:
        kind = tuple(count[column] for column in columns)
        kinds.setdefault(kind, []).append((count["template"], count["records"]))
    for kind, templates in sorted(kinds.items()):
        for template, records in templates:
            table.add_row(*kind, template, str(records))
        total = sum(records for _, records in templates)
        table.add_row(*kind, "all", str(total), end_section=True)
    return table


def audit_table(audit: Audit, source_length: int) -> Table:
    """Returns a table of the results of an audit.

    Args:
        audit: Audit of a set.
        source_length: Largest number of tokens of a prompt.
    """
    table = Table("measured", "result", title="Audit")
    for name, result in audit.summary(source_length):
        table.add_row(name, result)
    return table


def coverage_table(rows: Sequence[CoverageRow], domain: str) -> Table:
    """Returns a table of tasks with their templates in each domain: training + held out.

    Args:
        rows: Counts by task and language.
        domain: Domain of the settings.
    """
    table = Table("task", "scenario", "strategy", "language", title="Coverage")
    for name in DOMAINS:
        table.add_column(name, justify="right")
    table.add_column(f"one pass ({domain})", justify="right")
    for row in rows:
        table.add_row(
            *(row.task, row.scenario, row.strategy, row.language),
            *(_format_counts(row.templates.get(name)) for name in DOMAINS),
            f"{row.instructions:,}" if row.instructions else "-",
        )
    table.add_section()
    table.add_row(
        *("all", f"{len({row.scenario for row in rows})} scenarios"),
        f"{len({row.strategy for row in rows})} strategies",
        f"{len({row.language for row in rows})} languages",
        *(_format_counts(count_templates(rows, name)) for name in DOMAINS),
        f"{sum(row.instructions for row in rows):,}",
    )
    return table


def _format_counts(templates: TemplateCounts | None) -> str:
    if templates is None:
        return "-"
    return f"{len(templates.trained)} + {len(templates.held_out)}"
