"""A run notices a changed log, catalog, tokenizer or template pack."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from irec_jax.cli.main import main
from irec_jax.log.events import BehaviorLog

FILES = ["catalog.parquet", "tokens/index.npz", "packs/0.toml"]


@pytest.fixture(scope="module")
def log(tiny_log) -> BehaviorLog:
    return tiny_log


@pytest.fixture(scope="module")
def environment(cached) -> dict[str, str]:
    """One device, and compiled programs shared by all processes."""
    return {**os.environ, **cached, "JAX_PLATFORMS": "cpu"}


def tune_words(config: Path, run: Path, log: Path, steps: int) -> list[str]:
    words = ["--data.log", str(log), "--train.steps", str(steps)]
    return ["tune", str(config), "--out", str(run), *words]


def tune(environment: dict[str, str], *given) -> subprocess.CompletedProcess:
    """Trains in a process of its own: with one device it compiles in a fraction of the time."""
    command = [sys.executable, "-m", "irec_jax.cli.main", *tune_words(*given)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def trained(config, log, environment, tmp_path_factory) -> Path:
    """A folder with a log in `log`, and in `run` a run of two steps on it."""
    folder = tmp_path_factory.mktemp("trained")
    log.save(folder / "log")
    done = tune(environment, config, folder / "run", folder / "log", 2)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of both, whose run reads the log beside it."""
    copy = Path(shutil.copytree(trained, tmp_path / "copy"))
    path = copy / "run" / "config.json"
    settings = json.loads(path.read_text())
    settings["data"]["log"] = str(copy / "log")
    path.write_text(json.dumps(settings))
    return copy


def rename_an_item(log: BehaviorLog) -> BehaviorLog:
    title = pl.when(pl.col("item") == log.items["item"][0]).then(pl.lit("Another Thing"))
    return dataclasses.replace(
        log, items=log.items.with_columns(title.otherwise("title").alias("title"))
    )


def drop_an_event(log: BehaviorLog) -> BehaviorLog:
    return dataclasses.replace(log, interactions=log.interactions[:-1])


@pytest.mark.parametrize(
    ("change", "file"),
    [(rename_an_item, "items.parquet"), (drop_an_event, "interactions.parquet")],
)
def test_a_resumed_run_refuses_another_log_at_the_same_path(
    config, folder, log, capsys, change, file
):
    change(log).save(folder / "log")
    kept = (folder / "run" / "config.json").read_bytes()
    assert main(tune_words(config, folder / "run", folder / "log", 3)) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"the log's {file} is not the one that the run was started with" in error
    assert (folder / "run" / "config.json").read_bytes() == kept
    assert main(["evaluate", str(folder / "run"), "--max-requests", "2"]) == 2
    assert f"the log's {file}" in " ".join(capsys.readouterr().err.split())


def test_a_checkpoint_refuses_another_log_than_its_own(config, folder, log, environment):
    rename_an_item(log).save(folder / "log")
    other = folder / "other"
    done = tune(environment, config, other, folder / "log", 1)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(other / "checkpoints")
    shutil.move(folder / "run" / "checkpoints", other / "checkpoints")
    done = tune(environment, config, other, folder / "log", 3)
    assert done.returncode == 2
    assert "sources.log.items.parquet is" in " ".join(done.stderr.split())


def test_a_log_that_was_moved_is_accepted(config, folder, environment):
    (folder / "log").rename(folder / "moved")
    done = tune(environment, config, folder / "run", folder / "moved", 3)
    assert done.returncode == 0, done.stderr
    settings = json.loads((folder / "run" / "config.json").read_text())
    assert settings["data"]["log"] == str(folder / "moved")


def commands(config: Path, folder: Path) -> list[list[str]]:
    run = str(folder / "run")
    return [
        ["recommend", run, "--instruction", "a gift"],
        ["evaluate", run, "--max-requests", "2"],
        ["export", run, "--out", str(folder / "hf")],
        ["teach", str(config), "--by", "model", "--run", run, "--out", str(folder / "notes")],
        ["tune", str(config), "--out", run, "--data.log", str(folder / "log")],
    ]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_of_a_run_is_refused_by_name(config, folder, capsys, name):
    path = folder / "run" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for words in commands(config, folder):
        assert main(words) == 2, words
        error = "".join(capsys.readouterr().err.split())
        assert f"{path}:thefileisnotwhatwaswritten".replace(" ", "") in error, words
    assert not (folder / "hf").exists()
    assert not (folder / "notes").exists()


def test_missing_and_added_files_of_a_run_are_refused_by_name(config, folder, capsys):
    words = commands(config, folder)[0]
    (folder / "run" / "packs" / "0.toml").rename(folder / "run" / "packs" / "1.toml")
    assert main(words) == 2
    assert "0.toml: the file is missing" in " ".join(capsys.readouterr().err.split())
    shutil.copy(folder / "run" / "packs" / "1.toml", folder / "run" / "packs" / "0.toml")
    assert main(words) == 2
    assert "1.toml: the file is not part of the run" in " ".join(capsys.readouterr().err.split())
    (folder / "run" / "packs" / "1.toml").unlink()
    assert main(words) == 0
