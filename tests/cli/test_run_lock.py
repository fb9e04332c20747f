"""The lock of a run folder: one tune or launch at a time; what becomes of one left behind."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irec_jax.cli.main import main
from irec_jax.run_lock import Holder, RunLock
from irec_jax.settings import to_json

NOWHERE = ("--data.log", "nowhere")
"""Ends `irec tune` right after it took the lock."""


@pytest.fixture
def run(tmp_path) -> Path:
    return tmp_path / "a run"


@pytest.fixture
def tune(config, run, capfd):
    """Calls `irec tune` and gives its exit code and what it printed."""

    def call(*words: str) -> tuple[int, str]:
        code = main(["tune", str(config), "--out", str(run), *words])
        return code, capfd.readouterr().err

    return call


@pytest.fixture(scope="module")
def environment(cached) -> dict[str, str]:
    return {**os.environ, **cached, "JAX_PLATFORMS": "cpu"}


def leave_lock(run: Path, **parts: object) -> Holder:
    """What a process leaves in a run folder when its machine is switched off."""
    defaults = {"command": "irec tune", "pid": 7, "started": "", "since": "2026-01-02T03:04:05"}
    holder = Holder(**{"host": "elsewhere", **defaults, **parts})
    run.mkdir(parents=True)
    (run / "lock.json").write_text(json.dumps(to_json(holder)))
    return holder


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def has_lock(run: Path) -> bool:
    path = run / "lock.json"
    return path.exists() and bool(path.read_text())


def test_a_second_tune_is_refused_and_the_lock_of_a_killed_one_is_taken(
    config, run, tune, environment, capfd
):
    words = ["tune", config, "--out", run, "--train.steps", "100000"]
    command = [sys.executable, "-m", "irec_jax.cli.main", *map(str, words)]
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: has_lock(run))
        since = json.loads((run / "lock.json").read_text())["since"]
        code, printed = tune()
        assert code == 2
        holder = f"`irec tune` is running there: process {first.pid} on {socket.gethostname()}"
        assert f"{holder}, since {since}" in printed
        assert f"kill {first.pid}" in printed
        assert tune("--take-over")[0] == 2, "not even so while it is alive"
        assert main(["launch", str(config), "--on", "local", "--out", str(run)]) == 2
        assert holder in capfd.readouterr().err
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    code, printed = tune(*NOWHERE)
    assert (code, "nowhere" in printed) == (2, True)
    assert "lock of `irec tune` was left behind by a dead process" in printed
    assert not (run / "lock.json").exists()


def test_the_lock_of_another_host_is_taken_only_on_request(run, tune, capfd):
    leave_lock(run)
    code, printed = tune(*NOWHERE)
    assert code == 2
    assert "is running there: process 7 on elsewhere, since 2026-01-02T03:04:05" in printed
    assert "Give --take-over" in printed
    assert main(["quickstart", "--out", str(run)]) == 2
    assert "process 7 on elsewhere" in capfd.readouterr().err
    code, printed = tune("--take-over", *NOWHERE)
    assert (code, "nowhere" in printed) == (2, True)
    assert "was taken over from process 7 on elsewhere" in printed
    assert not (run / "lock.json").exists()


@pytest.mark.parametrize("text", [b"\xff", b"[1]", b'{"host": 3}', b"{" * 70_000])
def test_a_damaged_lock_may_be_of_another_host(text, run, tune):
    run.mkdir()
    (run / "lock.json").write_bytes(text)
    code, printed = tune(*NOWHERE)
    assert code == 2
    assert "an unknown host" in printed
    assert "was taken over" in tune("--take-over", *NOWHERE)[1]


def test_without_locks_of_the_file_system_the_process_itself_is_looked_at(run, tune, monkeypatch):
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    RunLock(run).acquire("irec tune")
    code, printed = tune(*NOWHERE)
    assert code == 2
    assert f"is running there: process {os.getpid()} on" in printed
    path = run / "lock.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "started": "before"}))
    assert "left behind by a dead process" in tune(*NOWHERE)[1]


def test_an_interrupt_and_an_error_give_the_lock_back(run, tune, monkeypatch):
    assert tune(*NOWHERE)[0] == 2
    assert not run.exists(), "no run was started there"

    def interrupt(*_: object) -> None:
        assert (run / "lock.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("irec_jax.cli.tune.prepare", interrupt)
    assert tune()[0] == 130
    assert not run.exists()


def test_processes_of_a_launch_share_its_lock(config, run, capfd, environment, monkeypatch):
    leave_lock(run)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    words = ["launch", str(config), "--on", "processes", "--processes", "1", "--out", str(run)]
    assert main([*words, *NOWHERE]) == 2
    assert "Give --take-over" in capfd.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([*words, "--take-over", *NOWHERE])
    assert ended.value.code == 2
    printed = (run / "launch" / "process-0.log").read_text()
    assert "nowhere" in printed
    assert "running there" not in printed
    assert not (run / "lock.json").exists()


def test_processes_of_a_run_are_refused_together(config, run, environment):
    leave_lock(run)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    meeting = {"IREC_COORDINATOR": address, "IREC_PROCESSES": "2"}
    command = [sys.executable, "-m", "irec_jax.cli.main", "tune", str(config), "--out", str(run)]
    processes = [
        subprocess.Popen(
            command,
            env={**environment, **meeting, "IREC_PROCESS": str(number)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        printed = process.communicate(timeout=240)[1]
        assert process.returncode == 2, printed
        assert "process 7 on elsewhere" in printed


def test_a_reader_finds_a_holder_while_another_process_writes_itself_into_the_lock(
    run, monkeypatch
):
    lock = RunLock(run)
    file = lock.acquire("irec launch")
    found = []

    def write_and_look(*arguments: object) -> int:
        found.append(RunLock(run).holder())
        count = pwrite(*arguments)
        found.append(RunLock(run).holder())
        return count

    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", write_and_look)
    lock.adopt(file)  # as the supervisor of a launch does
    lock.release()
    assert len(found) == 2
    assert all(holder is not None and holder.command == "irec launch" for holder in found)
