"""Files of a launch in its run folder: plan, state and logs."""

import dataclasses
import json
from pathlib import Path
from typing import Literal, TypeVar

from irec_jax.bounds import check_numbers
from irec_jax.errors import InputError
from irec_jax.files import write_text
from irec_jax.launching.launch_plan import LaunchPlan
from irec_jax.launching.target_checks import PROCESS_RANGES
from irec_jax.run_lock import LAUNCH, RunLock, here
from irec_jax.settings import from_json, to_json

FOLDER = "launch"

T = TypeVar("T")
Phase = Literal["starting", "running", "finished", "stopped", "failed"]


@dataclasses.dataclass(frozen=True)
class HostLaunch:
    """A launch on this host: the run and how its processes are supervised.

    Attributes:
        plan: The run.
        processes: Number of processes.
        devices: Devices per process: simulated devices on a CPU, otherwise GPUs; 0 uses all.
        time_limit: Minutes after which the run saves and exits; 0 for no limit.
        grace: Seconds from SIGTERM to SIGKILL.
        take_over: Whether the run may be one that another host left locked.
    """

    plan: LaunchPlan
    processes: int = 1
    devices: int = 0
    time_limit: int = 0
    grace: int = 300
    take_over: bool = False

    def __post_init__(self) -> None:
        check_numbers(self, "--", **PROCESS_RANGES)


@dataclasses.dataclass(frozen=True)
class LaunchState:
    """State of a launch on this host.

    Attributes:
        phase: `stopped` means saved after a signal; the same launch resumes from there.
        host: Host name.
        supervisor: Process id of the supervisor.
        processes: Process ids of the run's processes, by their index in the run.
        started: Start time in ISO 8601.
        ended: End time, or "".
        exit_code: Exit code of the launch, once it has ended.
        message: Reason of the end.
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
    """The files of a launch on this host.

    The supervisor and all processes hold the lock, and the kernel releases it when the last of
    them ends, so that liveness depends on no process id.

    Args:
        run: The run folder.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.folder = run / FOLDER
        self.lock = RunLock(run)

    def claim(self, *, take_over: bool = False) -> int:
        """Acquires the lock of the run.

        Args:
            take_over: Whether to take a lock whose holder was on another host.

        Returns:
            The file descriptor that holds it, until all copies of it are closed.

        Raises:
            InputError: Another launch, or `irec tune`, is at work in the run folder.
        """
        file = self.lock.acquire(LAUNCH, take_over=take_over)
        self.folder.mkdir(parents=True, exist_ok=True)
        return file

    def is_live(self) -> bool:
        """Whether any process of the launch is running, or may be running on another host."""
        holder = self.lock.holder()
        return holder is not None and holder.command == LAUNCH

    def state(self) -> LaunchState:
        """Reads the state; a launch that vanished without an exit code has failed.

        Raises:
            InputError: There is no launch in the run folder.
        """
        live = self.is_live()
        path = self.folder / "state.json"
        if not path.is_file():
            hint = f"Start one: irec launch EXPERIMENT --on local --out {self.run}"
            raise InputError("there is no launch in this folder", where=str(self.run), hint=hint)
        state = _read_json(LaunchState, path)
        if state.phase in ("starting", "running") and not live and state.host == here():
            message = "exited without reporting a status: killed, or the machine was restarted"
            return dataclasses.replace(state, phase="failed", exit_code=1, message=message)
        return state

    def save_state(self, state: LaunchState) -> None:
        """Writes the state."""
        write_text(self.folder / "state.json", json.dumps(to_json(state), indent=2) + "\n")

    def launch(self) -> HostLaunch:
        """Reads the launch; the values of its environment are masked."""
        return _read_json(HostLaunch, self.folder / "plan.json")

    def save_launch(self, launch: HostLaunch) -> None:
        """Writes the launch without the values of its environment."""
        masked = dataclasses.replace(launch, plan=launch.plan.masked())
        write_text(self.folder / "plan.json", json.dumps(to_json(masked), indent=2) + "\n")

    def log(self, process: int) -> Path:
        """Returns the file with the output of a process."""
        return self.folder / f"process-{process}.log"


def _read_json(cls: type[T], path: Path) -> T:
    """Reads a file that a launch wrote; any other content is one clear error."""
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
    """Reads the last lines of a text file that may be long and still grow.

    Args:
        path: The file; a missing one has no lines.
        count: Number of lines.
    """
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 500 * (count + 1)))
        text = file.read().decode("utf-8", errors="replace")
    return text.splitlines()[-count:] if count else []
