"""The program `a_run.py` as one or several real processes."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from irec_jax.training.checkpoint import FOLDER, saved_steps
from irec_jax.training.metrics_logger import read_losses

PROGRAM = Path(__file__).with_name("a_run.py")
LIMIT_S = 300


class Team:
    """Processes that train together.

    Args:
        run: The run folder; the output of process p is next to it, in `RUN.p.txt`.
        cached: Environment variables of the shared compilation cache.
        count: The number of processes.
        devices: Simulated devices of each process.
        meeting_s: Seconds that they wait for each other at the start.
    """

    def __init__(
        self,
        run: Path,
        cached: Mapping[str, str],
        count: int = 1,
        devices: int = 1,
        *,
        meeting_s: int = 60,
    ) -> None:
        self.run, self.count = run, count
        self.processes: list[subprocess.Popen] = []
        self._environment = {
            **os.environ,
            **cached,
            "PYTHONPATH": str(PROGRAM.parents[2]),
            "XLA_FLAGS": f"{cached['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
            "IREC_MEETING_SECONDS": str(meeting_s),
        }

    def start(self, steps: int, *arguments: object) -> "Team":
        """Start all processes with the same arguments of `a_run.py`."""
        self.run.parent.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        for number in range(self.count):
            environment = dict(self._environment)
            if self.count > 1:
                environment["IREC_COORDINATOR"] = f"localhost:{self._port}"
                environment["IREC_PROCESSES"] = str(self.count)
                environment["IREC_PROCESS"] = str(number)
            command = [sys.executable, PROGRAM, self.run, steps, *arguments]
            with self._file(number).open("w") as output:
                self.processes.append(
                    subprocess.Popen(
                        [*map(str, command)], env=environment, stdout=output, stderr=output
                    )
                )
        return self

    def wait_for_meeting(self) -> None:
        """Wait until process 0 listens for the others."""
        end = time.monotonic() + LIMIT_S
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("localhost", self._port)).close()
                return
            assert time.monotonic() < end, self.output()
            time.sleep(0.05)

    def wait_for(self, step: int) -> None:
        """Wait until the losses have a step."""
        end = time.monotonic() + LIMIT_S
        while max(read_losses(self.run), default=0) < step:
            assert all(process.poll() is None for process in self.processes), self.output()
            assert time.monotonic() < end, self.output()
            time.sleep(0.005)

    def exit_codes(self, within_s: float = LIMIT_S) -> list[int]:
        """Wait until all processes have exited; return their exit codes."""
        end = time.monotonic() + within_s
        try:
            return [process.wait(max(end - time.monotonic(), 0.1)) for process in self.processes]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_s} s:\n{self.output()}") from None
        finally:
            for process in self.processes:
                process.kill()
                process.wait()

    def output(self, number: int | None = None) -> str:
        """Return the output of one process, or of all."""
        numbers = range(self.count) if number is None else [number]
        return "\n".join(self._file(number).read_text() for number in numbers)

    def _file(self, number: int) -> Path:
        return self.run.with_name(f"{self.run.name}.{number}.txt")


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def newest_step(run: Path) -> int:
    """Return the step of the newest checkpoint."""
    return saved_steps(run / FOLDER)[0]


def weight_checksums(run: Path) -> list[int]:
    """Return the checksums of the newest checkpoint's weights."""
    path = run / FOLDER / str(newest_step(run)) / "about" / "data.json"
    return json.loads(path.read_text())["checksums"]["params"]


def batch_checksums(run: Path) -> dict[str, str]:
    """Return the checksum of each batch by the position after it; equal in all processes."""
    checksums: dict[str, str] = {}
    for file in run.glob("batches.*.jsonl"):
        for line in file.read_text().splitlines():
            position, checksum = json.loads(line)
            assert checksums.setdefault(position, checksum) == checksum, f"{file.name}: {position}"
    return checksums
