"""Synonyms: words of items and reviews that indicate a property, and other words for it."""

import dataclasses
import functools
import importlib.resources
import itertools
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import polars as pl
from jaxtyping import Int

from irec_jax.errors import InputError, nearest
from irec_jax.instructions.config import Domain
from irec_jax.teachers.phrases import LANGUAGES
from irec_jax.teachers.title_words import content_stems, is_ideograph, split_words

_FILE = "phrases/synonyms.toml"
_MAX_INDICATOR_WORDS = 2
MISSING = -1
"""Index of a synonym, category or brand that an item does not have."""


@dataclasses.dataclass(frozen=True)
class Synonym:
    """Words that indicate a property, and texts that express it in other words.

    Attributes:
        words: Each of these word sequences indicates the property.
        texts: Language -> texts; none of them contains a word of `words`.
    """

    words: tuple[tuple[str, ...], ...]
    texts: Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Synonyms:
    """The synonyms of a domain; the fields are the tables of `phrases/synonyms.toml`.

    Attributes:
        trait: Properties of an item, for specific queries.
        need: Uses of an item, for vague queries.
        said: Needs that a review states.
    """

    trait: tuple[Synonym, ...]
    need: tuple[Synonym, ...]
    said: tuple[Synonym, ...]


@functools.cache
def load_synonyms(domain: str) -> Synonyms:
    """Reads `phrases/synonyms.toml` of this package.

    Raises:
        InputError: As `parse_synonyms`.
    """
    file = importlib.resources.files("irec_jax.teachers").joinpath("phrases", "synonyms.toml")
    return parse_synonyms(tomllib.loads(file.read_text("utf-8")), domain)


def parse_synonyms(raw: Mapping[str, Any], domain: str) -> Synonyms:
    """Checks the content of a synonyms file and returns the synonyms of one domain.

    Raises:
        InputError: A key is missing or unknown, or a text is missing or repeats a word that
            indicates its property.
    """
    tables = tuple(field.name for field in dataclasses.fields(Synonyms))
    for table in raw:
        if table not in tables:
            raise InputError(f"unknown table '{table}'", where=_FILE, hint=nearest(table, tables))
    parsed: dict[str, tuple[Synonym, ...]] = {}
    for table in tables:
        synonyms = []
        for index, entry in enumerate(raw.get(table, [])):
            synonym = _parse_entry(entry, table, f"{_FILE}, {table} {index + 1}")
            if domain in entry.get("domains", get_args(Domain)):
                synonyms.append(synonym)
        parsed[table] = tuple(synonyms)
    return Synonyms(**parsed)


def _parse_entry(entry: Mapping[str, Any], table: str, where: str) -> Synonym:
    keys = ("words", *LANGUAGES) + (() if table == "said" else ("domains",))
    for key in entry:
        if key not in keys:
            raise InputError(f"unknown key '{key}'", where=where, hint=nearest(key, keys))
    for key in keys:
        if not entry.get(key):
            raise InputError(f"'{key}' is missing or empty", where=where, hint="Add a value.")
    for domain in entry.get("domains", ()):
        if domain not in get_args(Domain):
            hint = nearest(domain, get_args(Domain))
            raise InputError(f"unknown domain '{domain}'", where=where, hint=hint)
    words = tuple(split_words(word) for word in entry["words"])
    indicator_stems = frozenset().union(*map(content_stems, words))
    for language in LANGUAGES:
        for text in entry[language]:
            if table != "said" and indicator_stems & content_stems(split_words(text)):
                hint = "Use other words: these would reveal words of the title."
                raise InputError(f"'{text}' repeats one of 'words'", where=where, hint=hint)
    return Synonym(words, {language: tuple(entry[language]) for language in LANGUAGES})


def index_synonyms(synonyms: Sequence[Synonym]) -> dict[str, int]:
    """Returns `word` or `word word` -> the index of the first synonym that it indicates."""
    index: dict[str, int] = {}
    for number, synonym in enumerate(synonyms):
        for words in synonym.words:
            if len(words) <= _MAX_INDICATOR_WORDS:
                index.setdefault(" ".join(words), number)
    return index


def find_synonyms(words: Sequence[str], index: Mapping[str, int]) -> list[int]:
    """Returns the synonyms that the words of a text indicate.

    Args:
        words: The text, split into words.
        index: As from `index_synonyms`.

    Returns:
        Each synonym once: first those of single words in the order of the text, then those of
        pairs of words.
    """
    found = [index.get(word, MISSING) for word in words]
    found += [index.get(f"{a} {b}", MISSING) for a, b in itertools.pairwise(words)]
    return [number for number in dict.fromkeys(found) if number != MISSING]


def find_stated_needs(
    reviews: Sequence[str], needs: Sequence[Synonym]
) -> Int[np.ndarray, " events"]:
    """Finds the need that each review states.

    Returns:
        `[events]` int8: the index of the first need that the review indicates, or `MISSING`.
    """
    found = np.full(len(reviews), MISSING, np.int8)
    if not any(reviews):
        return found
    # All reviews at once: a review has hundreds of words, and a log millions of reviews.
    plain = pl.Series(reviews, dtype=pl.String).str.to_lowercase()
    padded = " " + plain.str.replace_all(r"[^\p{L}\p{N}]+", " ") + " "
    for number in reversed(range(len(needs))):
        patterns = [
            "".join(words) if is_ideograph(words[0]) else f" {' '.join(words)} "
            for words in needs[number].words
        ]
        found[padded.str.contains_any(patterns).to_numpy()] = number
    return found
