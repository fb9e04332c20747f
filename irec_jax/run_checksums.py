"""Checksums of the sources and files of a run, and the folders that can hold a run."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl

from irec_jax.errors import InputError
from irec_jax.files import check_output_place, file_sha256, real_path, write_text
from irec_jax.log.events import is_log
from irec_jax.run_folder import CATALOG_FILE, CHECKSUMS_FILE, PACKS_FOLDER, TOKENS_FOLDER

_CATALOG_ROWS = 65_536  # hashed at a time
# Orbax finds the parts of a checkpoint by a pattern that starts with the path of the run.
_PATTERN_CHARACTERS = frozenset("[]*?\\")


@dataclasses.dataclass(frozen=True)
class Sources:
    """SHA-256 of what a run is trained on, wherever it was read from.

    Attributes:
        log: File -> checksum of a prepared log; empty for a simulated one, which the settings
            decide.
        catalog: Of the items, in the order of their numbers.
        teacher: Of the texts that a teacher adds.
    """

    log: dict[str, str]
    catalog: str
    teacher: str


def check_run_folder(run: Path) -> None:
    """Refuses a folder that cannot become a run.

    Raises:
        InputError: As `check_output_place`, it holds a behavior log, or its path has a character
            with which Orbax writes checkpoints that cannot be read.
    """
    check_output_place(run)
    path = str(real_path(run))
    if special := sorted(set(path) & _PATTERN_CHARACTERS):
        found = " ".join(special)
        what = f"its whole path {path} has {found}, and checkpoints cannot be saved there"
        hint = "Name a folder without them with --out."
        raise InputError(what, where=str(run), hint=hint)
    if is_log(run):
        hint = "Name another folder with --out."
        raise InputError("this is the folder of a behavior log", where=str(run), hint=hint)


def catalog_sha256(table: pl.DataFrame) -> str:
    """Returns the SHA-256 of a catalog's rows, the same for any version of the parquet format."""
    digest = hashlib.sha256(json.dumps(table.columns).encode("utf-8"))
    for rows in table.iter_slices(_CATALOG_ROWS):
        digest.update(rows.write_ndjson().encode("utf-8"))
    return digest.hexdigest()


def write_checksums(run: Path, sources: Sources) -> None:
    """Writes `checksums.json`: the sources of a run, and its files as they are now."""
    content = {"sources": dataclasses.asdict(sources), "files": _sums(run)}
    write_text(run / CHECKSUMS_FILE, json.dumps(content, indent=2) + "\n")


def check_files(run: Path) -> None:
    """Compares the catalog, the tokens and the packs of a run with their checksums.

    Raises:
        InputError: One of them is missing, changed or was added; it is named.
    """
    expected, found = _read(run)["files"], _sums(run)
    hint = "Copy the whole run folder again, or tune again with `irec tune`."
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) == found.get(name):
            continue
        what = f"the file is not what was written (sha256 differs from {CHECKSUMS_FILE})"
        if name not in found:
            what = "the file is missing"
        elif name not in expected:
            what = f"the file is not part of the run ({CHECKSUMS_FILE} does not list it)"
        raise InputError(what, where=str(run / name), hint=hint)


def refuse_missing_log(run: Path, log: str) -> None:
    """Refuses to go on where the prepared log of a run is not at the path that the run knows.

    Args:
        run: The run folder.
        log: The folder of the log; "" for a log that is not a folder.

    Raises:
        InputError: There is no such folder.
    """
    if log and not Path(log).is_dir():
        raise InputError(
            f"the log of the run {run} is not there",
            where=f"data.log: {log}",
            hint="Put it back, call from the folder in which the run was tuned, or give its new "
            f"place once: irec tune EXPERIMENT --out {run} --data.log FOLDER.",
        )


def refuse_other_sources(run: Path, sources: Sources) -> None:
    """Compares what a run was started with and what its settings give now.

    Raises:
        InputError: They differ; the log, the catalog or the teacher is named.
    """
    before, now = _read(run)["sources"], dataclasses.asdict(sources)
    hint = "Restore it, or tune into another folder: --out."
    old, new = before.get("log") or {}, sources.log
    for file in sorted(old.keys() | new.keys()):
        if old.get(file) != new.get(file):
            what = f"the log's {file} is not the one that the run was started with"
            change = f"sha256 {_short(old.get(file))} then, {_short(new.get(file))} now"
            raise InputError(f"{what} ({change})", where=str(run), hint=hint)
    for name in ("catalog", "teacher"):
        if before.get(name) != now[name]:
            what = f"the {name} is not the one that the run was started with"
            change = f"sha256 {_short(before.get(name))} then, {_short(now[name])} now"
            raise InputError(f"{what} ({change})", where=str(run), hint=hint)


def _read(run: Path) -> dict[str, Any]:
    path = run / CHECKSUMS_FILE
    hint = "Copy the whole run folder again, or tune again with `irec tune`."
    if not path.is_file():
        what = f"the run has no {CHECKSUMS_FILE}"
        raise InputError(what, where=str(run), hint=hint)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(content[key], dict) for key in ("sources", "files")):
            raise TypeError("a section is not an object")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"it cannot be read: {error!r}", where=str(path), hint=hint) from error
    return content


def _sums(run: Path) -> dict[str, str]:
    """File of a run -> SHA-256; hidden files, such as those of a file browser, are left out."""
    paths = [run / CATALOG_FILE]
    paths += [path for name in (TOKENS_FOLDER, PACKS_FOLDER) for path in (run / name).glob("*")]
    sums = {}
    for path in paths:
        if path.is_file() and not path.name.startswith("."):
            sums[path.relative_to(run).as_posix()] = file_sha256(path)
    return sums


def _short(checksum: str | None) -> str:
    return f"{checksum[:12]}…" if isinstance(checksum, str) else "none"
