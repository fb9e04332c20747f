"""Real launches on this host: background, status, stop, failure, several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irec_jax.errors import InputError
from irec_jax.launching.launch_folder import (
    HostLaunch,
    LaunchFolder,
    LaunchState,
    here,
    last_lines,
)
from irec_jax.launching.launch_plan import LaunchPlan
from irec_jax.launching.supervisor import ProcessSpec, Supervisor

SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
SAVES = """
import signal, sys, time
def save(*_):
    print('saved', flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print('up', flush=True)
time.sleep(60)
"""


def program(text: str, **variables: str) -> ProcessSpec:
    return ProcessSpec((sys.executable, "-c", text), variables)


@pytest.fixture
def folder(tmp_path):
    return LaunchFolder(tmp_path / "run")


def supervise(folder: LaunchFolder, *programs: ProcessSpec, **settings) -> tuple[int, LaunchState]:
    lock = folder.claim()
    try:
        launch = HostLaunch(LaunchPlan(Path("a.py"), folder.run, "processes"), **settings)
        return Supervisor(folder, launch, lock).run(programs), folder.state()
    finally:
        os.close(lock)


def test_processes_that_exit_with_0_are_finished(folder):
    code, state = supervise(
        folder, program("print('a')"), program("import os; print(os.environ['B'])", B="b c")
    )
    assert (code, state.phase, state.exit_code) == (0, "finished", 0)
    assert folder.log(0).read_text() == "a\n"
    assert folder.log(1).read_text() == "b c\n"
    assert not folder.is_live()


def test_a_failed_process_stops_the_others_and_is_named(folder, monkeypatch):
    monkeypatch.setattr("irec_jax.launching.supervisor.EXIT_TIMEOUT_S", 0.3)
    start_time = time.monotonic()
    code, state = supervise(
        folder, program(SAVES), program("import sys; sys.exit(7)"), program(SLEEPS)
    )
    assert time.monotonic() - start_time < 20
    assert (code, state.phase) == (7, "failed")
    assert state.message.startswith("process 1 of 3 failed with exit code 7; ")
    assert state.message.endswith("launch/process-1.log")
    assert folder.log(0).read_text() == "up\nsaved\n"


def test_the_cause_is_named_and_not_a_process_that_lost_another_one(folder):
    lost = program("import sys; sys.exit(75)")
    slow = program("import sys, time; time.sleep(1); sys.exit(2)")
    code, state = supervise(folder, lost, slow)
    assert code == 2
    assert state.message.startswith("process 1 of 2 failed with exit code 2")


def test_a_process_that_ignores_signals_is_killed(folder, monkeypatch):
    monkeypatch.setattr("irec_jax.launching.supervisor.EXIT_TIMEOUT_S", 0.3)
    ignores = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"
    code, state = supervise(folder, program("import os; os.abort()"), program(ignores))
    assert code == 128 + signal.SIGABRT
    assert "process 0 of 2 was killed by SIGABRT" in state.message


def test_all_processes_save_at_the_time_limit(folder, monkeypatch):
    monkeypatch.setattr("irec_jax.launching.supervisor.MINUTE_S", 1)
    code, state = supervise(folder, program(SAVES), program(SAVES), time_limit=1)
    assert (code, state.phase) == (143, "stopped")
    assert "saved after the time limit of 1 minutes" in state.message
    assert [folder.log(n).read_text() for n in (0, 1)] == ["up\nsaved\n"] * 2


def test_only_one_launch_holds_the_lock(folder):
    lock = folder.claim()
    with pytest.raises(InputError, match="`irec launch` is running there"):
        folder.claim()
    os.close(lock)
    os.close(folder.claim())


def test_a_launch_that_vanished_has_failed(folder):
    lock = folder.claim()
    folder.save_state(LaunchState("running", here(), 1, (1,)))
    assert folder.state().phase == "running"
    os.close(lock)
    state = folder.state()
    assert (state.phase, state.exit_code) == ("failed", 1)
    assert state.message.startswith("exited without reporting a status")


def test_a_launch_is_live_while_any_of_its_processes_is(folder):
    """Its supervisor is killed; the remaining process holds the lock."""
    script = f"""
from pathlib import Path
from irec_jax.launching.launch_folder import HostLaunch, LaunchFolder
from irec_jax.launching.launch_plan import LaunchPlan
from irec_jax.launching.supervisor import ProcessSpec, Supervisor
folder = LaunchFolder(Path({str(folder.run)!r}))
launch = HostLaunch(LaunchPlan(Path("a.py"), folder.run, "local"))
process = ProcessSpec(({sys.executable!r}, "-c", {SAVES!r}))
Supervisor(folder, launch, folder.claim()).run([process])
"""
    supervisor = subprocess.Popen([sys.executable, "-c", script])
    wait_for(lambda: folder.log(0).exists() and folder.log(0).read_text() == "up\n")
    wait_for(lambda: (folder.folder / "state.json").exists())
    supervisor.kill()
    supervisor.wait()
    assert folder.is_live()
    assert folder.state().phase == "running"
    with pytest.raises(InputError):
        folder.claim()
    os.kill(folder.state().processes[0], signal.SIGTERM)
    wait_for(lambda: not folder.is_live())
    assert folder.log(0).read_text() == "up\nsaved\n"


def test_last_lines_of_a_long_file(tmp_path):
    path = tmp_path / "log"
    assert last_lines(path, 3) == []
    path.write_text("".join(f"line {n} {'x' * 200}\n" for n in range(1000)))
    assert [line.split()[1] for line in last_lines(path, 3)] == ["997", "998", "999"]
    assert last_lines(path, 0) == []


def test_a_malformed_state_is_refused(folder):
    folder.folder.mkdir(parents=True)
    state = {"phase": "resting", "host": "a", "supervisor": 1}
    (folder.folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="resting"):
        folder.state()


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
