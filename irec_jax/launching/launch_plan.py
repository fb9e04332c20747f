"""A run to launch: its command, environment and inputs, the same for every target."""

import dataclasses
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from irec_jax.errors import InputError

PROGRAM = ("irec",)
MASK = "***"
"""Replaces values of the environment, which may be secrets."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclasses.dataclass(frozen=True)
class LaunchPlan:
    """One run of `irec tune` to launch; checked when it is built.

    Attributes:
        experiment: The experiment file.
        run: The run folder.
        on: The launch target, as `--on` takes it.
        overrides: `--section.key value` arguments for the experiment.
        environment: Extra variables of each process, as `NAME=VALUE`.
        inputs: Folders that the experiment reads; they must exist where it runs.
        packed: The folder of packed rows that it trains on, made before it starts; one of
            `inputs`, or "" for none.
    """

    experiment: Path
    run: Path
    on: str
    overrides: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    packed: str = ""

    def __post_init__(self) -> None:
        for argument in (str(self.experiment), str(self.run), *self.overrides):
            if not argument.isprintable():
                hint = "Remove line breaks and other control characters."
                problem = f"{argument!r} contains a control character"
                raise InputError(problem, where="the command line", hint=hint)
        _check_environment(self.environment)

    @property
    def name(self) -> str:
        """A name for jobs, units and machines: lower-case letters, digits and dashes.

        >>> LaunchPlan(Path("a.py"), Path("runs/My movies_2"), "local").name
        'my-movies-2'
        """
        name = re.sub(r"[^a-z0-9]+", "-", self.run.name.lower()).strip("-")
        name = name if name[:1].isalpha() else f"run-{name}"
        return name[:36].rstrip("-")

    def tune_command(
        self, program: Sequence[str] = PROGRAM, *, take_over: bool = False
    ) -> tuple[str, ...]:
        """Builds the command line of each process, one argument per entry.

        Args:
            program: The command that runs `irec`.
            take_over: Whether it takes the lock that another host left in the run folder; also
                where the target ensures that no earlier attempt is still running.
        """
        experiment, run = _not_a_flag(self.experiment), _not_a_flag(self.run)
        lock = ("--take-over",) if take_over else ()
        return (*program, "tune", experiment, "--out", run, *lock, *self.overrides)

    def pack_command(self, program: Sequence[str] = PROGRAM) -> tuple[str, ...]:
        """Builds the command line that makes the packed rows, or leaves complete ones as they are.

        Args:
            program: The command that runs `irec`.
        """
        experiment, packed = _not_a_flag(self.experiment), _not_a_flag(Path(self.packed))
        return (*program, "instruct", experiment, "--packed", packed, *self.overrides)

    def variables(self) -> dict[str, str]:
        """Returns the extra environment variables by name."""
        return dict(entry.split("=", 1) for entry in self.environment)

    def masked(self) -> "LaunchPlan":
        """Returns the plan without the values of `environment`, which may be secrets."""
        names = self.variables()
        return dataclasses.replace(self, environment=tuple(f"{name}={MASK}" for name in names))

    def launch_command(self, target: Any) -> str:
        """Builds the `irec launch` command that renders the same job, on one line.

        Args:
            target: The dataclass of the target's settings; values of `environment` are masked.
        """
        command = ["irec", "launch", _not_a_flag(self.experiment), "--on", self.on]
        command += ["--out", str(self.run)]
        for field in dataclasses.fields(target):
            value = getattr(target, field.name)
            if value != field.default:
                command += [flag(field.name)] if value is True else [flag(field.name), str(value)]
        if self.environment:
            command += ["--environment", *self.masked().environment]
        return shlex.join([*command, *self.overrides])


class JobFile(NamedTuple):
    """A job file and the command that submits it.

    Attributes:
        text: Contents of the file.
        suffix: Of its name, such as `.sbatch`.
        submit: Command that submits it, without the file's name at the end.
        programs: Programs that submitting needs on this machine.
    """

    text: str
    suffix: str
    submit: tuple[str, ...]
    programs: tuple[str, ...]


class Allocation(NamedTuple):
    """Devices that a target allocates to the run.

    Attributes:
        devices: JAX devices in total; 0 if only the run can count them.
        slices: TPU slices that they are in.
    """

    devices: int = 0
    slices: int = 1


def flag(key: str) -> str:
    """Returns the command-line flag of a setting.

    >>> flag("time_limit")
    '--time-limit'
    """
    return "--" + key.replace("_", "-")


def _not_a_flag(path: Path) -> str:
    text = str(path)
    return f"./{text}" if text.startswith("-") else text


def _check_environment(environment: Sequence[str]) -> None:
    """Refuses malformed entries by their position: a part of one may be secret."""
    for number, entry in enumerate(environment, start=1):
        name, equals, value = entry.partition("=")
        if not equals or not _NAME.fullmatch(name):
            hint = "Write NAME=VALUE, in quotes if the value contains spaces."
            problem = f"entry {number} is not NAME=VALUE"
            raise InputError(problem, where="--environment", hint=hint)
        if not value.isprintable():
            hint = "Remove line breaks and other control characters."
            problem = f"the value of {name} contains a control character"
            raise InputError(problem, where="--environment", hint=hint)
