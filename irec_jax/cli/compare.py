"""`irec compare`: evaluated runs side by side."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from irec_jax.api.compare_runs import compare
from irec_jax.terminal import Console


@dataclasses.dataclass(frozen=True)
class Compare:
    """Shows the tuned models of runs side by side, with paired differences to the first run.

    The runs must have been evaluated on the same requests. Example:

      irec compare runs/small runs/wide

    Attributes:
        folder: The first run, which `irec evaluate` has written a report into.
        others: Further runs.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    others: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="OTHER")]

    def run(self) -> None:
        """Prints a table for each task.

        Raises:
            InputError: A run has no report, or the reports have different requests.
        """
        Console(highlight=False).print(compare(self.folder, *self.others))
