"""A run on this machine, in the background: started, looked at, stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from irec_jax.errors import InputError
from irec_jax.launching import processes
from irec_jax.launching.launch_folder import LaunchFolder, LaunchState
from irec_jax.launching.launch_plan import JobManifest, LaunchPlan
from irec_jax.run_lock import here, now

START_S = 20.0


def render(plan: LaunchPlan) -> JobManifest:
    """What `start` does, as a script; it has the words and variables, not the supervision."""
    manifest = processes.render(plan, "local")
    text = manifest.text.replace("&\nwait\n", "&\n")
    return JobManifest(text, manifest.suffix, manifest.submit)


def start(plan: LaunchPlan) -> LaunchState:
    """Starts a run that outlives this process and its terminal.

    Returns:
        How it stands, once it runs.

    Raises:
        InputError: A launch is running in the run folder, or the processes cannot be started.
    """
    folder = LaunchFolder(plan.run)
    lock = folder.claim(take_over=plan.take_over)
    try:
        folder.save_plan(plan)
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
    until = time.monotonic() + START_S
    while (state := folder.state()).phase == "starting":
        if supervisor.poll() is not None or time.monotonic() > until:
            where = str(folder.folder / "supervisor.log")
            raise InputError("the run could not be started", where=where)
        time.sleep(0.05)
    return state


def stop(run: Path, tell: Callable[[str], None]) -> LaunchState:
    """Has a launch save and leave, and waits for that.

    Args:
        run: The run folder.
        tell: Gets a line when the waiting begins.

    Returns:
        How it ended; at once if it had ended before.

    Raises:
        InputError: Nothing was launched there, it runs on another host, or it does not end.
    """
    folder = LaunchFolder(run)
    state = folder.state()
    if not folder.is_live():
        return state
    if state.host != here():
        hint = f"Do it there: irec launch stop {run}"
        raise InputError(f"it runs on {state.host}", where=str(run), hint=hint)
    # Without a supervisor the processes are told themselves.
    targets = [state.supervisor] if _is_ours(state.supervisor) else []
    targets = targets or [pid for pid in state.processes if _is_ours(pid)]
    for pid in targets:
        os.kill(pid, signal.SIGTERM)
    tell(f"told to save and leave: {', '.join(map(str, targets)) or 'nobody'}; waiting")
    until = time.monotonic() + folder.plan().grace + 10
    while folder.is_live():
        if time.monotonic() > until:
            hint = f"See {folder.log(0)}; kill -9 {' '.join(map(str, state.processes))} ends it."
            raise InputError("it has not ended", where=str(run), hint=hint)
        time.sleep(0.1)
    return folder.state()


def _is_ours(pid: int) -> bool:
    """Whether a process is there and one of ours, not another that got its number since."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    line = Path(f"/proc/{pid}/cmdline")
    return not line.exists() or b"irec" in line.read_bytes()
