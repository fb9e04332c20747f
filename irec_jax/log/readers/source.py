"""Opens a table file of any format that we read: csv, tsv, jsonl and parquet, plain or gz."""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import polars as pl

from irec_jax.errors import InputError, nearest
from irec_jax.log.readers.encoding import refuse_other_encodings, refuse_other_text
from irec_jax.log.readers.faults import SEPARATORS, refuse_duplicate_names, refuse_line
from irec_jax.log.readers.unpacking import read_bounded, refuse_many_values

FORMATS = ("tsv", "csv", "jsonl", "parquet")
SUFFIXES = tuple(f".{name}{gz}" for name in FORMATS for gz in ("", ".gz"))

_NO_PATH = "check the path; relative paths start at the current folder"


class TableFile(NamedTuple):
    """A table and its file.

    Attributes:
        path: The file.
        table: Its columns; text files keep every value as text, so that ids keep their zeros.
        sha256: The checksum of the unpacked bytes.
    """

    path: Path
    table: pl.DataFrame
    sha256: str


def find_table(folder: Path, name: str, hint: str) -> Path:
    """Finds the file of a table in a folder.

    Args:
        folder: Where to look.
        name: The file's name without its suffix.
        hint: What to do where it is not there.

    Raises:
        InputError: The folder is missing, or has no such file, or several.
    """
    if not folder.is_dir():
        raise InputError("there is no such folder", where=str(folder), hint=_NO_PATH)
    found = [path for path in (folder / f"{name}{suffix}" for suffix in SUFFIXES) if path.is_file()]
    if len(found) > 1:
        what = f"there are several files of {name}: {', '.join(path.name for path in found)}"
        raise InputError(what, where=str(folder), hint=f"Keep one of them. Or, {hint}.")
    if found:
        return found[0]
    raise InputError(
        f"there is no {name}.tsv in it (nor one of {', '.join(SUFFIXES[1:])})",
        where=str(folder),
        hint=hint,
    )


def open_table(path: Path) -> TableFile:
    """Reads a whole table file; its suffix names the format.

    Raises:
        InputError: The file is missing, empty, damaged, not UTF-8, or of no format that we
            know.
    """
    suffixes = [suffix.lstrip(".").lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == ["gz"]
    form = suffixes[-2 if packed else -1] if len(suffixes) > packed else ""
    form = "jsonl" if form == "ndjson" else form
    if form not in FORMATS:
        what = f"the suffix .{form} names no readable format"
        raise InputError(what, where=str(path), hint=nearest(form, FORMATS))
    data = _bytes(path)
    if form != "parquet":
        refuse_other_text(data, path)
        # Polars checks the values, but lets a header in any encoding pass.
        refuse_other_encodings(data[: data.find(b"\n") + 1 or None], path)
    if form in SEPARATORS:
        refuse_duplicate_names(data, form, path)
    try:
        table = _parse(data, form, path)
    except (pl.exceptions.PolarsError, RecursionError) as error:
        if form != "parquet":
            refuse_other_encodings(data, path)
            refuse_line(data, form, path, _HOW[form])
        what = f"not {form} that can be read ({str(error).splitlines()[0]})"
        raise InputError(what, where=str(path), hint=_HOW[form]) from error
    if form == "jsonl" and (b"[" in data or data.count(b"{") > data.count(b"\n{") + 1):
        # Polars makes text of an object, and a list of text, where lines differ.
        refuse_line(data, form, path, _HOW[form])
    if table.height == 0:
        what = "the table has a header and no rows"
        raise InputError(what, where=str(path), hint="Give a file with rows.")
    return TableFile(path, table, hashlib.sha256(data).hexdigest())


_HOW = {
    "tsv": "one header line, then as many tab-separated values in each line, without quoting",
    "csv": "one header line, then as many values in each line; quote values that hold commas",
    "jsonl": "one JSON object a line, with the same type in every line",
    "parquet": "write the file again",
}


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise InputError("there is no such file", where=str(path), hint=_NO_PATH)
    data = read_bounded(path)
    if not data or data.isspace():
        raise InputError("the file is empty", where=str(path), hint="Give a file with rows.")
    return data


def _parse(data: bytes, form: str, path: Path) -> pl.DataFrame:
    if form == "parquet":
        scan = pl.scan_parquet(io.BytesIO(data))
        rows = int(scan.select(pl.len()).collect().item())
        refuse_many_values(rows, len(scan.collect_schema()), path)
        return pl.read_parquet(io.BytesIO(data))
    if form == "jsonl":
        return pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)
    quote = None if form == "tsv" else '"'
    table = pl.read_csv(data, separator=SEPARATORS[form], quote_char=quote, infer_schema=False)
    # A blank last line is common and not a row.
    while table.height and all(value is None for value in table.row(-1)):
        table = table.head(-1)
    return table
