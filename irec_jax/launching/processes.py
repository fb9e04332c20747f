"""Several processes of one host as one run, over loopback, in the foreground."""

import dataclasses
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from irec_jax.bounds import check_numbers
from irec_jax.launching.launch_folder import HostLaunch, LaunchFolder
from irec_jax.launching.launch_plan import PROGRAM, Allocation, JobFile, LaunchPlan
from irec_jax.launching.supervisor import ProcessSpec, Supervisor
from irec_jax.launching.target_checks import PROCESS_RANGES

PYTHON = (sys.executable, "-P", "-m", "irec_jax.cli.main")
"""`irec` of this Python, whatever the PATH and the working folder contain."""


@dataclasses.dataclass(frozen=True)
class ProcessesTarget:
    """Several processes of this host as one run, in the foreground.

    Attributes:
        processes: Number of processes.
        devices: Devices per process: simulated devices on a CPU, otherwise GPUs; 0 uses all.
        time_limit: Minutes after which the run saves and exits; 0 for no limit.
        grace: Seconds from SIGTERM to SIGKILL, for the checkpoint.
        take_over: Take the lock that a launch or tune of another host left in the run folder.
    """

    processes: int = 2
    devices: int = 0
    time_limit: int = 0
    grace: int = 300
    take_over: bool = False

    def allocation(self) -> Allocation:
        """Returns the devices of all processes, if their number is given."""
        return Allocation(self.processes * self.devices)

    def check(self, plan: LaunchPlan) -> None:
        """Refuses numbers that are out of bounds."""
        check_numbers(self, "--", **PROCESS_RANGES)

    def render(self, plan: LaunchPlan) -> JobFile:
        """Renders the commands and variables of `start`, without the supervision."""
        lines = script_lines(self._launch(plan), plan.launch_command(self))
        return JobFile("\n".join([*lines, "wait"]) + "\n", ".sh", ("bash",), ("bash",))

    def start(self, plan: LaunchPlan, echo: Callable[[str], object]) -> int:
        """Runs all processes and waits for them.

        SIGINT and SIGTERM are forwarded to each process. If one fails, the others get SIGTERM.

        Args:
            plan: The run.
            echo: Called with the output of process 0.

        Returns:
            0, or the exit code of the process that failed.

        Raises:
            InputError: A launch is running in the run folder.
        """
        folder, launch = LaunchFolder(plan.run), self._launch(plan)
        lock = folder.claim(take_over=self.take_over)
        try:
            folder.save_launch(launch)
            return Supervisor(folder, launch, lock).run(
                process_specs(launch, str(free_port())), echo
            )
        finally:
            folder.lock.release()

    def _launch(self, plan: LaunchPlan) -> HostLaunch:
        return HostLaunch(plan, **dataclasses.asdict(self))


def pack(plan: LaunchPlan) -> int:
    """Makes the packed rows of a plan, if it has some, and waits.

    Args:
        plan: The run.

    Returns:
        The exit code.
    """
    if not plan.packed:
        return 0
    environment = {**os.environ, **plan.variables()}
    return subprocess.run(plan.pack_command(PYTHON), env=environment, check=False).returncode


def process_specs(
    launch: HostLaunch, port: str, program: tuple[str, ...] = PYTHON
) -> list[ProcessSpec]:
    """Builds the command and the variables of each process.

    Args:
        launch: The launch.
        port: Port of this host at which the processes connect.
        program: The command that runs `irec`.
    """
    specs = []
    for index in range(launch.processes):
        variables: dict[str, str] = {}
        if launch.processes > 1:
            variables["IREC_COORDINATOR"] = f"localhost:{port}"
            variables["IREC_PROCESSES"] = str(launch.processes)
            variables["IREC_PROCESS"] = str(index)
        if launch.devices:
            # JAX reads the first on a CPU and the second on GPUs.
            first = index * launch.devices
            device_ids = map(str, range(first, first + launch.devices))
            variables["JAX_NUM_CPU_DEVICES"] = str(launch.devices)
            variables["JAX_LOCAL_DEVICE_IDS"] = ",".join(device_ids)
        variables |= launch.plan.variables()
        command = launch.plan.tune_command(program, take_over=launch.take_over)
        specs.append(ProcessSpec(command, variables))
    return specs


def script_lines(launch: HostLaunch, launch_command: str) -> list[str]:
    """Renders the start of each process in the background as lines of a bash script."""
    lines = ["#!/usr/bin/env bash", f"# {launch_command}", "set -euo pipefail"]
    if launch.processes > 1:
        lines += ["", "# A free port of this host, where the processes connect.", "port=29431"]
    log = LaunchFolder(launch.plan.run).log
    if launch.plan.packed:
        lines += ["", "# Complete rows are left as they are."]
        lines += [shlex.join(launch.plan.pack_command())]
    lines += ["", f"mkdir -p {shlex.quote(str(log(0).parent))}"]
    for index, spec in enumerate(process_specs(launch, "$port", PROGRAM)):
        assignments = [_assignment(name, value) for name, value in spec.variables.items()]
        command = " ".join([*assignments, shlex.join(spec.command)])
        lines.append(f"{command} > {shlex.quote(str(log(index)))} 2>&1 &")
    return lines


def free_port() -> int:
    """Returns a free port of this host."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def _assignment(name: str, value: str) -> str:
    """Assigns a variable in bash; the port is the only value that bash expands."""
    return f"{name}={value}" if value == "localhost:$port" else f"{name}={shlex.quote(value)}"


def main(run_folder: Path, lock: int) -> int:
    """Supervises the launch of a run folder, with its lock and environment inherited."""
    folder = LaunchFolder(run_folder)
    folder.lock.adopt(lock)
    try:
        launch = folder.launch()
        environment = tuple(f"{name}={os.environ[name]}" for name in launch.plan.variables())
        plan = dataclasses.replace(launch.plan, environment=environment)
        launch = dataclasses.replace(launch, plan=plan)
        return Supervisor(folder, launch, lock).run(process_specs(launch, str(free_port())))
    finally:
        folder.lock.release()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
