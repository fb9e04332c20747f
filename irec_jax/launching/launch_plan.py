"""What is to be run and on what: the same plan for every target."""

import dataclasses
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from irec_jax.bounds import Range, check_numbers
from irec_jax.errors import InputError

Target = Literal["local", "processes", "slurm", "gke", "tpu-vm"]

PROGRAM = ("irec",)
MASK = "***"
"""What is shown in the place of a value that may be secret."""
EXIT_BAD_INPUT = 2
"""What `irec` exits with when a restart would end the same way."""
EXIT_LOST = 75
"""What a process exits with when another one of its run is gone: worth another try."""

READS: dict[Target, frozenset[str]] = {
    "local": frozenset({"time_limit", "grace", "take_over"}),
    "processes": frozenset({"processes", "devices", "time_limit", "grace", "take_over"}),
    "slurm": frozenset(
        {
            *("processes", "devices", "time_limit", "grace", "restarts"),
            *("partition", "account", "take_over"),
        }
    ),
    "gke": frozenset({"topology", "slices", "spot", "grace", "restarts", "bucket", "image"}),
    "tpu-vm": frozenset(
        {"topology", "slices", "spot", "grace", "restarts", "bucket", "project", "zone"}
    ),
}
"""The settings that each target reads besides the run itself; the others are refused."""

MOST_GRACE_S = 24 * 3_600
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@,-]*")


@dataclasses.dataclass(frozen=True)
class LaunchPlan:
    """One run of `irec tune` and what it needs around it; checked when built.

    Attributes:
        experiment: The experiment file.
        run: The run folder.
        overrides: `--section.key value` words for the experiment.
        environment: Further variables of each process, as `NAME=VALUE`.
        inputs: Folders that the experiment reads, which must be where it runs.
        packed: The folder of packed rows that it trains on, made before it starts; one of
            `inputs`.
        processes: Processes of this host; under SLURM nodes, with one process each.
        devices: Devices of a process: simulated ones on a CPU, else GPUs; 0 for all there are.
        topology: A TPU slice, such as `v5e:4x4`.
        slices: How many of them.
        spot: Whether the machines may be taken away at any time, for a lower price.
        time_limit: Minutes after which the run is told to save and leave; 0 for none (SLURM: what
            the partition allows).
        grace: Seconds from SIGTERM to the end, for the checkpoint.
        restarts: How often a run that was taken away or lost a host is started again.
        partition: SLURM's partition.
        account: SLURM's account.
        bucket: A Cloud Storage bucket, which becomes the working folder.
        image: A container image that holds `irec`.
        project: The Google Cloud project.
        zone: Its zone, such as `us-west4-a`.
        take_over: Whether the run may be one that another host left locked.
    """

    experiment: Path
    run: Path
    overrides: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    packed: str = ""
    processes: int = 1
    devices: int = 0
    topology: str = ""
    slices: int = 1
    spot: bool = False
    time_limit: int = 0
    grace: int = 300
    restarts: int = 100
    partition: str = ""
    account: str = ""
    bucket: str = ""
    image: str = ""
    project: str = ""
    zone: str = ""
    take_over: bool = False

    def __post_init__(self) -> None:
        for word in (str(self.experiment), str(self.run), *self.overrides):
            if not word.isprintable():
                hint = "Take line breaks and other control characters out of it."
                raise InputError(f"{word!r} cannot be printed", where="the command", hint=hint)
        check_numbers(
            self,
            "--",
            processes=Range(1, 10_000),
            devices=Range(0, 10_000, "Set it to 0 for all there are."),
            slices=Range(1, 4_096),
            time_limit=Range(0, 525_600, "Set it to minutes, or to 0 for none."),
            grace=Range(1, MOST_GRACE_S, "Set it to seconds, at most a day."),
            restarts=Range(0, 10**6),
        )
        for key in ("partition", "account", "image", "project", "zone"):
            value = getattr(self, key)
            if value and not _PLAIN.fullmatch(value):
                hint = "Letters, digits and -_.:/@, are possible."
                raise InputError(f"{value!r} is not possible", where=flag(key), hint=hint)
        _check_environment(self.environment)
        _check_bucket(self.bucket)

    @property
    def name(self) -> str:
        """A name for jobs, units and machines: lower-case letters, digits and dashes.

        >>> LaunchPlan(Path("a.py"), Path("runs/My movies_2")).name
        'my-movies-2'
        """
        word = re.sub(r"[^a-z0-9]+", "-", self.run.name.lower()).strip("-")
        word = word if word[:1].isalpha() else f"run-{word}"
        return word[:36].rstrip("-")

    @property
    def bucket_name(self) -> str:
        """The bucket without `gs://`."""
        return self.bucket.removeprefix("gs://").rstrip("/")

    def words(self, program: Sequence[str] = PROGRAM, *, alone: bool = False) -> tuple[str, ...]:
        """The command line of a process, word by word.

        Args:
            program: What stands for `irec`.
            alone: Whether the target itself sees to it that no earlier attempt still runs.
        """
        take_over = ["--take-over"] if alone or self.take_over else []
        experiment, run = _path(self.experiment), _path(self.run)
        return (*program, "tune", experiment, "--out", run, *take_over, *self.overrides)

    def pack_words(self, program: Sequence[str] = PROGRAM) -> tuple[str, ...]:
        """The command line that makes the packed rows, or leaves whole ones as they are.

        Args:
            program: What takes the place of `irec`.
        """
        words = ("instruct", _path(self.experiment), "--packed", _path(Path(self.packed)))
        return (*program, *words, *self.overrides)

    def variables(self) -> dict[str, str]:
        """The environment that was asked for, by name."""
        return dict(word.split("=", 1) for word in self.environment)

    def masked(self) -> "LaunchPlan":
        """The same plan without the values of `environment`, which may be secrets."""
        names = self.variables()
        return dataclasses.replace(self, environment=tuple(f"{name}={MASK}" for name in names))

    def made_by(self, target: Target) -> str:
        """The command that renders the same again, but for masked values of `environment`."""
        words = ["irec", "launch", _path(self.experiment), "--on", target, "--out", str(self.run)]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in READS[target] or value == field.default:
                continue
            words += [flag(field.name)] if value is True else [flag(field.name), str(value)]
        if self.environment:
            words += ["--environment", *self.masked().environment]
        return shlex.join([*words, *self.overrides])

    def needs(self, target: Target, *keys: str) -> None:
        """Refuses a plan without what a target cannot do without.

        Raises:
            InputError: Naming the first flag that is missing.
        """
        for key in keys:
            if not getattr(self, key):
                hint = f"Give {flag(key)}; `irec launch --help` says what it means."
                raise InputError(f"{target} needs it", where=flag(key), hint=hint)

    def in_bucket(self, target: Target) -> None:
        """Refuses paths that cannot be the same on this machine and in a bucket.

        Raises:
            InputError: Naming the path.
        """
        for key, path in (
            ("the experiment", self.experiment),
            ("--out", self.run),
            *(("the experiment's input", Path(folder)) for folder in self.inputs),
        ):
            if path.is_absolute() or ".." in path.parts:
                hint = "Start in the folder that holds configs/, data/ and runs/, with paths in it."
                what = f"{path} lies outside of what {target} finds in the bucket"
                raise InputError(what, where=key, hint=hint)


@dataclasses.dataclass(frozen=True)
class JobManifest:
    """What a target is given.

    Attributes:
        text: The file.
        suffix: Of its name, such as `.sbatch`.
        submit: The program that takes it, and its words before the file's name.
    """

    text: str
    suffix: str
    submit: tuple[str, ...]


def flag(key: str) -> str:
    """The flag of a setting.

    >>> flag("time_limit")
    '--time-limit'
    """
    return "--" + key.replace("_", "-")


def check_fit(
    sizes: tuple[int, int, int, int],
    batch_size: int,
    *,
    devices: int,
    slices: int = 1,
    accumulate: int = 1,
) -> None:
    """Refuses a mesh or a batch that the devices will not take, before they are waited for.

    Args:
        sizes: The mesh: replica, data (-1 for what the others leave), fsdp, tensor.
        batch_size: Rows of a step.
        devices: All of them.
        slices: Slices that they are in.
        accumulate: Parts that each device computes its rows in.

    Raises:
        InputError: Naming the setting of the experiment.
    """
    replica, data, fsdp, tensor = sizes
    rest = replica * fsdp * tensor
    data = data if data > 0 else max(devices // rest, 1)
    if data * rest != devices:
        what = f"{replica} x {data} x {fsdp} x {tensor} does not fit {devices} devices"
        hint = "Make replica * data * fsdp * tensor the number of devices; data=-1 takes the rest."
        raise InputError(what, where="mesh", hint=hint)
    if replica % slices:
        what = f"{replica} copies cannot be dealt to {slices} slices"
        raise InputError(what, where="mesh.replica", hint=f"Give --mesh.replica {slices}.")
    parts = math.prod((replica, data, fsdp, accumulate))
    if batch_size % parts:
        near = max(batch_size // parts, 1) * parts
        what = f"{batch_size} rows cannot be cut into {parts} equal parts"
        hint = f"Give --train.batch_size {near}, for one."
        raise InputError(what, where="train.batch_size", hint=hint)


def _path(path: Path) -> str:
    """A path that no program takes for a flag."""
    text = str(path)
    return f"./{text}" if text.startswith("-") else text


def _check_environment(environment: Sequence[str]) -> None:
    """Names a wrong word by its place: a part of it may be secret."""
    for number, word in enumerate(environment, start=1):
        name, equals, value = word.partition("=")
        if not equals or not _NAME.fullmatch(name):
            hint = "Give NAME=VALUE, in quotes where the value holds spaces."
            raise InputError(f"word {number} sets nothing", where="--environment", hint=hint)
        if not value.isprintable():
            hint = "Take line breaks and other control characters out of it."
            what = f"the value of {name} cannot be printed"
            raise InputError(what, where="--environment", hint=hint)


def _check_bucket(bucket: str) -> None:
    name = bucket.removeprefix("gs://").rstrip("/")
    if bucket and not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", name):
        hint = "Give the name alone, such as my-bucket; --out is a folder in it."
        raise InputError(f"{bucket!r} is no bucket", where="--bucket", hint=hint)
