"""Tables of `irec instruct`: stored records, findings of the audit, and possible requests."""

from collections.abc import Sequence

from rich.table import Table

from irec_jax.audit.audit import Audit
from irec_jax.cli.template_coverage import DOMAINS, CoverageRow, TemplateId, distinct_templates
from irec_jax.instruction_sets.store import StoreManifest


def stored_table(manifest: StoreManifest) -> Table:
    """Shows how many records there are of each template, and of each task in all."""
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
    """Shows every kind of question with its templates in each domain: for training + held out.

    Args:
        rows: What was counted.
        domain: The one of the settings, in which the instructions are.
    """
    table = Table("task", "scenario", "strategy", "language", title="What can be asked")
    for name in DOMAINS:
        table.add_column(name, justify="right")
    table.add_column(f"one pass ({domain})", justify="right")
    for row in rows:
        table.add_row(
            *(row.task, row.scenario, row.strategy, row.language),
            *(_both(row.templates.get(name)) for name in DOMAINS),
            f"{row.instructions:,}" if row.instructions else "-",
        )
    table.add_section()
    table.add_row(
        *("all", f"{len({row.scenario for row in rows})} scenarios"),
        f"{len({row.strategy for row in rows})} strategies",
        f"{len({row.language for row in rows})} languages",
        *(_both(distinct_templates(rows, name)) for name in DOMAINS),
        f"{sum(row.instructions for row in rows):,}",
    )
    return table


def _both(templates: frozenset[TemplateId] | None) -> str:
    if templates is None:
        return "-"
    held_out = sum(template.held_out for template in templates)
    return f"{len(templates) - held_out} + {held_out}"
