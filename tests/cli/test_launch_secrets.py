"""Values of `irec launch --environment`: stored in a private job file and nowhere else."""

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from irec_jax.cli.main import main

ROOT = Path(__file__).parents[2]
SECRET = "hunter2 $(A) $$(B) $$ $c $"
CLOUD = ["--topology", "v5e:2x4", "--bucket", "my-bucket"]
JOBS = {
    "slurm": [],
    "gke": [*CLOUD, "--image", "eu.gcr.io/p/irec:1"],
    "tpu-vm": [*CLOUD, "--project", "p", "--zone", "us-west4-a"],
}


@pytest.fixture
def folder(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "small.py").write_text(config.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def arguments(target: str, *more: str) -> list[str]:
    return ["launch", "small.py", "--on", target, "--out", "run", *JOBS.get(target, []), *more]


def expand(text: str) -> str:
    """Expands an argument of `command` or a value of `env` by the rules of Kubernetes."""
    return re.sub(r"\$(\$|\((\w+)\))", lambda m: "$" if m[1] == "$" else f"<{m[2]}>", text)


@pytest.mark.parametrize("target", JOBS)
def test_a_job_file_with_values_is_private_and_holds_them_once(
    target: str, folder: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(arguments(target, "--environment", f"TOKEN={SECRET}", "B=2")) == 0
    (path,) = (folder / "run" / "launch").iterdir()
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert text.count("hunter2") == 1
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert any("--environment 'TOKEN=***' 'B=***'" in line for line in comments)
    assert not any("hunter2" in line for line in comments)
    assert "hunter2" not in "".join(capsys.readouterr())

    assert main(arguments(target)) == 0
    assert path.stat().st_mode & 0o777 == 0o644


def test_kubernetes_reads_every_dollar_sign_as_given(folder: Path):
    more = ["--environment", f"TOKEN={SECRET}", "--data.log", "data/$$x $(B) $$(C) $"]
    assert main(arguments("gke", *more)) == 0
    (path,) = (folder / "run" / "launch").iterdir()
    (job,) = yaml.safe_load(path.read_text())["spec"]["replicatedJobs"]
    (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
    values = {entry["name"]: expand(entry["value"]) for entry in container["env"]}
    assert values == {"TOKEN": SECRET}
    command = [expand(word) for word in container["command"]]
    assert command == ["irec", "tune", "small.py", "--out", "run", "--take-over", *more[2:]]


def test_a_terminal_does_not_show_the_values(folder: Path):
    command = [sys.executable, "-P", "-m", "irec_jax.cli.main"]
    command += arguments("slurm", "--dry-run", "--environment", f"TOKEN={SECRET}")
    piped = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert piped.stdout.count("hunter2") == 1
    terminal, program_side = pty.openpty()
    subprocess.run(command, stdout=program_side, timeout=60, check=True)
    os.close(program_side)
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:
        pass  # on Linux: the other side is closed
    os.close(terminal)
    assert b"export TOKEN='***'" in shown
    assert b"hunter2" not in shown


@pytest.mark.parametrize("target", ["local", "processes"])
def test_processes_receive_the_values_and_no_file_holds_them(target: str, folder: Path):
    config = folder / "small.py"
    config.write_text(
        "import os, sys\n"
        f"if os.environ.get('TOKEN') == {SECRET!r}:\n    print('the value is there')\n"
        + config.read_text()
    )
    command = [sys.executable, "-P", "-m", "irec_jax.cli.main"]
    command += arguments(target, "--environment", f"TOKEN={SECRET}", "--data.log", "nowhere")
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    launch = folder / "run" / "launch"
    phase, deadline = "running", time.monotonic() + 120
    while phase in ("starting", "running") and time.monotonic() < deadline:
        time.sleep(0.1)
        phase = json.loads((launch / "state.json").read_text())["phase"]
    assert "the value is there" in (launch / "process-0.log").read_text()
    stored = json.loads((launch / "plan.json").read_text())
    assert stored["plan"]["environment"] == ["TOKEN=***"]
    assert "hunter2" not in done.stdout + done.stderr
    for path in folder.rglob("*"):
        assert path == config or not path.is_file() or b"hunter2" not in path.read_bytes(), path


@pytest.mark.parametrize("entry", ["TOKEN=hunter2\n", "hunter2", "TO KEN=hunter2"])
def test_a_malformed_entry_is_not_printed(
    entry: str, folder: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(arguments("slurm", "--environment", entry)) == 2
    printed = "".join(capsys.readouterr())
    assert "--environment: " in printed
    assert "hunter2" not in printed
