"""Reads files of one record a line: JSON, and the Python literals of older Amazon files."""

import ast
import html
import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

import polars as pl

from irec_jax.errors import InputError
from irec_jax.log.readers.lines import Lines, refuse_other_files
from irec_jax.progress import track

CHUNK = 50_000

_TAG = re.compile(r"</?[A-Za-z][^<>]*>")

Record = dict[str, Any]


def records(lines: Lines) -> Iterator[Record]:
    """Yields the record of every line that is not blank.

    Args:
        lines: Their `number` is that of the record.

    Raises:
        InputError: A line is neither a JSON object nor a Python dict, or the gzip is damaged.
    """
    refuse_other_files(lines.path)
    reported, size = 0, lines.path.stat().st_size
    with track(f"read {lines.path.name}", size, unit="bytes") as advance:
        for line in lines:
            if lines.read_bytes > reported:
                advance(lines.read_bytes - reported, "")
                reported = lines.read_bytes
            if line.strip():
                yield _record(line, lines)


def _record(line: bytes, lines: Lines) -> Record:
    try:
        text = line.decode("utf-8-sig" if lines.number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        what = f"not UTF-8: byte 0x{line[error.start]:02x} at offset {error.start:,} of the line"
        raise InputError(what, where=lines.here, hint="Fetch the file again.") from error
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = _literal(text.strip())
    if not isinstance(record, dict):
        start = text.strip()[:60]
        what = f"neither a JSON object nor a Python dict: {start!r}"
        hint = "Fetch the file again: the line may be cut off."
        raise InputError(what, where=lines.here, hint=hint)
    return record


def _literal(text: str) -> Any:
    with warnings.catch_warnings():
        # Descriptions hold backslashes, which Python warns of in literals.
        warnings.simplefilter("ignore")
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None


def plain_text(value: Any) -> str:
    """Gives text without HTML tags and entities; a list's parts are joined by blanks.

    >>> plain_text("Nuts &amp; Bolts<br />for 3 < 4")
    'Nuts & Bolts for 3 < 4'
    """
    if isinstance(value, list):
        return " ".join(filter(None, map(plain_text, value)))
    if not isinstance(value, str):
        return ""
    if "<" in value:
        value = _TAG.sub(" ", value)
    if "&" in value:
        value = html.unescape(value)
    return writable(value).strip()


def writable(text: str) -> str:
    """Gives text without halves of surrogate pairs: JSON can escape them, no encoding can."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Gathered:
    """Rows gathered in chunks, so that they are never all in memory as Python objects.

    Args:
        columns: An empty table of the columns that the rows have.
    """

    def __init__(self, columns: pl.DataFrame) -> None:
        self._schema = columns.schema
        self._rows: list[tuple[Any, ...]] = []
        self._chunks: list[pl.DataFrame] = [columns]

    def add(self, row: tuple[Any, ...]) -> None:
        """Adds a row, whose values are in the order of the columns."""
        self._rows.append(row)
        if len(self._rows) == CHUNK:
            self._flush()

    def table(self) -> pl.DataFrame:
        """Gives all rows."""
        self._flush()
        return pl.concat(self._chunks)

    def _flush(self) -> None:
        if self._rows:
            self._chunks.append(pl.DataFrame(self._rows, schema=self._schema, orient="row"))
            self._rows = []
