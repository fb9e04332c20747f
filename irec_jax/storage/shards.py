"""Resumable builds of array_record shards, each a range of record numbers."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from array_record.python.array_record_module import ArrayRecordWriter

from irec_jax.errors import InputError
from irec_jax.files import file_sha256, replaced_file, write_text
from irec_jax.progress import print_status, track
from irec_jax.storage.record_checksums import HASH_MODULUS, hex_checksum, record_sha256
from irec_jax.storage.workers import Advance

# Random access reads one record at a time, so each is its own group.
_WRITER_OPTIONS = {True: "group_size:1", False: "group_size:1,uncompressed"}
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
_FINGERPRINT_FILE, _LOCK_FILE = "build.json", "lock"
_SET, _REPORTS, _OLD = "set", "reports", "old"


@dataclasses.dataclass(frozen=True)
class Shard:
    """File of a set with its range of record numbers.

    Attributes:
        file: File name.
        start: First number.
        stop: One past the last number.
    """

    file: str
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class ShardReport:
    """Content of a finished shard.

    Attributes:
        file: File name.
        sha256: SHA-256 of the file.
        records: Number of records.
        size: Bytes of the records before compression.
        content: Sum of the records' checksums; see `record_sha256`.
        summary: Summary returned by `ShardContents.write`, JSON values.
    """

    file: str
    sha256: str
    records: int
    size: int
    content: str
    summary: dict[str, Any]


@runtime_checkable
class ShardContents(Protocol):
    """Source of the records of shards: a pure function that can be pickled.

    Attributes:
        is_compressed: Whether each record is compressed.
    """

    is_compressed: ClassVar[bool]

    def write(
        self, numbers: range, put: Callable[[bytes], None], advance: Advance
    ) -> dict[str, Any]:
        """Makes the records of some numbers in order.

        Args:
            numbers: Record numbers.
            put: Stores one record.
            advance: Called with the count of numbers done since its last call.

        Returns:
            A summary of the records, JSON values.
        """
        ...


def plan_shards(name: str, total: int, size: int) -> list[Shard]:
    """Divides the numbers 0 to `total - 1` into shards of `size`."""
    count = -(-total // size)
    return [
        Shard(
            file=f"{name}.array_record-{number:05d}-of-{count:05d}",
            start=number * size,
            stop=min(total, (number + 1) * size),
        )
        for number in range(count)
    ]


def content_sha256(reports: Sequence[ShardReport]) -> str:
    """Returns the checksum of all records of shards."""
    return hex_checksum(sum(int(report.content, 16) for report in reports))


@dataclasses.dataclass(frozen=True)
class ShardWriter:
    """Writes one shard, in this process, in a worker or on another machine.

    Attributes:
        contents: Source of the records.
        folder: Folder of the build.
    """

    contents: ShardContents
    folder: Path

    def __call__(self, shard: Shard, advance: Advance) -> ShardReport:
        """Writes the file, and then the report, which marks the file as complete.

        Args:
            shard: The shard.
            advance: Called with the count of numbers done since its last call.

        Raises:
            OSError: The disk is full or cannot be written.
        """
        path = self.folder / _SET / shard.file
        options = _WRITER_OPTIONS[self.contents.is_compressed]
        with replaced_file(path) as temporary:
            with _system_errors(path):
                writer = ArrayRecordWriter(str(temporary), options)
            sink = _Sink(writer.write, path)
            summary = self.contents.write(range(shard.start, shard.stop), sink.put, advance)
            with _system_errors(path):
                writer.close()
            checksum = file_sha256(temporary)
        content = hex_checksum(sink.content)
        report = ShardReport(shard.file, checksum, sink.records, sink.size, content, summary)
        text = json.dumps(dataclasses.asdict(report))
        write_text(self.folder / _REPORTS / f"{shard.file}.json", f"{text}\n")
        return report


Runner = Callable[[ShardWriter, Sequence[Shard], Advance], Iterable[ShardReport]]
"""Function that writes shards with a writer and returns their reports in any order."""


@dataclasses.dataclass(frozen=True)
class ShardBuild:
    """Set in progress: a hidden folder beside its target that is kept after a crash.

    Attributes:
        folder: Finished shards, their reports and the identity of the build.
        target: Folder of the published set.
    """

    folder: Path
    target: Path

    @property
    def files(self) -> Path:
        """The folder that becomes the set."""
        return self.folder / _SET

    def finished(self, shards: Sequence[Shard]) -> dict[str, ShardReport]:
        """Returns the reports of complete shards; removes other files."""
        found: dict[str, ShardReport] = {}
        for shard in shards:
            report = read_report(self.folder, shard)
            path = self.files / shard.file
            if report is None or not path.is_file():
                continue
            if file_sha256(path) == report.sha256:
                found[shard.file] = report
            else:
                print_status(f"{path} is damaged; it is written again")
        for path in self.files.iterdir():
            if path.name not in found:
                path.unlink()
        for path in (self.folder / _REPORTS).iterdir():
            if path.name.removesuffix(".json") not in found:
                path.unlink()
        return found

    def make(
        self, contents: ShardContents, shards: Sequence[Shard], run: Runner, label: str
    ) -> list[ShardReport]:
        """Writes the missing shards and returns the reports of all, in order.

        Args:
            contents: Source of the records.
            shards: All shards of the set.
            run: Writes the missing ones.
            label: Label of the progress bar.
        """
        found = self.finished(shards)
        left = [shard for shard in shards if shard.file not in found]
        if found:
            print_status(f"{label}: {len(found)} of {len(shards)} shards are there already")
        total = sum(shard.stop - shard.start for shard in left)
        try:
            with track(label, total, unit="records") as advance:
                writer = ShardWriter(contents, self.folder)
                for report in run(writer, left, lambda amount: advance(amount, "")):
                    found[report.file] = report
        except BaseException:
            for path in self.files.glob(".*"):
                path.unlink(missing_ok=True)  # of a worker that was ended while it wrote
            if any((self.folder / _REPORTS).iterdir()):
                print_status(
                    f"{label}: finished shards are kept in {self.folder} for the same command"
                )
            raise
        return [found[shard.file] for shard in shards]

    def publish(self) -> None:
        """Replaces the target by the set and removes the build."""
        os.chmod(self.files, 0o755)
        if self.target.exists():
            os.replace(self.target, self.folder / _OLD)
        os.replace(self.files, self.target)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def open_build(target: Path, made_from: Mapping[str, Any]) -> Iterator[ShardBuild]:
    """Opens the build of a set and keeps its shards if it was made from the same sources.

    The folder stays until the set is published.

    Args:
        target: Folder of the published set.
        made_from: Everything that the bytes depend on, JSON values; a build of something else is
            discarded.

    Raises:
        InputError: Another process is writing the set.
    """
    folder = target.with_name(f".{target.name}.partial")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                "another process is writing this set now",
                where=str(target),
                hint="Wait for it, or name another folder.",
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # a network disk without locks
                raise
        if (folder / _OLD).exists() and not target.exists():
            os.replace(folder / _OLD, target)  # killed between the two renames
        shutil.rmtree(folder / _OLD, ignore_errors=True)
        text = json.dumps(made_from, sort_keys=True)
        marker = folder / _FINGERPRINT_FILE
        if not marker.is_file() or marker.read_bytes() != text.encode("ascii"):
            if marker.is_file():
                print_status(
                    f"{folder} holds an unfinished set made from something else; it is discarded"
                )
            for name in (_SET, _REPORTS):
                shutil.rmtree(folder / name, ignore_errors=True)
            write_text(marker, text)
        for name in (_SET, _REPORTS):
            (folder / name).mkdir(exist_ok=True)
        yield ShardBuild(folder, target)


def read_report(folder: Path, shard: Shard) -> ShardReport | None:
    """Reads the report of a shard; None if it is missing or damaged.

    Args:
        folder: Folder of the build.
        shard: The shard.
    """
    try:
        text = (folder / _REPORTS / f"{shard.file}.json").read_text(encoding="utf-8")
        return ShardReport(**json.loads(text))
    except (OSError, ValueError, TypeError):
        return None


def read_manifest(path: Path, what: str, hint: str) -> dict[str, Any]:
    """Reads the manifest of a set.

    Args:
        path: The file.
        what: Kind of set, in the singular.
        hint: Hint for a missing or damaged manifest.

    Raises:
        InputError: The file is missing or is not a JSON object.
    """
    if not path.is_file():
        raise InputError(f"there is no {what} here", where=str(path), hint=hint)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise TypeError(f"{type(data).__name__} instead of an object")
    except (ValueError, TypeError) as error:
        raise InputError(
            f"not the manifest of the {what}: {error}", where=str(path), hint=hint
        ) from error
    return data


class _Sink:
    """Stores records and sums their count, size and checksum."""

    def __init__(self, write: Callable[[bytes], Any], path: Path) -> None:
        self.records = self.size = self.content = 0
        self._write, self._path = write, path

    def put(self, content: bytes) -> None:
        try:
            self._write(content)
        except RuntimeError as error:
            raise _os_error(error, self._path) from error
        self.records += 1
        self.size += len(content)
        self.content = (self.content + record_sha256(content)) % HASH_MODULUS


@contextlib.contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise _os_error(error, path) from error


def _os_error(error: RuntimeError, path: Path) -> OSError:
    """Finds the error number in the message of the writer, which has the text only."""
    reasons = {code: os.strerror(code) for code in _DISK_ERRORS}
    code = next((c for c, reason in reasons.items() if reason in str(error)), errno.EIO)
    return OSError(code, os.strerror(code), str(path))
