"""Apache Beam runner for shards: the same writer on machines that share a folder."""

import contextlib
import hashlib
import pickle
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from irec_jax.errors import InputError
from irec_jax.progress import print_status
from irec_jax.storage.shards import Runner, Shard, ShardReport, ShardWriter, read_report
from irec_jax.storage.workers import Advance

_WRITER_FILE, _WRITER_FOLDER = "writer.pickle", "writer-"


class MakeShard(beam.DoFn):
    """Writes a shard and yields its file name.

    The writer is read from the build's folder: it is too large for the pipeline (Dataflow accepts
    10 MB). It is a pickle, so it is read only if its checksum is that in the pipeline.

    Args:
        writer_file: The pickled writer.
        sha256: SHA-256 of that file.
    """

    def __init__(self, writer_file: str, sha256: str) -> None:
        self._writer_file, self._sha256 = writer_file, sha256
        self._writer: Any = None
        self._records = beam.metrics.Metrics.counter("irec", "records")

    def setup(self) -> None:
        """Reads the writer.

        Raises:
            RuntimeError: It cannot be read, or is not the one that was written.
        """
        try:
            pickled = Path(self._writer_file).read_bytes()
        except OSError as error:
            raise RuntimeError(
                f"a worker cannot read {self._writer_file}: --out must be a folder that every "
                "worker has under the same path"
            ) from error
        if hashlib.sha256(pickled).hexdigest() != self._sha256:
            raise RuntimeError(f"{self._writer_file} was changed by another program")
        self._writer = pickle.loads(pickled)

    def process(self, element: tuple[str, int, int]) -> Iterator[str]:
        """Writes the shard (file, start, stop)."""
        report = self._writer(Shard(*element), _ignore_progress)
        self._records.inc(report.records)
        yield report.file


def beam_runner(runner: str, options: str = "") -> Runner:
    """Returns a runner that writes shards with Apache Beam.

    Args:
        runner: Its name, such as `DirectRunner`, `FlinkRunner` or `DataflowRunner`.
        options: Beam's own flags, as on a command line, with or without their dashes.

    Raises:
        InputError: Beam does not know the runner or a flag (when it is called).
    """
    flags = [f"--runner={runner}", *beam_flags(options)]

    def run(writer: ShardWriter, shards: Sequence[Shard], advance: Advance) -> Iterator[Any]:
        if not shards:
            return
        print_status(f"instruct: {len(shards)} shards for Beam's {runner}")
        try:
            with _pickled(writer) as make, beam.Pipeline(options=PipelineOptions(flags)) as pipe:
                _ = (
                    pipe
                    | "Shards" >> beam.Create([(s.file, s.start, s.stop) for s in shards])
                    | "Spread" >> beam.Reshuffle()
                    | "Make" >> beam.ParDo(make)
                )
        except Exception as error:
            raise InputError(
                f"Beam's {runner} failed: {error}",
                where="--runner",
                hint="Read its log. Finished shards are kept: the same command continues with the "
                "others.",
            ) from error
        yield from _reports(writer, shards, advance)

    return run


@contextlib.contextmanager
def _pickled(writer: ShardWriter) -> Iterator[MakeShard]:
    """Yields the `DoFn` while its writer is in a folder that only this user can read."""
    folder = writer.folder.resolve()
    for left in folder.glob(f"{_WRITER_FOLDER}*"):
        shutil.rmtree(left, ignore_errors=True)  # of a build that was killed
    pickled = pickle.dumps(ShardWriter(writer.contents, folder))
    with tempfile.TemporaryDirectory(prefix=_WRITER_FOLDER, dir=folder) as private:
        path = Path(private) / _WRITER_FILE
        path.write_bytes(pickled)
        yield MakeShard(str(path), hashlib.sha256(pickled).hexdigest())


def beam_flags(options: str) -> list[str]:
    """Splits flags as a shell does, and adds missing dashes.

    >>> beam_flags("flink_master=localhost:8081 parallelism=4")
    ['--flink_master=localhost:8081', '--parallelism=4']
    >>> beam_flags("--region europe-west4")
    ['--region', 'europe-west4']
    """
    words = shlex.split(options)
    if any(word.startswith("-") for word in words):
        return words
    return [f"--{word}" for word in words]


def _reports(
    writer: ShardWriter, shards: Sequence[Shard], advance: Advance
) -> Iterator[ShardReport]:
    """Reads the reports that the workers wrote beside the shards."""
    for shard in shards:
        report = read_report(writer.folder, shard)
        if report is None:
            raise InputError(
                f"Beam's workers wrote no {shard.file} here",
                where=str(writer.folder),
                hint="Name a folder that every worker has under the same path.",
            )
        advance(shard.stop - shard.start)
        yield report


def _ignore_progress(amount: int) -> None:
    """Ignores the progress of a shard: Beam reports its own."""
