"""`irec doctor`: what this machine has, whether it computes as it should, and what to fix."""

import dataclasses
import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from rich.table import Table

from irec_jax.bounds import machine_memory
from irec_jax.exit_codes import EXIT_CHECK_FAILED
from irec_jax.planning.host_speed import SIDE, measure_flops
from irec_jax.terminal import Console
from irec_jax.training.distributed import first_line

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "polars", "libtpu")
MIN_DISK, MIN_MEMORY = 2 * 2**30, 4 * 2**30
COLLECTIVE_NUMBERS = 2**20  # float32 per device
REPEATS = 5
ACCELERATORS = {
    "/dev/nvidiactl": ("an NVIDIA GPU", "jax[cuda12]"),
    "/dev/accel0": ("a TPU", "irec-jax[tpu]"),
    "/dev/vfio/0": ("a TPU", "irec-jax[tpu]"),
}
"""Device file -> what it belongs to, and the package that JAX needs for it."""


class Check(NamedTuple):
    """One line of the report.

    Attributes:
        name: What was looked at.
        result: What was found.
        problem: What is wrong with it and how to fix it; "" if nothing is.
        is_failure: Whether a run cannot work like this.
    """

    name: str
    result: str
    problem: str = ""
    is_failure: bool = False


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Reports versions, devices, memory and disk, and times a product and a collective.

    The exit code is 1 if a run cannot work on this machine.

    Example: irec doctor
    """

    def run(self) -> None:
        """Prints the report.

        Raises:
            SystemExit: With 1, if a check failed.
        """
        checks = [
            check_versions(),
            check_memory_size(machine_memory()),
            check_disk(Path.cwd()),
            *check_devices(),
        ]
        table = Table("check", "result")
        for check in checks:
            mark = "FAILED: " if check.is_failure else "note: "
            note = f"\n{mark}{check.problem}" if check.problem else ""
            table.add_row(check.name, check.result + note)
        console = Console(highlight=False)
        console.print(table, markup=False)
        failures = [check.name for check in checks if check.is_failure]
        if failures:
            console.print(f"Not ready: {', '.join(failures)}.", markup=False)
            raise SystemExit(EXIT_CHECK_FAILED)
        console.print("Ready. `irec quickstart` runs every step on a simulated log.")


def check_versions() -> Check:
    """Lists the versions of Python and of the packages that decide a run."""
    versions = {"Python": platform.python_version()}
    for name in ("irec-jax", *PACKAGES):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Check("versions", ", ".join(f"{name} {version}" for name, version in versions.items()))


def check_memory_size(size: int) -> Check:
    """Compares the memory of the machine, in bytes, with what the quickstart needs."""
    problem = ""
    if size < MIN_MEMORY:
        problem = "the quickstart needs 4 GiB; use a machine or a container with more."
    return Check("memory", f"{size / 2**30:.1f} GiB, {os.cpu_count()} CPU cores", problem)


def check_disk(folder: Path) -> Check:
    """Looks for room and for the right to write in a folder."""
    free = shutil.disk_usage(folder).free
    problem, is_failure = "", False
    if not os.access(folder, os.W_OK):
        problem, is_failure = "this folder cannot be written; change to another one.", True
    elif free < MIN_DISK:
        problem = "a run needs about 2 GiB; free some, or give --out on another disk."
    return Check("disk", f"{free / 2**30:.1f} GiB free in {folder}", problem, is_failure)


def check_devices() -> list[Check]:
    """Looks at the devices of JAX and computes on them."""
    try:
        devices = jax.local_devices()
    except RuntimeError as error:
        problem = "JAX finds no device: check JAX_PLATFORMS and the installation of jax."
        return [Check("devices", first_line(error), problem, is_failure=True)]
    kinds = sorted({device.device_kind for device in devices})
    result = f"{len(devices)} of {', '.join(kinds)} ({devices[0].platform})"
    checks = [Check("devices", result, unused_accelerator(devices[0].platform))]
    checks.append(_computed("matrix product", time_product))
    if len(devices) > 1:
        checks.append(_computed("sum over devices", time_collective))
    return checks


def unused_accelerator(used: str, exists: Callable[[str], bool] = os.path.exists) -> str:
    """Returns a note on an accelerator of this machine that JAX does not use.

    Args:
        used: The platform of JAX's devices: `cpu`, `gpu` or `tpu`.
        exists: Tells whether a device file exists.
    """
    if used != "cpu":
        return ""
    for file, (device, package) in ACCELERATORS.items():
        if exists(file):
            return (
                f"this machine has {device}, and JAX uses the CPU: pip install '{package}', and "
                "unset JAX_PLATFORMS."
            )
    return ""


def _computed(name: str, timed: Callable[[], str]) -> Check:
    try:
        return Check(name, timed())
    except Exception as error:  # whatever a driver or a compiler raises
        problem = "the device does not compute; restart the machine or reinstall its driver."
        return Check(name, first_line(error), problem, is_failure=True)


def time_product() -> str:
    """Multiplies two matrices on the first device and returns the speed.

    Raises:
        ArithmeticError: The product is wrong.
    """
    return f"{measure_flops() / 1e9:,.0f} GFLOP/s in float32 ({SIDE} x {SIDE})"


def time_collective() -> str:
    """Adds an array over all devices, checks the sum and returns the time.

    Raises:
        ArithmeticError: The sum is wrong.
    """
    devices = jax.local_devices()
    mesh = Mesh(np.array(devices), ("all",))
    sharding = NamedSharding(mesh, P("all"))
    numbers = jax.device_put(np.ones(len(devices) * COLLECTIVE_NUMBERS, np.float32), sharding)
    add = jax.jit(
        jax.shard_map(
            lambda part: jax.lax.psum(part, "all"), mesh=mesh, in_specs=P("all"), out_specs=P()
        )
    )
    total = np.asarray(add(numbers))
    if not (total == len(devices)).all():
        raise ArithmeticError(
            f"the sum of {len(devices)} ones is {total[total != len(devices)][0]}"
        )
    seconds = _fastest(lambda: add(numbers).block_until_ready())
    size = 4 * COLLECTIVE_NUMBERS / 2**20
    return f"{size:.0f} MiB over {len(devices)} devices in {1_000 * seconds:.1f} ms"


def _fastest(work: Callable[[], object]) -> float:
    """Returns the seconds of the fastest of `REPEATS` calls."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
