"""The TPU compiler: memory and collectives of `base` on four v5e chips must not grow."""

import dataclasses
import importlib.util
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from irec_jax.cli.main import main
from irec_jax.experiment.config import Experiment
from irec_jax.model.config import T5Config
from irec_jax.planning.compiled import FAST_EFFORT, CompileJob, compile_job
from irec_jax.planning.run_plan import make_inputs, make_plan
from irec_jax.planning.topology import Topology, datasheet
from irec_jax.tokens.config import TokensConfig
from irec_jax.training.config import TrainConfig
from irec_jax.training.sharding import MeshConfig

pytestmark = [
    pytest.mark.tpu,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu"),
]

BASELINE = Path(__file__).with_name("base_on_v5e_2x2.json")
MAY_GROW = 1.03

BASE = T5Config.flan("base")
TINY = T5Config.tiny(encoder_layers=2, decoder_layers=2, unroll_layers=False)


def experiment_of(model, batch=32, **mesh):
    return Experiment(
        model=dataclasses.replace(model, compute="bfloat16"),
        mesh=MeshConfig(**mesh),
        tokens=TokensConfig(source_length=512, target_length=64),
        train=TrainConfig(steps=1_000, batch_size=batch),
    )


def figures(program):
    """Memory and collectives of a program."""
    counts: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    for traffic in program.traffic:
        counts[traffic.kind] += traffic.times
        sent[traffic.kind] += int(traffic.ici_bytes + traffic.dcn_bytes)
    return {
        "memory": program.memory.total,
        "temporary": program.memory.temporary,
        "collectives": dict(sorted(counts.items())),
        "sent": dict(sorted(sent.items())),
    }


@pytest.mark.parametrize("mesh", [{"fsdp": 1}, {"fsdp": 4}], ids=["data", "fsdp"])
def test_base_on_four_chips_does_not_grow(mesh):
    """To store new figures: IREC_WRITE_BASELINE=1 pytest -m tpu tests/planning/test_tpu.py."""
    inputs = make_inputs(experiment_of(BASE, **mesh), Topology.parse("v5e:2x2"), vocabulary=32_128)
    programs = ("train", "score", "decode") if mesh["fsdp"] == 1 else ("train",)
    result = compile_job(
        CompileJob(inputs.experiment, inputs.topology, inputs.items, programs, FAST_EFFORT)
    )
    name = "fsdp" if mesh["fsdp"] > 1 else "data"
    measured = {f"{name} {program.program}": figures(program) for program in result.programs}
    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    if os.environ.get("IREC_WRITE_BASELINE"):
        BASELINE.write_text(json.dumps(dict(sorted((known | measured).items())), indent=2) + "\n")
        return
    assert all(program.fits for program in result.programs)
    for program, figure in measured.items():
        before = known[program]
        for key in ("memory", "temporary"):
            assert figure[key] <= MAY_GROW * before[key], f"{program}: {key} grew"
        assert figure["collectives"].keys() <= before["collectives"].keys(), program
        for kind, count in figure["collectives"].items():
            assert count <= before["collectives"][kind], f"{program}: more {kind}"
            assert figure["sent"][kind] <= MAY_GROW * before["sent"][kind], f"{program}: {kind}"


def test_a_run_that_does_not_fit_is_refused_with_a_change_that_makes_it_fit(tmp_path, capsys):
    path = tmp_path / "wide.py"
    path.write_text(
        "from irec_jax.experiment.config import Experiment\n"
        "from irec_jax.model.config import T5Config\n"
        "from irec_jax.tokens.config import TokensConfig\n"
        "from irec_jax.training.config import TrainConfig\n"
        "experiment = Experiment(\n"
        "    model=T5Config(width=128, heads=16, head_dim=32, mlp_dim=256, encoder_layers=8,\n"
        "        decoder_layers=2, compute='bfloat16'),\n"
        "    tokens=TokensConfig(source_length=1024, target_length=64),\n"
        "    train=TrainConfig(batch_size=128),\n"
        ")\n"
    )
    out = tmp_path / "plan.json"
    arguments = ["plan", str(path), "--topology", "v5e:2x2", "--programs", "train"]
    arguments += ["--json", str(out)]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "The run does not fit v5e:2x2: train." in printed
    # The compiler grants the `usable` memory of the datasheet.
    assert json.loads(out.read_text())["programs"][0]["refused"].endswith("(15.75G).")
    assert "The smallest change that makes it fit: --model.remat" in printed


@pytest.mark.parametrize("generation", datasheet())
def test_every_generation_compiles(generation):
    topology = Topology.parse(f"{generation}:{datasheet()[generation].shapes[0]}")
    plan = make_plan(make_inputs(experiment_of(TINY), topology), programs=("train",))
    assert plan.fits
    assert plan.result.devices == topology.devices
    assert 0 < plan.result.programs[0].memory.total < topology.chip.usable


def test_two_slices_use_the_data_center_network():
    topology = Topology.parse("v5e:2x2*2")
    plan = make_plan(make_inputs(experiment_of(TINY), topology), programs=("train",))
    (train,) = plan.result.programs
    assert plan.result.mesh["replica"] == 2
    assert any(traffic.slices == 2 for traffic in train.traffic)
    assert all(traffic.axes[0] == "replica" for traffic in train.traffic if traffic.slices == 2)
    assert plan.cost is not None
    assert plan.cost.dcn_s > plan.cost.ici_s
