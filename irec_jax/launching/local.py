"""A run on this machine, in the background: start and stop."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from irec_jax.bounds import check_numbers
from irec_jax.errors import InputError
from irec_jax.launching.launch_folder import HostLaunch, LaunchFolder, LaunchState
from irec_jax.launching.launch_plan import Allocation, JobFile, LaunchPlan
from irec_jax.launching.processes import script_lines
from irec_jax.launching.target_checks import GRACE, TIME_LIMIT
from irec_jax.run_lock import here, now

START_TIMEOUT_S = 20.0


@dataclasses.dataclass(frozen=True)
class LocalTarget:
    """One process on this machine, in the background.

    Attributes:
        time_limit: Minutes after which the run saves and exits; 0 for no limit.
        grace: Seconds from SIGTERM to SIGKILL, for the checkpoint.
        take_over: Take the lock that a launch or tune of another host left in the run folder.
    """

    time_limit: int = 0
    grace: int = 300
    take_over: bool = False

    def allocation(self) -> Allocation:
        """Returns that the number of devices is unknown: the run uses all."""
        return Allocation()

    def check(self, plan: LaunchPlan) -> None:
        """Refuses times that are out of bounds."""
        check_numbers(self, "--", time_limit=TIME_LIMIT, grace=GRACE)

    def render(self, plan: LaunchPlan) -> JobFile:
        """Renders the command and variables of `start`, without the supervision."""
        lines = script_lines(self._launch(plan), plan.launch_command(self))
        return JobFile("\n".join(lines) + "\n", ".sh", ("bash",), ("bash",))

    def start(self, plan: LaunchPlan, echo: Callable[[str], object]) -> int:
        """Starts a run that outlives this process and its terminal.

        Args:
            plan: The run.
            echo: Not used: the output goes to the log of the launch.

        Returns:
            0, once the run has started.

        Raises:
            InputError: A launch is running in the run folder, or the run cannot be started.
        """
        folder = LaunchFolder(plan.run)
        lock = folder.claim(take_over=self.take_over)
        try:
            folder.save_launch(self._launch(plan))
            folder.save_state(LaunchState("starting", here(), os.getpid(), started=now()))
            with (folder.folder / "supervisor.log").open("wb") as log:
                program = (sys.executable, "-P", "-m", "irec_jax.launching.processes")
                supervisor = subprocess.Popen(
                    [*program, str(plan.run), str(lock)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **plan.variables()},
                    pass_fds=(lock,),
                    start_new_session=True,
                )
        except BaseException:
            folder.lock.release()
            raise
        folder.lock.hand_on()
        deadline = time.monotonic() + START_TIMEOUT_S
        while folder.state().phase == "starting":
            if supervisor.poll() is not None or time.monotonic() > deadline:
                where = str(folder.folder / "supervisor.log")
                hint = "Read this log for the reason."
                raise InputError("the run could not be started", where=where, hint=hint)
            time.sleep(0.05)
        return 0

    def _launch(self, plan: LaunchPlan) -> HostLaunch:
        return HostLaunch(
            plan, time_limit=self.time_limit, grace=self.grace, take_over=self.take_over
        )


def stop(run: Path, report: Callable[[str], None]) -> LaunchState:
    """Sends SIGTERM to a launch and waits until it has saved and exited.

    Args:
        run: The run folder.
        report: Called with a line before the waiting.

    Returns:
        The final state; at once if the launch had ended before.

    Raises:
        InputError: There is no launch, it runs on another host, or it does not end.
    """
    folder = LaunchFolder(run)
    state = folder.state()
    if not folder.is_live():
        return state
    if state.host != here():
        hint = f"Run it there: irec launch stop {run}"
        raise InputError(f"the launch runs on {state.host}", where=str(run), hint=hint)
    # A supervisor forwards the signal; without one the processes get it directly.
    pids = [state.supervisor] if _is_irec(state.supervisor) else []
    pids = pids or [pid for pid in state.processes if _is_irec(pid)]
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    count = (
        "no process" if not pids else "1 process" if len(pids) == 1 else f"{len(pids)} processes"
    )
    ids = f" ({', '.join(map(str, pids))})" if pids else ""
    report(f"sent SIGTERM to {count}{ids}; waiting for the run to save and exit")
    deadline = time.monotonic() + folder.launch().grace + 10
    while folder.is_live():
        if time.monotonic() > deadline:
            kill = f"kill -9 {' '.join(map(str, state.processes))}"
            hint = f"Read {folder.log(0)}, or end it without saving: {kill}"
            raise InputError("the launch has not ended", where=str(run), hint=hint)
        time.sleep(0.1)
    return folder.state()


def _is_irec(pid: int) -> bool:
    """Whether a process exists and is ours, not another one with a reused id."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    line = Path(f"/proc/{pid}/cmdline")
    return not line.exists() or b"irec" in line.read_bytes()
