"""Writing so that a crash, a full disk or a kill never leaves half a file behind."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replaced_file(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it takes the place of `path`.

    If the body fails, `path` keeps its old content and the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
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

    If the body fails, `path` keeps its old content and the temporary folder is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    retired = temporary.with_name(f"{temporary.name}.old")
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
