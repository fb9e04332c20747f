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
from irec_jax.launching.launch_folder import LaunchFolder, LaunchState, here, last_lines
from irec_jax.launching.launch_plan import LaunchPlan
from irec_jax.launching.supervisor import Supervisor

NAP = "import time; print('up', flush=True); time.sleep(60)"
SAVES = """
import signal, sys, time
def leave(*_):
    print('saved', flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
print('up', flush=True)
time.sleep(60)
"""


class Program:
    """A process of a launch: a Python program."""

    def __init__(self, text: str, **variables: str) -> None:
        self.words = (sys.executable, "-c", text)
        self.variables = variables


@pytest.fixture
def folder(tmp_path):
    return LaunchFolder(tmp_path / "run")


def supervise(folder: LaunchFolder, *programs: Program, **settings) -> tuple[int, LaunchState]:
    lock = folder.claim()
    try:
        plan = LaunchPlan(experiment=Path("a.py"), run=folder.run, **settings)
        return Supervisor(folder, plan, lock).run(programs), folder.state()
    finally:
        os.close(lock)


def test_processes_that_end_well_are_finished(folder):
    code, state = supervise(
        folder, Program("print('a')"), Program("import os; print(os.environ['B'])", B="b c")
    )
    assert (code, state.phase, state.exit_code) == (0, "finished", 0)
    assert folder.log(0).read_text() == "a\n"
    assert folder.log(1).read_text() == "b c\n"
    assert not folder.is_live()


def test_one_that_fails_stops_the_others_and_is_named(folder, monkeypatch):
    monkeypatch.setattr("irec_jax.launching.supervisor.PARTING_S", 0.3)
    start_time = time.monotonic()
    code, state = supervise(
        folder, Program(SAVES), Program("import sys; sys.exit(7)"), Program(NAP)
    )
    assert time.monotonic() - start_time < 20
    assert (code, state.phase) == (7, "failed")
    assert state.message.startswith("process 1 of 3 failed with 7; ")
    assert state.message.endswith("launch/process-1.log")
    assert folder.log(0).read_text() == "up\nsaved\n"


def test_the_cause_is_named_and_not_who_left_because_of_it(folder):
    lost = Program("import sys; sys.exit(75)")
    slow = Program("import sys, time; time.sleep(1); sys.exit(2)")
    code, state = supervise(folder, lost, slow)
    assert code == 2
    assert state.message.startswith("process 1 of 2 failed with 2")


def test_one_that_ignores_everything_is_killed_in_the_end(folder, monkeypatch):
    monkeypatch.setattr("irec_jax.launching.supervisor.PARTING_S", 0.3)
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {NAP}"
    code, state = supervise(folder, Program("import os; os.abort()"), Program(deaf))
    assert code == 128 + signal.SIGABRT
    assert "process 0 of 2 was killed by SIGABRT" in state.message


def test_a_limit_of_time_has_all_save(folder, monkeypatch):
    monkeypatch.setattr("irec_jax.launching.supervisor.MINUTE_S", 1)
    code, state = supervise(folder, Program(SAVES), Program(SAVES), time_limit=1)
    assert (code, state.phase) == (143, "stopped")
    assert "limit of 1 minutes" in state.message
    assert [folder.log(n).read_text() for n in (0, 1)] == ["up\nsaved\n"] * 2


def test_a_folder_is_claimed_once(folder):
    lock = folder.claim()
    with pytest.raises(InputError, match="`irec launch` is running there"):
        folder.claim()
    os.close(lock)
    os.close(folder.claim())


def test_what_vanished_without_a_word_has_failed(folder):
    lock = folder.claim()
    folder.save_state(LaunchState("running", here(), 1, (1,)))
    assert folder.state().phase == "running"
    os.close(lock)
    state = folder.state()
    assert (state.phase, state.exit_code) == ("failed", 1)


def test_a_launch_lives_as_long_as_any_of_its_processes(folder):
    """Its supervisor is killed outright; the process that it leaves behind holds the lock."""
    program = f"""
import os
from pathlib import Path
from irec_jax.launching.launch_folder import LaunchFolder
from irec_jax.launching.launch_plan import LaunchPlan
from irec_jax.launching.supervisor import Supervisor
class Program:
    words = ({sys.executable!r}, "-c", {SAVES!r})
    variables = {{}}
folder = LaunchFolder(Path({str(folder.run)!r}))
Supervisor(folder, LaunchPlan(Path("a.py"), folder.run), folder.claim()).run([Program()])
"""
    supervisor = subprocess.Popen([sys.executable, "-c", program])
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


def test_last_lines_are_the_last(tmp_path):
    path = tmp_path / "log"
    assert last_lines(path, 3) == []
    path.write_text("".join(f"line {n} {'x' * 200}\n" for n in range(1000)))
    assert [line.split()[1] for line in last_lines(path, 3)] == ["997", "998", "999"]
    assert last_lines(path, 0) == []


def test_a_damaged_state_is_told(folder):
    folder.folder.mkdir(parents=True)
    (folder.folder / "state.json").write_text(json.dumps({"phase": "resting"}))
    with pytest.raises(InputError, match="resting"):
        folder.state()


def wait_for(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
