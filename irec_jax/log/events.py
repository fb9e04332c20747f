"""A behavior log: who did what with which item, when."""

import dataclasses
import enum
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int

from irec_jax import __version__
from irec_jax.errors import InputError
from irec_jax.files import (
    check_output_folder,
    file_sha256,
    real_path,
    remove_leftovers,
    replaced_folder,
    write_text,
)
from irec_jax.log.checks import check_interactions, check_items
from irec_jax.log.kcore import count_core
from irec_jax.parquet import read_parquet
from irec_jax.settings import from_json

ITEMS_FILE = "items.parquet"
INTERACTIONS_FILE = "interactions.parquet"
MANIFEST_FILE = "manifest.json"
PICTURE_FILE = "description.svg"
OWN_FILES = {ITEMS_FILE, INTERACTIONS_FILE, MANIFEST_FILE, PICTURE_FILE}

FORMAT = 1
CREATED_BY = f"irec-jax {__version__}"
COUNTED_CORE = 5


class EventKind(enum.StrEnum):
    """An action of a user on an item."""

    VIEW = "view"
    PURCHASE = "purchase"
    RATING = "rating"
    REVIEW = "review"
    QUERY = "query"


_KINDS = [kind.value for kind in EventKind]


class TimeUnit(enum.StrEnum):
    """The unit of the log's `time`; a position only orders the events of one user."""

    SECONDS = "seconds"
    POSITION = "position"


@dataclasses.dataclass(frozen=True)
class LogManifest:
    """Where a log comes from and what was done to it.

    Attributes:
        source: The reader's name, such as `movietweetings`.
        license: The licence that the data came with, "" where it is not known.
        created_by: The program and version that wrote it.
        seed: What drew a simulated log; None for a real one, whose pseudonyms must not be
            rebuilt from the other files of the folder.
        counts: `users`, `items`, `interactions`, and the same of the 5-core as `core5_users`
            and so on.
        dropped: Reason -> number of rows that were dropped or repaired.
        sha256: File name -> checksum of what was written.
        settings: Settings of the reader, and `time`: a value of `TimeUnit`.
    """

    source: str
    license: str = ""
    created_by: str = CREATED_BY
    seed: int | None = None
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)
    sha256: dict[str, str] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """Gives the text of `manifest.json`."""
        fields = {"format": FORMAT, **dataclasses.asdict(self)}
        return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str = MANIFEST_FILE) -> "LogManifest":
        """Reads the text of a `manifest.json`.

        Raises:
            InputError: The text is not JSON, or not of this format.
        """
        hint = "Prepare the log again with `irec data prepare`."
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"not JSON ({error})", where=where, hint=hint) from error
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
            raise InputError(f"not a manifest of format {FORMAT}", where=where, hint=hint)
        if set(fields) != names:
            wrong = ", ".join(sorted(set(fields) ^ names))
            raise InputError(f"missing or unknown keys: {wrong}", where=where, hint=hint)
        manifest = from_json(cls, fields, where=where)
        units = [unit.value for unit in TimeUnit]
        if manifest.settings.get("time", units[0]) not in units:
            what = f"settings.time must be one of {', '.join(units)}"
            raise InputError(what, where=where, hint=hint)
        return manifest

    @property
    def time_unit(self) -> TimeUnit:
        """The unit of the log's `time`."""
        return TimeUnit(self.settings.get("time", TimeUnit.SECONDS.value))


@dataclasses.dataclass(frozen=True, eq=False)
class BehaviorLog:
    """Items and interactions of one data set, with a manifest.

    Attributes:
        items: `item` str (unique), `title` str (never blank), `categories` list[str]; optional
            `brand` str, `attributes` list[str] (values such as a color or a material),
            `description` str, `price` float64, `released` str (ISO 8601, may be a
            year alone).
        interactions: `user` int64, `item` str (one of `items`), `time` int64 (seconds or
            sequence position), `event` str (a value of `EventKind`); optional `rating` float64,
            `review` str, `query` str, `intention` str ("vague" or "specific": what kind of
            query it is), `place` str (where the user was, as a city or country). Sorted by
            user, then time.
        manifest: Where they come from.

    Raises:
        InputError: One of these promises is broken; the message says which, and where.
    """

    items: pl.DataFrame
    interactions: pl.DataFrame
    manifest: LogManifest

    def __post_init__(self) -> None:
        check_items(self.items)
        check_interactions(self.interactions, self.items["item"], _KINDS)

    @classmethod
    def assemble(
        cls, items: pl.DataFrame, interactions: pl.DataFrame, manifest: LogManifest
    ) -> "BehaviorLog":
        """Sorts the interactions, counts, and builds the log.

        Args:
            items: The catalog, see the class.
            interactions: In any order; equal times of a user keep their order.
            manifest: What the reader knows; its counts are made here.

        Raises:
            InputError: The tables are not a behavior log.
        """
        # Before sorting, so that a message names the row as the source counts it.
        check_items(items)
        check_interactions(interactions, items["item"], _KINDS, ordered=False)
        settings = {"time": TimeUnit.SECONDS.value, **manifest.settings}
        ordered = interactions.sort("user", "time", maintain_order=True)
        return cls(items, ordered, dataclasses.replace(manifest, settings=settings)).recounted()

    def recounted(self) -> "BehaviorLog":
        """Gives the same tables with the manifest's counts computed again and no checksums."""
        users = self.interactions["user"]
        counts = {
            "users": users.n_unique(),
            "items": self.items.height,
            "interactions": self.interactions.height,
        }
        core = count_core(users.to_numpy(), self.item_rows(), COUNTED_CORE)
        counts |= {f"core{COUNTED_CORE}_{name}": count for name, count in core.items()}
        manifest = dataclasses.replace(self.manifest, counts=counts, sha256={})
        return dataclasses.replace(self, manifest=manifest)

    def item_rows(self) -> Int[np.ndarray, " events"]:
        """Gives `[events]` int64: the row of `items` that each interaction is with."""
        rows = self.items.select("item").with_row_index("row")
        joined = self.interactions.select("item").join(
            rows, on="item", how="left", maintain_order="left"
        )
        return joined["row"].cast(pl.Int64).to_numpy()

    def save(self, folder: Path, *, overwrite: bool = False) -> None:
        """Writes the log as a folder, all of it or nothing.

        Args:
            folder: New, empty, or holding an older log, which is replaced.
            overwrite: Replaces an older log with other files in its folder, too.

        Raises:
            InputError: The folder holds something else, or it could not be written; what was
                there stays.
        """
        check_log_folder(folder, overwrite=overwrite)
        try:
            with replaced_folder(folder) as temporary:
                self.items.write_parquet(temporary / ITEMS_FILE)
                self.interactions.write_parquet(temporary / INTERACTIONS_FILE)
                names = (ITEMS_FILE, INTERACTIONS_FILE)
                sums = {name: file_sha256(temporary / name) for name in names}
                manifest = dataclasses.replace(self.manifest, sha256=sums)
                write_text(temporary / MANIFEST_FILE, manifest.to_json())
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InputError(
                f"could not be written ({error}); what was there is unchanged",
                where=str(folder),
                hint="Make room on the disk, or write to another folder with --out.",
            ) from error

    @classmethod
    def load(cls, folder: Path) -> "BehaviorLog":
        """Reads a folder written by `save` and checks it.

        Raises:
            InputError: The folder or one of its files is missing, changed or damaged.
        """
        hint = "Prepare the log again with `irec data prepare`."
        if not folder.is_dir():
            remove_leftovers(real_path(folder))
        if not folder.is_dir():
            raise InputError("there is no such folder", where=str(folder), hint=hint)
        for name in (MANIFEST_FILE, ITEMS_FILE, INTERACTIONS_FILE):
            if not (folder / name).is_file():
                what = f"the behavior log misses its file {name}"
                raise InputError(what, where=str(folder), hint=hint)
        path = folder / MANIFEST_FILE
        manifest = LogManifest.from_json(path.read_bytes(), where=str(path))
        tables = []
        for name in (ITEMS_FILE, INTERACTIONS_FILE):
            if file_sha256(folder / name) != manifest.sha256.get(name):
                what = f"not what was written (sha256 differs from {MANIFEST_FILE})"
                raise InputError(what, where=str(folder / name), hint=hint)
            tables.append(read_parquet(folder / name, hint))
        return cls(tables[0], tables[1], manifest)


def check_log_folder(folder: Path, *, overwrite: bool = False) -> None:
    """Makes sure that replacing `folder` loses nothing but an older behavior log.

    Args:
        folder: Where a log will be.
        overwrite: Whether other files in the folder of an older log may be lost.

    Raises:
        InputError: As `check_output_folder`, or the folder holds other files.
    """
    check_output_folder(
        folder,
        "a behavior log",
        is_log,
        own_files=None if overwrite else OWN_FILES,
        other_files_hint="Choose another folder, or give --overwrite to lose all that this one "
        "holds.",
    )


def is_log(folder: Path) -> bool:
    """Says whether a folder has the manifest of a behavior log."""
    path = folder / MANIFEST_FILE
    try:
        LogManifest.from_json(path.read_text(encoding="utf-8"))
    except (InputError, OSError, UnicodeDecodeError):
        return False
    return True
