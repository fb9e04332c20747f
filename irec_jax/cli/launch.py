"""`irec launch`: starts a run in the background, as several processes, or on other machines."""

import dataclasses
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, cast

import tyro

from irec_jax.bounds import Range, check_between
from irec_jax.cli.command_flags import refuse_misspelled
from irec_jax.errors import InputError
from irec_jax.exit_codes import EXIT_CHECK_FAILED
from irec_jax.experiment.config import Experiment
from irec_jax.experiment.loading import load_experiment
from irec_jax.files import write_text
from irec_jax.launching.launch_folder import FOLDER, LaunchFolder, LaunchState, last_lines
from irec_jax.launching.launch_plan import JobFile, LaunchPlan
from irec_jax.launching.local import stop
from irec_jax.launching.processes import pack
from irec_jax.launching.target_checks import check_mesh
from irec_jax.launching.targets import (
    TARGETS,
    HostTarget,
    LaunchTarget,
    find_target,
    flags_of,
)
from irec_jax.run_checksums import check_run_folder
from irec_jax.terminal import Console
from irec_jax.training.metrics_logger import LOG

SHOWN_LINES = 5
SHOWN_RANGE = Range(0, 100_000)
TargetT = TypeVar("TargetT")


@dataclasses.dataclass(frozen=True)
class NoTarget:
    """Use `irec launch EXPERIMENT --on TARGET --help` to see the flags of a target."""


@dataclasses.dataclass(frozen=True)
class Launch(Generic[TargetT]):
    """Starts `irec tune` in the background, as several processes, or on other machines.

    `local` and `processes` run on this machine; `irec launch status RUN` shows a launch, and
    `irec launch stop RUN` saves and ends it. For `slurm`, `gke` and `tpu-vm` a job file is written
    and the command that submits it is printed; --submit also runs this command. Each target has
    its own flags. Any setting of the experiment can be changed: `--section.key value`.

    Example: irec launch configs/quickstart.py --on local --train.steps 2000

    Attributes:
        experiment: The experiment, a Python file as in configs/.
        on: Where to run: local, processes, slurm, gke, tpu-vm, or FILE.py:CLASS for a target of
            your own (docs/extending.md).
        target: The settings of the target.
        out: The run folder; by default runs/NAME OF THE FILE.
        dry_run: Print the job file instead of running or writing it; on a terminal the values of
            --environment are masked.
        submit: Submit the job file with sbatch, kubectl or bash; rented machines cost money.
        environment: Extra variables of each process, as NAME=VALUE; launch/README.md says how to
            keep secrets out of job files.
    """

    experiment: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EXPERIMENT")]
    on: Annotated[str, tyro.conf.arg(metavar="TARGET")]
    target: tyro.conf.OmitArgPrefixes[TargetT]
    out: Path | None = None
    dry_run: bool = False
    submit: bool = False
    environment: tuple[str, ...] = ()

    def run(self, overrides: Sequence[str] = ()) -> None:
        """Runs the command.

        Args:
            overrides: `--section.key value` arguments for the experiment.

        Raises:
            InputError: A setting is missing, out of bounds, or of another target.
            SystemExit: A process failed, or the submission was refused.
        """
        target = cast(LaunchTarget, self.target)
        _refuse_flags_of_other_targets(self.on, overrides)
        own = cast(Any, Launch)[type(target)]
        refuse_misspelled("launch", own, overrides, Experiment.__dataclass_fields__)
        if self.submit and isinstance(target, HostTarget):
            hint = f"Remove it: {self.on} runs at once."
            raise InputError("there is nothing to submit", where="--submit", hint=hint)
        experiment = load_experiment(self.experiment, overrides, "launch")
        plan = LaunchPlan(
            experiment=self.experiment,
            run=self.out or Path("runs") / self.experiment.stem,
            on=self.on,
            overrides=tuple(overrides),
            environment=self.environment,
            inputs=_inputs(experiment),
            packed=experiment.train.packed,
        )
        target.check(plan)
        mesh, train = experiment.mesh, experiment.train
        axes = (mesh.replica, mesh.data, mesh.fsdp, mesh.tensor)
        check_mesh(axes, train.batch_size, train.accumulate, target.allocation())
        check_run_folder(plan.run)
        if self.dry_run:
            shown = plan.masked() if sys.stdout.isatty() else plan
            sys.stdout.write(target.render(shown).text)
        elif isinstance(target, HostTarget):
            if code := pack(plan):
                raise SystemExit(code)
            _start(target, plan)
        else:
            _write_job(target.render(plan), plan, submit=self.submit)


@dataclasses.dataclass(frozen=True)
class LaunchStatus:
    """Shows the state of a launch and the last lines of its log.

    Exits with 0, or with 1 if the launch failed. Example:

        irec launch status runs/quickstart

    Attributes:
        folder: The run folder.
        lines: Number of lines of the log.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    lines: int = SHOWN_LINES

    def run(self) -> None:
        """Runs the command.

        Raises:
            InputError: There is no launch in the run folder, or `lines` is out of range.
            SystemExit: The launch failed.
        """
        check_between(self.lines, SHOWN_RANGE, "--lines")
        state = LaunchFolder(self.folder).state()
        _show(state, self.folder, self.lines)
        if state.phase == "failed":
            raise SystemExit(EXIT_CHECK_FAILED)


@dataclasses.dataclass(frozen=True)
class LaunchStop:
    """Sends SIGTERM to a launch and waits until it has saved and exited.

    The same `irec launch` resumes it. Example:

        irec launch stop runs/quickstart

    Attributes:
        folder: The run folder.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]

    def run(self) -> None:
        """Runs the command.

        Raises:
            InputError: There is no launch in the run folder, or it does not end.
        """
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        state = stop(self.folder, lambda line: console.print(line, markup=False))
        _show(state, self.folder)


def launch_settings(arguments: Sequence[str]) -> Any:
    """Returns the settings of `irec launch` with the flags of the target that `--on` names.

    Args:
        arguments: The command line behind `irec launch`.

    Raises:
        InputError: The target is unknown.
    """
    names = [
        following if argument == "--on" else argument.removeprefix("--on=")
        for argument, following in zip(arguments, [*arguments[1:], ""], strict=True)
        if argument == "--on" or argument.startswith("--on=")
    ]
    target = find_target(names[-1]) if names and names[-1] else NoTarget
    return cast(Any, Launch)[target]


def _refuse_flags_of_other_targets(on: str, arguments: Sequence[str]) -> None:
    for argument in arguments:
        given = argument.partition("=")[0].replace("_", "-")
        others = [name for name, target in TARGETS.items() if given in flags_of(target)]
        if others:
            hint = f"Remove it; {', '.join(others)} {'has' if len(others) == 1 else 'have'} it."
            raise InputError(f"the target {on} has no such flag", where=given, hint=hint)


def _start(target: HostTarget, plan: LaunchPlan) -> None:
    code = target.start(plan, sys.stderr.write)
    state = LaunchFolder(plan.run).state()
    if state.phase == "running":
        run = shlex.quote(str(plan.run))
        console = Console(soft_wrap=True, highlight=False)
        console.print(f"{plan.run} runs in the background.", markup=False)
        console.print(f"Next: irec launch status {run}, or irec launch stop {run}", markup=False)
    else:
        _show(state, plan.run)
    if code:
        raise SystemExit(code)


def _write_job(job: JobFile, plan: LaunchPlan, *, submit: bool) -> None:
    path = plan.run / FOLDER / f"{plan.name}-{_file_name(plan.on)}{job.suffix}"
    write_text(path, job.text, mode=0o600 if plan.environment else 0o644)
    command = [*job.submit, str(path)]
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"The job file is {path}.", markup=False)
    if not submit:
        console.print(f"Nothing was submitted. To submit it: {shlex.join(command)}", markup=False)
        return
    for program in job.programs:
        if shutil.which(program) is None:
            hint = f"Install it, or submit {path} on a machine that has it."
            raise InputError(f"{program} is not installed", where="--submit", hint=hint)
    console.print(f"Submitting: {shlex.join(command)}", markup=False)
    code = subprocess.run(command, check=False).returncode
    if code:
        raise SystemExit(code)


def _file_name(on: str) -> str:
    """Returns the target's name for file names: its class for `FILE.py:CLASS`."""
    return on.rpartition(":")[2].lower()


def _inputs(experiment: Experiment) -> tuple[str, ...]:
    """Returns the folders that a run reads, besides its own."""
    train = experiment.train
    paths = (experiment.data.folder, train.pretrained, train.packed)
    return tuple(path for path in paths if path)


def _show(state: LaunchState, run: Path, lines: int = SHOWN_LINES) -> None:
    console = Console(soft_wrap=True, highlight=False)
    message = f": {state.message}" if state.message else ""
    console.print(f"{run}: {state.phase}{message}", markup=False)
    ended = f", ended {state.ended} with exit code {state.exit_code}" if state.ended else ""
    console.print(f"  on {state.host}, started {state.started}{ended}", markup=False)
    folder = LaunchFolder(run)
    logs = [run / LOG]
    if state.phase == "failed":
        logs = [folder.log(index) for index in range(max(len(state.processes), 1))]
    for log in logs:
        shown = last_lines(log, lines)
        for line in [f"  {log}:"] * bool(shown) + [f"    {line}" for line in shown]:
            console.print(line, markup=False)
