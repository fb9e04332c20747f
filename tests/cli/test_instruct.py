"""`irec instruct` on a small log, through the real command line."""

import collections
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from irec_jax.batches.packed import PackedRows
from irec_jax.cli.main import main
from irec_jax.experiment.loading import load_experiment
from irec_jax.experiment.materials import prepare
from irec_jax.instruction_sets.store import InstructionSet
from irec_jax.instructions.forms import Instruction, scenario_words, task_words
from irec_jax.instructions.render import Renderer
from irec_jax.log.events import BehaviorLog, LogManifest

ROOT = Path(__file__).parents[2]
EXPERIMENT = """
from irec_jax.experiment.config import Experiment
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.log.dataset import DataConfig
from irec_jax.tokens.config import TokensConfig

experiment = Experiment(
    data=DataConfig(log="{log}"),
    instructions=InstructionsConfig(max_history=3),
    tokens=TokensConfig(vocabulary=512),
)
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """An experiment on a log of 20 users with 6 events each among 8 items, half with a query."""
    count = 8
    items = pl.DataFrame(
        {
            "item": [f"sku{n}" for n in range(count)],
            "title": [f"Lamp model {chr(65 + n) * 3} in brass" for n in range(count)],
            "categories": [["lamps"]] * count,
        }
    )
    rows = [(user, place) for user in range(20) for place in range(6)]
    interactions = pl.DataFrame(
        {
            "user": [700_000 + user for user, _ in rows],
            "item": [f"sku{(user + place) % count}" for user, place in rows],
            "time": [1_000 * place for _, place in rows],
            "event": ["purchase"] * len(rows),
            "query": ["warm light for reading" if place % 2 else None for _, place in rows],
            "intention": ["vague" if user % 2 else "specific" for user, _ in rows],
        }
    )
    BehaviorLog.assemble(items, interactions, LogManifest("table")).save(tmp_path / "log")
    path = tmp_path / "small.py"
    path.write_text(EXPERIMENT.format(log=tmp_path / "log"))
    return path


def test_a_set_is_written_and_described(experiment: Path, tmp_path: Path):
    out = tmp_path / "set"
    command = [sys.executable, "-m", "irec_jax.cli.main", "instruct", str(experiment)]
    command += ["--out", str(out), "--records", "300", "--seed", "4"]
    wide = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, env=wide)
    assert done.returncode == 0, done.stderr
    stored = InstructionSet(out)
    assert len(stored) == 300
    assert stored.manifest.seed == 4
    assert str(out) in done.stdout
    assert stored.manifest.sha256 in done.stdout
    assert sum(count["records"] for count in stored.manifest.counts) == 300
    lines = [" ".join(re.split(r"[^\w.-]+", line)).strip() for line in done.stdout.splitlines()]
    for count in stored.manifest.counts:
        request = scenario_words(count["scenario"]).replace(",", "")
        words = [task_words(count["task"]), request, count["template"], str(count["records"])]
        assert " ".join(words) in [re.sub(" (plain|turn around) ", " ", line) for line in lines]
    assert "prompts longer than 64 0" in lines
    assert (out / "sample.html").is_file()


def instruct(experiment: Path, *words: object) -> int:
    return main(["instruct", str(experiment), *map(str, words)])


def test_workers_and_packed_rows(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    one, two, rows = tmp_path / "one", tmp_path / "two", tmp_path / "rows"
    assert instruct(experiment, "--out", one, "--packed", rows) == 0
    printed = capsys.readouterr().out
    renderer = prepare(load_experiment(experiment)).renderer
    assert len(InstructionSet(one)) == len(renderer)
    stored = PackedRows(rows)
    assert stored.manifest.records == len(renderer)
    assert stored.manifest.source_length == 64
    assert f"{len(renderer)} instructions in {len(stored)} rows" in printed
    assert stored.manifest.sha256 in printed
    assert instruct(experiment, "--out", two, "--workers", 2) == 0
    assert InstructionSet(one).manifest == InstructionSet(two).manifest


def test_audit_writes_nothing_and_says_what_it_finds(
    experiment: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    before = sorted(tmp_path.rglob("*"))
    assert instruct(experiment, "--audit", "--records", 400, "--workers", 2) == 0
    printed = capsys.readouterr().out
    assert "400 instructions: nothing was found" in printed
    assert "prompts longer than 64" in printed

    record = Renderer.record

    def leaky(self: Renderer, number: int, shuffle: int = 0) -> Instruction:
        it = record(self, number, shuffle)
        if number != 33:
            return it
        name = self.prompt_writer.names[it.target_item]
        return it._replace(inputs=f"{it.inputs} {name}")

    monkeypatch.setattr(Renderer, "record", leaky)
    assert instruct(experiment, "--audit", "--records", 100) == 2
    error = capsys.readouterr().err
    assert "record 33" in error
    assert "the prompt names the item that it hides" in error
    assert sorted(tmp_path.rglob("*")) == before
    assert instruct(experiment, "--out", tmp_path / "set", "--records", 100) == 2
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("packs", [("en", "zh"), ("en",)])
def test_describe_counts_templates_and_instructions(
    experiment: Path,
    packs: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    languages = ["--instructions.packs", *packs]
    monkeypatch.setenv("COLUMNS", "200")
    assert instruct(experiment, "--describe", *languages) == 0
    table = [
        [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        for line in capsys.readouterr().out.splitlines()
    ]
    rows = [row for row in table if row]
    loaded = load_experiment(experiment, languages)
    renderer = prepare(loaded).renderer
    made = collections.Counter(
        (r.task, r.scenario, r.strategy, r.language)
        for r in map(renderer.record, range(len(renderer)))
    )
    named = ["task", "request", "strategy", "language", "templates", "instructions"]
    shown = [name for name in named if name in rows[0]]
    assert rows[0] == shown
    assert ("language" in shown) == (len(packs) > 1)
    assert ("strategy" in shown) == bool({kind[2] for kind in made} - {"plain"})
    expected = collections.Counter()
    for (task, scenario, strategy, language), count in made.items():
        cells = {"task": task_words(task), "request": scenario_words(scenario)}
        cells |= {"strategy": task_words(strategy), "language": language}
        expected[*(cells[name] for name in shown[:-2])] += count
    assert {tuple(row[:-2]): row[-1] for row in rows[1:-1]} == {
        kind: f"{count:,}" for kind, count in expected.items()
    }
    for row in rows[1:]:
        trained, held_out = map(int, row[-2].split(" + "))
        assert trained >= 1
        assert held_out >= 1
    assert rows[-1][-1] == f"{len(renderer):,}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--out: there is no folder to write"),
        (["--audit", "--describe"], "each does nothing else"),
        (["--audit", "--out", "x"], "--audit writes nothing"),
        (["--describe", "--packed", "x"], "--describe writes nothing"),
        (["--out", "x", "--workers", "0"], "--workers: must be between 1 and 1,024, got 0"),
        (["--out", "x", "--beam-options", "a=b"], "--beam-options: there is no runner"),
    ],
)
def test_what_does_not_go_together(
    experiment: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert instruct(experiment, *words) == 2
    assert message in capsys.readouterr().err


def test_beam_is_named_where_it_is_missing(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "irec_jax.storage.beam_runner", raising=False)
    assert instruct(experiment, "--out", "x", "--runner", "DirectRunner") == 2
    assert "pip install 'irec-jax[beam]'" in capsys.readouterr().err


def test_mistakes_end_with_code_2_and_leave_nothing(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "set"
    assert main(["instruct", str(experiment), "--out", str(out), "--records", "0"]) == 2
    assert "--records: must be between 1 and" in capsys.readouterr().err

    with pytest.raises(SystemExit) as caught:
        main(["instruct", str(experiment), "--out", str(out), "--instructions.max_histroy", "3"])
    assert caught.value.code == 2
    assert "max_history" in "".join(capsys.readouterr())

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("kept")
    full = ["instruct", str(experiment), "--out", str(tmp_path / "full"), "--records", "5"]
    assert main(full) == 2
    assert "not an instruction set: precious" in capsys.readouterr().err
    assert not out.exists()
    assert (tmp_path / "full" / "precious").read_text() == "kept"


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["instruct", "--help"])
    assert caught.value.code == 0
    assert "Example: irec instruct configs/" in " ".join(capsys.readouterr().out.split())
