"""Packed rows on disk, which any number of hosts can read in one global order.

The number of rows of a window is known only when it is packed, so a position among rows packed
on the fly has a meaning for one reader only. Rows on disk are numbered, so a position is one number
for all readers.
"""

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import grain
import numpy as np
from jaxtyping import Int

from irec_jax import __version__
from irec_jax.audit.audit import Auditor
from irec_jax.batches.pipeline import WINDOW, Cuts, Example, PackedWindow, RecordSource
from irec_jax.bounds import COUNT, check_between
from irec_jax.errors import InputError
from irec_jax.files import check_output_folder, write_text
from irec_jax.instruction_sets.contents import audit_of
from irec_jax.instructions.forms import Instruction
from irec_jax.settings import to_json
from irec_jax.storage.shards import (
    Runner,
    ShardReport,
    content_sha256,
    open_build,
    plan_shards,
    read_manifest,
)
from irec_jax.storage.workers import Advance, run_in_workers
from irec_jax.tokens.items import TokenWriter
from irec_jax.understanding.request_records import MixedRecords

NAME, WHAT = "packed_rows", "set of packed rows"
VERSION = "1.0.0"
MANIFEST_FILE = "packed_rows.json"
SHARD_WINDOWS = 16

_HINT = "Write the rows again with `irec instruct EXPERIMENT --packed DIR`."


@dataclasses.dataclass(frozen=True)
class Packing:
    """Source, writer and lengths of packed rows.

    Attributes:
        source: The source of the records.
        made_from: Everything that the records depend on, in JSON's types; a build is resumed
            only with equal values.
        writer: Encodes the records.
        source_length: Encoder columns.
        target_length: Decoder columns.
    """

    source: RecordSource
    made_from: dict[str, Any]
    writer: TokenWriter
    source_length: int
    target_length: int

    def all_made_from(self) -> dict[str, Any]:
        """Returns everything that the rows depend on besides their lengths, with the tokens."""
        return {**self.made_from, "tokens": writer_sha256(self.writer)}


@dataclasses.dataclass(frozen=True)
class PackedManifest:
    """The manifest of a stored set of packed rows.

    Attributes:
        records: Number of instructions.
        rows: Number of rows.
        source_length: Encoder columns.
        target_length: Decoder columns.
        vocabulary: Ids are below it.
        made_from: Everything that the records depend on, and the tokens.
        sha256: The sum of the rows' SHA-256, modulo 2**256.
        source_fill: The share of encoder columns that hold a token, 0 to 1.
        target_fill: The same share of the decoder.
        cut_inputs: Number of prompts longer than an encoder row.
        cut_targets: Number of answers longer than a decoder row.
        files: Shard -> SHA-256 of the file.
    """

    records: int
    rows: int
    source_length: int
    target_length: int
    vocabulary: int
    made_from: dict[str, Any]
    sha256: str
    source_fill: float
    target_fill: float
    cut_inputs: int
    cut_targets: int
    files: dict[str, str]


def write_packed(
    packing: Packing,
    folder: Path,
    records: int,
    *,
    workers: int = 1,
    auditor: Auditor | None = None,
    runner: Runner | None = None,
) -> PackedManifest:
    """Writes the rows of records 0 to `records - 1` atomically.

    The rows are those of `PackedWindow`, window after window; the last window can be short. As for
    instruction sets, the files are equal for any number of workers, and the same call resumes a
    killed build.

    Args:
        packing: Source, writer and lengths.
        folder: Replaced if it holds packed rows.
        records: Number of records.
        workers: Number of worker processes.
        auditor: Checks every instruction while it is packed.
        runner: Makes the shards in place of worker processes; `workers` is then unused.

    Raises:
        InputError: A number is less than 1, `folder` holds something else, or the audit has
            findings.
        OSError: The disk is full or not writable; the folder is unchanged.
    """
    for where, number in (("records", records), ("workers", workers)):
        check_between(number, COUNT, where)
    check_output_folder(folder, f"a {WHAT}", lambda folder: bool(_read_manifest(folder)))
    shards = plan_shards(NAME, records, SHARD_WINDOWS * WINDOW)
    lengths = [packing.source_length, packing.target_length]
    made_from = packing.all_made_from()
    build_of = {
        "set": [NAME, VERSION, __version__],
        "made_from": made_from,
        "records": [records, WINDOW, SHARD_WINDOWS],
        "lengths": lengths,
        "audit": auditor is not None,
    }
    with open_build(folder, build_of) as build:
        run = runner or (lambda job, left, advance: run_in_workers(job, left, workers, advance))
        reports = build.make(PackedContents(packing, auditor), shards, run, "pack")
        if auditor is not None:
            config = auditor.renderer.prompt_writer.config
            audit_of(reports).refuse(config, where=str(folder))
        manifest = _manifest(packing, records, made_from, reports)
        text = json.dumps(dataclasses.asdict(manifest), indent=2)
        write_text(build.files / MANIFEST_FILE, f"{text}\n")
        build.publish()
    return manifest


@dataclasses.dataclass(frozen=True)
class PackedContents:
    """Shards of packed rows: `irec_jax.storage.shards.ShardContents`, numbered by records.

    Attributes:
        packing: Source, writer and lengths.
        auditor: Checks the records; None for no audit.
    """

    packing: Packing
    auditor: Auditor | None = None

    is_compressed: ClassVar[bool] = True  # to a third, as most bytes of small numbers are 0

    def write(
        self, numbers: range, put: Callable[[bytes], None], advance: Advance
    ) -> dict[str, Any]:
        """Packs whole windows; returns counts of tokens and cuts, and the audit's report."""
        cuts, tokens, summary = Cuts(), np.zeros(2, np.int64), {}
        seen: list[tuple[int, Instruction]] = []
        for start in range(numbers.start, numbers.stop, WINDOW):
            size = min(WINDOW, numbers.stop - start)
            for row in self._window(start, size, cuts, seen):
                put(_row_bytes(row))
                tokens += [np.count_nonzero(row[f"{side}_segments"]) for side in _SIDES]
            if self.auditor is None:
                seen.clear()
            advance(size)
        if self.auditor is not None:
            summary["audit"] = to_json(self.auditor.audit(seen))
        return summary | {"tokens": tokens.tolist(), "cuts": [cuts.inputs, cuts.targets]}

    def _window(
        self, start: int, size: int, cuts: Cuts, seen: list[tuple[int, Instruction]]
    ) -> list[Example]:
        packing = self.packing
        # A short window has another size and numbers its records from its own start.
        first = 0 if size == WINDOW else start
        window = PackedWindow(
            _RecordingSource(packing.source, first, seen),
            packing.writer,
            packing.source_length,
            packing.target_length,
            cuts,
            window=size,
        )
        return window.flat_map(start // WINDOW if size == WINDOW else 0)


class PackedRows:
    """Stored rows, read at random: a source for `grain.MapDataset.source`; it can be pickled."""

    def __init__(self, folder: Path) -> None:
        """Opens a folder that `write_packed` wrote.

        Raises:
            InputError: The folder holds no packed rows, or a shard is missing or is another one.
        """
        self.folder = folder
        self.manifest = _read_manifest(folder)
        paths = [folder / name for name in self.manifest.files]
        for path in paths:
            if not path.is_file():
                raise InputError("a shard is missing", where=str(path), hint=_HINT)
        self._source: Any = grain.sources.ArrayRecordDataSource([str(path) for path in paths])
        if len(self._source) != self.manifest.rows:
            raise InputError(
                f"has {len(self._source)} rows, but the manifest lists {self.manifest.rows}",
                where=str(folder),
                hint=_HINT,
            )

    def __len__(self) -> int:
        return self.manifest.rows

    def __getitem__(self, index: int) -> Example:
        """Returns a row: the int32 arrays of a `Batch`, without the first axis."""
        return self.split(self.whole(index))

    def whole(self, index: int) -> Int[np.ndarray, " cells"]:
        """Returns a stored row: its four arrays concatenated, read only."""
        return np.frombuffer(self._source[range(len(self))[index]], "<i4")

    def split(self, rows: Int[np.ndarray, "*rows cells"]) -> dict[str, Int[np.ndarray, "*rows _"]]:
        """Splits stored rows into the int32 arrays of a `Batch`."""
        source, target = self.manifest.source_length, self.manifest.target_length
        arrays, start = {}, 0
        for name, length in zip(_ARRAYS, (source, source, target, target), strict=True):
            arrays[name] = rows[..., start : start + length].astype(np.int32)
            start += length
        return arrays


@dataclasses.dataclass(frozen=True)
class _RecordingSource:
    """A source that keeps the records that were read.

    Attributes:
        source: The source of the records.
        first: Number of the record that is read as number 0.
        seen: Number and content of each record read so far.
    """

    source: RecordSource
    first: int
    seen: list[tuple[int, Instruction]]

    def record(self, number: int) -> Instruction:
        number += self.first
        record = self.source.record(number)
        if isinstance(self.source, MixedRecords):
            # The audit knows the instructions of the log, by their own numbers.
            audited = self.source.instruction_number(number)
        else:
            audited = number
        if audited is not None:
            self.seen.append((audited, record))
        return record


def writer_sha256(writer: TokenWriter) -> str:
    """Computes the SHA-256 of the tokenizer and the item sequences."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        writer.codec.save(Path(folder))
        for path in sorted(Path(folder).iterdir()):
            digest.update(path.read_bytes())
    index = writer.index
    for array in (index.offsets, index.tokens):
        digest.update(np.ascontiguousarray(array, "<i8").tobytes())
    digest.update("\n".join(index.names).encode("utf-8"))
    return digest.hexdigest()


def _manifest(
    packing: Packing, records: int, made_from: dict[str, Any], reports: list[ShardReport]
) -> PackedManifest:
    rows = sum(report.records for report in reports)
    tokens = np.sum([report.summary["tokens"] for report in reports], axis=0)
    cuts = np.sum([report.summary["cuts"] for report in reports], axis=0)
    fills = tokens / (rows * np.array([packing.source_length, packing.target_length]))
    return PackedManifest(
        records=records,
        rows=rows,
        source_length=packing.source_length,
        target_length=packing.target_length,
        vocabulary=packing.writer.index.vocabulary,
        made_from=made_from,
        sha256=content_sha256(reports),
        source_fill=float(fills[0]),
        target_fill=float(fills[1]),
        cut_inputs=int(cuts[0]),
        cut_targets=int(cuts[1]),
        files={report.file: report.sha256 for report in reports},
    )


def _read_manifest(folder: Path) -> PackedManifest:
    path = folder / MANIFEST_FILE
    try:
        return PackedManifest(**read_manifest(path, WHAT, _HINT))
    except TypeError as error:
        raise InputError(
            f"is not the manifest of a {WHAT}: {error}", where=str(path), hint=_HINT
        ) from error


def _row_bytes(row: Mapping[str, Int[np.ndarray, " _"]]) -> bytes:
    return np.concatenate([row[name] for name in _ARRAYS]).astype("<i4").tobytes()


_SIDES = ("input", "target")
_ARRAYS = ("inputs", "input_segments", "targets", "target_segments")
