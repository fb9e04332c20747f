"""The lexicon of a log: which phrases name a value of the catalog's columns."""

import dataclasses
import enum
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from irec_jax.errors import InputError
from irec_jax.files import write_text
from irec_jax.understanding.words import singular_forms, split_request

LEXICON_FILE = "lexicon.json"

Phrase = tuple[str, ...]


class Field(enum.StrEnum):
    """Columns of a catalog whose values a request can name."""

    CATEGORY = "categories"
    BRAND = "brand"
    ATTRIBUTE = "attributes"


class FieldValue(NamedTuple):
    """A value of a column.

    Attributes:
        field: The column.
        text: The value, as the catalog writes it.
    """

    field: Field
    text: str


@dataclasses.dataclass(frozen=True, eq=False)
class Lexicon:
    """Phrases that name values, and all words of the log.

    Attributes:
        values: Phrase -> the value that it names.
        words: Words of titles and queries; others may be typing errors.
        grammars: Language -> words of the request grammar that the run was tuned with.
        has_price: Whether the catalog has prices.
        has_year: Whether the catalog has years of release.
    """

    values: Mapping[Phrase, FieldValue]
    words: frozenset[str]
    grammars: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    has_price: bool = False
    has_year: bool = False

    def find(self, words: Sequence[str]) -> FieldValue | None:
        """Returns the value that a phrase names, in singular or plural; None if it names none."""
        *first, last = words
        for ending in (last, *singular_forms(last)):
            if value := self.values.get((*first, ending)):
                return value
        return None

    def only_value(self, texts: Sequence[str]) -> FieldValue | None:
        """Returns the only value that the catalog writes as one of `texts`, None for several."""
        values = [self._by_text[text] for text in texts if text in self._by_text]
        return values[0] if len(values) == 1 else None

    @functools.cached_property
    def _by_text(self) -> dict[str, FieldValue]:
        return {value.text: value for value in self.values.values()}

    @functools.cached_property
    def longest(self) -> int:
        """Words of the longest phrase."""
        return max(map(len, self.values), default=0)

    def save(self, folder: Path) -> None:
        """Writes `lexicon.json` into an existing folder."""
        content = {
            "values": [[" ".join(phrase), *value] for phrase, value in sorted(self.values.items())],
            "words": sorted(self.words),
            "grammars": {name: sorted(words) for name, words in self.grammars.items()},
            "has_price": self.has_price,
            "has_year": self.has_year,
        }
        text = json.dumps(content, ensure_ascii=False, indent=1)
        write_text(folder / LEXICON_FILE, text + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Lexicon | None":
        """Reads what `save` wrote, None where there is no lexicon.

        Raises:
            InputError: The file is damaged.
        """
        path = folder / LEXICON_FILE
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            values = {
                tuple(phrase.split(" ")): FieldValue(Field(field), text)
                for phrase, field, text in content["values"]
            }
            grammars = {name: frozenset(words) for name, words in content["grammars"].items()}
            words, price, year = (content[key] for key in ("words", "has_price", "has_year"))
            return cls(values, frozenset(words), grammars, bool(price), bool(year))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"the lexicon is damaged ({error})",
                where=str(path),
                hint="Copy the whole run folder again, or tune again with `irec tune`.",
            ) from error


def name_phrases(name: str) -> list[Phrase]:
    """Returns the words of a value's name, the last in each form that it may be the plural of."""
    words = split_request(name)
    return [(*words[:-1], last) for last in singular_forms(words[-1])] if words else []
