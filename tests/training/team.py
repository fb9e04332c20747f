"""The short run `a_run.py` as one or several real processes."""

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
        run: The run folder; what process p says is beside it, in `RUN.p.txt`.
        cached: Variables that say where all of them keep what the compiler made.
        count: How many.
        devices: Simulated devices of each.
        meeting_s: How long they wait for each other when they start.
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
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "IREC_MEETING_SECONDS": str(meeting_s),
        }

    def start(self, steps: int, *words: object) -> "Team":
        """Starts all with the same words for `a_run.py`."""
        self.run.parent.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        for number in range(self.count):
            environment = dict(self._environment)
            if self.count > 1:
                environment["IREC_COORDINATOR"] = f"localhost:{self._port}"
                environment["IREC_PROCESSES"] = str(self.count)
                environment["IREC_PROCESS"] = str(number)
            command = [sys.executable, str(PROGRAM), str(self.run), str(steps), *map(str, words)]
            with self._file(number).open("w") as output:
                self.processes.append(
                    subprocess.Popen(command, env=environment, stdout=output, stderr=output)
                )
        return self

    def wait_for_meeting(self) -> None:
        """Waits until process 0 is there and waits for the others."""
        end = time.monotonic() + LIMIT_S
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("localhost", self._port)).close()
                return
            assert time.monotonic() < end, self.said()
            time.sleep(0.05)

    def wait_for(self, step: int) -> None:
        """Waits until a step is done that was not done before."""
        end = time.monotonic() + LIMIT_S
        while max(read_losses(self.run), default=0) < step:
            assert all(process.poll() is None for process in self.processes), self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.005)

    def ended(self, within_s: float = LIMIT_S) -> list[int]:
        """Waits for all of them; their exit codes."""
        end = time.monotonic() + within_s
        try:
            return [process.wait(max(end - time.monotonic(), 0.1)) for process in self.processes]
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {within_s} s:\n{self.said()}") from None
        finally:
            for process in self.processes:
                process.kill()
                process.wait()

    def said(self, number: int | None = None) -> str:
        """What one of them, or all, printed."""
        numbers = range(self.count) if number is None else [number]
        return "\n".join(self._file(number).read_text() for number in numbers)

    def _file(self, number: int) -> Path:
        return self.run.with_name(f"{self.run.name}.{number}.txt")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def newest(run: Path) -> int:
    """The step of the newest checkpoint."""
    return saved_steps(run / FOLDER)[0]


def weights_of(run: Path) -> list[int]:
    """The sums of the newest checkpoint's weights."""
    path = run / FOLDER / str(newest(run)) / "about" / "data.json"
    return json.loads(path.read_text())["checksums"]["params"]


def batches_of(run: Path) -> dict[str, str]:
    """The sum of each batch by the position behind it, the same in all processes that made it."""
    sums: dict[str, str] = {}
    for file in run.glob("batches.*.jsonl"):
        for line in file.read_text().splitlines():
            position, found = json.loads(line)
            assert sums.setdefault(position, found) == found, f"{file.name}: {position}"
    return sums
