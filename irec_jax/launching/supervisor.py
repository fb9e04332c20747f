"""Starts the processes of a run, passes signals on, and tells how they ended."""

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Protocol, runtime_checkable

from irec_jax.launching.launch_folder import LaunchFolder, LaunchState, Phase
from irec_jax.launching.launch_plan import EXIT_LOST, LaunchPlan
from irec_jax.run_lock import INHERITED, here, now

TICK_S = 0.1
MINUTE_S = 60
PARTING_S = 15.0
"""Processes of a run end each other with a message of their own; they get that long for it."""
PASSED_ON = {
    signal.SIGINT: signal.SIGINT,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,  # the terminal is gone, and the processes have none
}
_LEFT = (128 + signal.SIGINT, 128 + signal.SIGTERM)


@runtime_checkable
class Startable(Protocol):
    """A process to be: its command line, and what is added to the environment."""

    @property
    def words(self) -> tuple[str, ...]:
        """The command line."""
        ...

    @property
    def variables(self) -> dict[str, str]:
        """Further variables."""
        ...


class Supervisor:
    """One launch on this host.

    Args:
        folder: Where its state and logs go.
        plan: Time limit and grace.
        lock: The file that says that the launch is alive; the processes get it as well.
    """

    def __init__(self, folder: LaunchFolder, plan: LaunchPlan, lock: int) -> None:
        self._folder, self._plan, self._lock = folder, plan, lock
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._codes: dict[int, int] = {}
        self._signals: list[signal.Signals] = []
        self._told: signal.Signals | None = None
        self._kill_at = float("inf")
        self._why = ""
        self._uncaught = False

    def run(
        self, processes: Sequence[Startable], echo: Callable[[str], object] | None = None
    ) -> int:
        """Runs them to the end.

        Args:
            processes: By their number in the run.
            echo: Gets what process 0 prints.

        Returns:
            0, or what the launch is to exit with.
        """
        before = {number: signal.signal(number, self._take) for number in PASSED_ON}
        try:
            for number, process in enumerate(processes):
                self._start(number, process)
            state = self._state("running")
            self._folder.save_state(state)
            follow = _Follower(self._folder, echo)
            self._watch(follow)
            ending = self._ending(state)
            self._folder.save_state(ending)
            follow.look()
            return ending.exit_code or 0
        finally:
            for process in self._running.values():
                process.kill()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, number: int, process: Startable) -> None:
        with self._folder.log(number).open("wb") as log:
            self._running[number] = subprocess.Popen(
                process.words,
                env={**os.environ, INHERITED: str(self._lock), **process.variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._lock,),
                # A terminal's Ctrl-C would come to them twice, and the second one ends at once.
                start_new_session=True,
            )

    def _watch(self, follow: "_Follower") -> None:
        limit = (
            time.monotonic() + MINUTE_S * self._plan.time_limit if self._plan.time_limit else None
        )
        while self._running:
            follow.look()
            for number, process in list(self._running.items()):
                if process.poll() is not None:
                    self._take_note(number, process.returncode)
            while self._signals:
                self._tell(self._signals.pop(0), self._plan.grace)
            if limit is not None and time.monotonic() > limit:
                limit, self._why = None, f"the limit of {self._plan.time_limit} minutes"
                self._tell(signal.SIGTERM, self._plan.grace)
            if time.monotonic() > self._kill_at:
                self._end_the_rest()
            time.sleep(TICK_S)

    def _take_note(self, number: int, code: int) -> None:
        del self._running[number]
        self._codes[number] = 128 - code if code < 0 else code
        self._uncaught |= code < 0
        if code and self._codes[number] not in _LEFT:
            self._kill_at = min(self._kill_at, time.monotonic() + PARTING_S)

    def _tell(self, number: signal.Signals, grace: int | float) -> None:
        self._told = self._told or number
        self._kill_at = min(self._kill_at, time.monotonic() + grace)
        for process in self._running.values():
            process.send_signal(number)

    def _end_the_rest(self) -> None:
        """Those that neither saved nor noticed: they are told once, and then killed."""
        if self._told is None:
            self._kill_at = float("inf")
            self._tell(signal.SIGTERM, PARTING_S)
            return
        for process in self._running.values():
            process.kill()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(PASSED_ON[signal.Signals(number)])

    def _state(self, phase: Phase) -> LaunchState:
        pids = tuple(self._running[number].pid for number in sorted(self._running))
        return LaunchState(phase, here(), os.getpid(), pids, started=now())

    def _ending(self, state: LaunchState) -> LaunchState:
        failed = [n for n, code in self._codes.items() if code and code not in _LEFT]
        if failed:
            # The first to end, of those that did not end for the sake of another.
            number = next((n for n in failed if self._codes[n] != EXIT_LOST), failed[0])
            code = self._codes[number]
            how = f"was killed by {_signal_name(code)}" if code > 128 else f"failed with {code}"
            message = f"process {number} of {len(self._codes)} {how}; {self._folder.log(number)}"
            return self._ended(state, "failed", code, message)
        code = max(self._codes.values())
        if code:
            told = self._why or _signal_name(code)
            did = (
                "ended, before there was anything to save," if self._uncaught else "saved and left"
            )
            return self._ended(state, "stopped", code, f"{did} after {told}")
        return self._ended(state, "finished", 0, "")

    def _ended(self, state: LaunchState, phase: Phase, code: int, message: str) -> LaunchState:
        return dataclasses.replace(state, phase=phase, ended=now(), exit_code=code, message=message)


class _Follower:
    """Passes on what process 0 prints."""

    def __init__(self, folder: LaunchFolder, echo: Callable[[str], object] | None) -> None:
        self._echo, self._path, self._seen = echo, folder.log(0), 0

    def look(self) -> None:
        if self._echo:
            with self._path.open("rb") as file:
                file.seek(self._seen)
                text = file.read()
            self._seen += len(text)
            if text:
                self._echo(text.decode("utf-8", errors="replace"))


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(code - 128).name
    except ValueError:
        return f"exit code {code}"
