"""irec launch as a process: in the background, on two processes, by SLURM, and its refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irec_jax.cli.main import main

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "launch"
ROWS = ["--train.batch_size"]
CLOUD = ["--topology", "v5e:4x4", "--spot", "--bucket", "my-bucket"]
MOVIES = ["configs/movietweetings_tiny.py", "--out", "runs/movietweetings_tiny"]
RENDERED = {
    "movietweetings-local.sh": ["--on", "local"],
    "movietweetings-processes.sh": ["--on", "processes", "--processes", "2", "--devices", "1"],
    "movietweetings.sbatch": [
        "--on",
        "slurm",
        "--processes",
        "2",
        "--devices",
        "8",
        "--time-limit",
        "240",
    ],
    "movietweetings-gke.yaml": [
        *("--on", "gke", *CLOUD, "--image"),
        "us-west4-docker.pkg.dev/my-project/irec/irec:0.1.0",
    ],
    "movietweetings-tpu-vm.sh": [
        *("--on", "tpu-vm", *CLOUD),
        *("--project", "my-project", "--zone", "us-west4-a"),
    ],
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory, cached) -> dict[str, str]:
    """One device, compiled programs that all processes share, and `irec` on the PATH."""
    programs = tmp_path_factory.mktemp("bin")
    irec = programs / "irec"
    irec.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m irec_jax.cli.main "$@"\n')
    irec.chmod(0o755)
    return {
        **os.environ,
        **cached,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "JAX_PLATFORMS": "cpu",
        "COLUMNS": "200",
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="module")
def irec(environment):
    def call(*arguments, **options) -> subprocess.CompletedProcess:
        options = {"timeout": 300, **options}
        return subprocess.run(
            ["irec", *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            **options,
        )

    return call


@pytest.fixture
def folder(irec, tmp_path):
    """A run folder in which nothing runs after the test."""
    yield tmp_path / "a run"
    irec("launch", "stop", tmp_path / "a run")


@pytest.fixture(scope="module")
def losses(config, irec, tmp_path_factory):
    """Losses of the run by `irec tune`."""
    run = tmp_path_factory.mktemp("tuned") / "run"
    done = irec("tune", config, "--out", run)
    assert done.returncode == 0, done.stderr
    return losses_of(run)


def losses_of(run: Path) -> list[float]:
    lines = (run / "metrics" / "steps.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_training(run: Path) -> bool:
    steps = run / "metrics" / "steps.jsonl"
    return steps.exists() and bool(steps.read_text())


def phase(run: Path) -> str:
    return json.loads((run / "launch" / "state.json").read_text())["phase"]


def test_a_run_in_the_background_is_shown_stopped_and_resumed(config, irec, losses, folder):
    run = folder
    # Long enough to be stopped in the middle.
    arguments = ("launch", config, "--on", "local", "--out", run, "--train.steps", 100_000)
    start_time = irec(*arguments)
    assert start_time.returncode == 0, start_time.stderr
    assert "irec launch status " in start_time.stdout
    wait_for(lambda: is_training(run))

    status = irec("launch", "status", run)
    assert status.returncode == 0
    assert f"{run}: running" in status.stdout
    assert " loss=" in status.stdout  # the last lines of its log

    again = irec(*arguments)
    assert again.returncode == 2
    assert "`irec launch` is running there" in again.stderr
    assert "Traceback" not in again.stderr

    stopped = irec("launch", "stop", run)
    assert stopped.returncode == 0, stopped.stderr
    assert "sent SIGTERM to 1 process (" in stopped.stderr
    assert f"{run}: stopped: saved after SIGTERM" in stopped.stdout
    assert "stopped and saved at step" in (run / "log.txt").read_text()
    done = len(losses_of(run))
    assert irec("launch", "stop", run).stdout.splitlines()[0] == stopped.stdout.splitlines()[0]

    arguments = (*arguments[:-1], done + 2)
    assert irec(*arguments).returncode == 0
    wait_for(lambda: phase(run) != "running")
    assert phase(run) == "finished"
    assert f"resumed at step {done}" in (run / "log.txt").read_text()
    assert len(losses_of(run)) == done + 2
    assert losses_of(run)[0] == losses[0]


def test_a_run_that_fails_in_the_background_reports_the_reason(config, irec, folder, tmp_path):
    run = folder
    arguments = (
        "launch",
        config,
        "--on",
        "local",
        "--out",
        run,
        "--data.log",
        tmp_path / "nowhere",
    )
    assert irec(*arguments).returncode == 0
    wait_for(lambda: phase(run) != "running")
    status = irec("launch", "status", run)
    assert status.returncode == 1
    assert "failed: process 0 of 1 failed with exit code 2" in status.stdout
    assert "nowhere" in status.stdout
    assert "irec: error" in status.stdout


def test_two_processes_train_as_one(config, irec, losses, folder):
    run = folder
    done = irec("launch", config, "--on", "processes", "--devices", 2, "--out", run)
    assert done.returncode == 0, done.stderr
    assert f"{run}: finished" in done.stdout
    assert losses_of(run) == pytest.approx(losses, rel=1e-5)
    assert "tune: 6/6 steps" in done.stderr  # the output of process 0
    assert "tune: 6/6 steps" not in (run / "launch" / "process-1.log").read_text()


@pytest.mark.slow  # tests/launching/test_local.py tests the same with small programs
def test_a_killed_process_ends_the_launch(config, environment, folder):
    run = folder
    arguments = ["launch", config, "--on", "processes", "--out", run, "--train.steps", "100000"]
    launch = subprocess.Popen(
        ["irec", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    wait_for(lambda: is_training(run))
    state = json.loads((run / "launch" / "state.json").read_text())
    os.kill(state["processes"][1], signal.SIGKILL)
    printed, _ = launch.communicate(timeout=120)
    assert launch.returncode == 137
    assert "failed: process 1 of 2 was killed by SIGKILL" in printed


def test_a_signal_reaches_all_processes(config, environment, folder):
    run = folder
    arguments = ["launch", config, "--on", "processes", "--out", run, "--train.steps", "100000"]
    launch = subprocess.Popen(
        ["irec", *map(str, arguments)], env=environment, stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: is_training(run))
    launch.send_signal(signal.SIGINT)
    printed, _ = launch.communicate(timeout=120)
    assert launch.returncode == 130
    assert "stopped: saved after SIGINT" in printed
    assert "stopped and saved at step" in (run / "log.txt").read_text()


SRUN = """#!/bin/bash
# Like SLURM's: a task per node, signals forwarded, the highest exit code.
while [[ $1 == --* ]]; do shift; done
for number in $(seq 0 $((SLURM_NTASKS - 1))); do
  SLURM_PROCID=$number "$@" & tasks+=($!)
done
trap 'signaled=1; kill -TERM "${tasks[@]}"' TERM
most=0
for task in "${tasks[@]}"; do
  signaled=1
  while [ "$signaled" = 1 ]; do signaled=0; wait "$task"; code=$?; done
  [ "$code" -gt "$most" ] && most=$code
done
exit "$most"
"""
SCONTROL = """#!/bin/sh
case $1 in
  show) echo localhost; echo elsewhere ;;
  requeue) echo "$2" >> requeued ;;
esac
"""


@pytest.mark.slow
def test_a_slurm_job_saves_before_the_limit_and_resumes(
    config, irec, environment, losses, tmp_path
):
    """The script is the one that is submitted; srun and scontrol are fakes."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    job = {
        **environment,
        "PATH": f"{tmp_path}:{environment['PATH']}",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NODELIST": "node[1-2]",
    }
    arguments = ["launch", config, "--on", "slurm", "--processes", 2, "--out", "a run"]
    arguments += ["--environment", "IREC_TEST=it's $me", "--train.steps", 100_000]
    script = irec(*arguments, "--dry-run", cwd=tmp_path)
    assert script.returncode == 0, script.stderr
    (tmp_path / "job").write_text(script.stdout)

    def run(**variables):
        return subprocess.Popen(
            ["bash", "job"], cwd=tmp_path, env={**job, **variables}, stderr=subprocess.PIPE
        )

    first = run()
    wait_for(lambda: is_training(tmp_path / "a run"))
    first.send_signal(signal.SIGTERM)
    _, printed = first.communicate(timeout=120)
    assert first.returncode == 143, printed
    assert (tmp_path / "requeued").read_text().split() == [job["SLURM_JOB_ID"]]
    done = len(losses_of(tmp_path / "a run"))
    assert losses_of(tmp_path / "a run")[0] == pytest.approx(losses[0], rel=1e-5)

    (tmp_path / "job").write_text(script.stdout.replace("100000", str(done + 2)))
    last = run(SLURM_RESTART_COUNT="1")
    _, printed = last.communicate(timeout=120)
    assert last.returncode == 0, printed
    assert len(losses_of(tmp_path / "a run")) == done + 2


@pytest.mark.parametrize(
    ("code", "restarts", "requeued"),
    [(0, 0, False), (2, 0, False), (75, 0, True), (137, 99, True), (1, 100, False)],
)
def test_a_slurm_job_is_requeued_unless_a_restart_would_end_the_same(
    code, restarts, requeued, environment, tmp_path
):
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    script = (GOLDEN / "movietweetings.sbatch").read_text()
    tune = f"sh -c 'echo \"$@\" > words; exit {code}'"
    (tmp_path / "job").write_text(script.replace("irec tune", tune))
    job = {
        **environment,
        "PATH": f"{tmp_path}:{environment['PATH']}",
        **{"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_RESTART_COUNT": str(restarts)},
    }
    done = subprocess.run(["bash", "job"], cwd=tmp_path, env=job, check=False)
    assert done.returncode == code
    assert (tmp_path / "requeued").exists() == requeued
    # A requeued job may be on other nodes than the attempt whose lock it finds.
    assert (tmp_path / "words").read_text().strip().endswith("--take-over") == (restarts > 0)


@pytest.mark.parametrize("name", RENDERED)
def test_the_command_renders_the_job_files(name, irec):
    """After an intended change, write the output of the command in the second line to the file."""
    done = irec("launch", *MOVIES, *RENDERED[name], "--dry-run", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", [name for name in RENDERED if not name.endswith(".yaml")])
def test_bash_parses_the_job_files(name):
    subprocess.run(["bash", "-n", GOLDEN / name], check=True)


PACK = "irec instruct configs/small.py --packed sets/rows --train.packed sets/rows"


@pytest.mark.parametrize(
    ("words", "later"),
    [
        (["--on", "local"], "irec tune"),
        (["--on", "processes"], "irec tune"),
        (["--on", "slurm"], "irec tune"),
        (["--on", "gke", *CLOUD, "--image", "an/image:1"], "gcloud storage rsync sets/rows"),
        (
            ["--on", "tpu-vm", *CLOUD, "--project", "p", "--zone", "us-west4-a"],
            "gcloud storage rsync sets/rows",
        ),
    ],
    ids=lambda words: words[1] if isinstance(words, list) else "",
)
def test_a_job_makes_packed_rows_before_it_needs_them(
    words, later, config, tmp_path, monkeypatch, capsys
):
    (tmp_path / "configs").mkdir()
    shutil.copy(config, tmp_path / "configs" / "small.py")
    monkeypatch.chdir(tmp_path)
    given = ["launch", "configs/small.py", *words, "--dry-run", "--train.packed", "sets/rows"]
    assert main([*given, "--train.batch_size", "16"]) == 0
    script = capsys.readouterr().out
    assert script.count(PACK) == 1
    assert script.index(PACK) < script.index(later)
    assert main([*given[:-2], "--train.batch_size", "16"]) == 0
    assert "irec instruct" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "called", "requeued"),
    [(0, "instruct tune", False), (2, "instruct", False), (143, "instruct", True)],
)
def test_a_slurm_job_without_its_packed_rows_does_not_train(
    code, called, requeued, config, environment, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = ["launch", str(config), "--on", "slurm", "--dry-run", "--train.packed", "rows"]
    assert main(words) == 0
    (tmp_path / "job").write_text(capsys.readouterr().out)
    stub = f"#!/bin/sh\necho $1 >> calls\n[ $1 = tune ] || exit {code}\n"
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("irec", stub)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    job = {
        **environment,
        "PATH": f"{tmp_path}:{environment['PATH']}",
        **{"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "node1"},
    }
    done = subprocess.run(["bash", "job"], cwd=tmp_path, env=job, check=False)
    assert done.returncode == code
    assert " ".join((tmp_path / "calls").read_text().split()) == called
    assert (tmp_path / "requeued").exists() == requeued


def test_a_launch_makes_its_packed_rows_once(config, irec, folder, tmp_path):
    rows = tmp_path / "rows"
    words = ["launch", config, "--on", "processes", "--processes", 1, "--out", folder]
    words += ["--train.packed", rows, "--train.steps"]
    first = irec(*words, 2)
    assert first.returncode == 0, first.stderr
    assert f"Wrote {rows}" in first.stdout
    made = {path: path.stat().st_mtime_ns for path in rows.iterdir()}
    again = irec(*words, 3)
    assert again.returncode == 0, again.stderr
    assert f"Found {rows}" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in rows.iterdir()} == made
    assert len(losses_of(folder)) == 3


def test_nothing_is_submitted_without_the_flag(config, irec, environment, tmp_path):
    (tmp_path / "configs").mkdir()
    shutil.copy(config, tmp_path / "configs")
    sbatch = tmp_path / "sbatch"
    sbatch.write_text('#!/bin/sh\necho "$@" > submitted\n')
    arguments = ["launch", "configs/small.py", "--on", "slurm"]
    done = irec(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = "runs/small/launch/small-slurm.sbatch"
    assert f"Nothing was submitted. To submit it: sbatch {path}" in done.stdout
    assert (tmp_path / path).read_text().startswith("#!/usr/bin/env bash")

    missing = irec(*arguments, "--submit", cwd=tmp_path)
    assert missing.returncode == 2
    assert "sbatch is not installed" in missing.stderr

    sbatch.chmod(0o755)
    here = {**environment, "PATH": f"{tmp_path}:{environment['PATH']}"}
    subprocess.run(["irec", *arguments, "--submit"], cwd=tmp_path, env=here, check=True)
    assert (tmp_path / "submitted").read_text().split() == [path]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["configs/none.py", "--on", "local"], "there is no such experiment file"),
        ([*MOVIES, "--on", "moon"], "moon"),
        (
            [*MOVIES, "--on", "local", "--topology", "v5e:4x4"],
            "--topology: the target local has no such flag\n  Hint: Remove it; gke, tpu-vm",
        ),
        ([*MOVIES, "--on", "slurm", "--image=x"], "--image: the target slurm has no such flag"),
        ([*MOVIES, "--on", "local", "--submit"], "nothing to submit"),
        ([*MOVIES, "--on", "gke", *CLOUD], "--image"),
        ([*MOVIES, *RENDERED["movietweetings-tpu-vm.sh"], *ROWS, "20"], "--train.batch_size 16"),
        ([*MOVIES, "--on", "processes", "--devices", "3"], "train.batch_size"),
        ([*MOVIES, "--on", "local", "--train.stepz", "3"], "stepz"),
        (["status", "runs/none"], "there is no launch in this folder"),
        (["stop", "runs/none"], "there is no launch in this folder"),
    ],
)
def test_bad_input_is_reported_in_one_message(arguments, message, irec):
    done = irec("launch", *arguments, cwd=ROOT)
    assert done.returncode == 2
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_help_shows_only_the_flags_of_the_target(irec):
    shown = irec("launch", *MOVIES, "--on", "slurm", "--help", cwd=ROOT).stdout
    assert "--partition" in shown
    assert "--image" not in shown
    shown = irec("launch", "--help", cwd=ROOT).stdout
    assert "--on TARGET" in shown
    assert "--partition" not in shown
