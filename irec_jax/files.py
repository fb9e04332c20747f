"""Writing so that a crash, a full disk or a kill never leaves half a file behind."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from irec_jax.errors import InputError

UNCHANGED = "What was there before is unchanged."
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_RETIRED = ".old"


@contextlib.contextmanager
def replaced_file(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it takes the place of `path`.

    If the body fails, `path` keeps its old content and the temporary file is removed. What a killed
    process left of its own is removed, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    with _named_errors(path):
        handle, name = tempfile.mkstemp(prefix=_prefix(path), dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; on success it takes the place of `path`.

    If the body fails, `path` keeps its old content and the temporary folder is removed. What a
    killed process left of its own is removed, too. A link at `path` stays, and its target is
    replaced.
    """
    path = real_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    with _named_errors(path):
        temporary = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.parent))
        retired = temporary.with_name(f"{temporary.name}{_RETIRED}")
        try:
            yield temporary
            os.chmod(temporary, 0o755)
            if path.exists():
                os.replace(path, retired)
            os.replace(temporary, path)
        except BaseException:
            if retired.exists() and not path.exists():
                os.replace(retired, path)
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(retired, ignore_errors=True)


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes UTF-8 text to `path`, all of it or nothing; at no time with more than `mode`."""
    with replaced_file(path, mode) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def real_path(path: Path) -> Path:
    """Follows links; `Path.resolve` raises a RuntimeError where they form a loop."""
    return Path(os.path.realpath(path))


def remove_leftovers(path: Path) -> None:
    """Removes what killed processes of this host left beside `path`, which they were replacing.

    A folder that one of them had moved away, without putting the new one in its place, is moved
    back.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(.+)-(\d+)-\w+({re.escape(_RETIRED)})?")
    for left in path.parent.glob(".*") if path.parent.is_dir() else ():
        found = pattern.fullmatch(left.name)
        if found is None or found[1] != socket.gethostname() or _is_alive(int(found[2])):
            continue
        if found[3] and not path.exists():
            os.replace(left, path)
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def check_output_place(folder: Path) -> None:
    """Refuses a folder that no command may fill or replace, such as the current one.

    Raises:
        InputError: It is the current folder, the home folder, or holds one of them.
    """
    places = {"current folder": Path.cwd(), "home folder": Path(os.path.expanduser("~"))}
    for name, place in places.items():
        if real_path(place).is_relative_to(real_path(folder)):
            raise InputError(
                f"this is the {name}, or holds it",
                where=str(folder),
                hint="Name a new folder with --out.",
            )


def check_output_folder(
    folder: Path,
    what: str,
    is_own: Callable[[Path], bool],
    *,
    own_files: Collection[str] | None = None,
    other_files_hint: str = "Choose another folder with --out.",
) -> None:
    """Makes sure that a command loses nothing but its own earlier output if it replaces a folder.

    A folder that a killed process had moved away is moved back before.

    Args:
        folder: What will be replaced; it may be missing.
        what: What the command writes, such as "a behavior log".
        is_own: Says whether a folder holds that; it may raise an `InputError` for no.
        own_files: Names of the files of such a folder: it is refused if it holds other files too.
            None allows other files.
        other_files_hint: Hint for a folder that holds the output and other files.

    Raises:
        InputError: As `check_output_place`, or it is a file, or holds something else.
    """
    check_output_place(folder)
    folder = real_path(folder)
    remove_leftovers(folder)
    hint = "Choose another folder with --out."
    if folder.exists() and not folder.is_dir():
        raise InputError("this is a file, not a folder", where=str(folder), hint=hint)
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    try:
        is_output = not names or is_own(folder)
    except InputError:
        is_output = False
    foreign = names
    if is_output:
        foreign = [] if own_files is None else [name for name in names if name not in own_files]
    if foreign:
        content = f"the folder holds something that is not {what}: {foreign[0]}"
        raise InputError(content, where=str(folder), hint=other_files_hint if is_output else hint)


def _prefix(path: Path) -> str:
    return f".{path.name}.{socket.gethostname()}-{os.getpid()}-"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Has a system error name `path` in place of a temporary file, and say that it stays."""
    try:
        yield
    except OSError as error:
        inside = error.filename is None or str(path.parent / _prefix(path)) in str(error.filename)
        if inside or error.errno in DISK_FULL:
            error.filename = str(path)
            error.add_note(UNCHANGED)
        raise
