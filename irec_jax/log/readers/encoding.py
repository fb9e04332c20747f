"""Names text that is not UTF-8 with line feeds: it is never converted by a guess."""

import codecs
from pathlib import Path

from irec_jax.errors import InputError

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_LOOKED_AT = 4096


def refuse_other_text(start: bytes, path: Path) -> None:
    """Refuses a file that starts as UTF-16 or UTF-32 text, or that has lines that end in CR only.

    Args:
        start: The first bytes of the file, unpacked; more than its first lines, or all of it.
        path: The file, for messages.

    Raises:
        InputError: Naming the encoding or the line ends, and how to convert them.
    """
    name = path.name.removesuffix(".gz")
    first = "Unpack it, then run" if name != path.name else "Run"
    encoding = _wide_encoding(start[:_LOOKED_AT])
    if encoding:
        hint = f"{first}: iconv -f {encoding} -t UTF-8 {name} > utf8-{name}"
        what = f"this is {encoding.removesuffix('LE').removesuffix('BE')} text, not UTF-8"
        raise InputError(what, where=f"{path}, line 1", hint=hint)
    if b"\n" not in start and b"\r" in start.rstrip(b"\r"):
        hint = f"{first}: tr '\\r' '\\n' < {name} > lines-{name}"
        what = "the lines end in CR only, as on old Macs"
        raise InputError(what, where=f"{path}, line 1", hint=hint)


def refuse_other_encodings(data: bytes, path: Path) -> None:
    """Refuses text that is not UTF-8.

    Raises:
        InputError: With the line and the first wrong byte.
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start:,}",
            where=f"{path}, line {line:,}",
            hint=f"Convert it, such as with: iconv -f latin1 -t utf-8 {path.name}",
        ) from error


def _wide_encoding(start: bytes) -> str:
    for mark, encoding in _MARKS.items():
        if start.startswith(mark):
            return encoding
    # Without a mark: every other byte of mostly Latin text is zero.
    even, odd = start[::2].count(0), start[1::2].count(0)
    if max(even, odd) > len(start) // 4 and min(even, odd) < len(start) // 16 + 1:
        return "UTF-16LE" if odd > even else "UTF-16BE"
    return ""
