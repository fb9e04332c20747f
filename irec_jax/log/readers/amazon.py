"""Reads Amazon reviews of McAuley's lab (2014, 2018 and 2023) with their products."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from irec_jax.errors import InputError
from irec_jax.log.checks import check_ratings, check_times
from irec_jax.log.events import BehaviorLog, LogManifest
from irec_jax.log.readers.lines import Lines, read_delimited
from irec_jax.log.readers.records import Gathered, Record, plain_text, records, writable
from irec_jax.log.readers.source import TableFile
from irec_jax.log.readers.table import TableConfig, log_of

DUPLICATE_REVIEW = "review there twice (same user, item and time), the first kept"
DUPLICATE_ITEM = "item described twice, the first kept"
UNREVIEWED = "described item without a review"

# 5-core file without its suffix -> interactions -> users and items.
PUBLISHED = {
    "reviews_Beauty_5": {198_502: (22_363, 12_101)},
    "reviews_Sports_and_Outdoors_5": {296_337: (35_598, 18_357)},
    "reviews_Toys_and_Games_5": {167_597: (19_412, 11_924)},
    "reviews_Clothing_Shoes_and_Jewelry_5": {278_677: (39_387, 23_033)},
    "Musical_Instruments": {511_836: (57_439, 24_587)},
    "Video_Games": {814_586: (94_762, 25_612)},
    "Industrial_and_Scientific": {412_947: (50_985, 25_848)},
    "Beauty_and_Personal_Care": {6_624_441: (729_576, 207_649)},
    "Books": {9_488_297: (776_370, 495_063)},
}

_CONFIG = TableConfig(
    unknown_items="drop",
    license="none given; collected by McAuley's lab (UCSD) for research",
)
_SUFFIX = re.compile(r"\.(json|jsonl|csv)(\.gz)?$", re.IGNORECASE)
_PRICE = re.compile(r"\$?\s*(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?")
# Some titles of 2018 are scripts of the page; this name is in each of them.
_SCRIPT = "getTime"

_EVENTS = pl.DataFrame(
    schema={
        "user": pl.String(),
        "item": pl.String(),
        "rating": pl.Float64(),
        "time": pl.Int64(),
        "review": pl.String(),
    }
)
_ITEMS = pl.DataFrame(
    schema={
        "item": pl.String(),
        "title": pl.String(),
        "categories": pl.List(pl.String()),
        "brand": pl.String(),
        "description": pl.String(),
        "price": pl.Float64(),
    }
)


def read_amazon(path: Path, seed: int) -> BehaviorLog:
    """Reads one category: its reviews or ratings, and its `meta_` file.

    Only the items that somebody reviewed are kept, and only reviews of items with metadata.

    Args:
        path: A folder with the files of one category, or the file of reviews (or ratings) with
            its `meta_` file beside it, named as published.
        seed: Deals the users' pseudonyms.

    Raises:
        InputError: A file is missing or cannot be read, with the line where it is a line's
            fault; or a known 5-core file has other counts than published.
    """
    reviews, meta = _find(path)
    ratings_only = ".csv" in reviews.name.lower()
    events = _read_ratings(reviews) if ratings_only else _read_reviews(reviews)
    where = str(reviews)
    check_times(events.table["time"], where)
    check_ratings(events.table["rating"], where)
    _refuse_unpublished(events)
    table = events.table.unique(["user", "item", "time"], keep="first", maintain_order=True)
    dropped = {DUPLICATE_REVIEW: events.table.height - table.height}
    described = pl.col("review").str.strip_chars() != ""
    kind = pl.when(described).then(pl.lit("review")).otherwise(pl.lit("rating"))
    table = table.with_columns(kind.alias("event"))
    if ratings_only:
        table = table.drop("review")
    items, left_out = _read_items(meta, set(table["item"].unique()))
    dropped = {reason: rows for reason, rows in (dropped | left_out).items() if rows}
    known = LogManifest("amazon", dropped=dropped)
    return log_of(events._replace(table=table), items, _CONFIG, seed, known=known)


def _find(path: Path) -> tuple[Path, Path]:
    """Finds the files of reviews and of products."""
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        hint = "Check the path; relative paths start at the current folder."
        raise InputError("there is no such file or folder", where=str(path), hint=hint)
    names = sorted(file for file in folder.iterdir() if _SUFFIX.search(file.name))
    metas = [file for file in names if file.name.startswith("meta_")]
    reviews = [file for file in names if file not in metas] if path.is_dir() else [path]
    hint = "Give the folder of one category, such as reviews_Beauty_5.json.gz and its meta_ file."
    if not reviews:
        what = "there is no file of reviews (.json, .jsonl or .csv, plain or gz)"
        raise InputError(what, where=str(path), hint=hint)
    if len(reviews) > 1:
        what = f"there are several files of reviews: {', '.join(file.name for file in reviews)}"
        raise InputError(what, where=str(path), hint="Give the path of one of them.")
    fitting = [file for file in metas if _category(file) == _category(reviews[0])]
    if len(fitting) != 1 and len(metas) == 1 and path.is_dir():
        fitting = metas
    if len(fitting) != 1:
        what = f"there is no file meta_{_category(reviews[0])}.* with the titles of the items"
        raise InputError(what, where=str(folder), hint="Fetch the metadata of the same release.")
    return reviews[0], fitting[0]


def _category(file: Path) -> str:
    name = _SUFFIX.sub("", file.name)
    return re.sub(r"^(meta|reviews|ratings)_|_5$", "", name)


def _read_reviews(path: Path) -> TableFile:
    lines, rows = Lines(path), Gathered(_EVENTS)
    for record in records(lines):
        user = _named(record, lines, "reviewerID", "user_id")
        item = _named(record, lines, "parent_asin", "asin")
        rating = _number(record, lines, "overall", "rating")
        time = _number(record, lines, "unixReviewTime", "timestamp")
        if time is None:
            raise _lacking(record, lines, ("unixReviewTime", "timestamp"))
        # 2023 counts milliseconds and calls them otherwise.
        time = int(time) if "unixReviewTime" in record else int(time) // 1000
        text = plain_text(record.get("reviewText") or record.get("text"))
        headline = record.get("summary") if "reviewText" in record else record.get("title")
        rows.add((user, item, rating, time, text or plain_text(headline or record.get("summary"))))
    table = rows.table()
    if table.height == 0:
        raise InputError("the file has no reviews", where=str(path), hint="Fetch it again.")
    return TableFile(path, table, lines.sha256)


def _read_ratings(path: Path) -> TableFile:
    """Reads (user, item) rows of 2014, (item, user) rows of 2018 or the named ones of 2023."""
    first = next(iter(Lines(path)), b"").decode("utf-8", "replace").strip().lstrip("\N{BOM}")
    names = first.split(",")
    header = "user_id" in names
    wanted = _EVENTS.drop("review")
    if header:
        published = ("user_id", "parent_asin", "rating", "timestamp")
        for name in published:
            if name not in names:
                what = f"the header {first!r} has no {name}"
                hint = f"Give {','.join(published)}, as published."
                raise InputError(what, where=f"{path}, line 1", hint=hint)
        renamed: dict[str, str] = dict(zip(published, wanted.columns, strict=True))
        columns = [renamed.get(name, name) for name in names]
    else:
        first_two = ["user", "item"] if path.name.startswith("ratings_") else ["item", "user"]
        columns = [*first_two, "rating", "time"]
    source = read_delimited(path, ",", columns, wanted, header=header)
    seconds = pl.col("time") // 1000 if header else pl.col("time")
    return source._replace(table=source.table.with_columns(seconds, pl.lit("").alias("review")))


def _read_items(path: Path, wanted: set[str]) -> tuple[TableFile, dict[str, int]]:
    lines, rows = Lines(path), Gathered(_ITEMS)
    seen: set[str] = set()
    dropped = {DUPLICATE_ITEM: 0, UNREVIEWED: 0}
    for record in records(lines):
        item = _named(record, lines, "parent_asin", "asin")
        if item not in wanted:
            dropped[UNREVIEWED] += 1
        elif item in seen:
            dropped[DUPLICATE_ITEM] += 1
        else:
            seen.add(item)
            rows.add((item, *_described(record)))
    if not seen:
        what = "none of the reviewed items is described in it"
        raise InputError(what, where=str(path), hint="Fetch both files of the same category.")
    return TableFile(path, rows.table(), lines.sha256), dropped


def _described(record: Record) -> tuple[str, list[str], str, str, float | None]:
    """Gives title, categories, brand, description and price of a product of any release."""
    title = plain_text(record.get("title"))
    paths = record.get("categories") or record.get("category") or record.get("main_category")
    details = record.get("details")
    if isinstance(details, str):
        # The same record with its details as text is about, too.
        details = _loaded(details)
    brand = plain_text(record.get("brand"))
    if not brand and isinstance(details, dict):
        brand = plain_text(details.get("Brand"))
    brand = brand or plain_text(record.get("store"))
    return (
        "" if _SCRIPT in title else title,
        list(dict.fromkeys(filter(None, map(plain_text, _flat(paths))))),
        re.sub(r"^by\s+", "", brand),
        plain_text(record.get("description")),
        _price(record.get("price")),
    )


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def _price(value: Any) -> float | None:
    """Returns an amount; None for a range of amounts and other text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if 0 <= value < float("inf") else None
    amount = _PRICE.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(amount[1].replace(",", "") + (amount[2] or "")) if amount else None


def _named(record: Record, lines: Lines, *names: str) -> str:
    for name in names:
        value = record.get(name)
        if isinstance(value, str) and value.strip():
            return writable(value.strip())
    raise _lacking(record, lines, names)


def _number(record: Record, lines: Lines, *names: str) -> float | None:
    for name in names:
        value = record.get(name)
        if value is not None:
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = math.nan
            if not math.isfinite(number):
                what = f"{name} {value!r} is not a number"
                raise InputError(what, where=lines.here, hint="Drop the line.")
            return number
    return None


def _lacking(record: Record, lines: Lines, names: tuple[str, ...]) -> InputError:
    what = f"no {' (nor '.join(names)}) in the record, which has {', '.join(list(record)[:12])}"
    return InputError(what, where=lines.here, hint="Give the file as published by McAuley's lab.")


def _refuse_unpublished(events: TableFile) -> None:
    published = PUBLISHED.get(_SUFFIX.sub("", events.path.name), {}).get(events.table.height)
    counts = (events.table["user"].n_unique(), events.table["item"].n_unique())
    if published and counts != published:
        what = "{:,} users and {:,} items, published are {:,} and {:,}".format(*counts, *published)
        raise InputError(what, where=str(events.path), hint="Fetch the file again.")
