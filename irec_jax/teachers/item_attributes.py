"""What a catalog says of its items, made ready for speaking of them."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Bool, Int, UInt64

from irec_jax.teachers.synonyms import NONE, Synonyms, index_synonyms, synonyms_in
from irec_jax.teachers.title_words import Titles, telling, tokens
from irec_jax.text_cleaning import clean

SHARED = 0.95
"""A category of so large a share of the items says nothing of any of them."""

ASKED = 0.05
"""A category of a larger share is asked for only where it is the rarest one of the item."""

RARE = 3
"""Fewer items than this make no category that is worth a word, in a catalog of `MANY`."""

MANY = 100
LEVELS = ("low", "middle", "high", "top")
_QUANTILES = (0.25, 0.75, 0.95)
_PRICED = 8  # prices of a category that make quantiles of its own
_LONGEST = 6  # words of a category or brand
_DESCRIBED = 80  # words of a description that are searched for cues
_BITS = 64


@dataclasses.dataclass(frozen=True, eq=False)
class ItemAttributes:
    """Everything that is said of items; numbers of `texts` and of cues, -1 for none.

    `special` and `broad` are for comparing items with each other. The others are for queries:
    of what stands in an item's own title they hold nothing. Stems tell that two words are one.

    Attributes:
        texts: Categories and brands, each once; none holds a title.
        special: `[items]` the rarest category.
        broad: `[items]` the commonest category, which may be the same.
        brand: `[items]`.
        level: `[items]` int8 place in `LEVELS`: the price among those of `special`, or of all.
        kind: `[items]` the rarest category that shares no word with the title; none where
            that one is too common.
        area: `[items]` the rarest of the others of them.
        field: `[items]` the commonest of them.
        named: `[items]` whether the brand shares a word with the title, or there is none.
        bare: `[items]` whether the title is the name of a category or brand and no more, as
            where a reader had to invent one; such a title does not keep the name from being
            said of other items.
        trait: `[items]` the first trait that the words of the item tell.
        more: `[items]` the second.
        need: `[items]` the first need.
        bit: `[items]` the bit of `broad` in `crossed`.
        crossed: `[items]` a bit for each of the 64 commonest `broad` that share a word with the
            title.
    """

    texts: tuple[str, ...]
    special: Int[np.ndarray, " items"]
    broad: Int[np.ndarray, " items"]
    brand: Int[np.ndarray, " items"]
    level: Int[np.ndarray, " items"]
    kind: Int[np.ndarray, " items"]
    area: Int[np.ndarray, " items"]
    field: Int[np.ndarray, " items"]
    named: Bool[np.ndarray, " items"]
    bare: Bool[np.ndarray, " items"]
    trait: Int[np.ndarray, " items"]
    more: Int[np.ndarray, " items"]
    need: Int[np.ndarray, " items"]
    bit: Int[np.ndarray, " items"]
    crossed: UInt64[np.ndarray, " items"]

    @classmethod
    def build(cls, catalog: pl.DataFrame, cues: Synonyms) -> tuple["ItemAttributes", Titles]:
        """Reads a catalog; gives its titles too, which nothing that is said may hold.

        Args:
            catalog: Columns as in `items.parquet`.
            cues: Which words tell something.
        """
        words = [tokens(clean(title)) for title in catalog["title"].to_list()]
        names = _names(catalog)
        bare = [run in names for run in words]
        titles = Titles.of(run for run, is_name in zip(words, bare, strict=True) if not is_name)
        texts = _Texts(titles)
        labels = _labels(catalog, texts)
        brands = [texts.number(brand) for brand in _column(catalog, "brand")]
        counts = collections.Counter(label for row in labels for label in row)
        rows = [_by_rarity(row, counts, len(labels)) for row in labels]
        title_stems = [telling(run) for run in words]
        queried = [_unsaid(row, stems, texts) for row, stems in zip(rows, title_stems, strict=True)]
        special = [row[0] if row else NONE for row in rows]
        broad = [max(row, key=lambda label: counts[label], default=NONE) for row in rows]
        most = ASKED * len(labels)
        kind = [_kind(r, s, most, counts) for r, s in zip(queried, special, strict=True)]
        area = [_other(row, k) for row, k in zip(queried, kind, strict=True)]
        bit, crossed = _crossed(broad, title_stems, texts)
        told = [
            stems.isdisjoint(texts.stems[brand]) if brand != NONE else False
            for brand, stems in zip(brands, title_stems, strict=True)
        ]
        traits, needs = _cues(catalog, words, cues)
        facts = cls(
            texts=tuple(texts.texts),
            special=np.array(special, np.int32),
            broad=np.array(broad, np.int32),
            brand=np.array(brands, np.int32),
            level=_levels(catalog, special),
            kind=np.array(kind, np.int32),
            area=np.array(area, np.int32),
            field=np.array([row[-1] if row else NONE for row in queried], np.int32),
            named=~np.array(told, bool),
            bare=np.array(bare, bool),
            trait=_nth(traits, 0),
            more=_nth(traits, 1),
            need=_nth(needs, 0),
            bit=bit,
            crossed=crossed,
        )
        return facts, titles


class _Texts:
    """Numbers for the texts that may be said."""

    def __init__(self, titles: Titles) -> None:
        self.titles = titles
        self.texts: list[str] = []
        self.stems: list[frozenset[str]] = []
        self._numbers: dict[str, int] = {}

    def number(self, raw: str | None) -> int:
        """Gives the number of a text, -1 for one that says nothing or holds a title."""
        if not raw:
            return NONE
        if raw not in self._numbers:
            text = clean(raw)
            words = tokens(text)
            # A name of single letters, such as M.A.C, is one word.
            stems = telling(words) or frozenset(["".join(words)] if len(words) > 1 else [])
            said = bool(stems) and len(text.split()) <= _LONGEST and not self.titles.found(words)
            if not said:
                self._numbers[raw] = NONE
            elif text != raw:
                self._numbers[raw] = self.number(text)
            else:
                self._numbers[raw] = len(self.texts)
                self.texts.append(text)
                self.stems.append(stems)
        return self._numbers[raw]


def _names(catalog: pl.DataFrame) -> set[tuple[str, ...]]:
    """Gives the categories and brands as they would stand in a title."""
    raw = {name for names in catalog["categories"].to_list() for name in names or []}
    raw.update(brand for brand in _column(catalog, "brand") if brand)
    return {tokens(clean(name)) for name in raw}


def _column(catalog: pl.DataFrame, name: str) -> list[str | None]:
    return catalog[name].to_list() if name in catalog.columns else [None] * catalog.height


def _labels(catalog: pl.DataFrame, texts: _Texts) -> list[list[int]]:
    """Gives the categories of each item that say something, each once."""
    rows = [
        [n for n in dict.fromkeys(map(texts.number, names or [])) if n != NONE]
        for names in catalog["categories"].to_list()
    ]
    counts = collections.Counter(label for row in rows for label in row)
    shared = {n for n, count in counts.items() if count >= max(2, SHARED * len(rows))}
    return [[label for label in row if label not in shared] for row in rows]


def _by_rarity(row: list[int], counts: collections.Counter, items: int) -> list[int]:
    """Sorts the categories of an item, the most special first."""
    least = RARE if items >= MANY else 1
    # Of equally rare ones the last: paths of categories go from broad to special.
    latest_first = list(reversed(row))
    ordered = sorted(latest_first, key=counts.__getitem__)
    return [n for n in ordered if counts[n] >= least] + [n for n in ordered if counts[n] < least]


def _unsaid(row: list[int], title: frozenset[str], texts: _Texts) -> list[int]:
    """Gives the categories that share no word with a title.

    Never a part of one: of "Treatments & Masks" for a treatment, "Masks" would be what is left.
    """
    return [label for label in row if title.isdisjoint(texts.stems[label])]


def _kind(queried: list[int], special: int, most: float, counts: collections.Counter) -> int:
    """Gives the rarest category to ask for, -1 where only such as ask for nothing are left."""
    if queried and (queried[0] == special or counts[queried[0]] <= most):
        return queried[0]
    return NONE


def _other(queried: list[int], kind: int) -> int:
    return next((label for label in queried if label != kind), NONE)


def _crossed(
    broad: list[int], titles: list[frozenset[str]], texts: _Texts
) -> tuple[Int[np.ndarray, " items"], UInt64[np.ndarray, " items"]]:
    """Marks which of the commonest broad categories share a word with each title."""
    common = collections.Counter(label for label in broad if label != NONE).most_common(_BITS)
    bits = {label: place for place, (label, _) in enumerate(common)}
    owners: dict[str, int] = {}
    for label, place in bits.items():
        for word in texts.stems[label]:
            owners[word] = owners.get(word, 0) | 1 << place
    crossed = np.zeros(len(broad), np.uint64)
    for item, stems in enumerate(titles):
        mask = 0
        for word in stems & owners.keys():
            mask |= owners[word]
        crossed[item] = mask
    return np.array([bits.get(label, NONE) for label in broad], np.int8), crossed


def _cues(
    catalog: pl.DataFrame, titles: list[tuple[str, ...]], cues: Synonyms
) -> tuple[list[list[int]], list[list[int]]]:
    traits, needs = index_synonyms(cues.trait), index_synonyms(cues.need)
    described = [tokens(clean(text or ""))[:_DESCRIBED] for text in _column(catalog, "description")]
    names = [tokens(" , ".join(row or [])) for row in catalog["categories"].to_list()]
    words = [sum(run, ()) for run in zip(titles, names, described, strict=True)]
    return [synonyms_in(run, traits) for run in words], [synonyms_in(run, needs) for run in words]


def _nth(rows: Sequence[Sequence[int]], place: int) -> Int[np.ndarray, " items"]:
    return np.array([row[place] if place < len(row) else NONE for row in rows], np.int32)


def _levels(catalog: pl.DataFrame, special: list[int]) -> Int[np.ndarray, " items"]:
    """Places each price among those of its category, or of all items where these are few."""
    if "price" not in catalog.columns:
        return np.full(catalog.height, NONE, np.int8)
    price = pl.col("price")
    table = pl.DataFrame({"price": catalog["price"], "special": special}).with_columns(
        *(price.quantile(q).alias(f"all{q}") for q in _QUANTILES),
        *(price.quantile(q).over("special").alias(f"own{q}") for q in _QUANTILES),
        own=(price.count().over("special") >= _PRICED) & (pl.col("special") != NONE),
    )
    low, high, top = (
        pl.when("own").then(pl.col(f"own{q}")).otherwise(pl.col(f"all{q}")) for q in _QUANTILES
    )
    level = (
        pl.when(price.is_null() | (low == high))
        .then(NONE)
        .when(price <= low)
        .then(0)
        .when((price >= top) & (top > high))
        .then(3)
        .when(price >= high)
        .then(2)
        .otherwise(1)
    )
    return table.select(level.cast(pl.Int8).alias("level"))["level"].to_numpy()
