"""Cues: words of items and reviews, and what they mean in other words."""

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
from irec_jax.teachers.title_words import is_ideograph, telling, tokens

_FILE = "phrases/cues.toml"
_LONGEST = 2  # words of a cue of an item
NONE = -1
"""Stands where there is no cue."""


@dataclasses.dataclass(frozen=True)
class Synonym:
    """Something that words tell.

    Attributes:
        words: Any of them tells it, as runs of tokens.
        texts: Language -> wordings, none of which holds a word of `words`.
    """

    words: tuple[tuple[str, ...], ...]
    texts: Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Synonyms:
    """The cues of a domain.

    Attributes:
        trait: What an item has.
        need: What it is for.
        said: What a review tells of the need.
    """

    trait: tuple[Synonym, ...]
    need: tuple[Synonym, ...]
    said: tuple[Synonym, ...]


@functools.cache
def load_synonyms(domain: str) -> Synonyms:
    """Reads `phrases/cues.toml` of this package.

    Raises:
        InputError: The file does not keep to the rules that it states.
    """
    file = importlib.resources.files("irec_jax.teachers").joinpath("phrases", "cues.toml")
    return parse_synonyms(tomllib.loads(file.read_text("utf-8")), domain)


def parse_synonyms(raw: Mapping[str, Any], domain: str) -> Synonyms:
    """Checks a parsed file and picks what is said in a domain.

    Raises:
        InputError: A key is missing or unknown, a text is missing or repeats a word of its cue.
    """
    kinds = tuple(field.name for field in dataclasses.fields(Synonyms))
    for kind in raw:
        if kind not in kinds:
            raise InputError(f"unknown table '{kind}'; {nearest(kind, kinds)}", where=_FILE)
    found: dict[str, tuple[Synonym, ...]] = {}
    for kind in kinds:
        cues = []
        for number, entry in enumerate(raw.get(kind, [])):
            cue = _cue(entry, kind, f"{_FILE}, {kind} {number + 1}")
            if domain in entry.get("domains", get_args(Domain)):
                cues.append(cue)
        found[kind] = tuple(cues)
    return Synonyms(**found)


def _cue(entry: Mapping[str, Any], kind: str, where: str) -> Synonym:
    keys = ("words", *LANGUAGES) + (() if kind == "said" else ("domains",))
    for key in entry:
        if key not in keys:
            raise InputError(f"unknown key '{key}'; {nearest(key, keys)}", where=where)
    for key in keys:
        if not entry.get(key):
            raise InputError(f"'{key}' is missing or empty", where=where, hint="fill it.")
    for domain in entry.get("domains", ()):
        if domain not in get_args(Domain):
            what = f"unknown domain '{domain}'; {nearest(domain, get_args(Domain))}"
            raise InputError(what, where=where)
    words = tuple(tokens(word) for word in entry["words"])
    own = frozenset().union(*map(telling, words))
    for language in LANGUAGES:
        for text in entry[language]:
            if kind != "said" and own & telling(tokens(text)):
                hint = "use other words: it would give titles away."
                raise InputError(f"'{text}' repeats its cue", where=where, hint=hint)
    return Synonym(words, {language: tuple(entry[language]) for language in LANGUAGES})


def index_synonyms(cues: Sequence[Synonym]) -> dict[str, int]:
    """Gives `word` or `word word` -> the number of the first cue that it tells."""
    index: dict[str, int] = {}
    for number, cue in enumerate(cues):
        for run in cue.words:
            if len(run) <= _LONGEST:
                index.setdefault(" ".join(run), number)
    return index


def synonyms_in(words: Sequence[str], index: Mapping[str, int]) -> list[int]:
    """Gives the numbers of the cues that tokens tell, in their order, each once."""
    found = [index.get(word, NONE) for word in words]
    found += [index.get(f"{a} {b}", NONE) for a, b in itertools.pairwise(words)]
    return [number for number in dict.fromkeys(found) if number != NONE]


def synonyms_stated(reviews: Sequence[str], cues: Sequence[Synonym]) -> Int[np.ndarray, " events"]:
    """Gives `[events]` int8: the first cue that each review tells, `NONE` where it tells none.

    All reviews are searched at once, as a review has hundreds of words and a log millions.
    """
    found = np.full(len(reviews), NONE, np.int8)
    if not any(reviews):
        return found
    plain = pl.Series(reviews, dtype=pl.String).str.to_lowercase()
    padded = " " + plain.str.replace_all(r"[^\p{L}\p{N}]+", " ") + " "
    for number in reversed(range(len(cues))):
        spoken = [
            "".join(run) if is_ideograph(run[0]) else f" {' '.join(run)} "
            for run in cues[number].words
        ]
        found[padded.str.contains_any(spoken).to_numpy()] = number
    return found
