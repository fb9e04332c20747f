"""Reads MovieLens and Amazon US reviews as TensorFlow Datasets prepares them, without TensorFlow.

Importing this module imports TFDS, which takes a second.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import tensorflow_datasets as tfds

from irec_jax.errors import InputError, nearest
from irec_jax.files import file_sha256
from irec_jax.log.events import BehaviorLog, LogManifest
from irec_jax.log.readers import movielens
from irec_jax.log.readers.records import Gathered, plain_text
from irec_jax.log.readers.source import TableFile
from irec_jax.log.readers.table import TableConfig, log_of
from irec_jax.progress import track

PREFIX = "tfds:"
INFO_FILE = "dataset_info.json"

# What the records of a family must have to be what its name says.
_FIELDS = {
    "movielens": {
        *("movie_id", "movie_title", "movie_genres"),
        *("user_id", "user_rating", "timestamp"),
    },
    "amazon_us_reviews": {"data"},
}
_READ_AT_ONCE = 1_000
_EVENTS = pl.DataFrame(
    schema={
        "user": pl.String(),
        "item": pl.String(),
        "rating": pl.Float64(),
        "time": pl.String(),
    }
)
_ITEMS = pl.DataFrame(
    schema={"item": pl.String(), "title": pl.String(), "categories": pl.List(pl.String())}
)
_REVIEW_EVENTS = _EVENTS.with_columns(event=pl.lit(""), review=pl.lit("")).clear()
_REVIEWS = TableConfig(license="Amazon's terms for the customer reviews data set (2015)")


def read_tfds(name: str, data_dir: Path, seed: int) -> BehaviorLog:
    """Reads all splits of a prepared data set.

    Args:
        name: `movielens/X-ratings` or `amazon_us_reviews/X`, with `:1.2.3` for a version other
            than the newest.
        data_dir: TFDS' own, with the data set prepared as array_record files.
        seed: Deals the users' pseudonyms.

    Raises:
        InputError: The data set is unknown, is not prepared there, or is prepared in
            a format that needs TensorFlow.
    """
    family, _, config = name.partition(":")[0].partition("/")
    if family not in _FIELDS or not config:
        what = f"no reader for the data set {name!r}"
        hint = f"{nearest(family, _FIELDS)} Name its config too, as {PREFIX}movielens/1m-ratings."
        raise InputError(what, where=f"{PREFIX}{name}", hint=hint)
    if family == "movielens" and not config.endswith("-ratings"):
        hint = f"Use {PREFIX}movielens/{config.removesuffix('-movies')}-ratings."
        raise InputError("it holds films and no ratings", where=f"{PREFIX}{name}", hint=hint)
    folder = _prepared(name, data_dir)
    known = LogManifest(
        f"{PREFIX}{family}/{config}",
        settings={"files": {INFO_FILE: file_sha256(folder / INFO_FILE)}, "version": folder.name},
    )
    records = _records(folder, name, data_dir)
    if family == "movielens":
        log = _films_log(records, folder, seed, known)
        layout = {"100k": "100k", "1m": "dat"}.get(config.removesuffix("-ratings"), "csv")
        movielens.refuse_unpublished(log, layout, str(folder), catalog=False)
        return log
    return _reviews_log(records, folder, seed, known)


def _prepared(name: str, data_dir: Path) -> Path:
    """Finds the folder of the wanted version, or the newest."""
    name, _, version = name.partition(":")
    found = [path.parent for path in (data_dir / name).glob(f"*/{INFO_FILE}")]
    numbered = {tuple(map(int, path.name.split("."))): path for path in found if _number(path)}
    if version:
        numbered = {number: path for number, path in numbered.items() if path.name == version}
    if not numbered:
        what = f"there is no prepared {name}{f' of version {version}' if version else ''}"
        raise InputError(what, where=str(data_dir), hint=_how(name, data_dir))
    return numbered[max(numbered)]


def _number(path: Path) -> bool:
    return all(part.isdigit() for part in path.name.split("."))


def _how(name: str, data_dir: Path) -> str:
    return (
        "prepare it where TensorFlow is installed: tfds build "
        f"{name.partition(':')[0]} --file_format=array_record --data_dir={data_dir}"
    )


def _records(folder: Path, name: str, data_dir: Path) -> Iterator[Mapping[str, Any]]:
    """Yields the records of all splits, with the names of class labels in their place."""
    try:
        builder: Any = tfds.builder_from_directory(str(folder))
        sources = [builder.as_data_source(split=split) for split in sorted(builder.info.splits)]
        features = builder.info.features
    except NotImplementedError as error:
        what = "prepared in a format that only TensorFlow reads"
        raise InputError(what, where=str(folder), hint=_how(name, data_dir)) from error
    except Exception as error:
        # Whatever TFDS and array_record raise for a damaged folder, and they raise all kinds.
        what = f"not a data set that can be read ({str(error).splitlines()[0]})"
        raise InputError(what, where=str(folder), hint=_how(name, data_dir)) from error
    lacking = sorted(_FIELDS[name.partition("/")[0]] - set(features))
    if lacking:
        what = f"its records have no {lacking[0]}"
        raise InputError(what, where=str(folder), hint=_how(name, data_dir))
    total = sum(map(len, sources))
    with track("read", total, unit="records") as advance:
        for source in sources:
            for start in range(0, len(source), _READ_AT_ONCE):
                numbers = range(start, min(start + _READ_AT_ONCE, len(source)))
                try:
                    batch = source.__getitems__(list(numbers))
                except Exception as error:
                    what = f"record {start} or one after it cannot be read ({error})"
                    raise InputError(what, where=str(folder), hint=_how(name, data_dir)) from error
                yield from (_named(record, features) for record in batch)
                advance(len(batch), "")


def _named(record: Mapping[str, Any], features: Any) -> dict[str, Any]:
    """Decodes text and class labels of a record, nested ones too."""
    values: dict[str, Any] = {}
    for name, value in record.items():
        feature = features[name]
        inner = getattr(feature, "feature", feature)
        if isinstance(value, Mapping):
            values[name] = _named(value, feature)
        elif isinstance(inner, tfds.features.ClassLabel):
            labels = value if feature is not inner else [value]
            labels = [inner.int2str(int(label)) for label in labels]
            values[name] = labels if feature is not inner else labels[0]
        else:
            values[name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return values


def _films_log(
    records: Iterator[Mapping[str, Any]], folder: Path, seed: int, known: LogManifest
) -> BehaviorLog:
    events = Gathered(_EVENTS)
    films: dict[str, tuple[str, str, list[str]]] = {}
    for record in records:
        item = record["movie_id"]
        rating, time = float(record["user_rating"]), str(record["timestamp"])
        events.add((record["user_id"], item, rating, time))
        if item not in films:
            films[item] = (item, record["movie_title"], record["movie_genres"])
    items = TableFile(folder, movielens.films_of([films[item] for item in sorted(films)]), "")
    return log_of(TableFile(folder, events.table(), ""), items, movielens.CONFIG, seed, known=known)


def _reviews_log(
    records: Iterator[Mapping[str, Any]], folder: Path, seed: int, known: LogManifest
) -> BehaviorLog:
    events = Gathered(_REVIEW_EVENTS)
    products: dict[str, tuple[str, str, list[str]]] = {}
    for record in records:
        data = record["data"]
        item = data["product_id"]
        review = plain_text(data["review_body"])
        kind = "review" if review else "rating"
        rating, day = float(data["star_rating"]), data["review_date"]
        events.add((data["customer_id"], item, rating, day, kind, review))
        if item not in products:
            title, category = plain_text(data["product_title"]), data["product_category"]
            products[item] = (item, title, [category.replace("_", " ")])
    rows = Gathered(_ITEMS)
    for item in sorted(products):
        rows.add(products[item])
    return log_of(
        TableFile(folder, events.table(), ""),
        TableFile(folder, rows.table(), ""),
        _REVIEWS,
        seed,
        known=known,
    )
