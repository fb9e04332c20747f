"""Reads files, plain or gz, within bounds of memory: a small gz file can unpack to any size."""

import gzip
import io
import os
import zlib
from pathlib import Path

from irec_jax.errors import InputError

# A line of a log is a record; longer ones are damage, or text without line ends.
LONGEST_LINE = 1 << 26
_CHUNK = 1 << 20
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

UNPACKING_ERRORS = (gzip.BadGzipFile, EOFError, zlib.error)


def largest_file() -> int:
    """Gives the most bytes read of a file at once: a quarter of the memory, or of a container's.

    The table that is made of them needs as much again, and a copy while it is cast.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _CONTAINER_LIMITS:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        limits += [int(text)] if text.isdecimal() else []
    return min(limits) // 4


def is_gz(path: Path) -> bool:
    """Tells by its suffix whether a file is compressed."""
    return path.suffix.lower() == ".gz"


def unpacked(path: Path, raw: io.BufferedIOBase) -> io.BufferedIOBase:
    """Gives the unpacked bytes of the open file `raw`."""
    return gzip.GzipFile(fileobj=raw) if is_gz(path) else raw


def damaged_gzip(error: Exception, where: str) -> InputError:
    """Makes the message for a gz file that cannot be unpacked."""
    return InputError(f"damaged gzip ({error})", where=where, hint="Fetch the file again.")


def read_bounded(path: Path) -> bytes:
    """Reads a whole file, unpacked.

    Raises:
        InputError: Its gzip is damaged, or it is larger than `largest_file`.
    """
    most = largest_file()
    if not is_gz(path):
        if path.stat().st_size > most:
            raise _too_large(path, most)
        return path.read_bytes()
    buffer = io.BytesIO()
    with path.open("rb") as raw:
        try:
            lines = unpacked(path, raw)
            while chunk := lines.read(_CHUNK):
                if buffer.tell() + len(chunk) > most:
                    raise _too_large(path, most)
                buffer.write(chunk)
        except UNPACKING_ERRORS as error:
            raise damaged_gzip(error, str(path)) from error
    return buffer.getvalue()


def refuse_long_lines(path: Path) -> None:
    """Refuses a gz file with a line that is longer than `LONGEST_LINE`, in a stream.

    Damage of the gzip is left to the one who reads the file.

    Raises:
        InputError: Naming the file.
    """
    length = 0
    with path.open("rb") as raw:
        lines = unpacked(path, raw)
        try:
            while chunk := lines.read(_CHUNK):
                first = chunk.find(b"\n")
                length += first if first >= 0 else len(chunk)
                if length > LONGEST_LINE:
                    raise long_line(str(path))
                length = len(chunk) - 1 - chunk.rfind(b"\n") if first >= 0 else length
        except UNPACKING_ERRORS:
            return


def long_line(where: str) -> InputError:
    """Makes the message for a line that is longer than `LONGEST_LINE`."""
    what = f"a line is longer than {LONGEST_LINE >> 20} MiB"
    return InputError(what, where=where, hint="Give one record a line; fetch the file again.")


def refuse_many_values(rows: int, columns: int, path: Path) -> None:
    """Refuses a parquet file whose table would be larger than `largest_file`.

    Raises:
        InputError: Naming the counts.
    """
    most = largest_file()
    if rows * columns * 8 > most:
        raise _too_large(path, most, f"{rows:,} rows of {columns:,} columns: ")


def _too_large(path: Path, most: int, shown: str = "") -> InputError:
    what = f"{shown}more than {_size(most)} unpacked, a quarter of this machine's memory"
    hint = "Split the file, or prepare it on a machine with more memory."
    return InputError(what, where=str(path), hint=hint)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
