"""Shards made by Apache Beam: the same set as without it, resumable, with its errors reported."""

import json
from pathlib import Path

import pytest

pytest.importorskip("apache_beam")

from tensorflow_datasets.proto import tf_example_pb2

from irec_jax.audit.audit import Auditor
from irec_jax.cli.main import main
from irec_jax.errors import InputError
from irec_jax.instruction_sets import store
from irec_jax.instruction_sets.record_encoding import encode_record
from irec_jax.instruction_sets.store import InstructionSet, write_instruction_set
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import TaskName
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.teacher import LogTeacher
from irec_jax.log.split import Split
from irec_jax.storage.beam_runner import beam_flags, beam_runner
from irec_jax.storage.shards import Shard, ShardWriter

# Beam and its dependencies warn of their own affairs.
pytestmark = [pytest.mark.beam, pytest.mark.filterwarnings("default")]

CONFIG = InstructionsConfig(
    max_history=2,
    tasks=(TaskName.SEQUENTIAL_RECOMMENDATION, TaskName.PERSONALIZED_SEARCH),
    packs=("en", "zh"),
)


@pytest.fixture
def renderer(split: Split, titles: list[str]) -> Renderer:
    return Renderer.build(split, CONFIG, titles, seed=11, teacher=LogTeacher.of(split))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "SHARD_RECORDS", 64)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "options", ["", "direct_num_workers=2 direct_running_mode=multi_threading"]
)
def test_beam_makes_the_same_set(renderer: Renderer, split: Split, tmp_path: Path, options: str):
    auditor = Auditor.build(renderer, split)
    runner = beam_runner("DirectRunner", options)
    ours = write_instruction_set(renderer, tmp_path / "ours", 1_000, auditor=auditor)
    theirs = write_instruction_set(
        renderer, tmp_path / "theirs", 1_000, auditor=auditor, runner=runner
    )
    assert ours == theirs
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs"]
    stored = InstructionSet(tmp_path / "theirs")
    assert all(stored[n] == renderer.record(n) for n in range(0, 1_000, 7))


def test_beam_goes_on_where_another_build_was_ended(
    renderer: Renderer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    expected = write_instruction_set(renderer, tmp_path / "fresh", 500)

    make, made = ShardWriter.__call__, []

    def interrupted(self: ShardWriter, shard: Shard, advance):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(shard)
        return make(self, shard, advance)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_instruction_set(renderer, tmp_path / "set", 500)
    runner = beam_runner("DirectRunner")
    assert write_instruction_set(renderer, tmp_path / "set", 500, runner=runner) == expected
    printed = capsys.readouterr().err
    assert "3 of 8 shards are there already" in printed
    assert "5 shards for Beam's DirectRunner" in printed


def test_what_fails_on_beam_is_reported_without_a_traceback(renderer: Renderer, tmp_path: Path):
    runner = beam_runner("NoSuchRunner")
    with pytest.raises(InputError, match="NoSuchRunner"):
        write_instruction_set(renderer, tmp_path / "set", 50, runner=runner)
    assert not (tmp_path / "set").exists()


def test_the_command_line_hands_the_work_to_beam(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    experiment = tmp_path / "small.py"
    experiment.write_text(
        "from irec_jax.experiment.config import Experiment\n"
        "from irec_jax.log.dataset import DataConfig\n"
        "from irec_jax.log.simulate import SimulateConfig\n"
        "from irec_jax.tokens.config import TokensConfig\n"
        "experiment = Experiment(\n"
        "    data=DataConfig(simulate=SimulateConfig(users=60, items=100)),\n"
        "    tokens=TokensConfig(vocabulary=512),\n"
        ")\n"
    )
    folders = [tmp_path / name for name in ("ours", "theirs", "packed", "packed-by-beam")]
    common = ["instruct", str(experiment), "--records", "300"]
    beam = ["--runner", "DirectRunner", "--beam-options", "direct_num_workers=1"]
    assert main([*common, "--out", str(folders[0]), "--packed", str(folders[2])]) == 0
    assert main([*common, "--out", str(folders[1]), "--packed", str(folders[3]), *beam]) == 0
    assert contents(folders[0]) == contents(folders[1])
    assert contents(folders[2]) == contents(folders[3])
    checksum = json.loads((folders[0] / "instruction_set.json").read_text())["sha256"]
    assert capsys.readouterr().out.count(checksum) == 2


def test_bytes_are_those_of_beams_protobuf_too(renderer: Renderer):
    parse = tf_example_pb2.Example.FromString
    for number in range(100):
        ours = encode_record(renderer.record(number), number)
        assert parse(ours).SerializeToString(deterministic=True) == ours
        assert set(parse(ours).features.feature) == set(store.record_features())


def test_flags_are_as_beam_wants_them():
    assert beam_flags("") == []
    assert beam_flags("a=b c") == ["--a=b", "--c"]
    assert beam_flags("--a 'b c' --d=e") == ["--a", "b c", "--d=e"]
