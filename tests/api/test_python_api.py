"""The Python interface: what a notebook calls, on a tiny run."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from rich.console import Console

import irec_jax
from irec_jax import Recommender, compare, evaluate, load_log, tune
from irec_jax.errors import InputError
from irec_jax.evaluation.figures import TUNED
from irec_jax.instructions.forms import TaskName


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    return tune(tiny_config, out=tmp_path_factory.mktemp("api") / "a run")


def shown(result) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(result)
    return capture.get()


def test_importing_the_package_is_fast_and_imports_no_jax():
    program = (
        "import sys, time; start = time.perf_counter(); import irec_jax; "
        "print(time.perf_counter() - start, 'jax' in sys.modules, 'polars' in sys.modules)"
    )
    times = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        seconds, jax, polars = done.stdout.split()
        assert (jax, polars) == ("False", "False")
        times.append(float(seconds))
    assert min(times) < 0.2


def test_every_exported_name_is_there():
    for name in irec_jax.__all__:
        assert getattr(irec_jax, name) is not None
    assert dir(irec_jax) == sorted(irec_jax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'tuen'"):
        irec_jax.__getattr__("tuen")


def test_tune_gives_the_losses_and_a_second_call_trains_nothing(run, tiny_config):
    losses = run.to_frame()
    assert losses.columns == ["step", "loss"]
    assert losses["step"].to_list() == [1, 2, 3, 4, 5, 6]
    again = tune(str(tiny_config), out=run.folder)
    assert again == run
    assert again.to_frame().equals(losses)
    assert str(run.folder) in shown(run).replace("\n", "")
    assert "text/html" in run._repr_mimebundle_([], [])


def test_tune_takes_an_experiment_and_names_a_missing_folder(tiny_experiment, run, tmp_path):
    with pytest.raises(InputError, match=r"out: the run folder is missing"):
        tune(tiny_experiment)
    other = tune(tiny_experiment, out=tmp_path / "run")
    assert other.to_frame().equals(run.to_frame())


def test_evaluate_writes_the_report_and_gives_it_as_a_table(run):
    report = evaluate(run)
    data = json.loads((run.folder / "reports" / "leave_one_out" / "report.json").read_text())
    frame = report.to_frame()
    row = data["tasks"][0]["rows"][0]
    same = frame.filter(
        pl.col("task") == data["tasks"][0]["task"], pl.col("ranker") == row["ranker"]
    )
    for metric, figure in row["figures"].items():
        value = same.filter(pl.col("metric") == metric, pl.col("group") == row["group"])["value"]
        assert value[0] == pytest.approx(figure["value"], abs=1e-6)
    assert TUNED in shown(report)
    assert len(repr(report)) < 200
    quick = evaluate(run, max_requests=5)
    assert (run.folder / "reports" / quick.name).is_dir()
    assert quick.name == "leave_one_out_sample_5"
    again = json.loads((run.folder / "reports" / "leave_one_out" / "report.json").read_text())
    assert again == data, "a quick look replaces no full report"


def test_a_ranker_of_the_users_own_gets_a_row_and_no_file(run):
    catalog = Recommender.load(run).catalog

    def by_title(requests):
        lengths = [-len(title) for title in catalog.titles]
        return np.tile(np.array(lengths, np.float32), (len(requests), 1))

    before = sorted((run.folder / "reports").iterdir())
    report = evaluate(
        run, ranker=by_title, max_requests=7, tasks=[TaskName.SEQUENTIAL_RECOMMENDATION]
    )
    rows = {row.ranker for row in report.tasks[0].rows}
    assert {"by_title", TUNED} <= rows
    assert [task.task for task in report.tasks] == ["sequential_recommendation"]
    assert sorted((run.folder / "reports").iterdir()) == before


def test_compare_pairs_two_runs_and_refuses_other_requests(run, tiny_config, tmp_path):
    from irec_jax.experiment.loading import load_experiment

    experiment = load_experiment(tiny_config)
    longer = tune(
        dataclasses.replace(experiment, train=dataclasses.replace(experiment.train, steps=9)),
        out=tmp_path / "longer",
    )
    evaluate(run)
    with pytest.raises(InputError, match="no report"):
        compare(run, longer)
    evaluate(longer)
    result = compare(run, longer)
    frame = result.to_frame()
    second = frame.filter(pl.col("run") == str(longer.folder))
    first = frame.filter(pl.col("run") == str(run.folder))
    minus = (second["value"] - first["value"]).to_numpy()
    np.testing.assert_allclose(second["difference_value"].to_numpy(), minus, atol=1e-12)
    assert first["difference_value"].null_count() == first.height
    full = evaluate(longer).task("sequential_recommendation").row(TUNED).figures["ndcg@10"]
    chosen = second.filter(
        pl.col("task") == "sequential_recommendation", pl.col("metric") == "ndcg@10"
    )
    assert chosen["value"][0] == pytest.approx(full.value)
    assert "minus the first" in shown(result)
    other = tune(dataclasses.replace(experiment, seed=1), out=tmp_path / "other")
    evaluate(other)
    with pytest.raises(InputError, match="another split"):
        compare(run, other)
    with pytest.raises(InputError, match="given twice"):
        compare(run, run)
    with pytest.raises(InputError, match="two runs"):
        compare(run)


def test_recommendations_are_a_list_a_table_and_what_explain_takes(run):
    recommender = Recommender.load(run)
    answer = recommender.recommend(instruction="something light", k=4)
    assert [item.rank for item in answer] == [1, 2, 3, 4]
    assert answer.to_frame()["item"].to_list() == [item.item for item in answer]
    explanation = recommender.explain(answer[:2])
    assert len(explanation.items) == 2
    assert "something light" in explanation.prompt
    assert answer[0].title in shown(answer)


def test_only_a_history_of_the_log_needs_the_log(run):
    recommender = Recommender.load(run)
    log = load_log_of(run)
    user = int(log.interactions["user"][0])
    items = log.interactions.filter(pl.col("user") == user)["item"].to_list()
    assert set(recommender.history_of(user)) <= set(items)
    with pytest.raises(InputError, match="no user"):
        recommender.history_of(-5)


def load_log_of(run):
    from irec_jax.experiment.run_config import load_run
    from irec_jax.log.dataset import load_log as load

    return load(load_run(run.folder).data)


def test_load_log_reads_a_folder(tiny_log, tmp_path):
    tiny_log.save(tmp_path / "log")
    assert load_log(str(tmp_path / "log")).interactions.equals(tiny_log.interactions)
    with pytest.raises(InputError, match="no such folder"):
        load_log(tmp_path / "none")


PLAIN_STRINGS = """
from irec_jax import DataConfig, Experiment, InstructionsConfig, TokensConfig
from irec_jax.instructions.forms import TaskName
from irec_jax.log.split import SplitProtocol
from irec_jax.settings import to_json

plain = Experiment(
    data=DataConfig(log="data/shop", protocol="temporal", cut=1 / 2),
    instructions=InstructionsConfig(tasks=["product_search"], context=["time"], packs=["en"]),
    tokens=TokensConfig(index="title"),
)
assert plain.data.protocol is SplitProtocol.TEMPORAL
assert plain.instructions.tasks == (TaskName.PRODUCT_SEARCH,)
assert to_json(plain)["tokens"]["index"] == "title"
assert hash(plain) is not None
"""


def test_plain_strings_and_lists_are_settings_too():
    """In a process of its own, where no test checks the types of arguments."""
    done = subprocess.run([sys.executable, "-c", PLAIN_STRINGS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("flops", "steps", "notes"),
    [
        (1e12, 100_000, set()),
        (1e12, 1, {"parameters, more than the 640 tokens"}),
        (1.0, 100_000, {"this run takes about"}),
    ],
)
def test_tune_says_before_it_starts_what_will_disappoint(
    flops, steps, notes, tiny_experiment, tmp_path, monkeypatch, capfd
):
    train = dataclasses.replace(tiny_experiment.train, steps=steps)
    monkeypatch.setattr("irec_jax.api.tune_run.measure_flops", lambda: flops)
    monkeypatch.setattr("irec_jax.api.tune_run.train", lambda inputs: None)
    tune(dataclasses.replace(tiny_experiment, train=train), out=tmp_path / "run")
    printed = " ".join(capfd.readouterr().err.split())
    known = ("parameters, more than the 640 tokens", "this run takes about")
    assert {note for note in known if note in printed} == notes
