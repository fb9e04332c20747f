"""Reads text files of any size line by line, and delimited ones column by column."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from irec_jax.errors import InputError
from irec_jax.files import file_sha256
from irec_jax.log.readers.encoding import refuse_other_text
from irec_jax.log.readers.source import TableFile
from irec_jax.log.readers.unpacking import (
    LONGEST_LINE,
    UNPACKING_ERRORS,
    damaged_gzip,
    is_gz,
    long_line,
    refuse_long_lines,
    unpacked,
)

# A character that no text holds, so that polars takes a whole line for one value.
_NEVER = "\x01"
# How many lines are read between two looks at how far the file was read.
_TELL_EVERY = 10_000
# How many bytes are looked at to find out what kind of text a file is.
_START = 1 << 16
# How much of a wrong line a message shows.
_SHOWN = 200


class Lines:
    """The lines of a file, plain or gz; the whole file is never in memory.

    Attributes:
        path: The file.
        number: The line that was read last, from 1.
        read_bytes: About how many bytes of the file were read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.number, self.read_bytes = path, 0, 0
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        """Yields the lines with their line breaks.

        Raises:
            InputError: The file is missing or no text that can be read, a line is longer than
                `LONGEST_LINE`, or its gzip is damaged or cut off.
        """
        refuse_other_files(self.path)
        with self.path.open("rb") as raw:
            lines = unpacked(self.path, raw)
            try:
                while line := lines.readline(LONGEST_LINE + 1):
                    self.number += 1
                    if len(line) > LONGEST_LINE:
                        raise long_line(self.here)
                    self._digest.update(line)
                    if self.number % _TELL_EVERY == 0:
                        self.read_bytes = raw.tell()
                    yield line
            except UNPACKING_ERRORS as error:
                raise damaged_gzip(error, self.after()) from error

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


def refuse_other_files(path: Path) -> None:
    """Refuses a file that is not there, empty, UTF-16 text, or without line feeds.

    Raises:
        InputError: Naming it.
    """
    if not path.is_file():
        hint = "Check the path; relative paths start at the current folder."
        raise InputError("there is no such file", where=str(path), hint=hint)
    if path.stat().st_size == 0:
        raise InputError("the file is empty", where=str(path), hint="Give a file with rows.")
    with path.open("rb") as raw, contextlib.suppress(*UNPACKING_ERRORS):
        # Where its gzip is damaged, reading the lines names the last that can be read.
        refuse_other_text(unpacked(path, raw).read(_START), path)


def scan_values(
    path: Path, separator: str, columns: Sequence[str], *, header: bool
) -> pl.LazyFrame:
    """Gives the values of a delimited file as text, to be read while it streams by.

    Args:
        path: UTF-8 text without quoting, plain or gz.
        separator: One or more characters.
        columns: The names of all columns, in order.
        header: Whether the first line holds names instead of values.

    Returns:
        A row for every line: the columns, null where the line ends before them; `blank`, whether
        nothing is in it; and `longer`, whether there are more values than columns.
    """
    refuse_other_files(path)
    if is_gz(path):
        refuse_long_lines(path)
    lines = pl.scan_csv(
        path,
        separator=_NEVER,
        quote_char=None,
        has_header=False,
        schema={"line": pl.String()},
        raise_if_empty=False,
        skip_rows=int(header),
        glob=False,
    )
    line = pl.col("line")
    values = line.str.split_exact(separator, len(columns)).struct
    return lines.select(
        *(values.field(f"field_{n}").alias(name) for n, name in enumerate(columns)),
        line.is_null().alias("blank"),
        values.field(f"field_{len(columns)}").is_not_null().alias("longer"),
    )


def collected(lines: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """Reads what was scanned, in a stream.

    Raises:
        InputError: The file is not UTF-8, or its gzip is damaged.
    """
    try:
        return lines.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        # A cut-off gzip is an OSError to polars.
        raise _unreadable(path, error) from error


def refuse_lines(path: Path, wrong: pl.Series, what: str, *, header: bool = False) -> None:
    """Refuses a file of which a line is wrong.

    Args:
        path: The file.
        wrong: `[rows]` bool.
        what: The message; `{line}` is replaced by the first wrong line.
        header: Whether the first line is a header.

    Raises:
        InputError: With the number of the first wrong line.
    """
    rows = wrong.fill_null(False).arg_true()
    if len(rows) == 0:
        return
    lines = Lines(path)
    text = next(line for line in lines if lines.number == int(rows[0]) + 1 + header)
    shown = text.decode("utf-8", "replace").rstrip("\r\n")
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    hint = "Fetch the file again, or drop this line."
    raise InputError(what.replace("{line}", repr(shown)), where=lines.here, hint=hint)


def read_delimited(
    path: Path, separator: str, columns: Sequence[str], wanted: pl.DataFrame, *, header: bool
) -> TableFile:
    """Reads the wanted columns of a file whose every line holds as many plain values.

    Values are cast while the file streams by, so that a file of gigabytes needs the memory of
    its columns and no more.

    Args:
        path: UTF-8 text without quoting, plain or gz.
        separator: One or more characters.
        columns: The names of all columns, in order.
        wanted: An empty table of those to keep; none of their values may be missing.
        header: Whether the first line holds names instead of values.

    Raises:
        InputError: A line has too few or too many values, or one of a wrong type.
    """
    lines = scan_values(path, separator, columns, header=header)
    casts = [
        pl.col(name).cast(dtype, strict=False).alias(name) for name, dtype in wanted.schema.items()
    ]
    # Quotes around values would become a part of ids.
    quoted = pl.any_horizontal(pl.col(wanted.columns).str.contains('"', literal=True))
    uneven = pl.col("longer") | pl.col(columns[-1]).is_null() | quoted
    table = collected(lines.select(*casts, pl.col("blank"), uneven.alias("uneven")), path)
    table = without_blank_end(table, path)
    lacking = table.select(pl.any_horizontal(pl.col(wanted.columns).is_null())).to_series()
    what = f"{{line}} is not {separator.join(columns)} with an unquoted value in each"
    refuse_lines(path, lacking | table["uneven"], what, header=header)
    return TableFile(path, table.drop("blank", "uneven"), file_sha256(path))


def without_blank_end(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Gives the rows up to the last that is not `blank`.

    Raises:
        InputError: All are blank.
    """
    rows = (~table["blank"]).arg_true()
    if len(rows) == 0:
        raise InputError("the file has no rows", where=str(path), hint="Give a file with rows.")
    return table.head(int(rows[-1]) + 1)


def _unreadable(path: Path, error: Exception) -> InputError:
    """Finds the line that polars could not read: it names none."""
    lines, hint = Lines(path), "fetch the file again"
    for line in lines:
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as wrong:
            what = f"not UTF-8: byte 0x{line[wrong.start]:02x}"
            return InputError(what, where=lines.here, hint=hint)
    what = f"cannot be read ({str(error).splitlines()[0]})"
    return InputError(what, where=str(path), hint=hint)
