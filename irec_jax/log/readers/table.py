"""Reader of any pair of tables, with a mapping of column names."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import polars as pl

from irec_jax.bounds import check_settings
from irec_jax.errors import InputError, nearest
from irec_jax.log.checks import check_interactions, check_items
from irec_jax.log.events import BehaviorLog, EventKind, LogManifest, TimeUnit
from irec_jax.log.privacy import pseudonyms
from irec_jax.log.readers.columns import (
    ids_of,
    list_of,
    nul_count,
    numbers_of,
    one_line,
    refuse_compact_dates,
    refuse_type,
    text_of,
    time_form_fault,
    times_of,
    titled,
)
from irec_jax.log.readers.source import TableFile, find_table, open_table

UNKNOWN_ITEM = "interaction with an item that is not in the items table"
NUL_TEXT = "text with NUL characters, which became blanks"
BLANK_TITLE = "blank title, written from brand and category instead"

POSITION, ROW_ORDER = "position", "row"
_FORMAT_KEY = "table.time_format"

Kind = Literal["view", "purchase", "rating", "review", "query"]


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which column of the files is what; a column that is not there is left out.

    Attributes:
        user: User names or numbers, in interactions.
        item: Item ids, in both files; kept as text.
        time: Seconds since 1970, ISO 8601 text (other forms with `time_format`), or `position`
            for a column that only orders a user's events, or `row` to take the order of the
            rows.
        event: One of view, purchase, rating, review, query.
        rating: A number.
        review: Text.
        query: What the user typed before the event.
        intention: What kind of query it is, vague or specific.
        place: Where the user was, as a city or country.
        title: How an item is called, in items.
        categories: Text with a separator between categories, or a list.
        brand: Brand, maker or author.
        attributes: Values such as a color or a material, written as categories are.
        description: Text.
        price: A number.
        released: A year or date.
    """

    user: str = "user"
    item: str = "item"
    time: str = "time"
    event: str = "event"
    rating: str = "rating"
    review: str = "review"
    query: str = "query"
    intention: str = "intention"
    place: str = "place"
    title: str = "title"
    categories: str = "categories"
    brand: str = "brand"
    attributes: str = "attributes"
    description: str = "description"
    price: str = "price"
    released: str = "released"

    def __post_init__(self) -> None:
        """Refuses empty names."""
        check_settings(self, "table.columns.")
        for field in dataclasses.fields(self):
            if not getattr(self, field.name):
                where, hint = f"table.columns.{field.name}", "give the name of a column"
                raise InputError("is empty", where=where, hint=hint)


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """Where the tables are and how to read them.

    Attributes:
        interactions: The interactions file; empty for `interactions.*` in the folder PATH.
        items: The items file; empty for `items.*` in the folder PATH.
        columns: Which column is what.
        category_separator: Separator of an item's categories, and of its attributes.
        time_format: The strptime format of the time column, such as %d/%m/%Y; empty where it
            holds seconds since 1970, ISO 8601 text or, in parquet, dates.
        kind: Event kind of every row if there is no event column.
        unknown_items: What to do with an interaction whose item is not in the items table.
        license: The licence of the data, for the manifest.
    """

    interactions: str = ""
    items: str = ""
    columns: Columns = dataclasses.field(default_factory=Columns)
    category_separator: str = "|"
    time_format: str = ""
    kind: Kind = "view"
    unknown_items: Literal["refuse", "drop"] = "refuse"
    license: str = ""

    def __post_init__(self) -> None:
        """Refuses impossible settings."""
        check_settings(self, "table.")
        if not self.category_separator:
            raise InputError("is empty", where="table.category_separator", hint="Give one, as '|'.")
        fault = time_form_fault(self.time_format) if self.time_format else ""
        if fault:
            what = f"{self.time_format!r} is not a format of times ({fault})"
            raise InputError(what, where=_FORMAT_KEY, hint="Give one such as '%d/%m/%Y'.")


def read_table(folder: Path | None, config: TableConfig, seed: int) -> BehaviorLog:
    """Reads an items file and an interactions file.

    Args:
        folder: Folder of both, unless `config` names them.
        config: Where they are and what their columns mean.
        seed: Deals the users' pseudonyms.

    Raises:
        InputError: A file cannot be read or does not hold a behavior log; the message names
            the file and the row.
    """
    paths = []
    for name in ("interactions", "items"):
        name_in_file = getattr(config, name)
        if not name_in_file and folder is None:
            hint = f"Give the folder that holds it, or --table.{name} FILE."
            raise InputError(f"there is no {name} file", where=f"table.{name}", hint=hint)
        paths.append(
            Path(name_in_file)
            if name_in_file
            else find_table(folder or Path(), name, f"or name the file with --table.{name}")
        )
    return log_of(
        open_table(paths[0]), open_table(paths[1]), config, seed, known=LogManifest("table")
    )


def log_of(
    interactions: TableFile,
    items: TableFile,
    config: TableConfig,
    seed: int,
    *,
    known: LogManifest,
) -> BehaviorLog:
    """Makes a log of two opened tables.

    Args:
        interactions: Who did what.
        items: The catalog.
        config: What their columns mean.
        seed: Deals the users' pseudonyms.
        known: What the reader knows: its name, what it dropped already and, where they are not
            the two tables' own, the files that it read (`settings["files"]`).

    Raises:
        InputError: The tables are not a behavior log.
    """
    catalog, catalog_columns, blank = _catalog(items, config)
    events, event_columns, unit = _events(interactions, config, seed)
    where = str(interactions.path)
    kinds = [kind.value for kind in EventKind]
    allowed = catalog["item"]
    drop = config.unknown_items == "drop"
    if drop:
        allowed = pl.concat([allowed, events["item"].drop_nulls()])
    check_interactions(events, allowed, kinds, ordered=False, where=where)
    nul = sum(
        nul_count(source.table[name] for name in set(used.values()))
        for source, used in ((items, catalog_columns), (interactions, event_columns))
    )
    repaired = {BLANK_TITLE: blank, NUL_TEXT: nul}
    dropped = known.dropped | {reason: rows for reason, rows in repaired.items() if rows}
    if drop:
        stays = events["item"].is_in(catalog["item"].implode())
        if not stays.any():
            hint = f"Give the items that these events are with; the items are in {items.path}."
            raise InputError("no event is with any of the items", where=where, hint=hint)
        dropped |= {UNKNOWN_ITEM: int((~stays).sum())} if not stays.all() else {}
        events = events.filter(stays)
    settings: dict[str, Any] = {
        "time": unit.value,
        "files": {s.path.name: s.sha256 for s in (items, interactions)},
        "columns": {"items": catalog_columns, "interactions": event_columns},
        "unused_columns": {
            "items": _unused(items, catalog_columns),
            "interactions": _unused(interactions, event_columns),
        },
    }
    if config.time_format:
        settings["time_format"] = config.time_format
    manifest = dataclasses.replace(
        known, license=config.license, dropped=dropped, settings=settings | known.settings
    )
    return BehaviorLog.assemble(catalog, events, manifest)


def _unused(source: TableFile, columns: dict[str, str]) -> list[str]:
    return [name for name in source.table.columns if name not in columns.values()]


def _catalog(source: TableFile, config: TableConfig) -> tuple[pl.DataFrame, dict[str, str], int]:
    texts, lists = ("brand", "description", "released"), ("categories", "attributes")
    names = ("item", "title", *lists, *texts, "price")
    picked = _pick(source, config.columns, names, needed=("item", "title"))
    raw = source.table
    where = str(source.path)
    columns = {"item": ids_of(raw[picked["item"]], "item", where).cast(pl.String)}
    columns["title"] = one_line(raw[picked["title"]], "title", where)
    columns["categories"] = pl.Series([[]] * raw.height, dtype=pl.List(pl.String))
    for name in lists:
        if name in picked:
            columns[name] = list_of(raw[picked[name]], config.category_separator, where)
    for name in texts:
        if name in picked:
            columns[name] = one_line(raw[picked[name]], name, where)
    if "price" in picked:
        columns["price"] = numbers_of(raw[picked["price"]], "price", where)
    catalog, blank = titled(pl.DataFrame(columns))
    check_items(catalog, where)
    return catalog, picked, blank


def _events(
    source: TableFile, config: TableConfig, seed: int
) -> tuple[pl.DataFrame, dict[str, str], TimeUnit]:
    names = ("user", "item", "event", "rating", "review", "query", "intention", "place")
    picked = _pick(source, config.columns, names, needed=("user", "item"))
    raw, where = source.table, str(source.path)
    columns = {
        "user": pseudonyms(ids_of(raw[picked["user"]], "user", where), seed),
        "item": ids_of(raw[picked["item"]], "item", where).cast(pl.String),
    }
    time = _time_column(source, config.columns.time)
    if time in (None, POSITION) and config.time_format:
        hint = "Name the column of times with --table.columns.time, or leave the format out."
        raise InputError("there are no times to read with it", where=_FORMAT_KEY, hint=hint)
    if time is None:
        columns["time"] = pl.int_range(raw.height, dtype=pl.Int64, eager=True)
        unit = TimeUnit.POSITION
    else:
        picked["time"] = time
        columns["time"] = times_of(raw[time], where, config.time_format)
        if time != POSITION and not config.time_format:
            refuse_compact_dates(raw[time], where)
        unit = TimeUnit.POSITION if time == POSITION else TimeUnit.SECONDS
    if "event" in picked:
        refuse_type(raw[picked["event"]], "event", where)
        columns["event"] = text_of(raw[picked["event"]]).str.to_lowercase()
    else:
        columns["event"] = pl.repeat(config.kind, raw.height, dtype=pl.String, eager=True)
    if "rating" in picked:
        columns["rating"] = numbers_of(raw[picked["rating"]], "rating", where)
    for name in ("review", "query", "intention", "place"):
        if name in picked:
            columns[name] = one_line(raw[picked[name]], name, where)
    return pl.DataFrame(columns), picked, unit


def _pick(
    source: TableFile, columns: Columns, names: tuple[str, ...], needed: tuple[str, ...]
) -> dict[str, str]:
    """Gives our name -> the file's name of every column that is there."""
    picked, defaults = {}, Columns()
    for name in names:
        name_in_file = getattr(columns, name)
        if name_in_file in source.table.columns:
            picked[name] = name_in_file
        elif name in needed or name_in_file != getattr(defaults, name):
            raise _no_column(source, name, name_in_file)
    return picked


def _no_column(source: TableFile, name: str, name_in_file: str) -> InputError:
    return InputError(
        f"there is no column {name_in_file!r}",
        where=str(source.path),
        hint=f"{nearest(name_in_file, source.table.columns)} Name it with --table.columns.{name}.",
    )


def _time_column(source: TableFile, name_in_file: str) -> str | None:
    """Gives the file's column to order events by, None for the order of the rows."""
    columns = source.table.columns
    if name_in_file == ROW_ORDER:
        return None
    if name_in_file in columns:
        return name_in_file
    if name_in_file == Columns().time:
        if POSITION in columns:
            return POSITION
        # A column that looks like a time and is called otherwise must not be lost in silence.
        if not any(part in name.lower() for name in columns for part in ("time", "date")):
            return None
    raise _no_column(source, "time", name_in_file)
