"""Stored sets: what comes back is what was rendered, without TensorFlow, all or nothing."""

import hashlib
import json
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.proto import tf_example_pb2

from irec_jax.errors import InputError
from irec_jax.instructions import store
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.store import InstructionSet, write_instruction_set
from irec_jax.instructions.tasks import InstructionsConfig
from irec_jax.log.split import Split


@pytest.fixture
def renderer(split: Split, titles: list[str]) -> Renderer:
    titles[1], titles[5] = "{odd} שלום 🛋", "line\nbreak"
    return Renderer.build(split, InstructionsConfig(max_history=2), titles, seed=11)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "SHARD_RECORDS", 64)


def test_stored_record_i_is_the_rendered_record_i(renderer: Renderer, tmp_path: Path):
    manifest = write_instruction_set(renderer, tmp_path / "set", 500)
    stored = InstructionSet(tmp_path / "set")
    assert len(stored) == 500
    assert len(manifest.files) == 8
    for number in random.Random(0).sample(range(500), 200):
        assert vars(stored[number]) == vars(renderer.record(number))
    assert vars(stored[-1]) == vars(renderer.record(499))
    assert [vars(r) for r in stored[62:66]] == [vars(renderer.record(i)) for i in range(62, 66)]
    with pytest.raises(IndexError):
        stored[500]


def test_tfds_reads_it_by_itself(renderer: Renderer, tmp_path: Path):
    write_instruction_set(renderer, tmp_path / "set", 70)
    source = tfds.builder_from_directory(str(tmp_path / "set")).as_data_source("train")
    record, expected = source[66], renderer.record(66)
    assert len(source) == 70
    assert record["inputs"].decode() == expected.inputs
    assert record["number"] == 66
    assert record["target_item"] == expected.target_item
    assert set(record) == {*vars(expected), "number"}


def test_bytes_mean_the_same_as_those_of_tfds(renderer: Renderer):
    features = store.record_features()
    serializer = ExampleSerializer(features.get_serialized_info())
    for number in range(20):
        instruction = renderer.record(number)
        theirs = serializer.serialize_example(
            features.encode_example({**vars(instruction), "number": number})
        )
        ours = store._serialize(instruction, number)
        parse = tf_example_pb2.Example.FromString
        assert parse(ours) == parse(theirs)


def test_the_manifest_says_what_is_there_and_what_made_it(
    renderer: Renderer, split: Split, titles: list[str], tmp_path: Path
):
    manifest = write_instruction_set(renderer, tmp_path / "set", 100)
    sums = [store.record_sha256(renderer.record(n), n) for n in range(100)]
    assert manifest.sha256 == hashlib.sha256(b"".join(sums)).hexdigest()
    assert sum(sum(counts.values()) for counts in manifest.counts.values()) == 100
    assert manifest.pass_records == len(renderer) == 11
    assert manifest.cut_histories == renderer.cut_histories == 1
    assert manifest.config["max_history"] == 2
    assert json.loads((tmp_path / "set" / "instruction_set.json").read_text())["seed"] == 11
    for name, checksum in manifest.files.items():
        assert hashlib.sha256((tmp_path / "set" / name).read_bytes()).hexdigest() == checksum

    again = write_instruction_set(renderer, tmp_path / "again", 100)
    assert again == manifest, "the same to the byte"
    config = renderer.wording.config
    other = Renderer.build(split, config, titles, seed=12)
    assert write_instruction_set(other, tmp_path / "set", 100).sha256 != manifest.sha256
    titles[0] = "another"
    changed = Renderer.build(split, config, titles, seed=11)
    assert changed.fingerprint() != renderer.fingerprint() == other.fingerprint()


def test_a_folder_with_something_else_in_it_is_left_alone(renderer: Renderer, tmp_path: Path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(InputError, match="no instruction set"):
        write_instruction_set(renderer, tmp_path, 5)
    with pytest.raises(InputError, match="no instruction set"):
        write_instruction_set(renderer, tmp_path / "mine", 5)
    (tmp_path / "instruction_set.json").write_text('{"seed": 0}')
    with pytest.raises(InputError, match="no instruction set"):
        write_instruction_set(renderer, tmp_path, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["instruction_set.json", "mine"]
    with pytest.raises(InputError, match="0 is less than 1"):
        write_instruction_set(renderer, tmp_path / "new", 0)


def test_a_damaged_set_is_named(renderer: Renderer, tmp_path: Path):
    with pytest.raises(InputError, match="no instruction set here"):
        InstructionSet(tmp_path / "none")
    write_instruction_set(renderer, tmp_path / "set", 100)
    (tmp_path / "set" / "instruction_set-train.array_record-00001-of-00002").unlink()
    with pytest.raises(InputError, match=r"00001-of-00002.*missing"):
        InstructionSet(tmp_path / "set")
    (tmp_path / "set" / "instruction_set.json").write_text("{")
    with pytest.raises(InputError, match="not the manifest"):
        InstructionSet(tmp_path / "set")


def test_an_interrupted_write_leaves_the_old_set(
    renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    old = write_instruction_set(renderer, tmp_path / "set", 10)

    def interrupted(path: Path) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_file_sha256", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_instruction_set(renderer, tmp_path / "set", 20)
    assert InstructionSet(tmp_path / "set").manifest == old
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


PROGRAM = """
import errno, pathlib, pickle, resource, sys
from irec_jax.instructions import store
renderer = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
folder = pathlib.Path(sys.argv[2])
store.write_instruction_set(renderer, folder, 50)
assert store.InstructionSet(folder)[49] is not None
assert not [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "torch")]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.write_instruction_set(renderer, folder, 20_000)
except OSError as error:
    assert error.errno == errno.EFBIG, error
    assert "array_record" in error.filename
else:
    raise AssertionError("a full disk went unnoticed")
assert len(store.InstructionSet(folder)) == 50
assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]
"""


def test_no_tensorflow_and_a_full_disk(renderer: Renderer, tmp_path: Path):
    pickled = tmp_path / "renderer"
    pickled.write_bytes(pickle.dumps(renderer))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(pickled), str(tmp_path / "set")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "a library writes only what it is asked to"
