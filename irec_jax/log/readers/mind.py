"""Reads MIND: clicks on news articles of Microsoft News, with titles and abstracts."""

from pathlib import Path

import polars as pl

from irec_jax.errors import InputError
from irec_jax.files import file_sha256
from irec_jax.log.events import BehaviorLog, LogManifest
from irec_jax.log.readers.lines import (
    collected,
    refuse_lines,
    refuse_other_files,
    scan_values,
    without_blank_end,
)
from irec_jax.log.readers.source import TableFile
from irec_jax.log.readers.table import TableConfig, log_of

UNLABELED = "impression that does not tell what was clicked"

_NEWS_FILE, _BEHAVIORS_FILE = "news.tsv", "behaviors.tsv"
_NEWS = ("item", "category", "subcategory", "title", "description", "url", "in_title", "in_text")
_BEHAVIORS = ("impression", "user", "time", "history", "shown")
_TIME_FORM = "%m/%d/%Y %I:%M:%S %p"

_CONFIG = TableConfig(
    kind="view",
    unknown_items="drop",
    license="Microsoft Research License Terms: for research only",
)


def read_mind(folder: Path, seed: int) -> BehaviorLog:
    """Reads the clicks in impressions, and before them each user's history.

    The history tells an order and no times. It gets the seconds right before the user's first
    impression, the latest times that are possible: what is learned up to some moment then never
    holds a click that may have come later. A user's later histories repeat the first one, and
    are not read.

    Args:
        folder: Holds `news.tsv` and `behaviors.tsv`, or folders that do, as `MINDsmall_train`
            and `MINDsmall_dev`, which are read as one log.
        seed: Deals the users' pseudonyms.

    Raises:
        InputError: A file is missing, or a line is not as published.
    """
    parts = _parts(folder)
    files, news, events, unlabeled = {}, [], [], 0
    for part in parts:
        prefix = "" if part == folder else f"{part.name}/"
        for name in (_NEWS_FILE, _BEHAVIORS_FILE):
            refuse_other_files(part / name)
            files[prefix + name] = file_sha256(part / name)
        news.append(_news(part / _NEWS_FILE))
        lines = scan_values(part / _BEHAVIORS_FILE, "\t", _BEHAVIORS, header=False)
        unlabeled += _check_behaviors(part / _BEHAVIORS_FILE, lines)
        events.append(lines)
    where = parts[0] if len(parts) == 1 else folder
    articles = pl.concat(news).unique("item", keep="first", maintain_order=True)
    items = TableFile(where / _NEWS_FILE, articles, "")
    clicks = TableFile(where / _BEHAVIORS_FILE, _events(pl.concat(events)), "")
    if clicks.table.height == 0:
        what = "no impression has a click"
        raise InputError(what, where=str(clicks.path), hint="Give the training part of MIND.")
    known = LogManifest(
        "mind",
        dropped={UNLABELED: unlabeled} if unlabeled else {},
        settings={"files": files, "history": "seconds before the user's first impression"},
    )
    return log_of(clicks, items, _CONFIG, seed, known=known)


def _parts(folder: Path) -> list[Path]:
    if not folder.is_dir():
        hint = "Check the path; relative paths start at the current folder."
        raise InputError("there is no such folder", where=str(folder), hint=hint)
    if (folder / _NEWS_FILE).exists() or (folder / _BEHAVIORS_FILE).exists():
        return [folder]
    parts = sorted(path.parent for path in folder.glob(f"*/{_BEHAVIORS_FILE}"))
    if not parts:
        what = f"there is no {_NEWS_FILE} and {_BEHAVIORS_FILE} in it, nor in a folder of it"
        hint = "Unpack MINDsmall_train.zip and give its folder, or the folder above."
        raise InputError(what, where=str(folder), hint=hint)
    return parts


def _news(path: Path) -> pl.DataFrame:
    lines = scan_values(path, "\t", _NEWS, header=False)
    kept = (*_NEWS[:5], "blank", "longer")
    table = without_blank_end(collected(lines.select(kept), path), path)
    lacking = table["item"].is_in([""]) | table["description"].is_null() | table["longer"]
    refuse_lines(path, lacking, "{line} is not a news article of MIND, with 8 columns")
    categories = pl.concat_list("category", "subcategory")
    return table.select("item", "title", categories.alias("categories"), "description")


def _check_behaviors(path: Path, lines: pl.LazyFrame) -> int:
    """Refuses lines that are not as published, and counts those without labels."""
    labeled = pl.col("shown").str.contains(r"^\S+-[01](\s+\S+-[01])*\s*$")
    unlabeled = pl.col("shown").str.contains(r"^\s*\S") & ~pl.col("shown").str.contains(
        r"-\d+(\s|$)"
    )
    checks = lines.select(
        (pl.col("shown").is_null() | pl.col("longer")).alias("uneven"),
        pl.col("user").is_in([""]).alias("user"),
        _time().is_null().alias("time"),
        (labeled | unlabeled).not_().alias("shown"),
        unlabeled.alias("unlabeled"),
        "blank",
    )
    table = without_blank_end(collected(checks, path), path)
    refuse_lines(path, table["uneven"], "{line} has not the 5 columns of MIND's behaviors")
    refuse_lines(path, table["user"], "no user in {line}")
    refuse_lines(path, table["time"], "no time such as 11/15/2019 8:55:22 AM in {line}")
    refuse_lines(path, table["shown"], "no impressions such as N129416-0 N26703-1 in {line}")
    return int(table["unlabeled"].sum())


def _time() -> pl.Expr:
    return pl.col("time").str.to_datetime(_TIME_FORM, strict=False, time_unit="us").dt.epoch("s")


def _events(lines: pl.LazyFrame) -> pl.DataFrame:
    behaviors = lines.filter(~pl.col("blank")).with_columns(_time())
    clicked = pl.col("shown").str.extract_all(r"\S+-1(?:\s|$)")
    clicks = (
        behaviors.select("user", clicked.alias("item"), "time")
        .explode("item", empty_as_null=False)
        .drop_nulls("item")
        .with_columns(pl.col("item").str.strip_chars().str.strip_suffix("-1"))
    )
    first = behaviors.group_by("user").agg(
        pl.col("history").sort_by("time", maintain_order=True).first(), pl.col("time").min()
    )
    past = pl.col("history").str.strip_chars().str.split(" ")
    histories = (
        first.with_columns(past.alias("item"))
        .with_columns(pl.int_ranges(-pl.col("item").list.len().cast(pl.Int64), 0).alias("before"))
        .explode("item", "before")
        .filter(pl.col("item") != "")
        .select("user", "item", pl.col("time") + pl.col("before"))
    )
    # Sorted, because grouping by user gives no order of its own.
    histories = histories.sort("user", "time")
    return pl.concat([histories, clicks]).collect(engine="streaming")
