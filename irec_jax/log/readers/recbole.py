"""Reads RecBole's atomic files: X.inter and X.item, whose headers tell names and types."""

from pathlib import Path

import polars as pl

from irec_jax.errors import InputError, nearest
from irec_jax.files import file_sha256
from irec_jax.log.events import BehaviorLog, LogManifest
from irec_jax.log.readers.lines import (
    Lines,
    collected,
    refuse_lines,
    refuse_other_files,
    scan_values,
    without_blank_end,
)
from irec_jax.log.readers.source import TableFile
from irec_jax.log.readers.table import ROW_ORDER, Columns, TableConfig, log_of

TYPES = ("token", "token_seq", "float", "float_seq")

# Our column -> the fields that published files call so, the first that is there is taken.
INTER_FIELDS = {
    "user": ("user_id",),
    "item": ("item_id",),
    "time": ("timestamp", "time", "date"),
    "rating": ("rating", "stars"),
    "review": ("review", "review_text", "text"),
    "place": ("place",),
}
ITEM_FIELDS = {
    "item": ("item_id",),
    "title": (
        "title",
        "movie_title",
        "item_name",
        "book_title",
        "news_title",
        "name",
        "track_name",
    ),
    "categories": ("class", "categories", "category", "genres", "genre"),
    "brand": ("brand", "artist", "author", "book_author", "publisher"),
    "description": ("description", "abstract"),
    "price": ("price",),
    "released": ("release_year", "movie_year", "publication_year", "release_date", "year"),
}


def read_recbole(path: Path, seed: int) -> BehaviorLog:
    """Reads a data set in RecBole's atomic files.

    Ratings that have a review text are reviews; interactions with neither are views. Without a
    field of time the order of the rows is taken.

    Args:
        path: The folder with one `.inter` file and its `.item` file, or the `.inter` file.
        seed: Deals the users' pseudonyms.

    Raises:
        InputError: A file is missing or has no typed header, or there is no title.
    """
    inter = _inter(path)
    items = inter.with_suffix(".item")
    if not items.is_file():
        what = f"there is no {items.name}, and a recommender that reads text needs titles"
        raise InputError(what, where=str(inter.parent), hint="Add the data set's .item file.")
    events, event_fields, _ = _opened(inter, INTER_FIELDS, needed=("user", "item"))
    catalog, item_fields, types = _opened(items, ITEM_FIELDS, needed=("item", "title"))
    config = TableConfig(
        columns=Columns(**({"time": ROW_ORDER} | event_fields | item_fields)),
        category_separator=_separator(catalog, item_fields, types),
        kind="rating" if "rating" in event_fields else "view",
        unknown_items="drop",
    )
    event = pl.lit(config.kind)
    if "review" in event_fields:
        text = pl.col(event_fields["review"]).fill_null("").str.strip_chars()
        event = pl.when(text != "").then(pl.lit("review")).otherwise(event)
    events = events._replace(table=events.table.with_columns(event.alias("event")))
    return log_of(
        events, _unquoted(catalog, item_fields), config, seed, known=LogManifest("recbole")
    )


def _unquoted(source: TableFile, fields: dict[str, str]) -> TableFile:
    """Takes the brackets off categories that were written as a Python list."""
    if "categories" not in fields:
        return source
    name = fields["categories"]
    written = source.table[name].str.contains(r"^\[?'.*'\]?$").fill_null(False)
    if not written.any():
        return source
    inside = pl.col(name).str.strip_chars("[]'")
    return source._replace(table=source.table.with_columns(inside))


def _inter(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        hint = "Check the path; relative paths start at the current folder."
        raise InputError("there is no such file or folder", where=str(path), hint=hint)
    found = sorted(path.glob("*.inter"))
    if not found:
        hint = "Give the folder that holds X.inter and X.item."
        raise InputError("there is no .inter file in it", where=str(path), hint=hint)
    if len(found) > 1:
        what = f"there are several .inter files: {', '.join(file.name for file in found)}"
        hint = "Give the path of the one that holds all interactions."
        raise InputError(what, where=str(path), hint=hint)
    return found[0]


def _opened(
    path: Path, fields: dict[str, tuple[str, ...]], needed: tuple[str, ...]
) -> tuple[TableFile, dict[str, str], dict[str, str]]:
    """Gives the table, our name -> field of what it has, and field -> type."""
    refuse_other_files(path)
    head = next(iter(Lines(path)), b"").decode("utf-8", "replace").strip("\r\n\N{BOM}")
    types = {}
    for word in head.split("\t"):
        name, _, kind = word.rpartition(":")
        if not name or kind not in TYPES:
            what = f"the header's field {word!r} is not name:type"
            hint = nearest(kind, TYPES) if name else f"Write it as {word}:{TYPES[0]}."
            raise InputError(what, where=f"{path}, line 1", hint=hint)
        types[name] = kind
    picked = {
        ours: next(name for name in names if name in types)
        for ours, names in fields.items()
        if any(name in types for name in names)
    }
    for ours in needed:
        if ours not in picked:
            what = f"no field tells the {ours} (one of {', '.join(fields[ours])})"
            hint = f"Rename the field that does; there are {', '.join(types)}."
            raise InputError(what, where=f"{path}, line 1", hint=hint)
    lines = scan_values(path, "\t", tuple(types), header=True)
    table = without_blank_end(collected(lines, path), path)
    what = f"{{line}} has not the {len(types)} values of the header"
    refuse_lines(path, table["longer"] | table[list(types)[-1]].is_null(), what, header=True)
    table = table.drop("blank", "longer")
    return TableFile(path, table, file_sha256(path)), picked, types


def _separator(source: TableFile, fields: dict[str, str], types: dict[str, str]) -> str:
    """Returns the separator of categories.

    RecBole's is a blank, but files that were made from lists with commas or quotes kept them;
    a single token is one category, whatever is in it.
    """
    name = fields.get("categories")
    if name is None or types[name] != "token_seq":
        return "\t"
    values = source.table[name].fill_null("")
    for separator in ("', '", ",", "|"):
        if values.str.contains(separator, literal=True).any():
            return separator
    return " "
