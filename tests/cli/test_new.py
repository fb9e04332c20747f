"""`irec new`: the file that it writes is a config that runs, with settings that follow the log."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from irec_jax.cli.main import main
from irec_jax.experiment.suggestion import suggest
from irec_jax.instructions.forms import TaskName
from irec_jax.log.events import BehaviorLog, LogManifest

FEW_STEPS = ["--train.steps", "2", "--train.batch_size", "8", "--optimizer.warmup", "0"]
SEARCH = {TaskName.PRODUCT_SEARCH, TaskName.PERSONALIZED_SEARCH}


def table_log(histories: list[list[int]], queries: list[str | None] | None = None) -> BehaviorLog:
    events = [(user, f"i{item}") for user, items in enumerate(histories) for item in items]
    names = sorted({item for _, item in events})
    interactions = pl.DataFrame(
        {
            "user": [user for user, _ in events],
            "item": [item for _, item in events],
            "time": list(range(len(events))),
            "event": ["view"] * len(events),
        }
    )
    if queries:
        interactions = interactions.with_columns(pl.Series("query", queries, dtype=pl.String))
    items = pl.DataFrame(
        {
            "item": names,
            "title": [f"Thing {name}" for name in names],
            "categories": [["thing"]] * len(names),
        }
    )
    return BehaviorLog.assemble(items, interactions, LogManifest(source="table"))


@pytest.fixture
def log(tiny_log, tmp_path) -> Path:
    tiny_log.save(tmp_path / "my shop")
    return tmp_path / "my shop"


def test_the_file_is_formatted_tuned_and_evaluated(log, tmp_path, monkeypatch, capsys, cached):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "mine.py", "--log", "my shop"]) == 0
    assert "Next: irec tune mine.py" in capsys.readouterr().out
    command = [sys.executable, "-m", "ruff", "format", "--check", "--line-length", "100", "mine.py"]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    # In a process of its own: tests check types of arguments before the program reads strings.
    program = f"""
from pathlib import Path
from irec_jax.cli.main import main
from irec_jax.experiment.loading import load_experiment
print(*load_experiment(Path("mine.py")).instructions.tasks)
assert main({["tune", "mine.py", *FEW_STEPS]}) == 0
assert main(["evaluate", "runs/mine", "--max-requests", "5"]) == 0
"""
    environment = {**os.environ, **cached}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()[0].split()) >= SEARCH


def test_a_log_without_queries_is_not_asked_to_search():
    histories = [[(user + step) % 40 for step in range(8)] for user in range(50)]
    suggestion = suggest(table_log(histories))
    assert suggestion.tasks == (TaskName.SEQUENTIAL_RECOMMENDATION,)
    assert suggestion.queries == 0


def test_a_log_of_rare_items_keeps_half_of_its_events():
    histories = [[user * 3 + step for step in range(3)] + [0] for user in range(1, 30)]
    suggestion = suggest(table_log(histories))
    assert suggestion.core == 1
    assert suggestion.events == 4 * 29


def test_larger_logs_get_more_steps():
    histories = [[(user + step) % 100 for step in range(20)] for user in range(100)]
    small, large = suggest(table_log(histories)), suggest(table_log(histories * 20))
    assert (small.users, large.users) == (100, 2_000)
    assert (small.steps, large.steps) == (500, 1_600)


def test_histories_too_short_to_evaluate_are_refused(tmp_path, capsys):
    table_log([[1, 2], [2, 3], [3, 1]]).save(tmp_path / "short")
    assert main(["new", str(tmp_path / "x.py"), "--log", str(tmp_path / "short")]) == 2
    assert "fewer than three events" in capsys.readouterr().err
    assert not (tmp_path / "x.py").exists()


@pytest.mark.parametrize(
    ("name", "message"), [("mine.toml", "does not end in .py"), ("there.py", "the file exists")]
)
def test_a_name_that_cannot_be_written_is_refused(name, message, log, tmp_path, capsys):
    (tmp_path / "there.py").write_text("precious")
    assert main(["new", str(tmp_path / name), "--log", str(log)]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "there.py").read_text() == "precious"


def test_the_help_of_a_file_that_is_not_there_shows_the_defaults(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["tune", "missing.py", "--help"])
    assert stop.value.code == 0
    assert "--train.steps 500  [int]" in capsys.readouterr().out
