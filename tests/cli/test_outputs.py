"""Folders that commands replace: which are refused, and what a kill or a full disk leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from irec_jax.cli.main import main

from .test_data import irec, refused, write

SMALL = ("--simulate.users", "40", "--simulate.items", "100")
PREPARE = ("data", "prepare", "simulated", *SMALL, "--out")
COMMANDS = {
    "prepare": (*PREPARE,),
    "export": ("export", "runs/none", "--out"),
    "teach": ("teach", "CONFIG", "--by", "model", "--run", "runs/none", "--out"),
    "instruct": ("instruct", "CONFIG", "--records", "8", "--out"),
    "packed": ("instruct", "CONFIG", "--records", "8", "--packed"),
    "tune": ("tune", "CONFIG", "--out"),
    "quickstart": ("quickstart", "--out"),
    "launch": ("launch", "CONFIG", "--on", "local", "--dry-run", "--out"),
}
KILLED = """
import os, runpy, signal
def killed(*_): os.kill(os.getpid(), signal.SIGKILL)
{patch}
runpy.run_module("irec_jax.cli.main", run_name="__main__")
"""


def seen(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def kill(patch: str, *words) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(patch=patch), *map(str, words)],
        capture_output=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("out", ["", ".", "/", "..", "~", "~/.."])
def test_the_current_folder_home_and_their_parents_are_refused(
    command, out, config, tmp_path, monkeypatch, capsys
):
    home, work = tmp_path / "home" / "me", tmp_path / "work" / "here"
    for folder in (home, work):
        folder.mkdir(parents=True)
        (folder / "thesis.txt").write_text("years of work")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    before = seen(tmp_path)
    words = [str(config) if word == "CONFIG" else word for word in COMMANDS[command]]
    more = ["--overwrite"] if command == "prepare" else []
    assert main([*words, out.replace("~", str(home)), *more]) == 2
    error = capsys.readouterr().err
    assert "folder, or holds it" in error
    assert "Name a new folder with --out." in error
    assert seen(tmp_path) == before


def test_a_log_does_not_become_a_run(config, tmp_path, capsys):
    log = tmp_path / "log"
    assert main([*PREPARE, str(log)]) == 0
    before = seen(log)
    for words in (["tune", str(config)], ["quickstart"]):
        assert main([*words, "--out", str(log)]) == 2
        assert "this is the folder of a behavior log" in capsys.readouterr().err
    assert seen(log) == before


@pytest.mark.parametrize("name", ["v[1]", "a*", "a?", "a\\b"])
def test_a_run_is_refused_where_its_checkpoints_could_not_be_read(name, config, tmp_path, capsys):
    for run in (tmp_path / name, tmp_path / name / "run"):
        for words in (["tune", str(config)], ["quickstart"]):
            assert main([*words, "--out", str(run)]) == 2
            assert "checkpoints cannot be saved there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_empty_instruction_is_refused_before_the_training(tmp_path, capsys):
    assert main(["quickstart", "--out", str(tmp_path / "run"), "--instruction", " "]) == 2
    assert "--instruction: the instruction is empty" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_loop_of_links_is_one_message(config, tmp_path, capsys):
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    for words in ([*PREPARE, str(loop)], ["tune", str(config), "--out", str(loop / "run")]):
        assert main(words) == 2
        assert "loop" in capsys.readouterr().err


def test_a_folder_of_transformers_is_no_export(tmp_path, capsys):
    model = tmp_path / "t5-small"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / name).write_text("downloaded")
    assert main(["export", str(tmp_path / "run"), "--out", str(model)]) == 2
    assert "not an export: config.json" in capsys.readouterr().err
    assert len(seen(model)) == 2


def test_texts_and_logs_do_not_replace_each_other(config, tmp_path, capsys):
    log = tmp_path / "log"
    assert main([*PREPARE, str(log)]) == 0
    words = ["teach", str(config), "--by", "model", "--run", str(tmp_path), "--out", str(log)]
    assert main(words) == 2
    assert "not teacher texts: interactions.parquet" in capsys.readouterr().err


def test_a_kill_between_the_renames_leaves_the_old_log(tmp_path):
    log = tmp_path / "log"
    assert main([*PREPARE, str(log)]) == 0
    before = seen(log)
    patch = """
real = os.replace
def replace(old, new):
    real(old, new)
    if str(new).endswith(".old"): killed()
os.replace = replace
"""
    for reader in (False, True):
        kill(patch, *PREPARE, log, "--simulate.seed", "1")
        assert not log.exists()
        if reader:
            answer = irec("data", "describe", log)
            assert answer.returncode == 0, answer.stderr
        else:
            refused(irec("data", "prepare", "table", tmp_path / "none", "--out", log), "none")
        assert seen(log) == before
        assert os.listdir(tmp_path) == ["log"]


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    log = tmp_path / "log"
    source = write(tmp_path / "raw")
    words = ("data", "prepare", "table", source, "--out", log)
    kill("import polars\npolars.DataFrame.write_parquet = killed", *words)
    assert len(os.listdir(tmp_path)) == 2
    (left,) = set(os.listdir(tmp_path)) - {"raw"}
    others = [left.replace("-", "-elsewhere-", 1), f".log.{os.uname().nodename}-{os.getpid()}-abc"]
    for name in others:  # of another host, and of a process that lives
        (tmp_path / name).mkdir()
    answer = irec(*words)
    assert answer.returncode == 0, answer.stderr
    assert sorted(os.listdir(tmp_path)) == sorted(["log", "raw", *others])

    draw = ("data", "describe", log, "--picture", log / "description.svg")
    kill("import irec_jax.cli.data as d\nos.fsync = killed", *draw)
    assert len([name for name in os.listdir(log) if name.startswith(".")]) == 1
    assert irec(*draw).returncode == 0
    assert not [name for name in os.listdir(log) if name.startswith(".")]


def test_what_a_killed_instruct_left_is_removed_by_the_next(config, tmp_path):
    words = ["instruct", str(config), "--records", "8", "--out", str(tmp_path / "set")]
    patch = "import irec_jax.instruction_sets.store as s\ns.write_sample = killed"
    kill(patch, *words)
    assert os.listdir(tmp_path) == [".set.partial"]
    assert main(words) == 0
    assert os.listdir(tmp_path) == ["set"]
    assert not [name for name in os.listdir(tmp_path / "set") if name.startswith(".")]


def test_only_a_failed_write_says_that_the_old_is_unchanged(tmp_path, capsys):
    assert main(["data", "describe", "x" * 300]) == 2
    error = capsys.readouterr().err
    assert "File name too long" in error
    assert "unchanged" not in error
    log = tmp_path / "log"
    assert main([*PREPARE, str(log)]) == 0
    picture = log / "description.svg"
    answer = irec("data", "describe", log, "--picture", picture, limit=100)
    assert answer.returncode == 2
    assert f"the disk is full ({picture}). What was there before is unchanged." in answer.stderr
    assert not picture.exists()


def test_a_link_to_a_log_stays_a_link(tmp_path):
    real, link = tmp_path / "disk" / "log", tmp_path / "log"
    assert main([*PREPARE, str(real)]) == 0
    link.symlink_to(real)
    assert main([*PREPARE, str(link), "--simulate.seed", "1"]) == 0
    assert link.is_symlink()
    manifest = json.loads((real / "manifest.json").read_text())
    assert manifest["settings"]["simulate"]["seed"] == 1
    shutil.rmtree(real)
