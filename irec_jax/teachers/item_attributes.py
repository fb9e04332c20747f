"""Attributes of the items of a catalog, prepared for texts about them."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Bool, Int, UInt64

from irec_jax.teachers.synonyms import MISSING, Synonyms, find_synonyms, index_synonyms
from irec_jax.teachers.title_words import TitleMatcher, content_stems, split_words
from irec_jax.text_cleaning import clean

UBIQUITOUS_SHARE = 0.95
"""A category of at least this share of the items is ignored: it distinguishes no item."""

QUERY_SHARE = 0.05
"""A category of a larger share is used in a query only if it is the rarest of its item."""

MIN_CATEGORY_ITEMS = 3
"""Rarer categories come last, in a catalog of at least `LARGE_CATALOG` items."""

LARGE_CATALOG = 100
PRICE_LEVELS = ("low", "middle", "high", "top")
_QUANTILES = (0.25, 0.75, 0.95)
_MIN_PRICES = 8  # prices of a category for quantiles of its own
_MAX_LABEL_WORDS = 6
_DESCRIPTION_WORDS = 80  # words of a description that are searched for synonyms
_BITS = 64


@dataclasses.dataclass(frozen=True, eq=False)
class ItemAttributes:
    """The attributes of items that texts mention, as arrays over the catalog.

    Categories and brands are indices of `texts`; synonyms are indices of a table of `Synonyms`;
    `MISSING` (-1) where an item has none. Queries use the `query_` fields, which share no word
    stem with the item's own title; preferences and reasons use the others.

    Attributes:
        texts: Categories and brands, without duplicates; none contains a title.
        rarest_category: `[items]`.
        commonest_category: `[items]`; may equal the rarest one.
        brand: `[items]`.
        price_level: `[items]` int8 index of `PRICE_LEVELS`, by the quantiles of the prices of the
            rarest category, or of all items if that one has few prices.
        query_category: `[items]` the rarest category for queries, if it is rare enough.
        second_query_category: `[items]` the rarest of the other categories for queries.
        broad_query_category: `[items]` the commonest category for queries.
        brand_in_title: `[items]` whether the brand shares a word with the title, or is missing.
        title_is_label: `[items]` whether the title is only the name of a category or brand, as
            when a reader replaces a missing title. Texts about other items may contain it.
        trait: `[items]` the first trait that the item's texts indicate.
        second_trait: `[items]`.
        need: `[items]` the first need that the item's texts indicate.
        category_bit: `[items]` category_bit of `commonest_category` in `title_category_bits`.
        title_category_bits: `[items]` uint64 with a bit for each of the 64 most frequent
            values of `commonest_category`, set if it shares a word with the title.
    """

    texts: tuple[str, ...]
    rarest_category: Int[np.ndarray, " items"]
    commonest_category: Int[np.ndarray, " items"]
    brand: Int[np.ndarray, " items"]
    price_level: Int[np.ndarray, " items"]
    query_category: Int[np.ndarray, " items"]
    second_query_category: Int[np.ndarray, " items"]
    broad_query_category: Int[np.ndarray, " items"]
    brand_in_title: Bool[np.ndarray, " items"]
    title_is_label: Bool[np.ndarray, " items"]
    trait: Int[np.ndarray, " items"]
    second_trait: Int[np.ndarray, " items"]
    need: Int[np.ndarray, " items"]
    category_bit: Int[np.ndarray, " items"]
    title_category_bits: UInt64[np.ndarray, " items"]

    @classmethod
    def build(
        cls, catalog: pl.DataFrame, synonyms: Synonyms
    ) -> tuple["ItemAttributes", TitleMatcher]:
        """Reads the attributes of a catalog.

        Args:
            catalog: Columns as in `items.parquet`.
            synonyms: Synonyms of the domain.

        Returns:
            The attributes, and the titles that no generated text may contain.
        """
        title_words = [split_words(clean(title)) for title in catalog["title"].to_list()]
        label_words = _label_words(catalog)
        is_label = [words in label_words for words in title_words]
        titles = TitleMatcher.of(
            words for words, skip in zip(title_words, is_label, strict=True) if not skip
        )
        texts = _LabelTexts(titles)
        categories = _categories(catalog, texts)
        brands = [texts.index(brand) for brand in _column(catalog, "brand")]
        counts = collections.Counter(label for row in categories for label in row)
        rows = [_sort_by_rarity(row, counts, len(categories)) for row in categories]
        stems = [content_stems(words) for words in title_words]
        for_queries = [
            [label for label in row if own.isdisjoint(texts.stems[label])]
            for row, own in zip(rows, stems, strict=True)
        ]
        rarest = [row[0] if row else MISSING for row in rows]
        commonest = [max(row, key=lambda label: counts[label], default=MISSING) for row in rows]
        max_count = QUERY_SHARE * len(categories)
        first = [
            _query_category(row, own, max_count, counts)
            for row, own in zip(for_queries, rarest, strict=True)
        ]
        second = _second_categories(for_queries, first)
        category_bit, title_category_bits = _category_bits(commonest, stems, texts)
        traits, needs = _find_traits_and_needs(catalog, title_words, synonyms)
        broad = [row[-1] if row else MISSING for row in for_queries]
        attributes = cls(
            texts=tuple(texts.texts),
            rarest_category=np.array(rarest, np.int32),
            commonest_category=np.array(commonest, np.int32),
            brand=np.array(brands, np.int32),
            price_level=_price_levels(catalog, rarest),
            query_category=np.array(first, np.int32),
            second_query_category=np.array(second, np.int32),
            broad_query_category=np.array(broad, np.int32),
            brand_in_title=_brand_in_title(brands, stems, texts),
            title_is_label=np.array(is_label, bool),
            trait=_column_of(traits, 0),
            second_trait=_column_of(traits, 1),
            need=_column_of(needs, 0),
            category_bit=category_bit,
            title_category_bits=title_category_bits,
        )
        return attributes, titles


class _LabelTexts:
    """The categories and brands that texts may mention, each with its index.

    Attributes:
        texts: Cleaned, without duplicates.
        stems: The stems of each text.
    """

    def __init__(self, titles: TitleMatcher) -> None:
        self.texts: list[str] = []
        self.stems: list[frozenset[str]] = []
        self._titles = titles
        self._indices: dict[str, int] = {}

    def index(self, raw: str | None) -> int:
        """Returns the index of a label, `MISSING` if it is empty, long or contains a title."""
        if not raw:
            return MISSING
        if raw not in self._indices:
            text = clean(raw)
            words = split_words(text)
            # A name of single letters, such as M.A.C, is one word.
            stems = content_stems(words) or frozenset(["".join(words)] if len(words) > 1 else [])
            is_short = len(text.split()) <= _MAX_LABEL_WORDS
            if not stems or not is_short or self._titles.occurs_in(words):
                self._indices[raw] = MISSING
            elif text != raw:
                self._indices[raw] = self.index(text)
            else:
                self._indices[raw] = len(self.texts)
                self.texts.append(text)
                self.stems.append(stems)
        return self._indices[raw]


def _label_words(catalog: pl.DataFrame) -> set[tuple[str, ...]]:
    """Returns the words of every category and brand, to recognize titles that are one of them."""
    raw = {name for names in catalog["categories"].to_list() for name in names or []}
    raw.update(brand for brand in _column(catalog, "brand") if brand)
    return {split_words(clean(name)) for name in raw}


def _column(catalog: pl.DataFrame, name: str) -> list[str | None]:
    return catalog[name].to_list() if name in catalog.columns else [None] * catalog.height


def _categories(catalog: pl.DataFrame, texts: _LabelTexts) -> list[list[int]]:
    """Returns the categories of each item without duplicates and without ubiquitous ones."""
    rows = [
        [label for label in dict.fromkeys(map(texts.index, names or [])) if label != MISSING]
        for names in catalog["categories"].to_list()
    ]
    counts = collections.Counter(label for row in rows for label in row)
    min_count = max(2, UBIQUITOUS_SHARE * len(rows))
    ubiquitous = {label for label, count in counts.items() if count >= min_count}
    return [[label for label in row if label not in ubiquitous] for row in rows]


def _sort_by_rarity(row: list[int], counts: collections.Counter, items: int) -> list[int]:
    """Sorts the categories of an item, rarest first, but those below the minimum count last."""
    min_count = MIN_CATEGORY_ITEMS if items >= LARGE_CATALOG else 1
    # Among equal counts the last one first: category paths go from broad to narrow.
    latest_first = list(reversed(row))
    by_count = sorted(latest_first, key=counts.__getitem__)
    return sorted(by_count, key=lambda label: counts[label] < min_count)


def _query_category(
    for_queries: list[int], rarest: int, max_count: float, counts: collections.Counter
) -> int:
    """Returns the rarest category for queries, `MISSING` if it is too frequent."""
    if for_queries and (for_queries[0] == rarest or counts[for_queries[0]] <= max_count):
        return for_queries[0]
    return MISSING


def _second_categories(for_queries: list[list[int]], first: list[int]) -> list[int]:
    return [
        next((label for label in row if label != used), MISSING)
        for row, used in zip(for_queries, first, strict=True)
    ]


def _brand_in_title(
    brands: list[int], stems: list[frozenset[str]], texts: _LabelTexts
) -> Bool[np.ndarray, " items"]:
    """Computes `ItemAttributes.brand_in_title`."""
    adds_brand = [
        brand != MISSING and own.isdisjoint(texts.stems[brand])
        for brand, own in zip(brands, stems, strict=True)
    ]
    return ~np.array(adds_brand, bool)


def _category_bits(
    commonest: list[int], title_stems: list[frozenset[str]], texts: _LabelTexts
) -> tuple[Int[np.ndarray, " items"], UInt64[np.ndarray, " items"]]:
    """Computes `ItemAttributes.category_bit` and `title_category_bits`."""
    counts = collections.Counter(label for label in commonest if label != MISSING)
    bits = {label: bit for bit, (label, _) in enumerate(counts.most_common(_BITS))}
    masks: dict[str, int] = {}
    for label, bit in bits.items():
        for stem in texts.stems[label]:
            masks[stem] = masks.get(stem, 0) | 1 << bit
    title_bits = np.zeros(len(commonest), np.uint64)
    for item, stems in enumerate(title_stems):
        mask = 0
        for stem in stems & masks.keys():
            mask |= masks[stem]
        title_bits[item] = mask
    return np.array([bits.get(label, MISSING) for label in commonest], np.int8), title_bits


def _find_traits_and_needs(
    catalog: pl.DataFrame, titles: list[tuple[str, ...]], synonyms: Synonyms
) -> tuple[list[list[int]], list[list[int]]]:
    """Returns, for each item, the traits and the needs that its texts indicate."""
    traits, needs = index_synonyms(synonyms.trait), index_synonyms(synonyms.need)
    descriptions = [
        split_words(clean(text or ""))[:_DESCRIPTION_WORDS]
        for text in _column(catalog, "description")
    ]
    names = [split_words(" , ".join(row or [])) for row in catalog["categories"].to_list()]
    texts = [sum(parts, ()) for parts in zip(titles, names, descriptions, strict=True)]
    return (
        [find_synonyms(words, traits) for words in texts],
        [find_synonyms(words, needs) for words in texts],
    )


def _column_of(rows: Sequence[Sequence[int]], column: int) -> Int[np.ndarray, " items"]:
    return np.array([row[column] if column < len(row) else MISSING for row in rows], np.int32)


def _price_levels(catalog: pl.DataFrame, rarest: list[int]) -> Int[np.ndarray, " items"]:
    """Computes `ItemAttributes.price_level`."""
    if "price" not in catalog.columns:
        return np.full(catalog.height, MISSING, np.int8)
    price = pl.col("price")
    table = pl.DataFrame({"price": catalog["price"], "category": rarest}).with_columns(
        *(price.quantile(q).alias(f"all{q}") for q in _QUANTILES),
        *(price.quantile(q).over("category").alias(f"own{q}") for q in _QUANTILES),
        own=(price.count().over("category") >= _MIN_PRICES) & (pl.col("category") != MISSING),
    )
    low, high, top = (
        pl.when("own").then(pl.col(f"own{q}")).otherwise(pl.col(f"all{q}")) for q in _QUANTILES
    )
    level = (
        pl.when(price.is_null() | (low == high))
        .then(MISSING)
        .when(price <= low)
        .then(0)
        .when((price >= top) & (top > high))
        .then(3)
        .when(price >= high)
        .then(2)
        .otherwise(1)
    )
    return table.select(level.cast(pl.Int8).alias("level"))["level"].to_numpy()
