"""`irec instruct`: renders and stores an instruction set."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from irec_jax.errors import InputError
from irec_jax.experiment import load_experiment, prepare
from irec_jax.instructions.store import MANIFEST_FILE, StoreManifest, write_instruction_set


@dataclasses.dataclass(frozen=True)
class Instruct:
    """Renders training instructions from a behavior log and stores them as a TFDS data set.

    Training does not need it: `irec tune` renders the same records on the fly. Use it to read
    the instructions, to publish them, or to train something else on them. Any setting of the
    experiment can be changed: `--section.key value`.

    Example: irec instruct configs/movietweetings_tiny.py --out sets/movies --records 100000
    """

    experiment: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EXPERIMENT")]
    """The experiment, a Python file as in configs/."""
    out: Path
    """The folder to write; tfds.builder_from_directory reads it."""
    records: int | None = None
    """How many records; left out, one pass: every task at every event that can be its target."""

    def run(self, overrides: Sequence[str] = ()) -> None:
        """Writes the set and prints what is in it.

        Raises:
            InputError: The experiment, the log or the folder does not fit.
        """
        if self.records is not None and self.records < 1:
            raise InputError(
                f"{self.records} is less than 1",
                where="--records",
                mend="give 1 or more, or leave it out for one pass over the log.",
            )
        renderer = prepare(load_experiment(self.experiment, overrides)).renderer
        records = len(renderer) if self.records is None else self.records
        manifest = write_instruction_set(renderer, self.out, records)
        console = Console(highlight=False, soft_wrap=True)
        console.print(_table(manifest))
        console.print(
            f"{manifest.records} instructions; one pass over the log is {manifest.pass_records}, "
            f"{manifest.cut_histories} of them with a history cut to the last "
            f"{renderer.wording.config.max_history} items.\n"
            f"sha256 {manifest.sha256}\nWrote {self.out} (see {self.out / MANIFEST_FILE})",
            markup=False,
        )


def _table(manifest: StoreManifest) -> Table:
    table = Table("scenario", "template", title="Instructions")
    table.add_column("records", justify="right")
    for scenario, templates in manifest.counts.items():
        for template, count in templates.items():
            table.add_row(scenario, template, str(count))
        table.add_row(scenario, "all", str(sum(templates.values())), end_section=True)
    return table
