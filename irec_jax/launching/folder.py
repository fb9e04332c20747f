"""What a launch keeps in its run folder: a lock, what was started, how it stands, the logs."""

import dataclasses
import datetime
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Literal

from irec_jax.errors import InputError
from irec_jax.files import write_text
from irec_jax.launching.plan import LaunchPlan
from irec_jax.settings import from_json, to_json

FOLDER = "launch"
CLAIM_S = 2.0

Phase = Literal["starting", "running", "finished", "stopped", "failed"]


@dataclasses.dataclass(frozen=True)
class LaunchState:
    """How a launch stands.

    Attributes:
        phase: `stopped` saved and left after a signal; the same launch goes on from there.
        host: Where it runs.
        supervisor: The process that started the others.
        processes: Those others, by their numbers in the run.
        started: When, in ISO 8601.
        ended: When, or "".
        exit_code: Of the launch, once it ended.
        message: Why it ended so.
    """

    phase: Phase
    host: str
    supervisor: int
    processes: tuple[int, ...] = ()
    started: str = ""
    ended: str = ""
    exit_code: int | None = None
    message: str = ""


class LaunchFolder:
    """The launch of a run folder.

    The lock is held by whoever runs there, the supervisor and the processes alike, and ends with
    the last of them however they end: whether a launch is alive depends on no process number.

    Args:
        run: The run folder.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.folder = run / FOLDER

    def claim(self) -> int:
        """Takes the lock.

        Returns:
            The file that holds it, until all copies of it are closed.

        Raises:
            InputError: The run is being trained by another launch.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        until = time.monotonic() + CLAIM_S  # `is_live` holds it for a moment
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(lock)
                    raise self._in_use() from None
                time.sleep(0.1)

    def is_live(self) -> bool:
        """Whether anything of the launch still runs."""
        try:
            lock = os.open(self.folder / "lock", os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def state(self) -> LaunchState:
        """How the launch stands; what vanished without a word has failed.

        Raises:
            InputError: Nothing was launched there.
        """
        live = self.is_live()
        path = self.folder / "state.json"
        if not path.is_file():
            mend = f"Launch it: irec launch EXPERIMENT --on local --out {self.run}"
            raise InputError("nothing was launched there", where=str(self.run), mend=mend)
        state = from_json(LaunchState, json.loads(path.read_text()), where=str(path))
        if state.phase in ("starting", "running") and not live and state.host == here():
            what = "it ended without a word: killed, or the machine was started anew"
            return dataclasses.replace(state, phase="failed", exit_code=1, message=what)
        return state

    def save_state(self, state: LaunchState) -> None:
        """Writes how the launch stands."""
        write_text(self.folder / "state.json", json.dumps(to_json(state), indent=2) + "\n")

    def plan(self) -> LaunchPlan:
        """What was launched; the values of its environment are masked."""
        path = self.folder / "plan.json"
        return from_json(LaunchPlan, json.loads(path.read_text()), where=str(path))

    def save_plan(self, plan: LaunchPlan) -> None:
        """Writes what is launched, without the values of its environment."""
        text = json.dumps(to_json(plan.masked()), indent=2)
        write_text(self.folder / "plan.json", f"{text}\n")

    def log(self, process: int) -> Path:
        """What a process prints."""
        return self.folder / f"process-{process}.log"

    def _in_use(self) -> InputError:
        mend = f"See `irec launch status {self.run}`, end it with `irec launch stop {self.run}`."
        return InputError("a launch is running there", where=str(self.run), mend=mend)


def here() -> str:
    """This host."""
    return socket.gethostname()


def now() -> str:
    """The time, in ISO 8601."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a text that may be long, and may still be written.

    Args:
        path: The file; none has no lines.
        count: How many lines.
    """
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 500 * (count + 1)))
        text = file.read().decode("utf-8", errors="replace")
    return text.splitlines()[-count:] if count else []
