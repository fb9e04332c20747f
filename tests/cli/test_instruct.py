"""`irec instruct` on a small log, through the real command line."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from irec_jax.cli.main import main
from irec_jax.instructions.store import InstructionSet
from irec_jax.log.events import BehaviorLog, Manifest

ROOT = Path(__file__).parents[2]
EXPERIMENT = """
from irec_jax.experiment import Experiment
from irec_jax.instructions.tasks import InstructionsConfig
from irec_jax.log.dataset import DataConfig
from irec_jax.tokens.text import TokensConfig

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
    BehaviorLog.assemble(items, interactions, Manifest("table")).save(tmp_path / "log")
    path = tmp_path / "small.py"
    path.write_text(EXPERIMENT.format(log=tmp_path / "log"))
    return path


def test_a_set_is_written_and_described(experiment: Path, tmp_path: Path):
    out = tmp_path / "set"
    command = [sys.executable, "-m", "irec_jax.cli.main", "instruct", str(experiment)]
    command += ["--out", str(out), "--records", "300", "--seed", "4"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    stored = InstructionSet(out)
    assert len(stored) == 300
    assert stored.manifest.seed == 4
    assert str(out) in done.stdout
    assert stored.manifest.sha256 in done.stdout
    for scenario, templates in stored.manifest.counts.items():
        assert scenario in done.stdout
        for template, count in templates.items():
            assert any(template in line and str(count) in line for line in done.stdout.splitlines())


def test_mistakes_end_with_code_2_and_leave_nothing(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "set"
    assert main(["instruct", str(experiment), "--out", str(out), "--records", "0"]) == 2
    assert "--records: 0 is less than 1" in capsys.readouterr().err

    with pytest.raises(SystemExit) as caught:
        main(["instruct", str(experiment), "--out", str(out), "--instructions.max-histroy", "3"])
    assert caught.value.code == 2
    assert "max-history" in "".join(capsys.readouterr())

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("kept")
    full = ["instruct", str(experiment), "--out", str(tmp_path / "full"), "--records", "5"]
    assert main(full) == 2
    assert "it stays as it is" in capsys.readouterr().err
    assert not out.exists()
    assert (tmp_path / "full" / "precious").read_text() == "kept"


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["instruct", "--help"])
    assert caught.value.code == 0
    assert "Example: irec instruct configs/" in " ".join(capsys.readouterr().out.split())
