"""Instruction sets on disk: TFDS data sets of array_record shards, made without TensorFlow."""

import collections
import dataclasses
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from irec_jax.errors import InputError
from irec_jax.files import replaced_folder
from irec_jax.instructions.forms import Instruction
from irec_jax.instructions.render import Renderer
from irec_jax.progress import track
from irec_jax.settings import to_json

NAME = "instruction_set"
VERSION = "1.0.0"
MANIFEST_FILE = "instruction_set.json"
SHARD_RECORDS = 50_000

_PROGRESS_EVERY = 1_000
# Their classes are made at run time, where a type checker cannot see them.
_EXAMPLES: Any = tf_example_pb2
_FEATURES: Any = tf_feature_pb2
# Random access reads one record at a time, so each is its own group.
_WRITER_OPTIONS = "group_size:1"
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


def record_features() -> tfds.features.FeaturesDict:
    """Describes a stored record: the fields of `Instruction`, and the record's number."""
    text, whole = tfds.features.Text(), tfds.features.Scalar(np.int64)
    features: dict[str, Any] = {field.name: text for field in dataclasses.fields(Instruction)}
    features |= dict.fromkeys(("number", "user", "target_item", "seed"), whole)
    features["candidates"] = tfds.features.Sequence(np.int64)
    return tfds.features.FeaturesDict(features)


@dataclasses.dataclass(frozen=True)
class StoreManifest:
    """What a stored set holds and what it takes to make it again.

    Attributes:
        records: How many; record i is `renderer.record(i)`.
        pass_records: How many make one pass over the data.
        split: Whose events are targets.
        seed: The renderer's.
        config: The instructions' settings.
        source_sha256: Of the events, names and queries that it was rendered from.
        sha256: Of the records' SHA-256 sums one after the other, in their order.
        cut_histories: How many records of one pass show only the end of a history.
        counts: Scenario -> template -> records.
        files: Shard -> SHA-256 of the file.
    """

    records: int
    pass_records: int
    split: str
    seed: int
    config: dict[str, Any]
    source_sha256: str
    sha256: str
    cut_histories: int
    counts: dict[str, dict[str, int]]
    files: dict[str, str]


class InstructionSet(Sequence[Instruction]):
    """A stored set, read at random; record i equals what the renderer gives for i."""

    def __init__(self, folder: Path) -> None:
        """Opens a folder that `write_instruction_set` wrote.

        Raises:
            InputError: The folder holds no instruction set, or a shard is missing.
        """
        self.folder = folder
        self.manifest = _read_manifest(folder)
        for name in self.manifest.files:
            if not (folder / name).is_file():
                raise InputError(
                    "a shard of the instruction set is missing",
                    where=str(folder / name),
                    mend="write the set again with `irec instruct`.",
                )
        builder: Any = tfds.builder_from_directory(str(folder))
        self._source = builder.as_data_source(split=self.manifest.split)

    def __len__(self) -> int:
        return self.manifest.records

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        index = range(len(self))[number]
        record: Mapping[str, Any] = self._source[index]
        values = {name: _plain(record[name]) for name in _FIELDS}
        return Instruction(**values)


def write_instruction_set(renderer: Renderer, folder: Path, records: int) -> StoreManifest:
    """Writes records 0 to `records - 1` as a TFDS data set, all of it or nothing.

    `tfds.builder_from_directory(folder).as_data_source(split)` reads it.

    Args:
        renderer: Makes the records.
        folder: Replaced if it holds an instruction set.
        records: How many.

    Raises:
        InputError: `records` is less than 1, or `folder` holds something else.
        OSError: The disk is full or cannot be written; what was there before stays.
    """
    if records < 1:
        raise InputError(f"{records} is less than 1", where="records")
    _check_replaceable(folder)
    split = renderer.role.name.lower()
    with replaced_folder(folder) as temporary:
        contents = _write_shards(renderer, temporary, records)
        template = tfds.core.ShardedFileTemplate(
            data_dir=tfds.core.Path(temporary),
            dataset_name=NAME,
            split=split,
            filetype_suffix="array_record",
        )
        tfds.folder_dataset.write_metadata(
            data_dir=temporary,
            features=record_features(),
            split_infos=[
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=contents.lengths,
                    num_bytes=contents.size,
                    filename_template=template,
                )
            ],
            version=VERSION,
            filename_template=template,
            check_data=False,
            description="Instructions rendered from a behavior log by irec-jax.",
            disable_shuffling=True,
        )
        manifest = StoreManifest(
            records=records,
            pass_records=len(renderer),
            split=split,
            seed=renderer.seed,
            config=to_json(renderer.wording.config),
            source_sha256=renderer.fingerprint(),
            sha256=contents.digest.hexdigest(),
            cut_histories=renderer.cut_histories,
            counts={code: dict(sorted(c.items())) for code, c in sorted(contents.counts.items())},
            files={path.name: _file_sha256(path) for path in contents.paths},
        )
        text = json.dumps(dataclasses.asdict(manifest), indent=2)
        (temporary / MANIFEST_FILE).write_text(f"{text}\n", encoding="utf-8")
    return manifest


def record_sha256(instruction: Instruction, number: int) -> bytes:
    """Returns the SHA-256 of a record's content, whatever file it is stored in."""
    values = [number, *(getattr(instruction, name) for name in _FIELDS)]
    return hashlib.sha256(json.dumps(values).encode("ascii")).digest()


@dataclasses.dataclass
class _Contents:
    """What has been written so far."""

    paths: list[Path] = dataclasses.field(default_factory=list)
    lengths: list[int] = dataclasses.field(default_factory=list)
    size: int = 0
    digest: Any = dataclasses.field(default_factory=hashlib.sha256)
    counts: dict[str, collections.Counter[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )


def _write_shards(renderer: Renderer, folder: Path, records: int) -> _Contents:
    contents = _Contents()
    starts = range(0, records, SHARD_RECORDS)
    with track("instruct", records, unit="records") as advance:
        for shard, start in enumerate(starts):
            name = (
                f"{NAME}-{renderer.role.name.lower()}.array_record-{shard:05d}-of-{len(starts):05d}"
            )
            stop = min(start + SHARD_RECORDS, records)
            contents.paths.append(folder / name)
            contents.lengths.append(stop - start)
            for done in _write_shard(renderer, folder / name, range(start, stop), contents):
                advance(done, "")
    return contents


def _write_shard(
    renderer: Renderer, path: Path, numbers: range, contents: _Contents
) -> Iterator[int]:
    """Writes one file and yields, now and then, how many records were written since."""
    waiting = 0
    try:
        writer = ArrayRecordWriter(str(path), _WRITER_OPTIONS)
        for number in numbers:
            instruction = renderer.record(number)
            content = _serialize(instruction, number)
            writer.write(content)
            contents.size += len(content)
            contents.digest.update(record_sha256(instruction, number))
            contents.counts[instruction.scenario][instruction.template] += 1
            waiting += 1
            if waiting == _PROGRESS_EVERY:
                yield waiting
                waiting = 0
        writer.close()
    except RuntimeError as error:
        raise _os_error(error, path) from error
    if waiting:
        yield waiting


def _serialize(instruction: Instruction, number: int) -> bytes:
    """Makes the `tf.train.Example` that TFDS would make, several times as fast."""
    features = {"number": _feature(number)}
    features |= {name: _feature(getattr(instruction, name)) for name in _FIELDS}
    example = _EXAMPLES.Example(features=_FEATURES.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _feature(value: str | int | tuple[int, ...]) -> Any:
    if isinstance(value, str):
        return _FEATURES.Feature(bytes_list=_FEATURES.BytesList(value=[value.encode("utf-8")]))
    numbers = [value] if isinstance(value, int) else value
    return _FEATURES.Feature(int64_list=_FEATURES.Int64List(value=numbers))


def _plain(value: Any) -> Any:
    """Turns a value as TFDS reads it into one of an `Instruction`."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return tuple(value) if isinstance(value, list) else np.asarray(value).tolist()


def _check_replaceable(folder: Path) -> None:
    if not folder.exists() or ((folder / MANIFEST_FILE).is_file() and _is_set(folder)):
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise InputError(
            "there is something here that is no instruction set; it stays as it is",
            where=str(folder),
            mend="name a new folder, or an old instruction set.",
        )


def _is_set(folder: Path) -> bool:
    try:
        _read_manifest(folder)
    except InputError:
        return False
    return True


def _read_manifest(folder: Path) -> StoreManifest:
    path = folder / MANIFEST_FILE
    mend = "write the set again with `irec instruct`."
    if not path.is_file():
        raise InputError("there is no instruction set here", where=str(path), mend=mend)
    try:
        return StoreManifest(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"not the manifest of an instruction set: {error}", where=str(path), mend=mend
        ) from error


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _os_error(error: RuntimeError, path: Path) -> OSError:
    """Finds the system's reason in the message of the writer, which gives no error number."""
    reasons = {code: os.strerror(code) for code in _DISK_ERRORS}
    code = next((c for c, reason in reasons.items() if reason in str(error)), errno.EIO)
    return OSError(code, os.strerror(code), str(path))


_FIELDS = tuple(field.name for field in dataclasses.fields(Instruction))
