"""Assumptions of a plan, changes that make a run fit, and the ranking of a search."""

import dataclasses

import pytest

from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment
from irec_jax.log.dataset import DataConfig
from irec_jax.model.config import T5Config
from irec_jax.planning import compiled as compiling
from irec_jax.planning import run_plan as planning
from irec_jax.planning.compiled import (
    FAST_EFFORT,
    FULL_EFFORT,
    CompiledProgram,
    CompileJob,
    CompilerCrash,
    CompileResult,
    Memory,
)
from irec_jax.planning.cost import train_cost
from irec_jax.planning.estimate import estimate_memory
from irec_jax.planning.run_plan import changes, make_inputs, make_plan, mesh_sizes
from irec_jax.planning.search import SearchResult, candidates, rank_candidates, rank_results
from irec_jax.planning.topology import Topology
from irec_jax.tokens.config import IndexKind, TokensConfig
from irec_jax.training.config import TrainConfig
from irec_jax.training.sharding import BATCH_AXES, MeshConfig

DATA_ONLY = MeshConfig()
V5E4, V5E64 = Topology.parse("v5e:2x2"), Topology.parse("v5e:8x8")
TITLES = TokensConfig(tokenizer="nowhere/t5", index=IndexKind.TITLE, source_length=512)


BASE = T5Config.flan("base")
XL = T5Config.flan("xl")


def experiment_of(model=BASE, mesh=DATA_ONLY, batch=32, **train):
    return Experiment(
        model=dataclasses.replace(model, compute="bfloat16"),
        mesh=mesh,
        tokens=TITLES,
        train=TrainConfig(batch_size=batch, **train),
    )


def test_the_vocabulary_of_a_trained_tokenizer_and_atomic_items():
    experiment = Experiment(tokens=TokensConfig(vocabulary=2_048))
    inputs = make_inputs(experiment, V5E4)
    assert inputs.items == experiment.data.simulate.items == 1_000
    assert inputs.experiment.model.vocabulary == 3_072  # 3,048, up to a multiple of 128
    assert make_inputs(experiment, V5E4, vocabulary=999).experiment.model.vocabulary == 999
    assert make_inputs(experiment, V5E4, items=10_000).experiment.model.vocabulary == 12_160


def test_the_catalog_size_is_read_from_the_manifest_alone(tmp_path):
    (tmp_path / "manifest.json").write_text('{"counts": {"items": 7000}}')
    experiment = Experiment(data=DataConfig(log=str(tmp_path)))
    inputs = make_inputs(experiment, V5E4)
    assert inputs.items == 7_000
    assert inputs.experiment.model.vocabulary == 9_088


def test_missing_inputs_are_assumed_with_a_note_or_refused():
    data = DataConfig(log="nowhere")
    with pytest.raises(InputError, match="--vocabulary"):
        make_inputs(Experiment(data=data), V5E4)
    inputs = make_inputs(dataclasses.replace(experiment_of(), data=data), V5E4)
    assert inputs.experiment.model.vocabulary == 32_128
    assert any("nowhere/t5" in note for note in inputs.notes)
    assert any("--items" in note for note in inputs.notes)


@pytest.mark.parametrize(
    ("mesh", "topology", "sizes"),
    [
        (MeshConfig(), V5E4, (1, 4, 1, 1)),
        (MeshConfig(data=1, fsdp=64), V5E64, (1, 1, 64, 1)),
        (MeshConfig(data=1, fsdp=64), V5E4, (1, 1, 4, 1)),
        (MeshConfig(data=1, fsdp=4), V5E64, (1, 1, 64, 1)),
        (MeshConfig(fsdp=8), V5E64, (1, 8, 8, 1)),
        (MeshConfig(fsdp=8, tensor=2), V5E4, (1, 1, 2, 2)),
        (MeshConfig(fsdp=4), Topology.parse("v5e:2x2*2"), (2, 1, 4, 1)),
        (MeshConfig(fsdp=3), Topology.parse("v5e:2x4"), (1, 4, 2, 1)),
    ],
)
def test_a_mesh_for_another_number_of_devices_is_fitted(mesh, topology, sizes):
    inputs = make_inputs(experiment_of(mesh=mesh), topology)
    fitted = mesh_sizes(inputs.experiment.mesh, topology.devices)
    assert tuple(fitted.values()) == sizes


def test_changes_are_ordered_by_size_and_divide_the_batch():
    inputs = make_inputs(experiment_of(batch=16, mesh=MeshConfig(fsdp=2)), V5E4)
    tried = list(changes(inputs, ("train",)))
    assert [change.flags for change in tried[:6]] == [
        "--model.remat dots",
        "--model.remat full",
        "--model.remat full --train.accumulate 2",
        "--model.remat full --train.accumulate 4",
        "--mesh.data 1 --mesh.fsdp 4",
        "--mesh.data 1 --mesh.fsdp 4 --model.remat dots",
    ]
    assert tried[-1].topology.chips == 16  # 16 rows cannot be divided further
    chips = [change.topology.chips for change in tried]
    assert chips == sorted(chips)
    for change in tried:
        sizes = mesh_sizes(change.experiment.mesh, change.topology.devices)
        assert sizes["replica"] * sizes["data"] * sizes["fsdp"] * sizes["tensor"] == (
            change.topology.devices
        )
        parts = change.experiment.train.accumulate
        for axis in BATCH_AXES:
            parts *= sizes[axis]
        assert change.experiment.train.batch_size % parts == 0


def test_fewer_requests_if_only_serving_does_not_fit():
    inputs = make_inputs(experiment_of(), V5E4)
    flags = [change.flags for change in changes(inputs, ("score", "decode"))]
    assert flags[:2] == ["--decode.batch 32", "--decode.batch 16"]
    assert flags[-1] == "--decode.batch 1"


def compiler_with(limit, seen):
    """A compiler whose programs need the estimated memory, on devices with `limit` bytes."""

    def compile_job(job, report=None):
        sizes = mesh_sizes(job.experiment.mesh, job.topology.devices)
        total = estimate_memory(job.experiment, sizes).total
        seen.append(total)
        memory = Memory(0, 0, 0, 0, total, 0, total, limit)
        programs = tuple(CompiledProgram(name, memory) for name in job.programs)
        return CompileResult(job.topology.devices, sizes, 0.0, programs)

    return compile_job


def test_the_first_change_that_fits_is_returned(monkeypatch):
    experiment = experiment_of(batch=64)
    seen = []
    sizes = {"replica": 1, "data": 4, "fsdp": 1, "tensor": 1}
    full = dataclasses.replace(
        experiment, model=dataclasses.replace(experiment.model, remat="full")
    )
    limit = estimate_memory(full, sizes).total
    monkeypatch.setattr(planning, "compile_with_recheck", compiler_with(limit, seen))
    plan = make_plan(make_inputs(experiment, V5E4), programs=("train",))
    assert not plan.fits
    assert plan.change is not None
    assert plan.change.flags == "--model.remat full"
    monkeypatch.setattr(planning, "compile_with_recheck", compiler_with(10**15, seen))
    assert make_plan(make_inputs(experiment, V5E4)).change is None


def test_hopeless_changes_are_not_compiled(monkeypatch):
    seen = []
    monkeypatch.setattr(planning, "compile_with_recheck", compiler_with(V5E4.chip.usable, seen))
    plan = make_plan(make_inputs(experiment_of(XL, batch=64), V5E4), programs=("train",))
    assert plan.change is not None
    assert all(total <= planning.HOPELESS_FACTOR * V5E4.chip.usable for total in seen[1:])
    assert len(seen) < 6


def test_candidates_use_all_devices_and_divide_batch_and_heads():
    experiment = experiment_of(BASE, batch=64)
    considered = list(candidates(experiment, 64))
    assert len({(w.mesh, w.train.batch_size, w.model.remat) for w in considered}) == len(considered)
    assert {w.mesh.tensor for w in considered} == {1, 2, 4}  # 8 does not divide 12 heads
    for candidate in considered:
        mesh = candidate.mesh
        assert mesh.replica * mesh.data * mesh.fsdp * mesh.tensor == 64
        assert candidate.train.batch_size % (mesh.replica * mesh.data * mesh.fsdp) == 0
    chip = V5E64.chip
    good = rank_candidates(experiment, 64, chip)
    assert good
    assert all(estimate_memory(w, mesh_sizes(w.mesh, 64)).total <= chip.usable for w in good)
    # If everything fits, no remat is the fastest.
    assert good[0].model.remat == "none"


def test_results_are_ranked_by_speed_and_then_memory():
    def result_of(batch, temporary):
        experiment = experiment_of(T5Config(), batch=batch)
        memory = Memory(10**6, 10, 0, 0, temporary, 0, temporary, 10**12)
        compiled = CompiledProgram("train", memory)
        compile_result = CompileResult(4, mesh_sizes(experiment.mesh, 4), 0.0, (compiled,))
        return SearchResult(
            experiment, compiled, train_cost(experiment, V5E4, compile_result, compiled)
        )

    slow, fast, small = result_of(32, 10**11), result_of(32, 10**9), result_of(64, 2 * 10**9)
    order = rank_results([slow, fast, small])
    assert order[-1] is slow
    speeds = [result.tokens_per_s for result in order]
    assert speeds == sorted(speeds, reverse=True)


def test_programs_near_the_limit_are_compiled_with_full_effort(monkeypatch):
    compiled_jobs = []

    def compile_job(job, report=None):
        compiled_jobs.append((job.programs, job.effort))
        need = {"train": 96 if job.effort == FAST_EFFORT else 102, "score": 50, "decode": 150}
        programs = tuple(
            CompiledProgram(name, Memory(0, 0, 0, 0, need[name], 0, need[name], 100))
            for name in job.programs
        )
        return CompileResult(4, {}, 0.0, programs)

    monkeypatch.setattr(compiling, "compile_job", compile_job)
    result = compiling.compile_with_recheck(CompileJob(experiment_of(), V5E4, 10))
    assert compiled_jobs == [(("train", "score", "decode"), FAST_EFFORT), (("train",), FULL_EFFORT)]
    assert [program.fits for program in result.programs] == [False, True, False]


def test_a_crash_is_retried_with_full_effort_and_then_skipped(monkeypatch):
    compiled_jobs = []

    def compile_job(job, report=None):
        compiled_jobs.append((job.experiment.model.remat, job.effort))
        if job.effort == FAST_EFFORT or job.experiment.model.remat == "dots":
            raise CompilerCrash("it crashed", where="topology")
        total = 10 if job.experiment.model.remat == "full" else 1_000
        return CompileResult(
            4, {}, 0.0, (CompiledProgram("train", Memory(0, 0, 0, 0, 0, 0, total, 100)),)
        )

    monkeypatch.setattr(compiling, "compile_job", compile_job)
    inputs = make_inputs(experiment_of(), V5E4)
    lines = []
    change = planning.smallest_change(
        inputs, [CompiledProgram("train", Memory(0, 0, 0, 0, 0, 0, 1_000, 100))], lines.append
    )
    assert change is not None
    assert change.flags == "--model.remat full"
    assert compiled_jobs == [
        ("dots", FAST_EFFORT),
        ("dots", FULL_EFFORT),
        ("full", FAST_EFFORT),
        ("full", FULL_EFFORT),
    ]
    assert "it crashed" in lines
