"""Comparing runs from Python, as `irec compare` does."""

import json
from os import PathLike
from pathlib import Path
from typing import Any

import polars as pl

from irec_jax.errors import InputError
from irec_jax.evaluation.figures import report_name
from irec_jax.evaluation.run_comparison import RanksOfRun, RunComparison, compare_ranks
from irec_jax.experiment.run_config import load_run
from irec_jax.run_folder import RANKS_FILE, REPORT_FILE, REPORTS_FOLDER

RESAMPLES = 1_000


def compare(*runs: PathLike[str] | str) -> RunComparison:
    """Puts evaluated runs side by side, with paired differences to the first.

    The report of each run with the run's own settings is read; nothing is ranked again.

    Args:
        *runs: Two or more runs: what `tune` returned, or their folders.

    Raises:
        InputError: A run has no report, or the reports have different requests.
    """
    if len(runs) < 2:
        raise InputError("a comparison needs two runs", where="RUN", hint="Name two or more runs.")
    return compare_ranks([_ranks_of(Path(run)) for run in runs], RESAMPLES, seed=0)


def _ranks_of(run: Path) -> RanksOfRun:
    experiment = load_run(run)
    config = experiment.evaluation
    name = report_name(experiment.data.protocol.value, config.role, config.max_requests)
    folder = run / REPORTS_FOLDER / name
    hint = f"Write it with `irec evaluate {run}`."
    if not (folder / REPORT_FILE).is_file():
        raise InputError("the run has no report", where=str(folder), hint=hint)
    try:
        report: dict[str, Any] = json.loads((folder / REPORT_FILE).read_bytes())
        ranks = pl.read_parquet(folder / RANKS_FILE)
        return RanksOfRun(str(run), str(report["split_sha256"]), ranks)
    except (ValueError, TypeError, KeyError, OSError, pl.exceptions.PolarsError) as error:
        problem = f"the report is damaged ({type(error).__name__})"
        raise InputError(problem, where=str(folder), hint=hint) from error
