"""`irec launch`: starts a run in the background, on many processes, or elsewhere."""

import dataclasses
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from irec_jax.bounds import Range, check_between
from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment
from irec_jax.experiment.loading import load_experiment
from irec_jax.files import write_text
from irec_jax.launching import gke, local, processes, slurm, tpu_vm
from irec_jax.launching.launch_folder import FOLDER, LaunchFolder, LaunchState, last_lines
from irec_jax.launching.launch_plan import READS, JobManifest, LaunchPlan, Target, check_fit, flag
from irec_jax.launching.slices import read_slice
from irec_jax.run_checksums import check_run_folder
from irec_jax.terminal import Console
from irec_jax.training.metrics_logger import LOG

RENDER = {
    "local": local.render,
    "processes": processes.render,
    "slurm": slurm.render,
    "gke": gke.render,
    "tpu-vm": tpu_vm.render,
}
SHOWN_LINES = 5
SHOWN_RANGE = Range(0, 100_000)


@dataclasses.dataclass(frozen=True)
class Launch:
    """Starts `irec tune` in the background, as several processes, or on other machines.

    `local` and `processes` run here; a launch is looked at with `irec launch status RUN` and
    ended, saved, with `irec launch stop RUN`. For `slurm`, `gke` and `tpu-vm` a job file is
    written, and the command that submits it is printed; --submit runs that command as well.
    Any setting of the experiment can be changed: `--section.key value`.

    Example: irec launch configs/quickstart.py --on local --train.steps 2000
    """

    experiment: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EXPERIMENT")]
    """The experiment, a Python file as in configs/."""
    on: Target
    """Where it runs."""
    out: Path | None = None
    """The run folder; runs/NAME OF THE FILE unless told."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Only print what would be run or submitted; on a terminal the values of --environment are
    masked."""
    submit: tyro.conf.FlagCreatePairsOff[bool] = False
    """Hand the job file to sbatch, kubectl or bash; machines that are rented cost money."""
    environment: tuple[str, ...] = ()
    """Further variables of each process, as NAME=VALUE; launch/README.md says how to keep secrets
    out of job files."""
    processes: int | None = None
    """Processes of this host, 2 unless told; under SLURM nodes, with one process each."""
    devices: int | None = None
    """Devices of a process: simulated ones on a CPU, else GPUs; left out, all there are."""
    topology: str | None = None
    """A TPU slice, such as v5e:4x4."""
    slices: int | None = None
    """How many slices; mesh.replica must be a multiple."""
    spot: tyro.conf.FlagCreatePairsOff[bool] = False
    """Machines that may be taken away at any time, for a lower price."""
    time_limit: int | None = None
    """Minutes after which the run saves and leaves; under SLURM it is then requeued."""
    grace: int | None = None
    """Seconds for the checkpoint, from SIGTERM to the end; 300 unless told."""
    restarts: int | None = None
    """How often a run that was taken away is started again; 100 unless told."""
    partition: str | None = None
    """SLURM's partition."""
    account: str | None = None
    """SLURM's account."""
    bucket: str | None = None
    """A Cloud Storage bucket; it holds configs/, data/ and runs/ as the folder here does."""
    image: str | None = None
    """A container image with irec, as launch/Dockerfile makes it."""
    project: str | None = None
    """The Google Cloud project."""
    zone: str | None = None
    """Its zone, such as us-west4-a."""
    take_over: tyro.conf.FlagCreatePairsOff[bool] = False
    """Take the lock that a launch or tune of another host left in the run folder."""

    def run(self, overrides: Sequence[str] = ()) -> None:
        """Runs the command.

        Args:
            overrides: `--section.key value` words for the experiment.

        Raises:
            InputError: A setting is missing, impossible, or of another target.
            SystemExit: A process failed, or what was submitted was refused.
        """
        experiment = load_experiment(self.experiment, overrides)
        plan = self._plan(experiment, overrides)
        check_run_folder(plan.run)
        if self.dry_run:
            shown = plan.masked() if sys.stdout.isatty() else plan
            sys.stdout.write(RENDER[self.on](shown).text)
        elif self.on in ("local", "processes"):
            if code := processes.pack(plan):
                raise SystemExit(code)
            self._start(plan) if self.on == "local" else self._supervise(plan)
        else:
            self._hand_over(plan, RENDER[self.on](plan))

    def _plan(self, experiment: Experiment, overrides: Sequence[str]) -> LaunchPlan:
        settings = {key: getattr(self, key) for key in frozenset().union(*READS.values())}
        given = {
            key: value
            for key, value in settings.items()
            if value is not None and value is not False
        }
        for key in sorted(given):
            if key not in READS[self.on]:
                targets = ", ".join(target for target in READS if key in READS[target])
                what = f"{self.on} does not read it"
                raise InputError(what, where=flag(key), hint=f"Leave it out; it is for {targets}.")
        if self.submit and self.on in ("local", "processes"):
            hint = f"Leave it out: {self.on} runs at once."
            raise InputError("there is nothing to submit", where="--submit", hint=hint)
        if self.on == "processes":
            given.setdefault("processes", 2)
        plan = LaunchPlan(
            experiment=self.experiment,
            run=self.out or Path("runs") / self.experiment.stem,
            overrides=tuple(overrides),
            environment=self.environment,
            inputs=_inputs(experiment),
            packed=experiment.train.packed,
            **given,
        )
        devices = plan.processes * plan.devices
        if plan.topology:
            devices = read_slice(plan.topology).devices * plan.slices
        if devices:
            mesh, train = experiment.mesh, experiment.train
            check_fit(
                (mesh.replica, mesh.data, mesh.fsdp, mesh.tensor),
                train.batch_size,
                devices=devices,
                slices=plan.slices,
                accumulate=train.accumulate,
            )
        return plan

    def _start(self, plan: LaunchPlan) -> None:
        local.start(plan)
        run = shlex.quote(str(plan.run))
        console = Console(soft_wrap=True, highlight=False)
        console.print(f"{plan.run} runs in the background.", markup=False)
        console.print(f"Next: irec launch status {run}, or irec launch stop {run}", markup=False)

    def _supervise(self, plan: LaunchPlan) -> None:
        code = processes.run(plan, sys.stderr.write)
        _show(LaunchFolder(plan.run).state(), plan.run)
        if code:
            raise SystemExit(code)

    def _hand_over(self, plan: LaunchPlan, manifest: JobManifest) -> None:
        path = plan.run / FOLDER / f"{plan.name}-{self.on}{manifest.suffix}"
        write_text(path, manifest.text, mode=0o600 if plan.environment else 0o644)
        words = [*manifest.submit, str(path)]
        console = Console(soft_wrap=True, highlight=False)
        console.print(f"The job file is {path}.", markup=False)
        if not self.submit:
            console.print(f"Nothing was submitted. To do it: {shlex.join(words)}", markup=False)
            return
        for program in (words[0], *(["gcloud"] if self.on == "tpu-vm" else [])):
            if shutil.which(program) is None:
                hint = f"Install it, or take {path} to where it is."
                raise InputError(f"there is no {program} here", where="--submit", hint=hint)
        console.print(f"Submitting: {shlex.join(words)}", markup=False)
        code = subprocess.run(words, check=False).returncode
        if code:
            raise SystemExit(code)


@dataclasses.dataclass(frozen=True)
class LaunchStatus:
    """Shows how a launch stands, and the last lines of its log.

    Exits with 0, or with 1 if the launch failed. Example:

        irec launch status runs/quickstart

    Attributes:
        folder: The run folder.
        lines: How many lines.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    lines: int = SHOWN_LINES

    def run(self) -> None:
        """Shows it.

        Raises:
            InputError: Nothing was launched there, or `lines` is out of range.
            SystemExit: The launch failed.
        """
        check_between(self.lines, SHOWN_RANGE, "--lines")
        state = LaunchFolder(self.folder).state()
        _show(state, self.folder, self.lines)
        if state.phase == "failed":
            raise SystemExit(1)


@dataclasses.dataclass(frozen=True)
class LaunchStop:
    """Has a launch save and leave, and waits until it has.

    The same `irec launch` goes on from there. Example:

        irec launch stop runs/quickstart

    Attributes:
        folder: The run folder.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]

    def run(self) -> None:
        """Stops it.

        Raises:
            InputError: Nothing was launched there, or it does not end.
        """
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        state = local.stop(self.folder, lambda line: console.print(line, markup=False))
        _show(state, self.folder)


def _inputs(experiment: Experiment) -> tuple[str, ...]:
    """The folders that a run reads, besides its own."""
    train = experiment.train
    paths = (experiment.data.folder, train.pretrained, train.packed)
    return tuple(path for path in paths if path)


def _show(state: LaunchState, run: Path, lines: int = SHOWN_LINES) -> None:
    console = Console(soft_wrap=True, highlight=False)
    told = f": {state.message}" if state.message else ""
    console.print(f"{run}: {state.phase}{told}", markup=False)
    ended = f", ended {state.ended} with exit code {state.exit_code}" if state.ended else ""
    console.print(f"  on {state.host}, started {state.started}{ended}", markup=False)
    folder = LaunchFolder(run)
    logs = [run / LOG]
    if state.phase == "failed":
        logs = [folder.log(n) for n in range(max(len(state.processes), 1))]
    for log in logs:
        shown = last_lines(log, lines)
        for line in [f"  {log}:"] * bool(shown) + [f"    {line}" for line in shown]:
            console.print(line, markup=False)
