"""Several processes of one host as one run, over loopback, in the foreground."""

import dataclasses
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from irec_jax.launching.launch_folder import LaunchFolder
from irec_jax.launching.launch_plan import PROGRAM, JobManifest, LaunchPlan, Target
from irec_jax.launching.supervisor import Supervisor

PYTHON = (sys.executable, "-P", "-m", "irec_jax.cli.main")
"""`irec` of this very Python, whatever the PATH and the working folder hold."""


def pack(plan: LaunchPlan) -> int:
    """Makes the packed rows of a plan, where it has some, and waits; returns the exit code."""
    if not plan.packed:
        return 0
    environment = {**os.environ, **plan.variables()}
    return subprocess.run(plan.pack_words(PYTHON), env=environment, check=False).returncode


class Member(NamedTuple):
    """One process.

    Attributes:
        words: Its command line.
        variables: What its environment has besides this one's.
    """

    words: tuple[str, ...]
    variables: dict[str, str]


def members(plan: LaunchPlan, port: str, program: tuple[str, ...] = PYTHON) -> list[Member]:
    """The processes of a plan.

    Args:
        plan: The plan.
        port: Where they meet, on this host.
        program: What stands for `irec`.
    """
    everyone = []
    for number in range(plan.processes):
        variables: dict[str, str] = {}
        if plan.processes > 1:
            variables["IREC_COORDINATOR"] = f"localhost:{port}"
            variables["IREC_PROCESSES"] = str(plan.processes)
            variables["IREC_PROCESS"] = str(number)
        if plan.devices:
            # Each reads its own: the first a CPU, the second GPUs.
            first = number * plan.devices
            numbers = map(str, range(first, first + plan.devices))
            variables["JAX_NUM_CPU_DEVICES"] = str(plan.devices)
            variables["JAX_LOCAL_DEVICE_IDS"] = ",".join(numbers)
        everyone.append(Member(plan.words(program), {**variables, **plan.variables()}))
    return everyone


def render(plan: LaunchPlan, target: Target = "processes") -> JobManifest:
    """What `run` does, as a script; it has the words and variables, not the supervision."""
    lines = ["#!/usr/bin/env bash", f"# {plan.made_by(target)}", "set -euo pipefail"]
    if plan.processes > 1:
        lines += ["", "# A free port of this host, where the processes meet.", "port=29431"]
    log = LaunchFolder(plan.run).log
    if plan.packed:
        lines += ["", "# Rows that are there already are left as they are."]
        lines += [shlex.join(plan.pack_words())]
    lines += ["", f"mkdir -p {shlex.quote(str(log(0).parent))}"]
    for number, member in enumerate(members(plan, "$port", PROGRAM)):
        settings = [_assignment(name, value) for name, value in member.variables.items()]
        words = " ".join([*settings, shlex.join(member.words)])
        lines.append(f"{words} > {shlex.quote(str(log(number)))} 2>&1 &")
    lines.append("wait")
    return JobManifest("\n".join(lines) + "\n", ".sh", ("bash",))


def run(plan: LaunchPlan, echo: Callable[[str], object]) -> int:
    """Runs all processes of a plan and waits for them.

    SIGINT and SIGTERM go to each of them. If one fails, the others are told to save and leave.

    Args:
        plan: The plan.
        echo: Gets what process 0 prints.

    Returns:
        0, or the exit code of the process that failed.

    Raises:
        InputError: A launch is running in the run folder.
    """
    folder = LaunchFolder(plan.run)
    lock = folder.claim(take_over=plan.take_over)
    try:
        folder.save_plan(plan)
        return Supervisor(folder, plan, lock).run(members(plan, str(free_port())), echo)
    finally:
        folder.lock.release()


def free_port() -> int:
    """A port of this host that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def _assignment(name: str, value: str) -> str:
    """The port is the one variable of the shell in it."""
    return f"{name}={value}" if value == "localhost:$port" else f"{name}={shlex.quote(value)}"


def main(run_folder: Path, lock: int) -> int:
    """Supervises the plan of a run folder, whose lock and environment were inherited."""
    folder = LaunchFolder(run_folder)
    folder.lock.adopt(lock)
    try:
        plan = folder.plan()
        environment = tuple(f"{name}={os.environ[name]}" for name in plan.variables())
        plan = dataclasses.replace(plan, environment=environment)
        return Supervisor(folder, plan, lock).run(members(plan, str(free_port())))
    finally:
        folder.lock.release()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
