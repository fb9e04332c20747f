"""`irec evaluate` on a run with random weights, through the real command line."""

import json
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest

from irec_jax.api.evaluate_run import evaluate
from irec_jax.cli.main import main
from irec_jax.evaluation.figures import BEST, TUNED
from irec_jax.experiment.loading import load_experiment
from irec_jax.experiment.materials import prepare
from irec_jax.experiment.run_config import save_run

EXPERIMENT = """
from irec_jax.experiment.config import Experiment
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.log.dataset import DataConfig
from irec_jax.log.simulate import SimulateConfig
from irec_jax.model.config import T5Config
from irec_jax.tokens.config import TokensConfig

experiment = Experiment(
    data=DataConfig(simulate=SimulateConfig(users=200, items=100)),
    instructions=InstructionsConfig(max_history=4),
    tokens=TokensConfig(vocabulary=600, source_length=128, target_length=24),
    model=T5Config(width=32, mlp_dim=64, heads=2, head_dim=16, encoder_layers=1, decoder_layers=1),
    evaluation=EvaluationConfig(max_requests=30, resamples=100),
)
"""
OWN_BASELINES = """
import dataclasses

import numpy as np

from irec_jax.baselines.markov import Markov
from irec_jax.instructions.forms import Ranking


@dataclasses.dataclass(frozen=True)
class Cheapest:
    limit: float = 1e9
    name: str = "cheapest"

    def build(self, split):
        prices = split.catalog["price"].fill_null(self.limit).clip(upper_bound=self.limit)
        scores = -prices.to_numpy()
        return lambda requests: Ranking(np.tile(scores, (len(requests), 1)))


baselines = (Cheapest(limit=50.0), Markov(window=3, name="short markov"))
evaluation = dataclasses.replace(experiment.evaluation, baselines=baselines)
experiment = dataclasses.replace(experiment, evaluation=evaluation)
"""
ROWS = ["chance", "popularity", "recent popularity", "markov", "bm25", TUNED, BEST]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, make_run) -> Path:
    """A complete run, saved before its first step."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "small.py").write_text(EXPERIMENT)
    make_run(folder / "small", load_experiment(folder / "small.py"))
    return folder / "small"


def test_it_prints_every_row_and_the_paths_of_the_report(tuned, capsys):
    assert main(["evaluate", str(tuned)]) == 0
    printed = capsys.readouterr().out
    for name in ROWS:
        assert name in printed
    for task in ("sequential recommendation", "product search", "personalized search"):
        assert task in printed
    folder = tuned / "reports" / "leave_one_out_sample_30"
    assert f"report: {folder / 'report.json'}" in printed
    assert f"page:   {folder / 'index.html'}" in printed
    data = json.loads((folder / "report.json").read_text())
    assert [task["requests"]["all"] for task in data["tasks"]] == [30, 30, 30]
    for task in data["tasks"]:
        assert [row["ranker"] for row in task["rows"] if row["group"] == "all"] == ROWS
    ranks = pl.read_parquet(folder / "ranks.parquet")
    assert ranks.height == 3 * 30 * (len(ROWS) - 1)


def test_options_replace_the_runs_settings(tuned, capsys):
    options = [
        "--role",
        "validation",
        "--tasks",
        "sequential_recommendation",
        "--max-requests",
        "9",
    ]
    assert main(["evaluate", str(tuned), "--protocol", "leave_one_out", *options]) == 0
    assert "product search" not in capsys.readouterr().out
    folder = tuned / "reports" / "leave_one_out_validation_sample_9"
    data = json.loads((folder / "report.json").read_text())
    assert data["tasks"][0]["requests"] == {"all": 9}


def test_the_same_run_gives_the_same_report(tuned):
    first, second = (evaluate(tuned, max_requests=12) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert first.ranks.equals(second.ranks)


@pytest.fixture
def run_with_own_baselines(tuned, tmp_path) -> Path:
    """A copy of the run whose config file defines a baseline."""
    run, file = tmp_path / "run", tmp_path / "own.py"
    shutil.copytree(tuned, run, ignore=shutil.ignore_patterns("reports"))
    file.write_text(EXPERIMENT + OWN_BASELINES)
    save_run(run, prepare(load_experiment(file, ["--evaluation.max_requests", "9"]), run))
    forget_config_files()
    return run


def forget_config_files() -> None:
    """Removes modules of config files, as in a new process."""
    for name in [name for name in sys.modules if name.endswith("own.py")]:
        del sys.modules[name]


def rows_of(run: Path) -> list[dict]:
    report = json.loads((run / "reports" / "leave_one_out_sample_9" / "report.json").read_text())
    return [row for row in report["tasks"][0]["rows"] if row["group"] == "all"]


def test_a_baseline_of_the_config_file_is_a_row_of_the_report(run_with_own_baselines):
    run = run_with_own_baselines
    stored = json.loads((run / "config.json").read_text())["evaluation"]["baselines"]
    assert stored[0] == {
        "import": "own:Cheapest",
        "file": str(run.parent / "own.py"),
        "settings": {"limit": 50.0, "name": "cheapest"},
    }
    assert stored[1]["import"] == "irec_jax.baselines.markov:Markov"
    assert main(["evaluate", str(run), "--tasks", "sequential_recommendation"]) == 0
    assert [row["ranker"] for row in rows_of(run)] == [
        "chance",
        "cheapest",
        "short markov",
        TUNED,
        BEST,
    ]
    page = (run / "reports" / "leave_one_out_sample_9" / "index.html").read_text()
    assert "Cheapest(limit=50.0, name=&#x27;cheapest&#x27;), Markov(window=3," in page


def test_a_baseline_that_cannot_be_imported_stops_evaluation_alone(run_with_own_baselines, capsys):
    run = run_with_own_baselines
    (run.parent / "own.py").unlink()
    assert main(["recommend", str(run), "--instruction", "a gift", "-k", "1"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--tasks", "sequential_recommendation"]) == 2
    error = capsys.readouterr().err
    assert "config.json.evaluation.baselines: own:Cheapest cannot be imported from" in error
    assert "Hint: Run the command in the folder in which the run was tuned" in error
    assert not (run / "reports").exists()


def test_another_protocol_is_refused(tuned, capsys):
    assert main(["evaluate", str(tuned), "--protocol", "temporal"]) == 2
    assert "tuned under leave_one_out" in capsys.readouterr().err


def test_a_missing_run_is_refused(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path / "none")]) == 2
    assert "config.json" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["catalog.parquet", "tokens", "checkpoints"])
def test_a_run_without_one_of_its_parts_is_refused(tuned, tmp_path, capsys, missing):
    copy = tmp_path / "copy"
    shutil.copytree(tuned, copy, ignore=shutil.ignore_patterns("reports"))
    path = copy / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert main(["evaluate", str(copy), "--max-requests", "3"]) == 2
    assert missing in capsys.readouterr().err
    assert not (copy / "reports").exists()


def test_a_log_that_changed_is_refused(tuned, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(tuned, copy)
    config = json.loads((copy / "config.json").read_text())
    config["seed"] += 1  # numbers the items in another order
    (copy / "config.json").write_text(json.dumps(config))
    assert main(["evaluate", str(copy), "--max-requests", "3"]) == 2
    assert "the catalog is not the one that the run was started with" in " ".join(
        capsys.readouterr().err.split()
    )


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--help"])
    assert ended.value.code == 0
    assert "irec evaluate runs/movies --max-requests 2000" in capsys.readouterr().out
