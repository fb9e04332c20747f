"""Supervisor of a run's processes: starts them, forwards signals, records how they end."""

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import NamedTuple

from irec_jax.exit_codes import EXIT_INTERRUPTED, EXIT_LOST, EXIT_OK, EXIT_TERMINATED
from irec_jax.launching.launch_folder import HostLaunch, LaunchFolder, LaunchState, Phase
from irec_jax.run_lock import INHERITED, here, now

POLL_S = 0.1
MINUTE_S = 60
EXIT_TIMEOUT_S = 15.0
"""Time in which the other processes of a run end each other after one has failed."""
FORWARDED_SIGNALS = {
    signal.SIGINT: signal.SIGINT,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,  # the terminal is closed, and the processes have none
}
_SAVED_CODES = (EXIT_INTERRUPTED, EXIT_TERMINATED)


class ProcessSpec(NamedTuple):
    """A process to start.

    Attributes:
        command: Its command line.
        variables: Variables that are added to the environment.
    """

    command: tuple[str, ...]
    variables: Mapping[str, str] = {}


class Supervisor:
    """Runs the processes of one launch on this host.

    Args:
        folder: Receives state and logs.
        launch: Holds the time limit and the grace period.
        lock: File descriptor that marks the launch as alive; the processes inherit it.
    """

    def __init__(self, folder: LaunchFolder, launch: HostLaunch, lock: int) -> None:
        self._folder, self._launch, self._lock = folder, launch, lock
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._codes: dict[int, int] = {}
        self._received: list[signal.Signals] = []
        self._sent: signal.Signals | None = None
        self._kill_time = float("inf")
        self._reason = ""
        self._ended_unsaved = False

    def run(
        self, processes: Sequence[ProcessSpec], echo: Callable[[str], object] | None = None
    ) -> int:
        """Runs the processes until all have ended.

        Args:
            processes: By their index in the run.
            echo: Called with the output of process 0.

        Returns:
            The exit code of the launch.
        """
        before = {number: signal.signal(number, self._receive) for number in FORWARDED_SIGNALS}
        try:
            for index, process in enumerate(processes):
                self._start(index, process)
            state = self._running_state()
            self._folder.save_state(state)
            output = _OutputReader(self._folder, echo)
            self._wait(output)
            final = self._final_state(state)
            self._folder.save_state(final)
            output.forward()
            return final.exit_code or EXIT_OK
        finally:
            for process in self._running.values():
                process.kill()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, index: int, process: ProcessSpec) -> None:
        with self._folder.log(index).open("wb") as log:
            self._running[index] = subprocess.Popen(
                process.command,
                env={**os.environ, INHERITED: str(self._lock), **process.variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._lock,),
                # A terminal's Ctrl-C would reach them twice, and a second one ends at once.
                start_new_session=True,
            )

    def _wait(self, output: "_OutputReader") -> None:
        minutes = self._launch.time_limit
        time_limit = time.monotonic() + MINUTE_S * minutes if minutes else None
        while self._running:
            output.forward()
            for index, process in list(self._running.items()):
                if process.poll() is not None:
                    self._record_exit(index, process.returncode)
            while self._received:
                self._send(self._received.pop(0), self._launch.grace)
            if time_limit is not None and time.monotonic() > time_limit:
                time_limit, self._reason = None, f"the time limit of {minutes} minutes"
                self._send(signal.SIGTERM, self._launch.grace)
            if time.monotonic() > self._kill_time:
                self._end_remaining()
            time.sleep(POLL_S)

    def _record_exit(self, index: int, code: int) -> None:
        del self._running[index]
        self._codes[index] = 128 - code if code < 0 else code
        self._ended_unsaved |= code < 0
        if code and self._codes[index] not in _SAVED_CODES:
            self._kill_time = min(self._kill_time, time.monotonic() + EXIT_TIMEOUT_S)

    def _send(self, number: signal.Signals, grace: int | float) -> None:
        self._sent = self._sent or number
        self._kill_time = min(self._kill_time, time.monotonic() + grace)
        for process in self._running.values():
            process.send_signal(number)

    def _end_remaining(self) -> None:
        """Sends SIGTERM to the remaining processes, and SIGKILL if a signal was sent before."""
        if self._sent is None:
            self._kill_time = float("inf")
            self._send(signal.SIGTERM, EXIT_TIMEOUT_S)
            return
        for process in self._running.values():
            process.kill()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received.append(FORWARDED_SIGNALS[signal.Signals(number)])

    def _running_state(self) -> LaunchState:
        pids = tuple(self._running[index].pid for index in sorted(self._running))
        return LaunchState("running", here(), os.getpid(), pids, started=now())

    def _final_state(self, state: LaunchState) -> LaunchState:
        failed = [i for i, code in self._codes.items() if code and code not in _SAVED_CODES]
        if failed:
            # The first to fail, except those that ended because another one was lost.
            index = next((i for i in failed if self._codes[i] != EXIT_LOST), failed[0])
            code = self._codes[index]
            cause = (
                f"was killed by {_signal_name(code)}"
                if code > 128
                else f"failed with exit code {code}"
            )
            message = f"process {index} of {len(self._codes)} {cause}; {self._folder.log(index)}"
            return _ended(state, "failed", code, message)
        code = max(self._codes.values())
        if code:
            reason = self._reason or _signal_name(code)
            verb = "exited before there was anything to save" if self._ended_unsaved else "saved"
            return _ended(state, "stopped", code, f"{verb} after {reason}")
        return _ended(state, "finished", EXIT_OK, "")


class _OutputReader:
    """Forwards the output of process 0."""

    def __init__(self, folder: LaunchFolder, echo: Callable[[str], object] | None) -> None:
        self._echo, self._path, self._offset = echo, folder.log(0), 0

    def forward(self) -> None:
        if self._echo:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
            self._offset += len(text)
            if text:
                self._echo(text.decode("utf-8", errors="replace"))


def _ended(state: LaunchState, phase: Phase, code: int, message: str) -> LaunchState:
    return dataclasses.replace(state, phase=phase, ended=now(), exit_code=code, message=message)


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(code - 128).name
    except ValueError:
        return f"exit code {code}"
