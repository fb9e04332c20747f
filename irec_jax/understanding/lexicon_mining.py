"""Finds the lexicon of a log: names of values, and phrases that only occur with one value.

A phrase of up to four words of titles and queries becomes a name of the value that nearly all
items have that it occurs with: "rucksack" of the category "backpack", "keeps out wet" of the
attribute "waterproof". No list of synonyms is needed, and nothing is read that a model would not
be trained on.
"""

import collections
import functools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse

from irec_jax.log.split import Role, Split
from irec_jax.understanding.lexicon import Field, FieldValue, Lexicon, Phrase, name_phrases
from irec_jax.understanding.words import base_form, is_letters, split_request

MAX_WORDS = 4
MIN_COUNT = 5
MIN_PRECISION = 0.95
"""Share of a phrase's occurrences that have the value."""
NAME_PRECISION = 0.5
"""The same for the own name of a brand: in most texts the word "simple" is not a brand."""
CLOSED_SHARE = 0.9
"""A part of a longer phrase is not used alone if this share of it is in that phrase."""
EDGE_LIFT = 2.0
"""How much likelier a value is with the first and the last word of a phrase than without."""
CHANCE = 0.01
"""Expected number of phrases that fit a value by chance."""
MAX_TEXTS = 50_000
"""Titles, and queries, that are read; of more, every n-th one."""


@functools.lru_cache(maxsize=2)
def mine_lexicon(split: Split) -> Lexicon:
    """Finds the lexicon of a split from its catalog and the queries before training events."""
    catalog = split.catalog
    titles = [(title, item) for item, title in enumerate(catalog["title"])]
    asked = [
        (query, item)
        for query, item, role in zip(split.queries, split.items.tolist(), split.roles, strict=True)
        if query and role == Role.TRAIN
    ]
    texts = [
        (split_request(text), item)
        for listed in (titles, asked)
        for text, item in listed[:: max(1, len(listed) // MAX_TEXTS)]
    ]
    values = field_values(catalog)
    counts = _phrase_counts(texts)
    mined = _mined(counts, values, catalog.height)
    names = {phrase: value for value in values for phrase in name_phrases(value.text)}
    kept = {phrase: value for phrase, value in names.items() if _is_name(phrase)}
    unused = _misleading(kept, texts, values)
    known = {word for words, _ in texts for word in words if is_letters(word)}
    return Lexicon(
        values={**mined, **{p: v for p, v in kept.items() if p not in unused}},
        words=frozenset(known | {word for phrase in kept for word in phrase}),
        has_price="price" in catalog.columns and catalog["price"].count() > 0,
        has_year="released" in catalog.columns and catalog["released"].count() > 0,
    )


def field_values(catalog: pl.DataFrame) -> dict[FieldValue, list[int]]:
    """Returns the rows of every value of the columns of `Field` that at least two items have."""
    rows: dict[FieldValue, list[int]] = collections.defaultdict(list)
    for field in Field:
        if field.value not in catalog.columns:
            continue
        for row, cell in enumerate(catalog[field.value].to_list()):
            names = [cell] if isinstance(cell, str) else (cell or [])
            for name in dict.fromkeys(names):
                rows[FieldValue(field, name)].append(row)
    return {value: items for value, items in rows.items() if len(items) > 1}


def _is_name(phrase: Phrase) -> bool:
    return any(map(is_letters, phrase)) and len("".join(phrase)) > 1


def _phrase_counts(
    texts: Iterable[tuple[Sequence[str], int]],
) -> dict[Phrase, collections.Counter[int]]:
    """Returns item -> number of texts of each phrase that occurs often enough."""
    counts: dict[Phrase, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for words, item in texts:
        for phrase in set(_phrases(words)):
            counts[phrase][item] += 1
    return {phrase: of for phrase, of in counts.items() if of.total() >= MIN_COUNT}


def _phrases(words: Sequence[str]) -> Iterator[Phrase]:
    """Yields the phrases of letters, the last word in its base form too."""
    for start in range(len(words)):
        for end in range(start + 1, min(start + MAX_WORDS, len(words)) + 1):
            if not is_letters(words[end - 1]):
                break
            yield (*words[start : end - 1], base_form(words[end - 1]))


def _mined(
    counts: dict[Phrase, collections.Counter[int]],
    values: dict[FieldValue, list[int]],
    items: int,
) -> dict[Phrase, FieldValue]:
    """Returns the phrases that occur with one value only, no phrase within another."""
    if not counts or not values:
        return {}
    phrases, listed = list(counts), list(values)
    with_value: Any = _occurrences(counts, items) @ _membership(values, items)
    totals = np.array([of.total() for of in counts.values()])
    lifts = {
        phrases[row][0]: with_value[[row]].toarray()[0] / totals[row]
        for row in range(len(phrases))
        if len(phrases[row]) == 1
    }
    base = np.array([len(values[value]) for value in listed]) / items
    found: dict[Phrase, FieldValue] = {}
    tests = len(phrases) * len(listed)
    for row, phrase in enumerate(phrases):
        part = with_value[[row]]
        fits = part.indices[part.data >= MIN_PRECISION * totals[row]]
        if not len(fits):
            continue
        best = fits[np.argmin(base[fits])]
        by_chance = base[best] ** len(counts[phrase]) * tests
        edges = [lifts[end] for end in map(base_form, (phrase[0], phrase[-1])) if end in lifts]
        is_bound = all(edge[best] >= min(EDGE_LIFT * base[best], MIN_PRECISION) for edge in edges)
        if by_chance < CHANCE and is_bound:
            found[phrase] = listed[best]
    return _separate(found, {phrase: counts[phrase].total() for phrase in found})


def _separate(
    found: dict[Phrase, FieldValue], totals: dict[Phrase, int]
) -> dict[Phrase, FieldValue]:
    """Drops parts of longer phrases with the same value, then phrases that contain another."""
    parts: set[Phrase] = set()
    for phrase, value in found.items():
        for inner in _inner(phrase):
            is_part = found.get(inner) == value
            if is_part and totals[phrase] >= CLOSED_SHARE * totals[inner]:
                parts.add(inner)
    kept = {phrase: value for phrase, value in found.items() if phrase not in parts}
    return {
        phrase: value
        for phrase, value in kept.items()
        if not any(inner in kept for inner in _inner(phrase))
    }


def _inner(phrase: Phrase) -> Iterator[Phrase]:
    for length in range(1, len(phrase)):
        for start in range(len(phrase) - length + 1):
            words = phrase[start : start + length]
            yield (*words[:-1], base_form(words[-1]))


def _misleading(
    names: dict[Phrase, FieldValue],
    texts: Iterable[tuple[Sequence[str], int]],
    values: dict[FieldValue, list[int]],
) -> set[Phrase]:
    """Returns names of brands that mostly occur in texts of other items, longer names apart.

    Categories and attributes keep their names, although "war" is in titles of other films too.
    """
    having = {phrase: frozenset(values[value]) for phrase, value in names.items()}
    inside, total = collections.Counter[Phrase](), collections.Counter[Phrase]()
    for words, item in texts:
        for phrase in longest_matches(words, names):
            total[phrase] += 1
            inside[phrase] += item in having[phrase]
    return {
        phrase
        for phrase, count in total.items()
        if names[phrase].field is Field.BRAND and inside[phrase] < NAME_PRECISION * count
    }


def longest_matches(words: Sequence[str], names: Collection[Phrase]) -> Iterator[Phrase]:
    """Yields the names in a text from left to right, of overlapping ones the longest."""
    start = 0
    while start < len(words):
        for end in range(min(start + MAX_WORDS, len(words)), start, -1):
            phrase = (*words[start : end - 1], base_form(words[end - 1]))
            if phrase in names:
                yield phrase
                start = end
                break
        else:
            start += 1


def _occurrences(
    counts: dict[Phrase, collections.Counter[int]], items: int
) -> scipy.sparse.csr_array:
    """Returns `[phrases, items]` the number of texts."""
    lengths = np.cumsum([0, *map(len, counts.values())])
    columns = np.array([item for of in counts.values() for item in of], np.int64)
    data = np.array([count for of in counts.values() for count in of.values()], np.float64)
    return scipy.sparse.csr_array((data, columns, lengths), shape=(len(counts), items))


def _membership(values: dict[FieldValue, list[int]], items: int) -> scipy.sparse.csr_array:
    """Returns `[items, values]` 1 where an item has a value."""
    rows = np.array([row for of in values.values() for row in of], np.int64)
    columns = np.repeat(np.arange(len(values)), [len(of) for of in values.values()])
    ones = np.ones(len(rows))
    return scipy.sparse.coo_array((ones, (rows, columns)), shape=(items, len(values))).tocsr()
