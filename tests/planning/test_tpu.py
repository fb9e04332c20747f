"""The real TPU compiler: what `base` takes on four v5e chips may not grow."""

import dataclasses
import importlib.util
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from irec_jax.cli.main import main
from irec_jax.experiment.config import Experiment
from irec_jax.model.config import BASE, T5Config
from irec_jax.planning.compiled import FAST, CompileJob, compile_job
from irec_jax.planning.run_plan import make_plan, make_subject
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

TINY = T5Config(width=128, heads=4, head_dim=32, mlp_dim=256, encoder_layers=2, decoder_layers=2)


def experiment_of(model, batch=32, **mesh):
    return Experiment(
        model=dataclasses.replace(model, compute="bfloat16"),
        mesh=MeshConfig(**mesh),
        tokens=TokensConfig(source_length=512, target_length=64),
        train=TrainConfig(steps=1_000, batch_size=batch),
    )


def figures(program):
    """What is watched of a program."""
    counts: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    for crossing in program.traffic:
        counts[crossing.kind] += crossing.times
        sent[crossing.kind] += int(crossing.within + crossing.across)
    return {
        "memory": program.memory.total,
        "temporary": program.memory.temporary,
        "collectives": dict(sorted(counts.items())),
        "sent": dict(sorted(sent.items())),
    }


@pytest.mark.parametrize("mesh", [{"fsdp": 1}, {"fsdp": 4}], ids=["data", "fsdp"])
def test_base_on_four_chips_has_not_grown(mesh):
    """To take new figures: IREC_WRITE_BASELINE=1 pytest -m tpu tests/planning/test_tpu.py."""
    subject = make_subject(
        experiment_of(BASE, **mesh), Topology.parse("v5e:2x2"), vocabulary=32_128
    )
    programs = ("train", "score", "decode") if mesh["fsdp"] == 1 else ("train",)
    answer = compile_job(
        CompileJob(subject.experiment, subject.topology, subject.items, programs, FAST)
    )
    name = "fsdp" if mesh["fsdp"] > 1 else "data"
    found = {f"{name} {program.program}": figures(program) for program in answer.programs}
    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    if os.environ.get("IREC_WRITE_BASELINE"):
        BASELINE.write_text(json.dumps(dict(sorted((known | found).items())), indent=2) + "\n")
        return
    assert all(program.fits for program in answer.programs)
    for program, figure in found.items():
        before = known[program]
        for key in ("memory", "temporary"):
            assert figure[key] <= MAY_GROW * before[key], f"{program}: {key} grew"
        assert figure["collectives"].keys() <= before["collectives"].keys(), program
        for kind, count in figure["collectives"].items():
            assert count <= before["collectives"][kind], f"{program}: more {kind}"
            assert figure["sent"][kind] <= MAY_GROW * before["sent"][kind], f"{program}: {kind}"


def test_what_does_not_fit_is_refused_with_what_would(tmp_path, capsys):
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
    words = ["plan", str(path), "--topology", "v5e:2x2", "--programs", "train"]
    words += ["--json", str(out)]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1
    told = capsys.readouterr().out
    assert "It does not fit v5e:2x2: train." in told
    # What the compiler grants is what the datasheet's `usable` says.
    assert json.loads(out.read_text())["programs"][0]["refused"].endswith("(15.75G).")
    assert "The smallest change that makes it fit: --model.remat" in told


@pytest.mark.parametrize("family", datasheet())
def test_every_family_compiles(family):
    topology = Topology.parse(f"{family}:{datasheet()[family].shapes[0]}")
    plan = make_plan(make_subject(experiment_of(TINY), topology), programs=("train",))
    assert plan.fits
    assert plan.answer.devices == topology.devices
    assert 0 < plan.answer.programs[0].memory.total < topology.chip.usable


def test_two_slices_exchange_over_the_data_center_network():
    topology = Topology.parse("v5e:2x2*2")
    plan = make_plan(make_subject(experiment_of(TINY), topology), programs=("train",))
    (train,) = plan.answer.programs
    assert plan.answer.mesh["replica"] == 2
    assert any(crossing.slices == 2 for crossing in train.traffic)
    assert all(crossing.axes[0] == "replica" for crossing in train.traffic if crossing.slices == 2)
    assert plan.cost is not None
    assert plan.cost.dcn_s > plan.cost.ici_s
