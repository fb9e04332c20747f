"""Every number of the config tree has bounds, every field a type, and sizes fit the machine."""

import copy
import dataclasses
import math
import subprocess
import sys
import time
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from irec_jax.cli.main import main
from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment

EMPTY = "from irec_jax import Experiment\nexperiment = Experiment()\n"


def leaves(cls: type, prefix: str = "") -> Iterator[tuple[str, set[type]]]:
    """Every field of the tree that is not a section, with the types of its values."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint, key = hints[field.name], f"{prefix}{field.name}"
        if dataclasses.is_dataclass(hint):
            yield from leaves(hint, f"{key}.")
        else:
            yield key, {hint, *typing.get_args(hint)}


LEAVES = dict(leaves(Experiment))
NUMBERS = {key: kinds for key, kinds in LEAVES.items() if {int, float} & kinds}


def changed(section, path: list[str], value):
    """The section with another value, as its `__init__` makes it without the tests' type checks."""
    name, *rest = path
    inner = changed(getattr(section, name), rest, value) if rest else value
    section = copy.copy(section)
    object.__setattr__(section, name, inner)
    section.__post_init__()
    return section


def outcome(key: str, value) -> str:
    """`accepted`, or the message that refuses the value."""
    try:
        changed(Experiment(), key.split("."), value)
    except InputError as error:
        return str(error)
    return "accepted"


HUGE_MODEL = ["--model.width", 2**16, "--model.mlp_dim", 2**20, "--model.encoder_layers", 1_024]
HUGE_BATCH = ["--train.batch_size", 2**20, "--tokens.source_length", 2**16]
LARGE_BATCH = ["--train.batch_size", 2**17, "--tokens.source_length", 1_024]


@pytest.fixture
def small(tiny_config: Path) -> Path:
    return tiny_config


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "empty.py"
    path.write_text(EMPTY)
    return path


def command(capsys, *words) -> str:
    """Runs a command that must exit with 2, and returns what it prints."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as stop:  # tyro's own refusals
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2, printed
    return " ".join((printed.err + printed.out).split())


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_has_bounds_on_both_sides(key):
    for value in (10**18, 2**70, -(10**18), 10**5000):
        assert outcome(key, value).startswith(f"{key}: must be ")
    if float in NUMBERS[key]:
        for value in (math.nan, math.inf, -math.inf):
            assert outcome(key, value).startswith(f"{key}: must be ")
    else:
        for value in (math.nan, math.inf, 1.5):
            assert outcome(key, value).startswith(f"{key}: expected int, got")
    for value in (-1, 0):
        result = outcome(key, value)
        assert result == "accepted" or result.startswith(f"{key}: must be "), result


def test_the_sweep_covers_the_tree():
    sections = {key.partition(".")[0] for key in NUMBERS}
    assert sections >= {"data", "instructions", "tokens", "model", "lora", "mesh", "optimizer"}
    assert sections >= {"train", "decode", "evaluation", "seed"}


class Other:
    """A value of no type that a setting has."""


@pytest.mark.parametrize("key", LEAVES)
def test_a_value_of_another_type_names_its_key(key):
    assert outcome(key, Other()).startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.steps", "many", "expected int, got 'many'"),
        ("train.steps", None, "expected int, got None"),
        ("train.steps", True, "expected int, got True"),
        ("model.tied_head", 1, "expected bool, got 1"),
        ("instructions.packs", "en", "expected a list, got 'en'"),
        ("instructions.tasks", ("product_serch",), "Did you mean 'product_search'?"),
        ("tokens.index", "titel", "Did you mean 'title'?"),
        ("model.remat", "ful", "Did you mean 'full'?"),
        ("train", 3, "expected an object, got 3"),
    ],
)
def test_a_wrong_value_is_refused(key, value, message):
    result = outcome(key, value)
    assert result.startswith(f"{key}: ")
    assert message in result


def test_text_that_names_a_choice_becomes_one():
    assert changed(Experiment(), ["tokens", "index"], "title").tokens.index.value == "title"
    tasks = changed(Experiment(), ["instructions", "tasks"], ["product_search"]).instructions.tasks
    assert [task.name for task in tasks] == ["PRODUCT_SEARCH"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", str(2**70)], "seed: must be between 0 and 4,294,967,295, got about 10**21"),
        (["--train.steps", 10**18], "train.steps: must be between 1 and 1,000,000,000"),
        (["--train.batch_size", 10**9], "train.batch_size: must be between 1 and 1,048,576"),
        (["--model.width", 10**8], "model.width: must be between 1 and 65,536"),
        (["--tokens.source_length", 10**8], "source_length: must be between 16 and 65,536"),
        (["--data.simulate.users", 10**12], "data.simulate.users: must be between"),
        (["--data.simulate.users", 10**9], "GiB, and there are"),
        (["--optimizer.peak", "inf"], "optimizer.peak: must be above 0 and at most 100, got inf"),
        (["--optimizer.peak", "nan"], "optimizer.peak: must be above 0 and at most 100, got nan"),
        (["--train.steps", "9" * 5_000], "steps"),
    ],
)
def test_an_absurd_number_ends_tune_at_once(config, tmp_path, capsys, words, message):
    assert message in command(capsys, "tune", config, "--out", tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (HUGE_MODEL, "model.width, model.mlp_dim, model.encoder_layers, model.decoder_layers: a"),
        (HUGE_BATCH, "train.batch_size, tokens.source_length, tokens.target_length: "),
        (LARGE_BATCH, "train.batch_size, tokens.source_length, tokens.target_length: a training"),
    ],
)
def test_a_run_larger_than_the_machine_is_refused_before_anything_is_written(
    small, tmp_path, capsys, words, message
):
    printed = command(capsys, "tune", small, "--out", tmp_path / "run", *words)
    assert message in printed
    assert "GiB, and there are" in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("topology", ["local", "v5e:4x4"])
@pytest.mark.parametrize(("words", "key"), [(HUGE_MODEL, "model.width"), (HUGE_BATCH, "batch")])
def test_a_plan_that_nothing_makes_fit_is_refused_at_once(small, capsys, topology, words, key):
    start = time.monotonic()
    printed = command(capsys, "plan", small, "--topology", topology, *words)
    assert time.monotonic() - start < 5
    assert key in printed
    assert "a training step on" in printed
    assert "GiB, and there are" in printed


def test_a_log_larger_than_the_memory_is_not_simulated(tmp_path, capsys):
    words = ["data", "prepare", "simulated", "--out", tmp_path / "log", "--simulate.users", 10**9]
    printed = command(capsys, *words)
    assert "data.simulate.users, data.simulate.items: a log of 20,000,000,000 events" in printed
    assert "needs at least 1,862" in printed
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sys.exit(0)", "SystemExit: 0"),
        ("raise ValueError('no such season')", "ValueError: no such season"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("sys.exit('stop')", "SystemExit: stop"),
        ("open('/no/such/file')", "FileNotFoundError: [Errno 2]"),
        ("experiment = Experiment(seed=-1)", "seed: must be between 0 and"),
        ("experiment = = 1", "SyntaxError: invalid syntax"),
    ],
)
def test_a_config_that_raises_or_exits_ends_with_2_and_its_line(tmp_path, capsys, line, message):
    path = tmp_path / "stops.py"
    path.write_text(f"import sys\n{EMPTY}{line}\n")
    printed = command(capsys, "tune", path, "--out", tmp_path / "run")
    assert f"{path}:4: {message}" in printed
    assert not (tmp_path / "run").exists()


def test_ctrl_c_while_a_config_runs_is_no_fault_of_it(tmp_path):
    path = tmp_path / "waits.py"
    path.write_text("raise KeyboardInterrupt\n")
    assert main(["tune", str(path)]) == 130


def test_a_wrong_type_in_a_config_names_the_key_and_the_line(tmp_path):
    path = tmp_path / "many.py"
    more = "from irec_jax.training.config import TrainConfig\n\nTrainConfig(steps='many')\n"
    path.write_text(EMPTY + more)
    command = [sys.executable, "-m", "irec_jax.cli.main", "tune", str(path)]
    # In a process of its own: the tests' type checks would find it first.
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 2
    assert f"{path}:5: train.steps: expected int, got 'many'" in done.stderr
    assert "Traceback" not in done.stderr
