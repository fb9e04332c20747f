"""Turns raw columns of a source into the columns of a behavior log."""

import polars as pl

from irec_jax.log.checks import refuse_rows

UNTITLED = "untitled"


def times_of(column: pl.Series, where: str) -> pl.Series:
    """Gives seconds since 1970 from numbers, dates or ISO 8601 text; a null stays a null.

    Raises:
        InputError: A value is no time; with its row in the file `where`.
    """
    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("us")).dt.epoch("s")
    if column.dtype.is_integer():
        return column.cast(pl.Int64)
    column = text_of(column) if column.dtype == pl.String else column
    floats = column.cast(pl.Float64, strict=False)
    if column.dtype == pl.String and floats.null_count() == column.len() > column.null_count():
        times = column.str.to_datetime(strict=False, time_unit="us", time_zone="UTC").dt.epoch("s")
    else:
        times = floats.floor().cast(pl.Int64, strict=False)
        if column.dtype == pl.String:
            times = column.cast(pl.Int64, strict=False).fill_null(times)
    mend = "give seconds since 1970-01-01 (UTC), or ISO 8601 text"
    wrong = times.is_null() & column.is_not_null()
    refuse_rows(column, wrong, "time {value!r} is no time", where, mend)
    return times


def numbers_of(column: pl.Series, name: str, where: str) -> pl.Series:
    """Gives float64 from numbers or text; blank text and nulls are nulls.

    Raises:
        InputError: A value is no number; with its row in the file `where`.
    """
    column = text_of(column) if column.dtype == pl.String else column
    numbers = column.cast(pl.Float64, strict=False)
    wrong = numbers.is_null() & column.is_not_null()
    refuse_rows(column, wrong, f"{name} {{value!r}} is no number", where, "leave it empty")
    return numbers


def text_of(column: pl.Series) -> pl.Series:
    """Gives trimmed text, null where blank."""
    text = column.cast(pl.String).str.strip_chars()
    return text.set(text == "", None)


def one_line(column: pl.Series) -> pl.Series:
    """Gives trimmed text without line breaks and tabs, null where blank."""
    # One line each: line breaks and tabs inside a title would end up inside prompts.
    return text_of(column.cast(pl.String).str.replace_all(r"\s+", " "))


def list_of(column: pl.Series, separator: str) -> pl.Series:
    """Gives list[str] from lists or from text with separators, without blank parts."""
    lists = column
    if not isinstance(column.dtype, pl.List):
        lists = column.cast(pl.String).fill_null("").str.split(separator)
    parts = lists.cast(pl.List(pl.String)).fill_null([])
    trimmed = parts.list.eval(pl.element().str.strip_chars())
    return trimmed.list.eval(pl.element().filter(pl.element() != ""))


def titled(catalog: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Gives every item a title, and how many had none."""
    brand = pl.col("brand") if "brand" in catalog.columns else pl.lit(None, pl.String)
    kind = pl.col("categories").list.last()
    instead = pl.concat_str(brand, kind, separator=" ", ignore_nulls=True)
    instead = pl.when(instead == "").then(pl.lit(UNTITLED)).otherwise(instead)
    blank = catalog["title"].null_count()
    return catalog.with_columns(pl.col("title").fill_null(instead)), blank
