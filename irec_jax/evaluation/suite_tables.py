"""Tables of request suites."""

from rich.markup import escape
from rich.table import Table

from irec_jax.evaluation.request_suite import TOP, SuiteReport


def suite_table(report: SuiteReport) -> Table:
    """A row for each ability with the satisfaction of every ranker, the last with its interval."""
    rankers = list(dict.fromkeys(row.ranker for row in report.rows))
    table = Table(
        title=f"requests of {escape(report.suite)}: satisfaction at {TOP}",
        title_justify="left",
    )
    table.add_column("ability")
    table.add_column("requests", justify="right")
    for ranker in rankers:
        table.add_column(ranker, justify="right")
    for ability in dict.fromkeys(row.ability for row in report.rows):
        rows = {row.ranker: row for row in report.rows if row.ability == ability}
        cells = []
        for ranker in rankers:
            figure = rows[ranker].satisfaction
            interval = f" \\[{figure.low:.2f}, {figure.high:.2f}]" if ranker == rankers[-1] else ""
            cells.append(f"{figure.value:.3f}{interval}")
        table.add_row(escape(ability), str(rows[rankers[0]].requests), *cells)
    return table


def suite_counts(report: SuiteReport) -> str:
    """Counts the conditions and warnings of the tuned model."""
    flagged, right = report.flagged
    return (
        f"conditions: {report.exact} of {report.graded} read exactly; {report.wrong} exclude an "
        f"item that is asked for\nwarnings: {right} of {flagged} requests that need one have it; "
        f"{report.false_warnings} of the others have one"
    )
