"""irec tune as a process: a run, resuming, Ctrl-C, and refused settings."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from irec_jax.experiment.run_config import load_run
from irec_jax.model.params import abstract, count
from irec_jax.model.pretrained import load_hf
from irec_jax.training.checkpoint import load_params


@pytest.fixture(scope="module")
def environment(cached) -> dict[str, str]:
    """Environment variables for one device and a shared compilation cache."""
    return {**os.environ, **cached, "JAX_PLATFORMS": "cpu"}


def irec(environment, *words, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "irec_jax.cli.main", *map(str, words)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, **options
    )


@pytest.fixture(scope="module")
def run(config, environment, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    done = irec(environment, "tune", config, "--out", folder)
    assert done.returncode == 0, done.stderr
    assert "histories cut to 6 items" in done.stderr
    assert "histories cut to 6 items" in (folder / "log.txt").read_text()
    return folder


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics" / "steps.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_a_run_has_all_files_that_later_commands_need(run):
    for name in ("config.json", "catalog.parquet", "tokens", "checkpoints", "metrics", "log.txt"):
        assert (run / name).exists(), name
    assert len(losses(run)) == 6


def test_the_same_config_gives_the_same_losses(run, config, environment, tmp_path):
    words = ["--profile", "--train.device_price", "3600"]
    done = irec(environment, "tune", config, "--out", tmp_path / "again", *words)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "again") == losses(run)
    metrics = tmp_path / "again" / "metrics"
    assert list(metrics.glob("plugins/profile/*/*.xplane.pb"))
    last = json.loads((metrics / "intervals.jsonl").read_text().splitlines()[-1])
    assert last["dollars"] > 1, "the start of the program counts, at a dollar per second"


def test_ctrl_c_saves_and_exits_with_130_and_the_same_command_resumes(
    config, environment, tmp_path
):
    words = ["tune", config, "--out", tmp_path / "run", "--train.steps", "100000"]
    words += ["--train.checkpoint_every", "100000"]
    command = [sys.executable, "-m", "irec_jax.cli.main", *map(str, words)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    steps = tmp_path / "run" / "metrics" / "steps.jsonl"
    deadline = time.monotonic() + 240
    while not (steps.exists() and steps.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    saved = [int(folder.name) for folder in (tmp_path / "run" / "checkpoints").iterdir()]
    before = losses(tmp_path / "run")
    assert saved == [len(before)]
    more = str(len(before) + 3)
    done = irec(environment, *words[:4], "--train.steps", more)
    assert done.returncode == 0, done.stderr
    after = losses(tmp_path / "run")
    assert after[: len(before)] == before
    assert len(after) == len(before) + 3


@pytest.mark.slow  # its parts are tested in tests/batches/test_packed.py
def test_packed_rows_are_read_and_those_of_another_config_refused(config, environment, tmp_path):
    rows, run = tmp_path / "rows", tmp_path / "run"
    done = irec(environment, "instruct", config, "--packed", rows, "--records", 300)
    assert done.returncode == 0, done.stderr
    words = ["tune", config, "--out", run, "--train.packed", rows, "--train.read_threads", "2"]
    done = irec(environment, *words)
    assert done.returncode == 0, done.stderr
    assert "rows of 300 instructions" in done.stderr
    before = losses(run)
    assert len(before) == 6

    done = irec(environment, *words, "--train.steps", "8")
    assert done.returncode == 0, done.stderr
    whole = irec(environment, *[*words[:3], tmp_path / "whole", *words[4:], "--train.steps", "8"])
    assert whole.returncode == 0, whole.stderr
    assert losses(run)[:6] == before
    assert losses(run)[6:] == losses(tmp_path / "whole")[6:], "it reads on from where it stopped"

    other = irec(environment, *words, "--instructions.max_history", "5")
    assert other.returncode == 2
    assert "this run was started with instructions.max_history" in other.stderr
    words[3] = tmp_path / "other"
    other = irec(environment, *words, "--instructions.max_history", "5")
    assert other.returncode == 2
    assert "its rows were made with config.max_history = 6, not 5" in " ".join(other.stderr.split())
    # The packed rows are part of the run's fingerprint.
    other = irec(environment, "tune", config, "--out", run, "--train.steps", "9")
    assert other.returncode == 2
    assert "packed is" in other.stderr


def test_a_run_of_another_config_is_refused_and_unchanged(run, config, environment):
    before = losses(run)
    done = irec(environment, "tune", config, "--out", run, "--model.width", "32")
    assert done.returncode == 2
    assert "model.width = 16, not 32" in done.stderr
    assert "Traceback" not in done.stderr
    assert losses(run) == before


@pytest.mark.slow  # the parts are tested in tests/training/test_frozen.py and test_lora.py
def test_adapters_of_an_exported_run_are_tuned_resumed_and_merged(
    run, config, environment, tmp_path
):
    base, out = tmp_path / "base", tmp_path / "run"
    assert irec(environment, "export", run, "--out", base).returncode == 0
    words = ["tune", config, "--out", out, "--lora.rank", "2", "--optimizer.kind", "adamw"]
    words += ["--lora.whole", "^head$", "--train.title_share", "0"]
    words += ["--train.pretrained", base, "--tokens.tokenizer", base]
    done = irec(environment, *words)
    assert done.returncode == 0, done.stderr
    stderr = done.stderr.replace("\n", " ")
    model = load_run(out).model
    adapters, head = 6 * 2 * (16 + 16), 16 * model.vocabulary  # 2 x 3 attentions, rank 2
    trained = adapters + head
    share = trained / count(abstract(model))
    assert f"{trained:,} of them are trained ({share:.2%})" in stderr
    shutil.move(base, tmp_path / "taken away")
    done = irec(environment, *words, "--train.steps", 8)
    assert done.returncode == 0, done.stderr
    assert len(losses(out)) == 8
    merged = tmp_path / "merged"
    assert irec(environment, "export", out, "--out", merged).returncode == 0
    exported, first = load_hf(merged)[1], load_hf(tmp_path / "taken away")[1]
    jax.tree.map(np.testing.assert_array_equal, exported, load_params(out, model))
    same = jax.tree.map(np.array_equal, exported, first)
    assert same["embedding"]
    assert not same["head"]
    attention = same["encoder"]["layers"]["attention"]
    assert attention == {"key": True, "output": True, "query": False, "value": False}
    done = irec(environment, "recommend", out, "--instruction", "a gift", "--k", "2")
    assert done.returncode == 0, done.stderr


def test_titles_longer_than_the_target_are_cut_counted_and_unique(config, environment, tmp_path):
    words = ["--tokens.index", "title", "--tokens.max_item_tokens", "8", "--train.steps", "1"]
    done = irec(environment, "tune", config, "--out", tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr
    assert "titles cut to 8 tokens" in done.stderr
    names = json.loads((tmp_path / "run" / "tokens" / "index.json").read_text())["names"]
    assert len(set(names)) == len(names) > 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tune", "none.py"], "no such experiment file"),
        (["tune"], "EXPERIMENT"),
        (["tun", "x"], "Did you mean 'irec tune'"),
        (["evaluate", "nowhere"], "no config.json"),
        (["data", "prepar"], "Did you mean 'irec data prepare'"),
    ],
)
def test_a_wrong_command_ends_with_code_2(environment, words, message):
    done = irec(environment, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_key_and_an_impossible_value_end_with_code_2(config, environment):
    done = irec(environment, "tune", config, "--train.stepz", "3")
    assert (done.returncode, "--train.steps" in done.stderr) == (2, True)
    done = irec(environment, "tune", config, "--model.dropout", "2.0")
    assert (done.returncode, "model.dropout" in done.stderr) == (2, True)


def test_the_overview_and_the_version(environment):
    assert "irec quickstart" in irec(environment).stdout
    assert irec(environment, "--version").stdout.startswith("irec-jax ")


def test_ctrl_c_while_a_batch_is_packed_is_answered_at_once(config, environment, tmp_path):
    words = ["tune", config, "--out", tmp_path / "run", "--train.batch_size", 2**17]
    words += ["--train.accumulate", 2**12]
    command = [sys.executable, "-m", "irec_jax.cli.main", *map(str, words)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "log.txt"
    while process.poll() is None and not (log.exists() and "started at step 0" in log.read_text()):
        time.sleep(0.2)
    time.sleep(3)  # into a batch of 131,072 rows, which takes minutes
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 130, errors
    assert time.monotonic() - start < 20
    assert "stopped at step 0 of 6" in errors
    assert "Traceback" not in errors
