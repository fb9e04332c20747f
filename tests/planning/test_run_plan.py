"""What a plan settles by itself, what it tries where a run does not fit, and ranks."""

import dataclasses

import pytest

from irec_jax.errors import InputError
from irec_jax.experiment.config import Experiment
from irec_jax.log.dataset import DataConfig
from irec_jax.model.config import BASE, XL, T5Config
from irec_jax.planning import compiled as compiling
from irec_jax.planning import run_plan as planning
from irec_jax.planning.compiled import (
    FAST,
    FULL,
    Compiled,
    CompileJob,
    CompilerCrash,
    CompileResult,
    Memory,
)
from irec_jax.planning.cost import train_cost
from irec_jax.planning.estimate import held
from irec_jax.planning.run_plan import changes, make_plan, make_subject, mesh_sizes
from irec_jax.planning.search import SearchResult, candidates, promising, ranked
from irec_jax.planning.topology import Topology
from irec_jax.tokens.config import IndexKind, TokensConfig
from irec_jax.training.config import TrainConfig
from irec_jax.training.sharding import BATCH_AXES, MeshConfig

DATA_ONLY = MeshConfig()
V5E4, V5E64 = Topology.parse("v5e:2x2"), Topology.parse("v5e:8x8")
TITLES = TokensConfig(tokenizer="nowhere/t5", index=IndexKind.TITLE, source_length=512)


def experiment_of(model=BASE, mesh=DATA_ONLY, batch=32, **train):
    return Experiment(
        model=dataclasses.replace(model, compute="bfloat16"),
        mesh=mesh,
        tokens=TITLES,
        train=TrainConfig(batch_size=batch, **train),
    )


def test_the_vocabulary_of_a_trained_tokenizer_and_atomic_items():
    experiment = Experiment(tokens=TokensConfig(vocabulary=2_048))
    subject = make_subject(experiment, V5E4)
    assert subject.items == experiment.data.simulate.items == 1_000
    assert subject.experiment.model.vocabulary == 3_072  # 3,048, up to a multiple of 128
    assert make_subject(experiment, V5E4, vocabulary=999).experiment.model.vocabulary == 999
    assert make_subject(experiment, V5E4, items=10_000).experiment.model.vocabulary == 12_160


def test_a_manifest_tells_the_catalog_and_nothing_else_is_read(tmp_path):
    (tmp_path / "manifest.json").write_text('{"counts": {"items": 7000}}')
    experiment = Experiment(data=DataConfig(log=str(tmp_path)))
    subject = make_subject(experiment, V5E4)
    assert subject.items == 7_000
    assert subject.experiment.model.vocabulary == 9_088


def test_what_is_not_here_is_assumed_and_said_or_refused():
    data = DataConfig(log="nowhere")
    with pytest.raises(InputError, match="--vocabulary"):
        make_subject(Experiment(data=data), V5E4)
    subject = make_subject(dataclasses.replace(experiment_of(), data=data), V5E4)
    assert subject.experiment.model.vocabulary == 32_128
    assert any("nowhere/t5" in note for note in subject.notes)
    assert any("--items" in note for note in subject.notes)


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
def test_a_mesh_for_other_devices_is_fitted(mesh, topology, sizes):
    subject = make_subject(experiment_of(mesh=mesh), topology)
    fitted = mesh_sizes(subject.experiment.mesh, topology.devices)
    assert tuple(fitted.values()) == sizes


def test_changes_come_smallest_first_and_cut_the_batch_evenly():
    subject = make_subject(experiment_of(batch=16, mesh=MeshConfig(fsdp=2)), V5E4)
    tried = list(changes(subject, ("train",)))
    assert [change.words for change in tried[:6]] == [
        "--model.remat dots",
        "--model.remat full",
        "--model.remat full --train.accumulate 2",
        "--model.remat full --train.accumulate 4",
        "--mesh.data 1 --mesh.fsdp 4",
        "--mesh.data 1 --mesh.fsdp 4 --model.remat dots",
    ]
    assert tried[-1].topology.chips == 16  # 16 rows cannot be cut into more
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


def test_fewer_requests_where_only_answering_does_not_fit():
    subject = make_subject(experiment_of(), V5E4)
    words = [change.words for change in changes(subject, ("score", "decode"))]
    assert words[:2] == ["--decode.batch 32", "--decode.batch 16"]
    assert words[-1] == "--decode.batch 1"


def compiler_with(limit, seen):
    """A compiler whose programs take what the formula says, in memory of `limit` bytes."""

    def compile_job(job, tell=None):
        sizes = mesh_sizes(job.experiment.mesh, job.topology.devices)
        total = held(job.experiment, sizes).total
        seen.append(total)
        memory = Memory(0, 0, 0, 0, total, 0, total, limit)
        programs = tuple(Compiled(name, memory) for name in job.programs)
        return CompileResult(job.topology.devices, sizes, 0.0, programs)

    return compile_job


def test_the_first_change_that_fits_is_told(monkeypatch):
    experiment = experiment_of(batch=64)
    seen = []
    sizes = {"replica": 1, "data": 4, "fsdp": 1, "tensor": 1}
    full = dataclasses.replace(
        experiment, model=dataclasses.replace(experiment.model, remat="full")
    )
    limit = held(full, sizes).total
    monkeypatch.setattr(planning, "compile_closely", compiler_with(limit, seen))
    plan = make_plan(make_subject(experiment, V5E4), programs=("train",))
    assert not plan.fits
    assert plan.change is not None
    assert plan.change.words == "--model.remat full"
    monkeypatch.setattr(planning, "compile_closely", compiler_with(10**15, seen))
    assert make_plan(make_subject(experiment, V5E4)).change is None


def test_what_is_hopeless_is_not_compiled(monkeypatch):
    seen = []
    monkeypatch.setattr(planning, "compile_closely", compiler_with(V5E4.chip.usable, seen))
    plan = make_plan(make_subject(experiment_of(XL, batch=64), V5E4), programs=("train",))
    assert plan.change is not None
    assert all(total <= planning.DOUBT * V5E4.chip.usable for total in seen[1:])
    assert len(seen) < 6


def test_candidates_use_the_devices_and_cut_what_they_must():
    experiment = experiment_of(BASE, batch=64)
    ways = list(candidates(experiment, 64))
    assert len({(w.mesh, w.train.batch_size, w.model.remat) for w in ways}) == len(ways)
    assert {w.mesh.tensor for w in ways} == {1, 2, 4}  # 12 heads are not cut into 8
    for way in ways:
        mesh = way.mesh
        assert mesh.replica * mesh.data * mesh.fsdp * mesh.tensor == 64
        assert way.train.batch_size % (mesh.replica * mesh.data * mesh.fsdp) == 0
    chip = V5E64.chip
    good = promising(experiment, 64, chip)
    assert good
    assert all(held(w, mesh_sizes(w.mesh, 64)).total <= chip.usable for w in good)
    # Where all fits, nothing is faster than remembering all.
    assert good[0].model.remat == "none"


def test_ways_are_ranked_by_speed_then_memory():
    def way(batch, temporary):
        experiment = experiment_of(T5Config(), batch=batch)
        memory = Memory(10**6, 10, 0, 0, temporary, 0, temporary, 10**12)
        compiled = Compiled("train", memory)
        answer = CompileResult(4, mesh_sizes(experiment.mesh, 4), 0.0, (compiled,))
        return SearchResult(experiment, compiled, train_cost(experiment, V5E4, answer, compiled))

    slow, fast, small = way(32, 10**11), way(32, 10**9), way(64, 2 * 10**9)
    order = ranked([slow, fast, small])
    assert order[-1] is slow
    speeds = [found.tokens_per_s for found in order]
    assert speeds == sorted(speeds, reverse=True)


def test_what_is_close_to_the_limit_is_compiled_as_a_run_compiles_it(monkeypatch):
    asked = []

    def compile_job(job, tell=None):
        asked.append((job.programs, job.effort))
        need = {"train": 96 if job.effort == FAST else 102, "score": 50, "decode": 150}
        programs = tuple(
            Compiled(name, Memory(0, 0, 0, 0, need[name], 0, need[name], 100))
            for name in job.programs
        )
        return CompileResult(4, {}, 0.0, programs)

    monkeypatch.setattr(compiling, "compile_job", compile_job)
    answer = compiling.compile_closely(CompileJob(experiment_of(), V5E4, 10))
    assert asked == [(("train", "score", "decode"), FAST), (("train",), FULL)]
    assert [program.fits for program in answer.programs] == [False, True, False]


def test_a_crash_at_little_effort_is_asked_again_and_one_at_full_is_passed_over(monkeypatch):
    asked = []

    def compile_job(job, tell=None):
        asked.append((job.experiment.model.remat, job.effort))
        if job.effort == FAST or job.experiment.model.remat == "dots":
            raise CompilerCrash("it crashed", where="topology")
        total = 10 if job.experiment.model.remat == "full" else 1_000
        return CompileResult(4, {}, 0.0, (Compiled("train", Memory(0, 0, 0, 0, 0, 0, total, 100)),))

    monkeypatch.setattr(compiling, "compile_job", compile_job)
    subject = make_subject(experiment_of(), V5E4)
    told = []
    plan = planning.smallest_change(
        subject, [Compiled("train", Memory(0, 0, 0, 0, 0, 0, 1_000, 100))], told.append
    )
    assert plan is not None
    assert plan.words == "--model.remat full"
    assert asked == [("dots", FAST), ("dots", FULL), ("full", FAST), ("full", FULL)]
    assert "it crashed" in told
