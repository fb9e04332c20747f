"""Mistakes of the first hour: each gives one error with the key and what to change."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from irec_jax.cli.main import main

CONFIG = """from irec_jax import DataConfig, Experiment, InstructionsConfig, T5Config, TokensConfig
from irec_jax import TrainConfig

experiment = Experiment(
    data=DataConfig(log="shop", core=1),
    instructions=InstructionsConfig(tasks=["sequential_recommendation"], max_history=6),
    tokens=TokensConfig(vocabulary=512, source_length=64, target_length=16),
    model=T5Config(width=16, head_dim=8, heads=2, mlp_dim=32, encoder_layers=1),
    train=TrainConfig(steps=4, batch_size=8),
)
"""

IN_THE_FILE = {
    # what is written -> what is written instead, the key or name, the fix
    "a misspelled task": (
        '"sequential_recommendation"',
        '"sequental_recommendation"',
        "first.py:6: instructions.tasks",
        "Did you mean 'sequential_recommendation'?",
    ),
    "a misspelled index": (
        "vocabulary=512",
        'vocabulary=512, index="titel"',
        "tokens.index",
        "Did you mean 'title'?",
    ),
    "a misspelled setting": ("steps=4", "step=4", "'step'", "Did you mean 'steps'?"),
    "a misspelled section": ("model=T5", "modle=T5", "'modle'", "Did you mean 'model'?"),
    "a setting in another section": (
        "steps=4",
        "steps=4, dropout=0.1",
        "'dropout'",
        "It is a setting of T5Config: model.dropout.",
    ),
    "a misspelled preset": (
        "T5Config(width",
        "T5Config.tinny(width",
        "'tinny'",
        "Did you mean 'tiny'?",
    ),
    "an unknown size": (
        "T5Config(width=16, head_dim=8, heads=2, mlp_dim=32, encoder_layers=1)",
        'T5Config.flan("xll")',
        "T5Config.flan",
        "Did you mean 'xl'?",
    ),
    "a missing import": (
        "from irec_jax import TrainConfig\n",
        "",
        "'TrainConfig'",
        "from irec_jax import TrainConfig.",
    ),
    "a misspelled import": (
        "import TrainConfig",
        "import TrainConfg",
        "'TrainConfg'",
        "Did you mean 'TrainConfig'?",
    ),
    "a misspelled class": (
        "=DataConfig(",
        "=DataConf(",
        "'DataConf'",
        "Did you mean 'DataConfig'?",
    ),
    "a missing bracket": ("batch_size=8),", "batch_size=8,", "first.py:", "Close every bracket"),
    "a text for a number": ("steps=4", 'steps="4"', "train.steps", "expected int, got '4'"),
    "a number for a text": ('log="shop"', "log=7", "data.log", "expected str"),
    "a part for a number": ("core=1", "core=0.5", "data.core", "expected int"),
    "one task for a list": (
        '["sequential_recommendation"]',
        '"sequential_recommendation"',
        "instructions.tasks",
        "expected a list",
    ),
    "a number out of bounds": (
        "batch_size=8",
        "batch_size=0",
        "train.batch_size",
        "must be between 1 and",
    ),
    "another name than experiment": (
        "experiment = ",
        "config = ",
        "first.py",
        "End the file with `experiment = Experiment(...)`",
    ),
    "a log that is not there": ('"shop"', '"shpo"', "shpo", "irec data prepare"),
    "search without queries": (
        '"sequential_recommendation"',
        '"product_search"',
        "instructions.tasks",
        "Leave out product_search",
    ),
    "weights that are not there": (
        "steps=4",
        'steps=4, pretrained="flan-t5-xl"',
        "flan-t5-xl",
        "config.json",
    ),
    "a row that no device divides": (
        "train=Train",
        "mesh=MeshConfig(data=3),\n    train=Train",
        "'MeshConfig'",
        "from irec_jax import MeshConfig.",
    ),
}

ON_THE_COMMAND_LINE = {
    "a misspelled command": (["tun", "first.py"], "'tun'", "Did you mean 'irec tune'?"),
    "a misspelled file": (["tune", "frist.py"], "frist.py", "Python config file"),
    "a misspelled flag": (["tune", "first.py", "--train.stepz", "3"], "--train.stepz", "steps"),
    "evaluating a config": (["evaluate", "first.py"], "first.py", "irec tune"),
    "recommending without a request": (
        ["recommend", "runs/none", "--history", "i1"],
        "runs/none",
        "irec tune",
    ),
    "describing a table": (["data", "describe", "items.csv"], "items.csv", "irec data prepare"),
    "one run to compare": (["compare", "runs/none"], "RUN", "two or more runs"),
}


RUNNER = """
import contextlib, io, json, sys
from irec_jax.cli.main import main

answers = {}
for name, (text, arguments) in json.load(open("mistakes.json")).items():
    open("first.py", "w").write(text)
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code
    answers[name] = code, error.getvalue()
json.dump(answers, open("answers.json", "w"))
"""
"""Makes all mistakes in one process, in which no test checks types before the program does."""


@pytest.fixture(scope="module")
def answers(tiny_log, tmp_path_factory, cached) -> dict[str, tuple[int, str]]:
    """Exit code and errors of each mistake, in a folder with a log without queries."""
    folder = tmp_path_factory.mktemp("mistakes")
    events = tiny_log.interactions.drop("query", "intention", strict=False)
    type(tiny_log)(tiny_log.items, events, tiny_log.manifest).save(folder / "shop")
    (folder / "items.csv").write_text("item,title\n")
    mistakes = {}
    for name, (written, instead, _, _) in IN_THE_FILE.items():
        assert written in CONFIG
        mistakes[name] = CONFIG.replace(written, instead, 1), ["tune", "first.py"]
    mistakes |= {name: (CONFIG, words) for name, (words, _, _) in ON_THE_COMMAND_LINE.items()}
    assert len(mistakes) == len(IN_THE_FILE) + len(ON_THE_COMMAND_LINE)
    (folder / "mistakes.json").write_text(json.dumps(mistakes))
    environment = {**os.environ, **cached, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.rglob("checkpoints"))
    return json.loads((folder / "answers.json").read_text())


def one_line(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("name", [*IN_THE_FILE, *ON_THE_COMMAND_LINE])
def test_a_mistake_gives_one_error_with_the_key_and_the_fix(name, answers):
    *_, key, fix = {**IN_THE_FILE, **ON_THE_COMMAND_LINE}[name]
    code, error = answers[name]
    assert code == 2
    assert "Traceback" not in error
    assert error.count("irec: error:") <= 1
    assert key in one_line(error), error
    assert fix in one_line(error), error


def printed_error(capsys, arguments: list[str]) -> str:
    """What a command that must fail with exit code 2 writes to standard error, on one line."""
    assert main(arguments) == 2
    return one_line(capsys.readouterr().err)


def test_there_are_twenty_five_mistakes():
    assert len(IN_THE_FILE) + len(ON_THE_COMMAND_LINE) >= 25


@pytest.fixture(scope="module")
def tuned(tiny_log, tiny_config, tmp_path_factory) -> Path:
    """A folder with a log, a config and a run of two steps."""
    folder = tmp_path_factory.mktemp("tuned")
    tiny_log.save(folder / "shop")
    shutil.copy(tiny_config, folder / "first.py")
    words = ["--data.log", str(folder / "shop"), "--train.steps", "2"]
    run = str(folder / "runs" / "first")
    assert main(["tune", str(folder / "first.py"), "--out", run, *words]) == 0
    return folder


@pytest.fixture
def moved(tuned, tmp_path) -> Path:
    """The same run in another folder, whose log has gone."""
    shutil.copytree(tuned / "runs" / "first", tmp_path / "first")
    config = tmp_path / "first" / "config.json"
    data = json.loads(config.read_text())
    data["data"]["log"] = str(tmp_path / "moved away")
    config.write_text(json.dumps(data))
    return tmp_path / "first"


def test_a_log_that_was_moved_is_named_with_what_to_do(moved, tuned, capsys):
    error = printed_error(capsys, ["evaluate", str(moved)])
    assert "data.log" in error
    assert f"irec tune EXPERIMENT --out {moved} --data.log FOLDER" in error
    assert "data.log" in printed_error(capsys, ["recommend", str(moved), "--user", "1"])
    # Everything else answers without the log, and the hint works.
    assert main(["recommend", str(moved), "--history", "i1", "-k", "2"]) in (0, 2)
    words = ["--data.log", str(tuned / "shop"), "--train.steps", "2"]
    assert main(["tune", str(tuned / "first.py"), "--out", str(moved), *words]) == 0
    assert main(["evaluate", str(moved), "--max-requests", "4"]) == 0


def test_a_run_of_another_version_is_named_as_one(moved, capsys):
    config = moved / "config.json"
    data = json.loads(config.read_text())
    data["train"]["warp"] = 1
    config.write_text(json.dumps(data))
    error = printed_error(capsys, ["evaluate", str(moved)])
    assert "config.json" in error
    assert "warp" in error
    assert "another version" in error
