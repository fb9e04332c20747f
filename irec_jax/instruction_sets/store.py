"""Instruction sets on disk: TFDS data sets of array_record shards, made without TensorFlow."""

import collections
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from irec_jax import __version__
from irec_jax.audit.audit import Audit, Auditor
from irec_jax.audit.sample_page import write_sample
from irec_jax.bounds import COUNT, check_between
from irec_jax.errors import InputError
from irec_jax.files import check_output_folder, file_sha256, write_text
from irec_jax.instruction_sets.contents import InstructionContents, audit_of
from irec_jax.instruction_sets.record_encoding import decode_record
from irec_jax.instructions.forms import Instruction
from irec_jax.instructions.render import Renderer
from irec_jax.settings import from_json, to_json
from irec_jax.storage.shards import (
    Runner,
    ShardReport,
    content_sha256,
    open_build,
    plan_shards,
    read_manifest,
)
from irec_jax.storage.workers import run_in_workers

NAME, WHAT = "instruction_set", "instruction set"
VERSION = "2.0.0"
MANIFEST_FILE = "instruction_set.json"
AUDIT_FILE, SAMPLE_FILE = "audit.json", "sample.html"
SHARD_RECORDS = 16_384

_HINT = "Write the set again with `irec instruct`."
_COUNTED = ("scenario", "strategy", "task", "language", "template")


def record_features() -> tfds.features.FeaturesDict:
    """Describes a stored record: the fields of `Instruction`, and the record's number."""
    text, whole = tfds.features.Text(), tfds.features.Scalar(np.int64)
    features: dict[str, Any] = dict.fromkeys(Instruction._fields, text)
    features |= dict.fromkeys(("number", "user", "target_item", "seed"), whole)
    features["candidates"] = tfds.features.Sequence(np.int64)
    return tfds.features.FeaturesDict(features)


@dataclasses.dataclass(frozen=True)
class StoreManifest:
    """Contents of a stored set, and all that it takes to render it again.

    Attributes:
        records: How many; record i is `renderer.record(i)`.
        pass_records: How many make one pass over the data.
        split: Whose events are targets.
        seed: The renderer's.
        config: The instructions' settings.
        source_sha256: Of the events, names and queries that it was rendered from.
        sha256: The sum of the records' SHA-256, modulo 2**256: the same for all who made the
            same records, in whatever order and files.
        cut_histories: How many records of one pass show only the end of a history.
        counts: How many records there are of each scenario, strategy, task, language and
            template.
        files: Shard -> SHA-256 of the file.
        audit: SHA-256 of `audit.json`, "" where there was no audit.
    """

    records: int
    pass_records: int
    split: str
    seed: int
    config: dict[str, Any]
    source_sha256: str
    sha256: str
    cut_histories: int
    counts: list[dict[str, Any]]
    files: dict[str, str]
    audit: str = ""


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
                    hint=_HINT,
                )
        builder: Any = tfds.builder_from_directory(str(folder))
        self._source = builder.as_data_source(split=self.manifest.split)

    def __len__(self) -> int:
        return self.manifest.records

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        index = range(len(self))[number]
        return decode_record(self._source[index])


def write_instruction_set(
    renderer: Renderer,
    folder: Path,
    records: int,
    *,
    workers: int = 1,
    auditor: Auditor | None = None,
    runner: Runner | None = None,
) -> StoreManifest:
    """Writes records 0 to `records - 1` as a TFDS data set, all of it or nothing.

    `tfds.builder_from_directory(folder).as_data_source(split)` reads it. Finished shards wait in
    a hidden folder beside it, so that the same call continues where a killed one ended. The
    files are the same for any number of workers.

    Args:
        renderer: Makes the records.
        folder: Replaced if it holds an instruction set.
        records: How many.
        workers: How many processes.
        auditor: Reads every record while it is stored; the set is published only if nothing is
            wrong with it.
        runner: Makes the shards in place of worker processes; `workers` is then unused.

    Raises:
        InputError: A number is less than 1, `folder` holds something else, or the audit found
            something.
        OSError: The disk is full or cannot be written; what was there before stays.
    """
    for where, number in (("records", records), ("workers", workers)):
        check_between(number, COUNT, where)
    check_output_folder(folder, f"an {WHAT}", lambda folder: bool(_read_manifest(folder)))
    split = renderer.role.name.lower()
    shards = plan_shards(f"{NAME}-{split}", records, SHARD_RECORDS)
    build_of = {
        "set": [NAME, VERSION, __version__],
        "made_from": made_from(renderer),
        "records": [records, SHARD_RECORDS],
        "audit": auditor is not None,
    }
    contents = InstructionContents(renderer, auditor)
    with open_build(folder, build_of) as build:
        run = runner or (lambda job, left, advance: run_in_workers(job, left, workers, advance))
        reports = build.make(contents, shards, run, "instruct")
        audit = audit_of(reports)
        if auditor is not None:
            audit.refuse(renderer.prompt_writer.config, where=str(folder))
            text = json.dumps(to_json(audit), indent=2)
            write_text(build.files / AUDIT_FILE, f"{text}\n")
            write_sample(build.files / SAMPLE_FILE, auditor, audit, renderer.record, records)
        manifest = _manifest(renderer, records, reports)
        if auditor is not None:
            checksum = file_sha256(build.files / AUDIT_FILE)
            manifest = dataclasses.replace(manifest, audit=checksum)
        _write_metadata(build.files, split, reports)
        text = json.dumps(dataclasses.asdict(manifest), indent=2)
        write_text(build.files / MANIFEST_FILE, f"{text}\n")
        build.publish()
    return manifest


def made_from(renderer: Renderer) -> dict[str, Any]:
    """Returns all that a renderer's records depend on, in JSON's types."""
    return {
        "renderer": renderer.fingerprint(),
        # The limit decides what is published, not what is written; what packs say, wherever they
        # are, is in the renderer's sum.
        "config": to_json(renderer.prompt_writer.config) | {"max_overlap": None, "packs": None},
        "seed": renderer.seed,
        "split": renderer.role.name.lower(),
    }


def read_audit(folder: Path) -> Audit:
    """Reads the audit of a stored set.

    Raises:
        InputError: The audit is missing or damaged.
    """
    path = folder / AUDIT_FILE
    return from_json(Audit, read_manifest(path, "audit", _HINT), where=str(path))


def _manifest(renderer: Renderer, records: int, reports: Sequence[ShardReport]) -> StoreManifest:
    counts: collections.Counter[tuple[str, ...]] = collections.Counter()
    for report in reports:
        for *kind, count in report.summary["counts"]:
            counts[tuple(kind)] += count
    return StoreManifest(
        records=records,
        pass_records=len(renderer),
        split=renderer.role.name.lower(),
        seed=renderer.seed,
        config=to_json(renderer.prompt_writer.config),
        source_sha256=renderer.fingerprint(),
        sha256=content_sha256(reports),
        cut_histories=renderer.cut_histories,
        counts=[
            dict(zip(_COUNTED, kind, strict=True)) | {"records": count}
            for kind, count in sorted(counts.items())
        ],
        files={report.file: report.sha256 for report in reports},
    )


def _write_metadata(folder: Path, split: str, reports: Sequence[ShardReport]) -> None:
    """Writes what TFDS reads the shards by."""
    template = tfds.core.ShardedFileTemplate(
        data_dir=tfds.core.Path(folder),
        dataset_name=NAME,
        split=split,
        filetype_suffix="array_record",
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=record_features(),
        split_infos=[
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[report.records for report in reports],
                num_bytes=sum(report.size for report in reports),
                filename_template=template,
            )
        ],
        version=VERSION,
        filename_template=template,
        check_data=False,
        description="Instructions rendered from a behavior log by irec-jax.",
        disable_shuffling=True,
    )


def _read_manifest(folder: Path) -> StoreManifest:
    path = folder / MANIFEST_FILE
    try:
        return StoreManifest(**read_manifest(path, WHAT, _HINT))
    except TypeError as error:
        raise InputError(
            f"not the manifest of the {WHAT}: {error}", where=str(path), hint=_HINT
        ) from error
