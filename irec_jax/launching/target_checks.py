"""Checks of a target's settings, made before anything is queued or paid for."""

import math
import re
from pathlib import Path

from irec_jax.bounds import Range
from irec_jax.errors import InputError
from irec_jax.launching.launch_plan import Allocation, LaunchPlan, flag

PROCESSES = Range(1, 10_000)
DEVICES = Range(0, 10_000, "Set it to 0 for all there are.")
SLICES = Range(1, 4_096)
TIME_LIMIT = Range(0, 525_600, "Set it to minutes, or to 0 for none.")
GRACE = Range(1, 24 * 3_600, "Set it to seconds, at most a day.")
PROCESS_RANGES = {
    "processes": PROCESSES,
    "devices": DEVICES,
    "time_limit": TIME_LIMIT,
    "grace": GRACE,
}
"""The ranges of settings that start processes, for `check_numbers`."""
RESTARTS = Range(0, 10**6)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@,-]*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")


def check_name(key: str, value: str) -> None:
    """Refuses a name that a job file cannot hold.

    Raises:
        InputError: Naming the flag.
    """
    if not _NAME.fullmatch(value):
        hint = "Use letters, digits and -_.:/@, and start with a letter or digit."
        raise InputError(f"{value!r} is not a valid name", where=flag(key), hint=hint)


def check_bucket(plan: LaunchPlan, bucket: str) -> None:
    """Refuses a malformed bucket name, and paths that differ between this machine and a bucket.

    Args:
        plan: Its paths must be relative to the working folder.
        bucket: A Cloud Storage bucket, with or without `gs://`.

    Raises:
        InputError: Naming the path.
    """
    if not _BUCKET.fullmatch(bucket_name(bucket)):
        hint = "Give the name alone, such as my-bucket; --out is a folder in it."
        raise InputError(f"{bucket!r} is not a bucket name", where="--bucket", hint=hint)
    for where, path in (
        ("the experiment", plan.experiment),
        ("--out", plan.run),
        *(("the experiment's input", Path(folder)) for folder in plan.inputs),
    ):
        if path.is_absolute() or ".." in path.parts:
            hint = "Run from the folder with configs/, data/ and runs/, and use relative paths."
            problem = f"{path} is outside of the folder that {plan.on} mounts from the bucket"
            raise InputError(problem, where=where, hint=hint)


def bucket_name(bucket: str) -> str:
    """Returns a bucket's name without `gs://`."""
    return bucket.removeprefix("gs://").rstrip("/")


def check_mesh(
    axes: tuple[int, int, int, int], batch_size: int, accumulate: int, allocation: Allocation
) -> None:
    """Refuses a mesh or a batch size that does not fit the allocated devices.

    Args:
        axes: Mesh sizes: replica, data (-1 for the remaining devices), fsdp, tensor.
        batch_size: Rows per step.
        accumulate: Parts in which each device computes its rows.
        allocation: Devices of the run; nothing is checked where their number is unknown.

    Raises:
        InputError: Naming the setting of the experiment.
    """
    if not allocation.devices:
        return
    replica, data, fsdp, tensor = axes
    others = replica * fsdp * tensor
    data = data if data > 0 else max(allocation.devices // others, 1)
    if data * others != allocation.devices:
        problem = (
            f"{replica} x {data} x {fsdp} x {tensor} does not fit {allocation.devices} devices"
        )
        hint = (
            "Make replica * data * fsdp * tensor the number of devices; data=-1 takes the "
            "remaining ones."
        )
        raise InputError(problem, where="mesh", hint=hint)
    if replica % allocation.slices:
        problem = f"must be a multiple of the {allocation.slices} slices, got {replica}"
        hint = f"Set --mesh.replica {allocation.slices}."
        raise InputError(problem, where="mesh.replica", hint=hint)
    parts = math.prod((replica, data, fsdp, accumulate))
    if batch_size % parts:
        near = max(batch_size // parts, 1) * parts
        problem = f"must be a multiple of {parts}, got {batch_size}"
        hint = f"Set --train.batch_size {near}, for example."
        raise InputError(problem, where="train.batch_size", hint=hint)
