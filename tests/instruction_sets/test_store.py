"""Stored sets: any writer stores exactly what was rendered; all or nothing."""

import dataclasses
import errno
import hashlib
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from irec_jax.audit.audit import Audit, Auditor
from irec_jax.errors import InputError
from irec_jax.instruction_sets import store
from irec_jax.instruction_sets.contents import audit_records
from irec_jax.instruction_sets.record_encoding import encode_record
from irec_jax.instruction_sets.store import InstructionSet, write_instruction_set
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import Instruction, TaskName
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.teacher import LogTeacher
from irec_jax.log.split import Split
from irec_jax.settings import from_json
from irec_jax.storage import shards
from irec_jax.storage.record_checksums import record_sha256

ROOT = Path(__file__).parents[2]
TASKS = (
    TaskName.SEQUENTIAL_RECOMMENDATION,
    TaskName.PERSONALIZED_SEARCH,
    TaskName.SEQUENTIAL_RERANKING,
    TaskName.SEQUENTIAL_POINTWISE,
)
CONFIG = InstructionsConfig(max_history=2, tasks=TASKS, packs=("en", "zh"), candidates=3)


@pytest.fixture
def renderer(split: Split, titles: list[str]) -> Renderer:
    titles[1], titles[5] = "{odd} שלום 🛋", "line\nbreak"
    return Renderer.build(split, CONFIG, titles, seed=11, teacher=LogTeacher.of(split))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "SHARD_RECORDS", 64)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_records_are_stored_as_they_are(renderer: Renderer, tmp_path: Path):
    write_instruction_set(renderer, tmp_path / "set", 100)
    shards = b"".join(contents(tmp_path / "set").values())
    records = [encode_record(renderer.record(number), number) for number in range(100)]
    assert all(record in shards for record in records)


def fields_of(renderer: Renderer) -> dict[str, Any]:
    return {field.name: getattr(renderer, field.name) for field in dataclasses.fields(renderer)}


def test_stored_record_i_is_the_rendered_record_i(renderer: Renderer, tmp_path: Path):
    manifest = write_instruction_set(renderer, tmp_path / "set", 500)
    stored = InstructionSet(tmp_path / "set")
    assert len(stored) == 500
    assert len(manifest.files) == 8
    for number in random.Random(0).sample(range(500), 300):
        assert stored[number] == renderer.record(number)
    assert stored[-1] == renderer.record(499)
    assert stored[62:66] == [renderer.record(i) for i in range(62, 66)]
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
    assert record["candidates"] == list(expected.candidates)
    assert set(record) == {*expected._fields, "number"}


def test_bytes_mean_the_same_as_those_of_tfds(renderer: Renderer):
    features = store.record_features()
    serializer = ExampleSerializer(features.get_serialized_info())
    parse = tf_example_pb2.Example.FromString
    for number in range(40):
        instruction = renderer.record(number)
        theirs = serializer.serialize_example(
            features.encode_example({**instruction._asdict(), "number": number})
        )
        assert parse(encode_record(instruction, number)) == parse(theirs)


WHOLE = st.integers(-(2**63), 2**63 - 1)
RECORDS = st.fixed_dictionaries(
    {
        **dict.fromkeys(
            ("inputs", "targets", "scenario", "strategy", "task", "template", "language", "split"),
            st.text(max_size=200),
        ),
        **dict.fromkeys(("user", "target_item", "seed", "number"), WHOLE),
        "candidates": st.lists(WHOLE, max_size=30),
    }
)


@given(RECORDS)
def test_bytes_are_those_of_the_protobuf_classes(fields: dict):
    number = fields.pop("number")
    instruction = Instruction(**{**fields, "candidates": tuple(fields["candidates"])})

    def feature(value):
        if isinstance(value, str):
            values = tf_feature_pb2.BytesList(value=[value.encode()])
            return tf_feature_pb2.Feature(bytes_list=values)
        numbers = value if isinstance(value, tuple) else (value,)
        return tf_feature_pb2.Feature(int64_list=tf_feature_pb2.Int64List(value=numbers))

    values = {name: feature(v) for name, v in {**instruction._asdict(), "number": number}.items()}
    example = tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=values))
    assert encode_record(instruction, number) == example.SerializeToString(deterministic=True)


def test_the_manifest_says_what_is_there_and_what_made_it(
    renderer: Renderer, split: Split, titles: list[str], tmp_path: Path
):
    manifest = write_instruction_set(renderer, tmp_path / "set", 100)
    records = [renderer.record(n) for n in range(100)]
    sums = [int(hashlib.sha256(encode_record(r, n)).hexdigest(), 16) for n, r in enumerate(records)]
    assert manifest.sha256 == f"{sum(sums) % 2**256:064x}"
    counts = {tuple(c[k] for k in ("task", "language", "template")): 0 for c in manifest.counts}
    for record in records:
        counts[record.task, record.language, record.template] += 1
    assert sorted(counts.values()) == sorted(count["records"] for count in manifest.counts)
    assert manifest.pass_records == len(renderer)
    assert manifest.cut_histories == renderer.cut_histories > 0
    assert manifest.config["max_history"] == 2
    assert json.loads((tmp_path / "set" / "instruction_set.json").read_text())["seed"] == 11
    for name, checksum in manifest.files.items():
        assert hashlib.sha256((tmp_path / "set" / name).read_bytes()).hexdigest() == checksum

    again = write_instruction_set(renderer, tmp_path / "again", 100)
    assert again == manifest, "the same to the byte"
    other = Renderer.build(split, CONFIG, titles, seed=12, teacher=LogTeacher.of(split))
    assert write_instruction_set(other, tmp_path / "set", 100).sha256 != manifest.sha256
    titles[0] = "another"
    changed = Renderer.build(split, CONFIG, titles, seed=11, teacher=LogTeacher.of(split))
    assert changed.fingerprint() != renderer.fingerprint() == other.fingerprint()


def test_the_checksum_of_a_set_hangs_on_every_record_but_not_on_the_order():
    records = [bytes([number]) * 5 for number in range(4)]
    total = sum(map(record_sha256, records))
    assert total == sum(map(record_sha256, reversed(records)))
    assert total != sum(map(record_sha256, [*records[:3], records[2]]))


def test_any_number_of_workers_writes_the_same_files(
    renderer: Renderer, split: Split, tmp_path: Path
):
    auditor = Auditor.build(renderer, split)
    one = write_instruction_set(renderer, tmp_path / "one", 1_000, auditor=auditor)
    two = write_instruction_set(renderer, tmp_path / "two", 1_000, workers=2, auditor=auditor)
    assert one == two
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    stored = (tmp_path / "one" / "audit.json").read_bytes()
    assert hashlib.sha256(stored).hexdigest() == one.audit
    whole = auditor.audit((n, renderer.record(n)) for n in range(1_000))
    assert from_json(Audit, json.loads(stored)) == whole
    assert audit_records(renderer, auditor, 1_000, workers=2) == whole
    assert renderer.prompt_writer.names[0] in (tmp_path / "one" / "sample.html").read_text()


@dataclasses.dataclass(frozen=True, eq=False)
class Leaky(Renderer):
    """Tells the answer in record 77."""

    def record(self, number: int, shuffle: int = 0) -> Instruction:
        record = super().record(number, shuffle)
        if number != 77:
            return record
        title = self.prompt_writer.names[record.target_item]
        return record._replace(inputs=f"{record.inputs} {title}")


def test_a_set_with_a_leak_is_not_published(renderer: Renderer, split: Split, tmp_path: Path):
    old = write_instruction_set(renderer, tmp_path / "set", 10)
    leaky = Leaky(**fields_of(renderer))
    with pytest.raises(InputError, match="record 77"):
        write_instruction_set(leaky, tmp_path / "set", 100, auditor=Auditor.build(renderer, split))
    assert InstructionSet(tmp_path / "set").manifest == old


def test_a_folder_with_something_else_in_it_is_left_alone(renderer: Renderer, tmp_path: Path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(InputError, match="not an instruction set: mine"):
        write_instruction_set(renderer, tmp_path, 5)
    with pytest.raises(InputError, match="a file, not a folder"):
        write_instruction_set(renderer, tmp_path / "mine", 5)
    (tmp_path / "instruction_set.json").write_text('{"seed": 0}')
    with pytest.raises(InputError, match="not an instruction set"):
        write_instruction_set(renderer, tmp_path, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["instruction_set.json", "mine"]
    for records, workers in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match="must be between 1 and"):
            write_instruction_set(renderer, tmp_path / "new", records, workers=workers)


def test_a_damaged_set_is_named(renderer: Renderer, tmp_path: Path):
    with pytest.raises(InputError, match="no instruction set here"):
        InstructionSet(tmp_path / "none")
    write_instruction_set(renderer, tmp_path / "set", 100)
    (tmp_path / "set" / "instruction_set-train.array_record-00001-of-00002").unlink()
    with pytest.raises(InputError, match=r"00001-of-00002.*missing"):
        InstructionSet(tmp_path / "set")
    for damage in ("{", "[]", '{"records": 3}'):
        (tmp_path / "set" / "instruction_set.json").write_text(damage)
        with pytest.raises(InputError, match="not the manifest"):
            InstructionSet(tmp_path / "set")


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers that this process renders from now on."""
    numbers: list[int] = []
    record = Renderer.record

    def counted(self: Renderer, number: int, shuffle: int = 0) -> Instruction:
        numbers.append(number)
        return record(self, number, shuffle)

    monkeypatch.setattr(Renderer, "record", counted)
    return numbers


def interrupt_after(monkeypatch: pytest.MonkeyPatch, count: int, error: BaseException):
    """Ends the next build when it is about to check its shard number `count`."""
    checked = []

    def interrupted(path: Path) -> str:
        checked.append(path)
        if len(checked) > count:
            raise error
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(shards, "file_sha256", interrupted)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_an_interrupted_build_leaves_the_old_set_and_goes_on(
    renderer: Renderer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rendered: list[int],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
):
    old = write_instruction_set(renderer, tmp_path / "set", 10)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3, error)
        with pytest.raises(type(error)):
            write_instruction_set(renderer, tmp_path / "set", 500)
    assert InstructionSet(tmp_path / "set").manifest == old
    assert "finished shards are kept in" in capsys.readouterr().err

    rendered.clear()
    new = write_instruction_set(renderer, tmp_path / "set", 500)
    assert rendered == list(range(3 * 64, 500))
    assert "3 of 8 shards are there already" in capsys.readouterr().err
    assert write_instruction_set(renderer, tmp_path / "fresh", 500) == new
    assert contents(tmp_path / "fresh") == contents(tmp_path / "set")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "set"]


def test_what_is_damaged_or_foreign_in_a_build_is_made_again(
    renderer: Renderer,
    split: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rendered: list[int],
    capsys: pytest.CaptureFixture[str],
):
    def interrupted(seed: int = 11) -> Path:
        other = Renderer.build(
            split, CONFIG, renderer.prompt_writer.names, seed=seed, teacher=LogTeacher.of(split)
        )
        with monkeypatch.context() as patch:
            interrupt_after(patch, 5, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                write_instruction_set(other, tmp_path / "set", 500)
        rendered.clear()
        return tmp_path / ".set.partial"

    expected = write_instruction_set(renderer, tmp_path / "fresh", 500)
    partial = interrupted()
    files, reports = (sorted((partial / name).iterdir()) for name in ("set", "reports"))
    files[0].write_bytes(files[0].read_bytes()[:-1])
    files[1].unlink()
    reports[2].write_text("{")
    reports[3].unlink()
    (partial / "set" / "half-written").write_text("what a kill leaves")
    assert write_instruction_set(renderer, tmp_path / "set", 500) == expected
    assert sorted(rendered) == [*range(4 * 64), *range(5 * 64, 500)]
    assert contents(tmp_path / "set") == contents(tmp_path / "fresh")
    assert f"{files[0].name} is damaged" in capsys.readouterr().err

    interrupted(seed=12)
    assert write_instruction_set(renderer, tmp_path / "set", 500) == expected
    assert len(rendered) == 500
    assert "made from something else; it is discarded" in capsys.readouterr().err


def test_an_end_between_the_two_renames_loses_nothing(
    renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    old = write_instruction_set(renderer, tmp_path / "set", 10)
    replace = os.replace

    def once(source: Path, target: Path) -> None:
        if Path(target) == tmp_path / "set":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", once)
        with pytest.raises(KeyboardInterrupt):
            write_instruction_set(renderer, tmp_path / "set", 20)
    assert not (tmp_path / "set").exists()
    with shards.open_build(tmp_path / "set", {}):
        assert InstructionSet(tmp_path / "set").manifest == old
        with pytest.raises(InputError, match="another process"):
            write_instruction_set(renderer, tmp_path / "set", 20)


BUILD = """
import pathlib, pickle, sys
from irec_jax.instruction_sets import store
store.SHARD_RECORDS = 1_000
renderer = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
store.write_instruction_set(renderer, pathlib.Path(sys.argv[2]), 30_000, workers=2)
"""


def build(pickled: Path, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-W", "error", "-c", BUILD, str(pickled), str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def started(renderer: Renderer, folder: Path) -> subprocess.Popen:
    """Starts a build with two workers, and waits until a few shards are finished."""
    pickled = folder.with_name("renderer")
    pickled.write_bytes(pickle.dumps(renderer))
    process = build(pickled, folder)
    reports = folder.with_name(f".{folder.name}.partial") / "reports"
    deadline = time.monotonic() + 60
    while not reports.is_dir() or len(list(reports.glob("inst*.json"))) < 4:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def wait_for_the_end_of(pids: list[int]):
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a worker outlives the one that started it"
        time.sleep(0.05)


def test_a_killed_build_goes_on_to_the_same_bytes(renderer: Renderer, tmp_path: Path):
    process = started(renderer, tmp_path / "set")
    workers = children(process.pid)
    assert len(workers) >= 2
    process.kill()
    process.communicate()
    wait_for_the_end_of(workers)
    assert not (tmp_path / "set").exists()

    output = build(tmp_path / "renderer", tmp_path / "set").communicate(timeout=60)[1]
    there = re.search(r"(\d+) of 30 shards are there already", output)
    assert there is not None, output
    assert 4 <= int(there[1]) < 30
    assert f"{(30 - int(there[1])) * 1_000:,}/" in output, "no more is rendered than is missing"
    build(tmp_path / "renderer", tmp_path / "fresh").communicate(timeout=60)
    assert contents(tmp_path / "set") == contents(tmp_path / "fresh")
    assert len(InstructionSet(tmp_path / "set")) == 30_000


def test_ctrl_c_and_a_killed_worker_end_everything(renderer: Renderer, tmp_path: Path):
    process = started(renderer, tmp_path / "set")
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=20)[1]
    assert "KeyboardInterrupt" in output
    assert "finished shards are kept in" in output
    wait_for_the_end_of(workers)

    process = started(renderer, tmp_path / "other")
    workers = children(process.pid)
    os.kill(workers[-1], signal.SIGKILL)
    output = process.communicate(timeout=20)[1]
    assert process.returncode == 1
    assert "a worker was ended from outside (exit code -9)" in output
    wait_for_the_end_of(workers)


@dataclasses.dataclass(frozen=True, eq=False)
class Broken(Renderer):
    """Cannot make record 300."""

    def record(self, number: int, shuffle: int = 0) -> Instruction:
        if number == 300:
            raise ZeroDivisionError("record 300")
        return super().record(number, shuffle)


def test_a_worker_starts_without_what_it_does_not_need():
    heavy = {"tensorflow_datasets", "jax", "scipy"}
    program = "import sys, irec_jax.instruction_sets.contents, irec_jax.batches.lengths as _; "
    program += f"assert not {heavy} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0


PROGRAM = """
import errno, pathlib, pickle, resource, sys
from irec_jax.instruction_sets import store
renderer = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
folder = pathlib.Path(sys.argv[2])
store.write_instruction_set(renderer, folder, 50)
assert store.InstructionSet(folder)[49] is not None
assert not [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "torch", "jax")]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for workers in (1, 2):
    try:
        store.write_instruction_set(renderer, folder, 40_000, workers=workers)
    except OSError as error:
        assert error.errno == errno.EFBIG, error
        assert "array_record" in error.filename
    else:
        raise AssertionError("a full disk went unnoticed")
assert len(store.InstructionSet(folder)) == 50
assert not [p for p in pathlib.Path(folder.parent, ".set.partial", "set").iterdir()]
"""


def test_no_tensorflow_and_a_full_disk(renderer: Renderer, tmp_path: Path):
    pickled = tmp_path / "renderer"
    pickled.write_bytes(pickle.dumps(renderer))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(pickled), str(tmp_path / "set")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "a library writes only what it is asked to"


def test_what_fails_in_a_worker_is_reported(renderer: Renderer, tmp_path: Path):
    broken = Broken(**fields_of(renderer))
    with pytest.raises(ZeroDivisionError, match="record 300"):
        write_instruction_set(broken, tmp_path / "set", 500)
