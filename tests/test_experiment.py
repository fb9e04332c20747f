"""The config tree: overrides, refusals and what a run remembers."""

import json
from pathlib import Path

import pytest

from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment
from irec_jax.experiment.loading import load_experiment
from irec_jax.experiment.materials import prepare
from irec_jax.experiment.run_config import fingerprint, load_run, save_run
from irec_jax.instructions.forms import TaskName
from irec_jax.log.split import SplitProtocol
from irec_jax.model.lora import LoraConfig
from irec_jax.settings import to_json
from irec_jax.tokens.items import TokenWriter

pytestmark = pytest.mark.fast


@pytest.fixture
def config(tiny_config: Path) -> Path:
    return tiny_config


def test_any_leaf_can_be_set_from_the_command_line(config):
    words = ["--train.steps", "7", "--data.protocol", "temporal", "--seed", "3"]
    words += ["--instructions.tasks", "product_search", "--data.simulate.users", "70"]
    experiment = load_experiment(config, words)
    assert experiment.train.steps == 7
    assert experiment.data.protocol is SplitProtocol.TEMPORAL
    assert experiment.instructions.tasks == (TaskName.PRODUCT_SEARCH,)
    assert (experiment.seed, experiment.data.simulate.users) == (3, 70)
    assert experiment.data.simulate.items == 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train.stepz", "7"], "--train.steps"),
        (["--train.steps", "many"], "steps"),
        (["--data.protocol", "temporl"], "temporal"),
    ],
)
def test_a_wrong_override_ends_with_code_2_and_the_nearest(config, capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        load_experiment(config, words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["--train.steps", "0"], "train.steps"),
        (["--model.dropout", "1.5"], "model.dropout"),
        (["--tokens.target_length", "4"], "tokens.target_length"),
        (["--optimizer.peak", "-1"], "optimizer.peak"),
        (["--seed", "-1"], "seed"),
    ],
)
def test_an_impossible_value_names_its_key(config, words, key):
    with pytest.raises(InputError, match=key):
        load_experiment(config, words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiment = 3", "defines no `experiment`"),
        ("from irec_jax import Experiment\nexperiment = Experiment(dat=1)", "dat"),
        ("experiment = (", "SyntaxError"),
        ("import no_such_module", "no_such_module"),
    ],
)
def test_a_file_without_an_experiment_is_named(tmp_path, text, message):
    path = tmp_path / "wrong.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_experiment(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(InputError, match="no such experiment file"):
        load_experiment(tmp_path / "none.py")


def has_checkpoint(run: Path) -> None:
    """From its first checkpoint on a run keeps its settings."""
    (run / "checkpoints" / "1").mkdir(parents=True)


def test_a_run_remembers_what_it_was_made_of(config, tmp_path):
    materials = prepare(load_experiment(config))
    run = tmp_path / "run"
    save_run(run, materials)
    has_checkpoint(run)
    assert load_run(run) == materials.experiment
    again = prepare(load_run(run), run)
    text = again.renderer.record(5).inputs
    assert again.writer.encode(text) == materials.writer.encode(text)
    assert TokenWriter.load(run / "tokens").index.names == materials.writer.index.names
    assert materials.experiment.model.vocabulary == materials.writer.index.vocabulary


def test_a_run_refuses_another_config_and_names_the_key(config, tmp_path):
    run = tmp_path / "run"
    save_run(run, prepare(load_experiment(config)))
    has_checkpoint(run)
    kept = (run / "config.json").read_bytes()
    with pytest.raises(InputError, match=r"data\.core = 5, not 4"):
        save_run(run, prepare(load_experiment(config, ["--data.core", "4"])))
    assert (run / "config.json").read_bytes() == kept
    save_run(run, prepare(load_experiment(config, ["--train.steps", "9"])))
    assert load_run(run).train.steps == 9


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-20], "not JSON"),
        (lambda text: text.replace('"seed"', '"sed"'), "unknown key 'sed'.*'seed'"),
        (lambda text: text.replace('"atomic"', '"atomc"'), "tokens.index.*'atomc'.*'atomic'"),
    ],
)
def test_a_damaged_config_is_reported(config, tmp_path, damage, message):
    run = tmp_path / "run"
    save_run(run, prepare(load_experiment(config)))
    path = run / "config.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=f"(?s){message}"):
        load_run(run)


def test_what_may_change_on_resume_is_not_in_the_fingerprint():
    result = fingerprint(Experiment())
    assert "model" in result
    assert json.dumps(result)
    assert not {"mesh", "decode", "evaluation"} & result.keys()
    assert result["batch_size"] == to_json(Experiment())["train"]["batch_size"]


def test_other_adapters_are_another_run_and_a_run_from_before_there_were_any_continues(
    config, tmp_path
):
    run = tmp_path / "run"
    save_run(run, prepare(load_experiment(config)))
    has_checkpoint(run)
    path = run / "config.json"
    old = json.loads(path.read_text())
    del old["lora"]
    path.write_text(json.dumps(old))
    assert load_run(run).lora == LoraConfig()
    with pytest.raises(InputError, match=r"lora\.rank = 0, not 4"):
        save_run(run, prepare(load_experiment(config, ["--lora.rank", "4"])))
    # Without a rank the rest of the section says nothing.
    save_run(run, prepare(load_experiment(config, ["--lora.alpha", "4"])))
    with_adapters = load_experiment(config, ["--lora.rank", "4", "--lora.alpha", "8"])
    assert fingerprint(with_adapters)["lora"]["alpha"] == 8.0
    save_run(tmp_path / "other", prepare(with_adapters))
    has_checkpoint(tmp_path / "other")
    with pytest.raises(InputError, match=r"lora\.rank = 4, not 0"):
        save_run(tmp_path / "other", prepare(load_experiment(config)))
