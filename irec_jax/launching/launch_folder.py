"""What a launch keeps in its run folder: what was started, how it stands, the logs."""

import dataclasses
import json
from pathlib import Path
from typing import Literal, TypeVar

from irec_jax.errors import InputError
from irec_jax.files import write_text
from irec_jax.launching.launch_plan import LaunchPlan
from irec_jax.run_lock import LAUNCH, RunLock, here
from irec_jax.settings import from_json, to_json

FOLDER = "launch"

T = TypeVar("T")
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
        self.lock = RunLock(run)

    def claim(self, *, take_over: bool = False) -> int:
        """Takes the lock of the run.

        Args:
            take_over: Whether to take a lock whose holder was on another host.

        Returns:
            The file that holds it, until all copies of it are closed.

        Raises:
            InputError: Another launch, or `irec tune`, is at work in the run folder.
        """
        file = self.lock.acquire(LAUNCH, take_over=take_over)
        self.folder.mkdir(parents=True, exist_ok=True)
        return file

    def is_live(self) -> bool:
        """Whether anything of the launch still runs, or may run on another host."""
        holder = self.lock.holder()
        return holder is not None and holder.command == LAUNCH

    def state(self) -> LaunchState:
        """How the launch stands; what vanished without a word has failed.

        Raises:
            InputError: Nothing was launched there.
        """
        live = self.is_live()
        path = self.folder / "state.json"
        if not path.is_file():
            hint = f"Launch it: irec launch EXPERIMENT --on local --out {self.run}"
            raise InputError("nothing was launched there", where=str(self.run), hint=hint)
        state = _read_json(LaunchState, path)
        if state.phase in ("starting", "running") and not live and state.host == here():
            what = "it ended without a word: killed, or the machine was started anew"
            return dataclasses.replace(state, phase="failed", exit_code=1, message=what)
        return state

    def save_state(self, state: LaunchState) -> None:
        """Writes how the launch stands."""
        write_text(self.folder / "state.json", json.dumps(to_json(state), indent=2) + "\n")

    def plan(self) -> LaunchPlan:
        """What was launched; the values of its environment are masked."""
        return _read_json(LaunchPlan, self.folder / "plan.json")

    def save_plan(self, plan: LaunchPlan) -> None:
        """Writes what is launched, without the values of its environment."""
        text = json.dumps(to_json(plan.masked()), indent=2)
        write_text(self.folder / "plan.json", f"{text}\n")

    def log(self, process: int) -> Path:
        """What a process prints."""
        return self.folder / f"process-{process}.log"


def _read_json(cls: type[T], path: Path) -> T:
    """Reads what a launch wrote; anything else in its place is one clear error."""
    try:
        return from_json(cls, json.loads(path.read_bytes()), where=str(path))
    except FileNotFoundError:
        what, where = "the file is missing", str(path)
    except (ValueError, RecursionError) as error:
        what, where = f"it is not JSON: {error}", str(path)
    except TypeError:
        what, where = "a key is missing", str(path)
    except InputError as error:
        what, where = error.problem, error.where
    hint = f"Remove {path} when nothing of the launch runs any more, then launch the run again."
    raise InputError(what, where=where, hint=hint)


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
