"""Turns raw columns of a source into the columns of a behavior log."""

import datetime
from collections.abc import Iterable

import polars as pl

from irec_jax.errors import InputError
from irec_jax.log.checks import refuse_rows

UNTITLED = "untitled"

_ISO = (
    r"^(?<date>\d{4}-\d\d-\d\d)(?:[Tt ](?<clock>\d\d:\d\d)(?<second>:\d\d)?(?:[.,]\d+)?"
    r"(?:[Zz]|(?<sign>[+-])(?<hours>\d\d)(?::?(?<minutes>\d\d))?)?)?$"
)
# Dates such as 20240102, which as seconds since 1970 would all lie in that year.
_EIGHT_DIGITS = r"^(19|20|21)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$"
_NOT_DATES = "give --table.columns.time row to take the order of the rows."
_FORM = "for another form, name it: irec data prepare table with --table.time-format '%d/%m/%Y'"
_TIME_HINT = f"Give seconds since 1970-01-01 (UTC) or ISO 8601 (2024-02-01T10:30:00Z); {_FORM}."
_FORMAT_HINT = "Give the strptime format of all times, for example --table.time-format '%d/%m/%Y'."


def times_of(column: pl.Series, where: str, form: str = "") -> pl.Series:
    """Gives seconds since 1970 from numbers, dates or text; a null stays a null.

    Args:
        column: Dates, numbers or numbers as text (seconds since 1970), or ISO 8601 text.
        where: The file, for messages.
        form: The strptime format of the values, where they are in another form.

    Raises:
        InputError: A value is not a time in these forms; with its row in the file `where`.
    """
    if column.dtype in (pl.Date, pl.Datetime):
        if form:
            what = f"column {column.name!r} holds dates, which need no format"
            raise InputError(what, where=where, hint="Leave --table.time-format out.")
        return column.dt.epoch("s")
    refuse_type(column, "a time", where, numbers=True)
    text = text_of(column) if column.dtype == pl.String else column.cast(pl.String)
    if form:
        times = _formatted(text, form)
        what, hint = f"time {{value!r}} is not of the form {form!r}", _FORMAT_HINT
    elif column.dtype.is_numeric():
        times = _whole(column)
        what, hint = "time {value!r} is not in seconds since 1970", _TIME_HINT
    else:
        floats = text.cast(pl.Float64, strict=False)
        times = text.cast(pl.Int64, strict=False).fill_null(_whole(floats))
        if floats.null_count() == floats.len():
            times = _iso_times(text)
        what, hint = "time {value!r} is neither a number nor ISO 8601", _TIME_HINT
    refuse_rows(column, times.is_null() & text.is_not_null(), what, where, hint)
    return times


def refuse_compact_dates(column: pl.Series, where: str) -> None:
    """Refuses times that are all dates such as 20240102, which would be read as seconds.

    Raises:
        InputError: Naming the first of them.
    """
    text = column.cast(pl.String).drop_nulls().str.strip_chars()
    if text.len() and text.str.contains(_EIGHT_DIGITS).all():
        what = f"the times look like dates, not like seconds since 1970: {text[0]!r}"
        hint = f"If they are dates, give --table.time-format '%Y%m%d'; if not, {_NOT_DATES}"
        raise InputError(what, where=where, hint=hint)


def time_form_fault(form: str) -> str:
    """Gives what is wrong with a strptime format, "" where it can be used."""
    if "%Z" in form:
        return "names of time zones are not read, only offsets: %z"
    sample = pl.Series([datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)])
    try:
        seconds = _formatted(sample.dt.strftime(form), form)
    except pl.exceptions.PolarsError as error:
        return str(error).splitlines()[0]
    year = pl.from_epoch(seconds, "s").dt.year()
    return "" if year.to_list() == [2001] else "no date can be read with it"


def _formatted(text: pl.Series, form: str) -> pl.Series:
    return text.str.to_datetime(form, strict=False, time_unit="us").dt.epoch("s")


def _whole(numbers: pl.Series) -> pl.Series:
    whole = numbers.floor() if numbers.dtype.is_float() else numbers
    return whole.cast(pl.Int64, strict=False)


def _iso_times(text: pl.Series) -> pl.Series:
    # Taken apart here: polars guesses a format, and takes 01/02/2024 for the first of February.
    parts = text.str.extract_groups(_ISO).struct.unnest()
    clock = pl.concat_str(
        "date", pl.lit(" "), pl.col("clock").fill_null("00:00"), pl.col("second").fill_null(":00")
    )
    ahead = pl.duration(
        hours=pl.col("hours").cast(pl.Int64).fill_null(0),
        minutes=pl.col("minutes").cast(pl.Int64).fill_null(0),
    )
    read = clock.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="us")
    utc = pl.when(pl.col("sign") == "-").then(read + ahead).otherwise(read - ahead)
    return parts.select(utc.dt.epoch("s").alias(text.name)).to_series()


def numbers_of(column: pl.Series, name: str, where: str) -> pl.Series:
    """Gives float64 from numbers or text; blank text and nulls are nulls.

    Raises:
        InputError: A value is not a number; with its row in the file `where`.
    """
    refuse_type(column, name, where, numbers=True)
    column = text_of(column) if column.dtype == pl.String else column
    numbers = column.cast(pl.Float64, strict=False)
    wrong = numbers.is_null() & column.is_not_null()
    refuse_rows(column, wrong, f"{name} {{value!r}} is not a number", where, "leave it empty")
    return numbers


def refuse_type(column: pl.Series, name: str, where: str, *, numbers: bool = False) -> None:
    """Refuses a column whose values are not of a type that can be read as what it is for.

    Args:
        column: Of any type.
        name: What the column is for.
        where: The file, for messages.
        numbers: Whether it is read as numbers or times, so that dates do not fit.

    Raises:
        InputError: It holds lists, objects, bytes, durations, times of day, true and false, or
            dates; with the first row that does.
    """
    dtype = column.dtype
    fits = dtype.is_numeric() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)
    if fits or (not numbers and dtype in (pl.Date, pl.Datetime)):
        return
    row = column.is_not_null().arg_max() or 0
    what = f"column {column.name!r} holds {type(dtype).__name__} values, which cannot be {name}"
    kinds = "a number or text" if numbers else "text or a number"
    hint = f"Write {kinds} in every row, or map another column (--table.columns)."
    raise InputError(what, where=f"{where}, row {row + 1:,}", hint=hint)


def text_of(column: pl.Series) -> pl.Series:
    """Gives trimmed text, null where blank."""
    text = column.cast(pl.String).str.strip_chars()
    return text.set(text == "", None)


def ids_of(column: pl.Series, name: str, where: str) -> pl.Series:
    """Gives users or items as they are where they are whole numbers, else as trimmed text.

    Raises:
        InputError: The column is of another type, or an id is NaN or has a NUL character; with
            its row in the file `where`.
    """
    refuse_type(column, f"{name} ids", where)
    if column.dtype.is_integer():
        return column
    ids = text_of(column)
    hint = f"Drop these rows, or write the {name} that they are with."
    refuse_rows(
        ids, ids.is_in(["NaN", "nan"]), f"{name} {{value!r}} is a missing value", where, hint
    )
    hint = "Write the file again: a NUL character is damage, or binary data."
    nul = ids.str.contains("\x00", literal=True)
    refuse_rows(ids, nul, f"{name} {{value!r}} has a NUL character", where, hint)
    return ids


def one_line(column: pl.Series, name: str, where: str) -> pl.Series:
    """Gives trimmed text without line breaks, tabs and NUL characters, null where blank.

    Raises:
        InputError: The column holds lists, objects or another type that is not text.
    """
    refuse_type(column, name, where)
    # One line each: line breaks and tabs inside a title would end up inside prompts.
    return text_of(column.cast(pl.String).str.replace_all(r"[\s\x00]+", " "))


def nul_count(columns: Iterable[pl.Series]) -> int:
    """Counts the values of text columns that have a NUL character."""
    texts = (column for column in columns if column.dtype == pl.String)
    return sum(int(text.str.contains("\x00", literal=True).sum()) for text in texts)


def list_of(column: pl.Series, separator: str, where: str) -> pl.Series:
    """Gives list[str] from lists or from text with separators, without blank parts.

    Raises:
        InputError: The column, or its lists, hold what is neither text nor numbers.
    """
    lists = column
    if isinstance(column.dtype, pl.List):
        refuse_type(column.list.first(), "categories", where)
    else:
        refuse_type(column, "categories", where)
        lists = column.cast(pl.String).fill_null("").str.split(separator)
    parts = lists.cast(pl.List(pl.String)).fill_null([])
    blank = pl.element().str.replace_all("\x00", " ", literal=True)
    trimmed = parts.list.eval(blank.str.strip_chars())
    return trimmed.list.eval(pl.element().filter(pl.element() != ""))


def titled(catalog: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Gives every item a title, and how many had none."""
    brand = pl.col("brand") if "brand" in catalog.columns else pl.lit(None, pl.String)
    kind = pl.col("categories").list.last()
    instead = pl.concat_str(brand, kind, separator=" ", ignore_nulls=True)
    instead = pl.when(instead == "").then(pl.lit(UNTITLED)).otherwise(instead)
    blank = catalog["title"].null_count()
    return catalog.with_columns(pl.col("title").fill_null(instead)), blank
