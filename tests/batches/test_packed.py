"""Packed rows on disk: those that are packed on the fly, all of them or nothing."""

import dataclasses
import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from irec_jax.audit.audit import Auditor
from irec_jax.batches import packed
from irec_jax.batches.packed import (
    PackedRows,
    Packing,
    write_packed,
    writer_sha256,
)
from irec_jax.batches.pipeline import WINDOW, Cuts, PackedWindow, encode_record
from irec_jax.errors import InputError
from irec_jax.instruction_sets.store import made_from
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import Instruction
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.teacher import LogTeacher
from irec_jax.log.split import Split, SplitConfig, split_log
from irec_jax.storage import shards
from irec_jax.tokens.config import TokensConfig
from irec_jax.tokens.items import TokenWriter, make_writer

LENGTHS = (128, 32)
RECORDS = 2 * WINDOW + 100


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed, "SHARD_WINDOWS", 1)


@pytest.fixture(scope="module")
def split(tiny_log) -> Split:
    return split_log(tiny_log, SplitConfig(), seed=0)


@pytest.fixture(scope="module")
def writer(split: Split) -> TokenWriter:
    texts = [*split.catalog["title"], *filter(None, split.queries)]
    return make_writer(split.catalog, texts, TokensConfig(vocabulary=512))


@pytest.fixture(scope="module")
def renderer(split: Split, writer: TokenWriter) -> Renderer:
    config = InstructionsConfig(max_history=5)
    return Renderer.build(split, config, writer.index.names, seed=2, teacher=LogTeacher.of(split))


@pytest.fixture(scope="module")
def packing(renderer: Renderer, writer: TokenWriter) -> Packing:
    return Packing(renderer, made_from(renderer), writer, *LENGTHS)


@pytest.fixture(scope="module")
def stored(packing: Packing, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "rows"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "SHARD_WINDOWS", 1)
        write_packed(packing, folder, RECORDS)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def as_lists(row: dict) -> dict[str, list[int]]:
    return {name: np.asarray(array).tolist() for name, array in row.items()}


def test_rows_are_those_of_the_pipeline(packing: Packing, stored: Path):
    rows = PackedRows(stored)
    window = PackedWindow(packing.source, packing.writer, *LENGTHS, Cuts())
    expected = [*window.flat_map(0), *window.flat_map(1)]
    for number, row in enumerate(expected):
        assert as_lists(rows[number]) == as_lists(row)
        assert all(array.dtype == np.int32 for array in rows[number].values())
    assert len(rows) > len(expected)
    with pytest.raises(IndexError):
        rows[len(rows)]


def test_every_record_is_in_one_row(stored: Path, writer: TokenWriter, renderer: Renderer):
    found = []
    for row in map(PackedRows(stored).__getitem__, range(len(PackedRows(stored)))):
        for segment in range(1, row["input_segments"].max() + 1):
            prompt = row["inputs"][row["input_segments"] == segment]
            answer = row["targets"][row["target_segments"] == segment]
            found.append((prompt.tolist(), answer.tolist()))
    records = map(renderer.record, range(RECORDS))
    encoded = [encode_record(record, writer, *LENGTHS) for record in records]
    assert sorted(found) == sorted((e["inputs"].tolist(), e["targets"].tolist()) for e in encoded)


def test_the_manifest_describes_the_rows(stored: Path):
    rows = PackedRows(stored)
    manifest = rows.manifest
    assert (manifest.records, manifest.rows) == (RECORDS, len(rows))
    cells = np.concatenate([rows[number]["input_segments"] for number in range(len(rows))])
    assert manifest.source_fill == pytest.approx((cells > 0).mean())
    assert 0.8 < manifest.source_fill < 1
    raw = [
        b"".join(row[name].astype("<i4").tobytes() for name in row)
        for row in map(rows.__getitem__, range(len(rows)))
    ]
    total = sum(int(hashlib.sha256(row).hexdigest(), 16) for row in raw)
    assert manifest.sha256 == f"{total % 2**256:064x}"
    assert manifest.cut_inputs == manifest.cut_targets == 0
    for name, checksum in manifest.files.items():
        assert hashlib.sha256((stored / name).read_bytes()).hexdigest() == checksum
    assert len(manifest.files) == 3
    # Most of a row's bytes are 0, so each is compressed.
    size = sum((stored / name).stat().st_size for name in manifest.files)
    assert size < sum(map(len, raw)) / 2


def test_shortened_texts_are_counted(packing: Packing, tmp_path: Path):
    short = dataclasses.replace(packing, source_length=16)
    manifest = write_packed(short, tmp_path / "rows", 300)
    cuts = Cuts()
    PackedWindow(packing.source, packing.writer, 16, 32, cuts, window=300).flat_map(0)
    assert manifest.cut_inputs == cuts.inputs > 0


@dataclasses.dataclass(frozen=True)
class Counted:
    """Remembers what it gave."""

    renderer: Renderer
    numbers: list[int] = dataclasses.field(default_factory=list)

    def record(self, number: int) -> Instruction:
        self.numbers.append(number)
        return self.renderer.record(number)


def test_an_interrupted_build_goes_on_to_the_same_bytes(
    packing: Packing, renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = write_packed(packing, tmp_path / "fresh", 3 * WINDOW)
    made = []

    def interrupted(path: Path) -> str:
        made.append(path)
        if len(made) > 2:
            raise KeyboardInterrupt
        return hashlib.sha256(path.read_bytes()).hexdigest()

    with monkeypatch.context() as patch:
        patch.setattr(shards, "file_sha256", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_packed(packing, tmp_path / "rows", 3 * WINDOW)
    counted = Counted(renderer)
    resumed = dataclasses.replace(packing, source=counted)
    assert write_packed(resumed, tmp_path / "rows", 3 * WINDOW) == expected
    assert counted.numbers == list(range(2 * WINDOW, 3 * WINDOW))
    assert contents(tmp_path / "rows") == contents(tmp_path / "fresh")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "rows"]


def test_two_workers_write_the_same_files_and_audit(
    packing: Packing, renderer: Renderer, split: Split, stored: Path, tmp_path: Path
):
    auditor = Auditor.build(renderer, split)
    write_packed(packing, tmp_path / "rows", RECORDS, workers=2, auditor=auditor)
    assert contents(tmp_path / "rows") == contents(stored)


@dataclasses.dataclass(frozen=True)
class Leaky(Counted):
    """Tells the answer in record 1,500."""

    def record(self, number: int) -> Instruction:
        record = super().record(number)
        if number != 1_500:
            return record
        return record._replace(inputs=f"{record.inputs} {record.targets}")


def test_rows_with_a_leak_are_not_published(
    packing: Packing, renderer: Renderer, split: Split, tmp_path: Path
):
    leaky = dataclasses.replace(packing, source=Leaky(renderer))
    auditor = Auditor.build(renderer, split)
    with pytest.raises(InputError, match="record 1500"):
        write_packed(leaky, tmp_path / "rows", RECORDS, auditor=auditor)
    assert not (tmp_path / "rows").exists()


def test_rows_can_be_pickled(stored: Path):
    rows = PackedRows(stored)
    assert as_lists(pickle.loads(pickle.dumps(rows))[5]) == as_lists(rows[5])


def test_a_build_depends_on_the_tokens(writer: TokenWriter, split: Split):
    other = make_writer(split.catalog, split.catalog["title"], TokensConfig(vocabulary=512))
    assert writer_sha256(writer) == writer_sha256(pickle.loads(pickle.dumps(writer)))
    assert writer_sha256(writer) != writer_sha256(other)


def test_mistakes_are_refused_with_an_error(packing: Packing, stored: Path, tmp_path: Path):
    with pytest.raises(InputError, match="no set of packed rows here"):
        PackedRows(tmp_path)
    with pytest.raises(InputError, match="must be between 1 and"):
        write_packed(packing, tmp_path / "rows", 0)
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(InputError, match="not a set of packed rows: mine"):
        write_packed(packing, tmp_path, 10)
    write_packed(packing, tmp_path / "rows", 10)
    manifest = tmp_path / "rows" / "packed_rows.json"
    manifest_data = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(manifest_data | {"rows": manifest_data["rows"] + 1}))
    with pytest.raises(InputError, match="the manifest lists"):
        PackedRows(tmp_path / "rows")
    (tmp_path / "rows" / next(iter(manifest_data["files"]))).unlink()
    with pytest.raises(InputError, match="a shard is missing"):
        PackedRows(tmp_path / "rows")
