"""Files of the working folder that are named like standard modules are never imported."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irec_jax.cli.main import main
from irec_jax.instruction_sets import store

ROOT = Path(__file__).parents[2]
MODULES = ("html", "json", "pickle", "socket", "token", "secrets")


@pytest.fixture
def folder(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose modules write a file when they are imported."""
    for name in MODULES:
        text = f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r})\nraise OSError\n"
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "small.py").write_text(config.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.mark.parametrize("target", ["local", "processes"])
def test_a_launch_imports_nothing_from_the_working_folder(folder: Path, target: str):
    arguments = ["launch", "small.py", "--on", target, "--out", "run", "--data.log", "nowhere"]
    command = [sys.executable, "-P", "-m", "irec_jax.cli.main", *arguments]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    state, deadline = {"phase": "running"}, time.monotonic() + 120
    while state["phase"] in ("starting", "running") and time.monotonic() < deadline:
        time.sleep(0.1)
        state = json.loads((folder / "run" / "launch" / "state.json").read_text())
    printed = (folder / "run" / "launch" / "process-0.log").read_text()
    assert not (folder / "imported").exists(), done.stderr
    # The run itself was reached: it refuses the log.
    assert "irec: error" in printed
    assert "nowhere" in printed
    assert state["exit_code"] == 2


def test_a_plan_imports_nothing_from_the_working_folder(folder: Path):
    arguments = ["plan", "small.py", "--topology", "local", "--programs", "score"]
    assert main(arguments) == 0
    assert not (folder / "imported").exists()


def test_workers_import_nothing_from_the_working_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store, "SHARD_RECORDS", 50)
    arguments = ["instruct", "small.py", "--records", "100", "--workers", "2", "--out", "set"]
    assert main(arguments) == 0
    assert not (folder / "imported").exists()
