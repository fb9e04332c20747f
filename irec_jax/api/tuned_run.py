"""The result of `tune`: the folder of a run, with its losses."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from rich.console import Console, ConsoleOptions
from rich.jupyter import JupyterMixin

from irec_jax.training.json_lines import loss_of, read_json_lines
from irec_jax.training.metrics_logger import STEPS

SHOWN_STEPS = 50
"""Steps at the end of a run whose mean loss is shown."""


@dataclasses.dataclass(frozen=True)
class TunedRun(JupyterMixin):
    """A run that was tuned. Wherever a run folder is expected, it can be given instead.

    Attributes:
        folder: The run folder.
    """

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)

    def to_frame(self) -> pl.DataFrame:
        """The loss of every step: `step` int64, `loss` float64 (NaN where it was not finite)."""
        rows = read_json_lines(self.folder / STEPS, loss_of)
        return pl.DataFrame(rows, {"step": pl.Int64, "loss": pl.Float64}, orient="row")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[str]:
        losses = self.to_frame()["loss"]
        yield f"run {self.folder}: {len(losses):,} steps" + (
            f", loss {losses[:SHOWN_STEPS].mean():.3f} at its start and "
            f"{losses[-SHOWN_STEPS:].mean():.3f} at its end"
            if len(losses)
            else ""
        )
        yield f"next: evaluate({str(self.folder)!r}), Recommender.load({str(self.folder)!r})"
