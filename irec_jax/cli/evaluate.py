"""`irec evaluate`: ranks the whole catalog with a run and the baselines, and writes a report."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from irec_jax.api.evaluate_requests import evaluate_requests
from irec_jax.api.evaluate_run import evaluate
from irec_jax.errors import InputError
from irec_jax.evaluation.figures import Report
from irec_jax.evaluation.report import report_folder
from irec_jax.evaluation.suite_tables import suite_counts, suite_table
from irec_jax.experiment.run_config import load_run
from irec_jax.instructions.forms import TaskName
from irec_jax.log.split import SplitProtocol
from irec_jax.run_folder import REPORT_FILE, REPORT_PAGE
from irec_jax.terminal import Console


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Ranks the whole catalog for every test request of a run and writes a report.

    The rows are chance, the baselines, the tuned model and, for a simulated log, the best
    possible ranking. It writes report.json, index.html and ranks.parquet. Example:

      irec evaluate runs/movies --max-requests 2000

    Attributes:
        folder: The folder that `irec tune` wrote.
        protocol: The protocol of the run, as a check.
        role: The role of the targets; default: the run's `evaluation.role`.
        tasks: The tasks; default: the run's `evaluation.tasks`, or those that it was tuned on.
        max_requests: Size of a random sample of the requests of each task; 0 for all requests.
        ablations: Also evaluate the model without the query, with the query of another user,
            with held-out templates, and in its other languages.
        requests: Instead, ask the requests of a suite (shop_en, shop_zh, movies_en, beauty_en,
            or the path of a TOML file) and grade the first five answers of each by its condition.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    protocol: tyro.conf.EnumChoicesFromValues[SplitProtocol | None] = None
    role: Literal["validation", "test"] | None = None
    tasks: tyro.conf.EnumChoicesFromValues[tuple[TaskName, ...]] = ()
    max_requests: int | None = None
    ablations: bool = False
    requests: str = ""

    def run(self) -> None:
        """Evaluates the run, prints the tables and the paths of the report."""
        experiment = load_run(self.folder)
        if self.protocol not in (None, experiment.data.protocol):
            raise InputError(
                f"the run was tuned under {experiment.data.protocol.value}, so its training events "
                f"may contain targets of {self.protocol.value}",
                where="--protocol",
                hint=f"Tune another run with --data.protocol {self.protocol.value}.",
            )
        if self.requests:
            suite = evaluate_requests(self.folder, self.requests)
            console = Console()
            console.print(suite_table(suite))
            console.print(suite_counts(suite), highlight=False)
            return
        report = evaluate(
            self.folder,
            tasks=self.tasks,
            role=self.role,
            max_requests=self.max_requests,
            ablations=self.ablations,
        )
        show(report, self.folder)


def show(report: Report, run: Path) -> None:
    """Prints the tables of a report and the paths of its files."""
    console = Console()
    console.print(report)
    folder = report_folder(report, run)
    console.print(f"report: {folder / REPORT_FILE}", soft_wrap=True, highlight=False)
    console.print(f"page:   {folder / REPORT_PAGE}", soft_wrap=True, highlight=False)
