"""`irec plan` through the real command line, for the eight simulated devices of the tests."""

import importlib.util
import json

import pytest

from irec_jax.cli.main import main
from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig, abstract_adapters
from irec_jax.model.params import abstract, count
from irec_jax.settings import from_json

CONFIG = """
from irec_jax.experiment.config import Experiment
from irec_jax.model.config import T5Config
from irec_jax.training.config import TrainConfig
from irec_jax.training.sharding import MeshConfig

experiment = Experiment(
    model=T5Config(
        width=16, head_dim=8, heads=2, mlp_dim=32, encoder_layers=3, decoder_layers=2, remat="full"
    ),
    mesh=MeshConfig(fsdp=2),
    train=TrainConfig(steps=3_600, batch_size=16),
)
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(CONFIG)
    return path


def test_a_run_is_planned_for_this_machine(config, tmp_path, capsys):
    out = tmp_path / "plan.json"
    arguments = ["plan", str(config), "--topology", "local", "--json", str(out)]
    assert main([*arguments, "--price-per-chip-hour", "2", "--train.steps", "1800"]) == 0
    printed = capsys.readouterr().out
    for word in ("parameters", "temporary", "all-reduce", "real tokens/s", "The run fits local."):
        assert word in printed
    plan = json.loads(out.read_text())
    assert plan["fits"]
    assert plan["change"] is None
    assert plan["mesh"] == {"replica": 1, "data": 4, "fsdp": 2, "tensor": 1}
    assert [program["program"] for program in plan["programs"]] == ["train", "score", "decode"]
    train = plan["programs"][0]["memory"]
    assert train["parameters"] > 0
    assert train["optimizer"] > 0
    parts = [value for key, value in train.items() if key not in ("total", "usable")]
    assert sum(parts) == train["total"]
    # Gradients cross `data`; weights and their gradients cross `fsdp`, in the loops over layers.
    axes_of_kinds = {
        (row["kind"], row["axes"]) for row in plan["traffic"] if row["program"] == "train"
    }
    assert any("data" in axes for _, axes in axes_of_kinds)
    assert any("fsdp" in axes for _, axes in axes_of_kinds)
    cost = plan["cost"]
    assert cost["steps"] == 1_800
    assert cost["hours"][0] == pytest.approx(cost["bound_s"] / 2)
    assert cost["dollars"][0] == pytest.approx(8 * 2 * cost["hours"][0])


def test_the_optimizer_state_of_a_run_with_adapters_covers_only_them(config, tmp_path):
    out = tmp_path / "plan.json"
    arguments = ["plan", str(config), "--topology", "local", "--programs", "train"]
    arguments += ["--mesh.fsdp", "1", "--optimizer.kind", "adamw", "--lora.rank", "2"]
    assert main([*arguments, "--json", str(out)]) == 0
    plan = json.loads(out.read_text())
    weights = abstract(from_json(T5Config, plan["experiment"]["model"]))
    adapters = count(abstract_adapters(weights, LoraConfig(rank=2)))
    assert 0 < adapters < 0.05 * count(weights)
    memory = plan["programs"][0]["memory"]
    assert memory["parameters"] == 4 * (count(weights) + adapters)
    moments, counts = 2 * 4 * adapters, 2 * 4
    assert memory["optimizer"] == moments + counts


def test_devices_that_wait_for_rendered_rows_are_warned_of(config, tmp_path, capsys, monkeypatch):
    # A processor's own step may be slower than rendering; no step is slower than this.
    monkeypatch.setattr("irec_jax.planning.cost.RENDERED_TOKENS", 1e-3)
    out = tmp_path / "plan.json"
    words = ["plan", str(config), "--topology", "local", "--programs", "train"]
    assert main([*words, "--json", str(out)]) == 0
    assert "Warning: the devices take up to" in capsys.readouterr().out
    plan = json.loads(out.read_text())
    cost = plan["cost"]
    assert cost["needed_rows"] == pytest.approx(16 / cost["bound_s"])
    assert cost["needed_rows"] > cost["rendered_rows"] > 0
    assert "--train.packed" in plan["warning"]
    assert main([*words, "--train.packed", "sets/rows", "--json", str(out)]) == 0
    assert "Warning" not in capsys.readouterr().out
    assert json.loads(out.read_text())["warning"] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology", "v5x:8x8"], "Did you mean"),
        (["--topology", "local", "--fill", "1.5"], "fill"),
        (["--topology", "local", "--programs", "tune"], "Allowed: train, score, decode"),
        (["--topology", "local", "--programs", "train", "--mesh.fsdp", "3"], "8 devices"),
        (["--topology", "local", "--programs", "train", "--train.batch_size", "9"], "8 or 16"),
        (["--topology", "local", "--search"], "datasheet"),
    ],
)
def test_an_impossible_plan_is_refused(config, capsys, arguments, message):
    assert main(["plan", str(config), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_extra_is_named_if_libtpu_is_missing(config, capsys):
    if importlib.util.find_spec("libtpu"):
        pytest.skip("libtpu is installed")
    assert main(["plan", str(config), "--topology", "v5e:2x2"]) == 2
    assert "irec-jax[tpu]" in capsys.readouterr().err
