"""Checks of a behavior log, over whole columns at once."""

from collections.abc import Sequence

import polars as pl

from irec_jax.errors import InputError, nearest

# All columns that may be there, as empty tables.
ITEM_COLUMNS = pl.DataFrame(
    schema={
        "item": pl.String(),
        "title": pl.String(),
        "categories": pl.List(pl.String()),
        "brand": pl.String(),
        "attributes": pl.List(pl.String()),
        "description": pl.String(),
        "price": pl.Float64(),
        "released": pl.String(),
    }
)
NEEDED_ITEM_COLUMNS = ("item", "title", "categories")

INTERACTION_COLUMNS = pl.DataFrame(
    schema={
        "user": pl.Int64(),
        "item": pl.String(),
        "time": pl.Int64(),
        "event": pl.String(),
        "rating": pl.Float64(),
        "review": pl.String(),
        "query": pl.String(),
        "intention": pl.String(),
        "place": pl.String(),
    }
)
NEEDED_INTERACTION_COLUMNS = ("user", "item", "time", "event")

LATEST_TIME = 7_258_118_400  # 2200-01-01 in seconds: milliseconds given for seconds lie beyond


def check_items(items: pl.DataFrame, where: str = "items") -> None:
    """Checks a catalog.

    Raises:
        InputError: A column is missing, unknown or of a wrong type; the table is empty; an
            item is missing or there twice; a title is blank; a price is not a number.
    """
    _check_columns(items, ITEM_COLUMNS, NEEDED_ITEM_COLUMNS, where)
    twice = items["item"].is_duplicated()
    refuse_rows(items["item"], twice, "duplicate item {value!r}", where, "keep one row an item")
    blank = items["title"].str.strip_chars() == ""
    refuse_rows(items["item"], blank, "blank title of item {value!r}", where, "give it a title")
    if "price" in items.columns:
        wrong = ~items["price"].is_finite() | (items["price"] < 0)
        refuse_rows(
            items["price"],
            wrong,
            "price {value} is not a price",
            where,
            "leave unknown prices empty",
        )


def check_interactions(
    interactions: pl.DataFrame,
    known: pl.Series,
    kinds: Sequence[str],
    *,
    ordered: bool = True,
    where: str = "interactions",
) -> None:
    """Checks interactions against the item ids of their catalog.

    Args:
        interactions: The table.
        known: The catalog's item ids.
        kinds: The allowed values of `event`.
        ordered: Whether the table must be sorted by user, then time, already.
        where: The name of the table in messages.

    Raises:
        InputError: A column is missing, unknown or of a wrong type; the table is empty; an item
            is unknown; a rating is not finite; a time is negative or absurd; an event or an
            intention is not allowed; the table is not sorted.
    """
    _check_columns(interactions, INTERACTION_COLUMNS, NEEDED_INTERACTION_COLUMNS, where)
    refuse_unknown_items(interactions["item"], known, where)
    check_times(interactions["time"], where)
    if "rating" in interactions.columns:
        check_ratings(interactions["rating"], where)
    allowed = {"event": list(kinds), "intention": ["vague", "specific"]}
    for name, words in allowed.items():
        if name in interactions.columns:
            column = interactions[name]
            wrong = ~column.is_in(words)
            hint = f"Use one of {', '.join(words)}."
            refuse_rows(column, wrong, f"unknown {name} {{value!r}}", where, hint)
    if ordered and not _sorted(interactions):
        hint = "Build it with BehaviorLog.assemble."
        raise InputError("not sorted by user, then time", where=where, hint=hint)


def refuse_unknown_items(items: pl.Series, known: pl.Series, where: str) -> None:
    """Refuses interactions with an item that the catalog does not have.

    Raises:
        InputError: With the first such row and how many there are.
    """
    hint = "Add the missing items to the items table, or drop these rows."
    refuse_rows(items, ~items.is_in(known.implode()), "unknown item {value!r}", where, hint)


def check_times(times: pl.Series, where: str) -> None:
    """Refuses times before 1970 and after 2200.

    Raises:
        InputError: With the first such row and how many there are.
    """
    hint = "Give seconds since 1970-01-01 (UTC), or a position that counts from 0."
    refuse_rows(times, times < 0, "negative time {value}", where, hint)
    what = "absurd time {value}, after the year 2200 (are these milliseconds?)"
    refuse_rows(times, times > LATEST_TIME, what, where, hint)


def check_ratings(ratings: pl.Series, where: str) -> None:
    """Refuses ratings that are NaN or infinite; a null is a missing rating and fine.

    Raises:
        InputError: With the first such row and how many there are.
    """
    hint = "Leave missing ratings empty."
    refuse_rows(ratings, ~ratings.is_finite(), "rating {value} is not finite", where, hint)


def refuse_rows(values: pl.Series, wrong: pl.Series, what: str, where: str, hint: str) -> None:
    """Refuses a column where `wrong` holds anywhere; nulls in `wrong` count as right.

    Args:
        values: The column.
        wrong: `[rows]` bool.
        what: The message; `{value}` is replaced by the first wrong value.
        where: The file or table.
        hint: What to do about it.

    Raises:
        InputError: With the first wrong row (1 is the first below the header) and the count.
    """
    rows = wrong.fill_null(False).arg_true()
    if len(rows) == 0:
        return
    message = what.format(value=values[int(rows[0])])
    more = f" ({len(rows):,} such rows)" if len(rows) > 1 else ""
    raise InputError(message + more, where=f"{where}, row {int(rows[0]) + 1:,}", hint=hint)


def _check_columns(
    table: pl.DataFrame, known: pl.DataFrame, needed: Sequence[str], where: str
) -> None:
    for name in needed:
        if name not in table.columns:
            guess = nearest(name, table.columns) if table.columns else ""
            raise InputError(f"there is no column {name!r}", where=where, hint=guess)
    for name, dtype in table.schema.items():
        if name not in known.columns:
            hint = nearest(name, known.columns)
            raise InputError(f"unknown column {name!r}", where=where, hint=hint)
        if dtype != known.schema[name]:
            what = f"column {name!r} is {dtype}, not {known.schema[name]}"
            raise InputError(what, where=where, hint="Cast the column.")
    if table.height == 0:
        raise InputError("the table has no rows", where=where, hint="Give a log with events.")
    for name in needed:
        column = table[name]
        refuse_rows(column, column.is_null(), f"no {name}", where, "fill it in or drop the row")


def _sorted(interactions: pl.DataFrame) -> bool:
    user, time = pl.col("user"), pl.col("time")
    later = (user > user.shift(1)) | ((user == user.shift(1)) & (time >= time.shift(1)))
    return bool(interactions.select(later.fill_null(True).all()).item())
