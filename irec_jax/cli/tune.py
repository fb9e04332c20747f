"""`irec tune`: train the model of an experiment, or resume it."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from irec_jax.api.tune_run import default_run, run_locked, tune_materials
from irec_jax.experiment.loading import load_experiment
from irec_jax.experiment.materials import prepare
from irec_jax.run_checksums import check_run_folder
from irec_jax.terminal import Console
from irec_jax.training.distributed import connect, is_first
from irec_jax.training.watchdog import fail_together


@dataclasses.dataclass(frozen=True)
class Tune:
    """Train the model of an experiment, or resume it where it stopped.

    Any setting of the experiment can be overridden after the file:

        irec tune configs/movietweetings_tiny.py --out runs/movies --train.steps 2000

    Attributes:
        experiment: A Python file that defines `experiment`, as in configs/.
        out: The run folder; by default runs/NAME OF THE FILE.
        profile: Write a trace of five steps after the first five into the run's metrics/, for
            `xprof` and TensorBoard.
        take_over: Takes the lock that a process of another host left in the run folder; no such
            process may run there any more.
    """

    experiment: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EXPERIMENT")]
    out: Path | None = None
    profile: bool = False
    take_over: bool = False

    def run(self, overrides: Sequence[str] = ()) -> None:
        """Run the command.

        Args:
            overrides: `--section.key value` arguments for the experiment.
        """
        run = self.out or default_run(self.experiment)
        start_time = time.time()
        check_run_folder(run)
        connect()
        with fail_together():
            experiment = load_experiment(self.experiment, overrides)
            with run_locked(run, take_over=self.take_over):
                materials = prepare(experiment, run)
                tune_materials(materials, run, start_time=start_time, profile=self.profile)
            if is_first():
                Console().print(f"The run is in {run}. Next: irec evaluate {run}")
