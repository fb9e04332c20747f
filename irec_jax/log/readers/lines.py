"""Reads text files of any size line by line, and delimited ones column by column."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from irec_jax.errors import InputError
from irec_jax.log.readers.source import Source

# A character that no text holds, so that polars takes a whole line for one value.
_NEVER = "\x01"


class Lines:
    """The lines of a file, plain or gz; the whole file is never in memory.

    Attributes:
        path: The file.
        number: The line that was read last, from 1.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, 0
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        """Yields the lines with their line breaks.

        Raises:
            InputError: The file is missing, or its gzip is damaged or cut off.
        """
        refuse_missing(self.path)
        packed = self.path.suffix.lower() == ".gz"
        with gzip.open(self.path) if packed else self.path.open("rb") as file:
            try:
                for line in file:
                    self.number += 1
                    self._digest.update(line)
                    yield line
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                what = f"damaged gzip ({error})"
                raise InputError(what, where=self.after(), mend="fetch it again") from error

    @property
    def here(self) -> str:
        """The file and the line that was read last, for messages."""
        return f"{self.path}, line {self.number:,}"

    def after(self) -> str:
        """The file and the last line that could be read, for messages."""
        return f"{self.path}, after line {self.number:,}"

    @property
    def sha256(self) -> str:
        """The checksum of the unpacked lines that were read so far."""
        return self._digest.hexdigest()


def refuse_missing(path: Path) -> None:
    """Refuses a file that is not there or empty.

    Raises:
        InputError: Naming it.
    """
    if not path.is_file():
        mend = "check the path; relative paths start at the current folder"
        raise InputError("there is no such file", where=str(path), mend=mend)
    if path.stat().st_size == 0:
        raise InputError("the file is empty", where=str(path), mend="give a file with rows")


def read_delimited(
    path: Path,
    separator: str,
    columns: Sequence[str],
    wanted: pl.DataFrame,
    *,
    header: bool,
) -> Source:
    """Reads the wanted columns of a file whose every line holds as many plain values.

    Values are cast while the file streams by, so that a file of gigabytes needs the memory of
    its columns and no more.

    Args:
        path: UTF-8 text without quoting, plain or gz.
        separator: One or more characters.
        columns: The names of all columns, in order.
        wanted: An empty table of those to keep; none of their values may be missing.
        header: Whether the first line holds names and is no row.

    Raises:
        InputError: A line has too few or too many values, or one of a wrong type.
    """
    refuse_missing(path)
    line = pl.col("line")
    values = line.str.split_exact(separator, len(columns)).struct
    picked = [
        values.field(f"field_{columns.index(name)}").cast(dtype, strict=False).alias(name)
        for name, dtype in wanted.schema.items()
    ]
    lacking = values.field(f"field_{len(columns) - 1}").is_null()
    wrong = lacking | values.field(f"field_{len(columns)}").is_not_null()
    lines = pl.scan_csv(
        path,
        separator=_NEVER,
        quote_char=None,
        has_header=False,
        new_columns=["line"],
        infer_schema=False,
        skip_rows=int(header),
    )
    try:
        marks = [wrong.alias("wrong"), line.is_null().alias("blank")]
        table = lines.select(*picked, *marks).collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        raise unreadable(path, error) from error
    blank = table["blank"]
    rows = int((~blank).arg_true()[-1]) + 1 if not blank.all() else 0
    table = table.head(rows)
    if table.height == 0:
        raise InputError("the file has no rows", where=str(path), mend="give a file with rows")
    bad = table.select(
        pl.any_horizontal(pl.col("wrong"), pl.col(wanted.columns).is_null())
    ).to_series()
    if bad.any():
        row = int(bad.arg_true()[0])
        text = lines.slice(row, 1).collect()["line"][0] or ""
        raise InputError(
            f"{text!r} is not {separator.join(columns)} with a value in each",
            where=f"{path}, line {row + 1 + header:,}",
            mend="fetch the file again, or drop this line",
        )
    return Source(path, table.drop("wrong", "blank"), file_sha256(path))


def unreadable(path: Path, error: Exception, columns: Sequence[str] = ()) -> InputError:
    """Finds the line that polars could not read: it names none.

    Args:
        path: The file.
        error: What polars said.
        columns: The names of a tab-separated file's columns.

    Raises:
        InputError: The gzip is damaged.
    """
    lines, mend = Lines(path), "fetch the file again"
    for line in lines:
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as wrong:
            what = f"not UTF-8: byte 0x{line[wrong.start]:02x}"
            return InputError(what, where=lines.here, mend=mend)
        if columns and line.count(b"\t") >= len(columns):
            values = line.count(b"\t") + 1
            what = f"{values} values, and there are {len(columns)} columns"
            return InputError(what, where=lines.here, mend=f"{mend}: values are tab-separated")
    what = f"cannot be read ({str(error).splitlines()[0]})"
    return InputError(what, where=str(path), mend=mend)


def file_sha256(path: Path) -> str:
    """Gives the checksum of a file as it lies on disk."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
