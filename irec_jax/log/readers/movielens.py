"""Reads MovieLens: film ratings by GroupLens, in each of the layouts they were published in."""

import re
from pathlib import Path

import polars as pl

from irec_jax.errors import InputError
from irec_jax.log.events import BehaviorLog, LogManifest
from irec_jax.log.readers.lines import Lines, read_delimited
from irec_jax.log.readers.source import TableFile, open_table
from irec_jax.log.readers.table import TableConfig, log_of

# Layout -> its files of ratings and of films.
LAYOUTS = {
    "100k": ("u.data", "u.item"),
    "dat": ("ratings.dat", "movies.dat"),
    "csv": ("ratings.csv", "movies.csv"),
}

# Layout -> interactions -> what else was published; `rated` are the films with a rating.
PUBLISHED = {
    "100k": {100_000: {"users": 943, "items": 1_682, "rated": 1_682}},
    "dat": {1_000_209: {"users": 6_040, "items": 3_883, "rated": 3_706}},
    "csv": {
        100_836: {"users": 610, "items": 9_742},
        20_000_263: {"users": 138_493, "items": 27_278},
        25_000_095: {"users": 162_541, "items": 62_423},
    },
}

CONFIG = TableConfig(
    kind="rating",
    unknown_items="drop",
    license="GroupLens: for research, not to be redistributed; see its README",
)

# In the order of the flags of u.item (u.genre lists them, but is not always kept with it).
_GENRES = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
NO_GENRE = ("unknown", "Unknown", "(no genres listed)")

_YEAR = re.compile(r"^(.+?)\s*\((\d{4})(?:\s*[-\N{EN DASH}]\s*(?:\d{4})?)?\)$")
_ARTICLE = re.compile(r"^(.+), (The|A|An)((?: \(.*\))?)$")

_RATINGS = pl.DataFrame(
    schema={"user": pl.Int64(), "item": pl.String(), "rating": pl.Float64(), "time": pl.Int64()}
)


def read_movielens(folder: Path, seed: int) -> BehaviorLog:
    """Reads a folder of 100k, 1M (and 10M), 20M, 25M, 32M or latest, recognized by its files.

    Films without ratings stay in the catalog.

    Args:
        folder: An unpacked archive, as published; tags and users in it are not read.
        seed: Deals the users' pseudonyms.

    Raises:
        InputError: The folder has an unknown layout, a line is not of the layout's form, or
            the ratings are as many as a published set's and the users or films are not.
    """
    layout = _layout(folder)
    ratings, films = (folder / name for name in LAYOUTS[layout])
    if layout == "csv":
        names = {"userId": "user", "movieId": "item", "rating": "rating", "timestamp": "time"}
        _check_header(ratings, ",".join(names))
        events = read_delimited(ratings, ",", tuple(names.values()), _RATINGS, header=True)
        items = _csv_films(films)
    else:
        separator = "\t" if layout == "100k" else "::"
        events = read_delimited(ratings, separator, _RATINGS.columns, _RATINGS, header=False)
        items = _flagged_films(films) if layout == "100k" else _dat_films(films)
    log = log_of(events, items, CONFIG, seed, known=LogManifest("movielens"))
    refuse_unpublished(log, layout, str(folder))
    return log


def refuse_unpublished(log: BehaviorLog, layout: str, where: str, *, catalog: bool = True) -> None:
    """Refuses a log with as many interactions as a published set and other users or films.

    Args:
        log: The log.
        layout: A key of `PUBLISHED`.
        where: The folder, for the message.
        catalog: Whether films without ratings are kept.

    Raises:
        InputError: Naming each count that is not the published one.
    """
    expected = PUBLISHED[layout].get(log.manifest.counts["interactions"], {})
    counts = log.manifest.counts | {"rated": log.interactions["item"].n_unique()}
    wrong = [
        f"{counts[name]:,} {name}, published are {count:,}"
        for name, count in expected.items()
        if counts[name] != count and (catalog or name != "items")
    ]
    if wrong:
        raise InputError("; ".join(wrong), where=where, hint="Fetch the data set again.")


def title_and_year(name: str) -> tuple[str, str | None]:
    """Splits a film's name as MovieLens writes it.

    Only the year and the English articles move, and both can be put back: foreign articles
    look like any other word after a comma, and names in brackets are left as they are.

    >>> title_and_year("Matrix, The (1999)")
    ('The Matrix', '1999')
    >>> title_and_year("City of Lost Children, The (Cité des enfants perdus, La) (1995)")
    ('The City of Lost Children (Cité des enfants perdus, La)', '1995')
    >>> title_and_year("Babylon 5")
    ('Babylon 5', None)
    """
    name = name.strip()
    year = None
    if dated := _YEAR.match(name):
        name, year = dated[1], dated[2]
    if moved := _ARTICLE.match(name):
        name = f"{moved[2]} {moved[1]}{moved[3]}"
    return name, year


def films_of(rows: list[tuple[str, str, list[str]]]) -> pl.DataFrame:
    """Makes the items' columns of (id, name as MovieLens writes it, genres)."""
    named = [title_and_year(name) for _, name, _ in rows]
    return pl.DataFrame(
        {
            "item": [item for item, _, _ in rows],
            "title": [title for title, _ in named],
            "categories": [[g for g in genres if g not in NO_GENRE] for _, _, genres in rows],
            "released": [year for _, year in named],
        },
        schema={
            "item": pl.String(),
            "title": pl.String(),
            "categories": pl.List(pl.String()),
            "released": pl.String(),
        },
    )


def _layout(folder: Path) -> str:
    if not folder.is_dir():
        hint = "Check the path; relative paths start at the current folder."
        raise InputError("there is no such folder", where=str(folder), hint=hint)
    for layout, names in LAYOUTS.items():
        there = [name for name in names if (folder / name).is_file()]
        if len(there) == len(names):
            return layout
        if there:
            missing = next(name for name in names if name not in there)
            what = f"there is {there[0]} and no {missing}"
            raise InputError(what, where=str(folder), hint="Unpack the whole archive.")
    pairs = ", ".join(" and ".join(names) for names in LAYOUTS.values())
    inside = [
        path.parent for names in LAYOUTS.values() for path in sorted(folder.glob(f"*/{names[0]}"))
    ]
    hint = f"Give the folder {inside[0]}." if inside else "Give the folder of an unpacked archive."
    raise InputError(f"no MovieLens: it holds none of {pairs}", where=str(folder), hint=hint)


def _check_header(path: Path, expected: str) -> None:
    lines = Lines(path)
    head = next(iter(lines), b"").decode("utf-8", "replace").strip().lstrip("\N{BOM}")
    if head != expected:
        what = f"the header is {head[:80]!r}, not {expected!r}"
        raise InputError(what, where=f"{path}, line 1", hint="Give ratings.csv as published.")


def _csv_films(path: Path) -> TableFile:
    source = open_table(path)
    for name in ("movieId", "title", "genres"):
        if name not in source.table.columns:
            hint = "Give movies.csv as published: movieId,title,genres."
            raise InputError(f"there is no column {name!r}", where=f"{path}, line 1", hint=hint)
    filled = source.table.select(pl.col("movieId", "title", "genres").fill_null(""))
    rows = [(item, name, genres.split("|")) for item, name, genres in filled.iter_rows()]
    return source._replace(table=films_of(rows))


def _dat_films(path: Path) -> TableFile:
    """Reads `id::name::genres`; a name may hold the separator."""
    lines, rows = Lines(path), []
    for number, text in _decoded(lines):
        item, _, rest = text.partition("::")
        name, separator, genres = rest.rpartition("::")
        if not separator:
            raise _not_a_film(path, number, text, "id::title::genres")
        rows.append((item, name, genres.split("|")))
    return TableFile(path, films_of(rows), lines.sha256)


def _flagged_films(path: Path) -> TableFile:
    """Reads `id|name|date|date|address|19 flags`; a name may hold the separator."""
    lines, rows = Lines(path), []
    for number, text in _decoded(lines):
        item, *parts = text.split("|")
        flags = parts[-len(_GENRES) :]
        name = "|".join(parts[: -len(_GENRES) - 3])
        if len(parts) < len(_GENRES) + 4 or not set(flags) <= {"0", "1"}:
            raise _not_a_film(path, number, text, "id|title|date|date|address and 19 flags")
        genres = [genre for genre, flag in zip(_GENRES, flags, strict=True) if flag == "1"]
        rows.append((item, name, genres))
    return TableFile(path, films_of(rows), lines.sha256)


def _decoded(lines: Lines) -> list[tuple[int, str]]:
    """Gives numbers and text: Latin-1 as published, or UTF-8 where all of the file is that."""
    raw = list(lines)
    try:
        text = [line.decode("utf-8") for line in raw]
    except UnicodeDecodeError:
        text = [line.decode("latin-1") for line in raw]
    return [(n, line.rstrip("\r\n")) for n, line in enumerate(text, start=1) if line.strip()]


def _not_a_film(path: Path, number: int, text: str, form: str) -> InputError:
    what = f"{text!r} is not {form}"
    return InputError(what, where=f"{path}, line {number:,}", hint="Fetch the file again.")
