"""Launch targets: their protocol, and the table that `irec launch --on` reads."""

import dataclasses
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast, runtime_checkable

from irec_jax.errors import InputError, nearest
from irec_jax.launching.gke import GkeTarget
from irec_jax.launching.launch_plan import Allocation, JobFile, LaunchPlan, flag
from irec_jax.launching.local import LocalTarget
from irec_jax.launching.processes import ProcessesTarget
from irec_jax.launching.slurm import SlurmTarget
from irec_jax.launching.tpu_vm import TpuVmTarget


@runtime_checkable
class LaunchTarget(Protocol):
    """A frozen dataclass whose fields are the flags of `irec launch --on NAME`."""

    def allocation(self) -> Allocation:
        """Returns the devices of the run, with which the experiment's mesh is compared."""
        ...

    def check(self, plan: LaunchPlan) -> None:
        """Refuses settings that would fail later.

        Raises:
            InputError: Naming the flag.
        """
        ...

    def render(self, plan: LaunchPlan) -> JobFile:
        """Renders the job file and the command that submits it."""
        ...


@runtime_checkable
class HostTarget(LaunchTarget, Protocol):
    """A target that runs on this host, at once, instead of submitting its job file."""

    def start(self, plan: LaunchPlan, echo: Callable[[str], object]) -> int:
        """Starts the run and writes its state into the run folder.

        Args:
            plan: The run.
            echo: Called with the output of process 0.

        Returns:
            The exit code of the command.
        """
        ...


TARGETS: dict[str, type[LaunchTarget]] = {
    "local": LocalTarget,
    "processes": ProcessesTarget,
    "slurm": SlurmTarget,
    "gke": GkeTarget,
    "tpu-vm": TpuVmTarget,
}
"""To add a target, add its file and an entry here."""


def find_target(name: str) -> type[LaunchTarget]:
    """Returns the settings class of a target.

    Args:
        name: A key of `TARGETS`, or `FILE.py:CLASS` for a target of the user's own.

    Raises:
        InputError: The target is unknown, or the file does not define it.
    """
    if name in TARGETS:
        return TARGETS[name]
    file, _, class_name = name.rpartition(":")
    if not file.endswith(".py"):
        hint = f"{nearest(name, TARGETS)} Write FILE.py:CLASS for a target of your own."
        raise InputError(f"unknown launch target {name!r}", where="--on", hint=hint)
    target = getattr(_load_file(Path(file)), class_name, None)
    methods = [name for name in ("allocation", "check", "render") if not hasattr(target, name)]
    if not isinstance(target, type) or not dataclasses.is_dataclass(target) or methods:
        hint = "Define a dataclass with the methods allocation, check and render."
        raise InputError(f"{class_name!r} is not a launch target", where=file, hint=hint)
    return cast(type[LaunchTarget], target)


def flags_of(target: type[LaunchTarget]) -> frozenset[str]:
    """Returns the command-line flags of a target."""
    return frozenset(flag(field.name) for field in dataclasses.fields(cast(Any, target)))


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        hint = "Give the path of the Python file that defines the target."
        raise InputError("there is no such file", where=str(path), hint=hint)
    name = f"irec_launch_target_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # where the annotations of a dataclass are looked up
    written_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        specification.loader.exec_module(module)
    except (SyntaxError, NameError, TypeError, ImportError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise InputError(problem, where=str(path), hint="Correct the file.") from error
    finally:
        sys.dont_write_bytecode = written_bytecode
    return module
