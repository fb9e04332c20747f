"""Spans: the words of a request that name a value, a number or a price level."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from irec_jax.understanding.lexicon import FieldValue, Lexicon, Phrase
from irec_jax.understanding.roles import KIND_OF_FIELD, Kind
from irec_jax.understanding.words import base_form, is_letters

OTHER = "<other>"
"""A word of a prompt in the place of those that the request grammar does not have."""
ASKED = "<asked>"
"""Precedes the span that a prompt asks about."""
SMALL = 10
"""A smaller number in letters, such as "two", is a price only beside a currency."""
MAX_DIGITS = 15
YEARS = range(1870, 2100)
_CURRENCY = frozenset(
    (
        *("$", "€", "£", "¥", "元", "块", "yuan", "usd", "eur", "euro", "euros", "quid"),
        *("dollar", "dollars", "buck", "bucks", "pound", "pounds"),
    )
)
_DECADE_YEARS = 10


class PriceLevel(NamedTuple):
    """A price level, of all items that meet the other conditions.

    Attributes:
        is_low: Whether the lower half of the prices is meant.
    """

    is_low: bool


class Number(NamedTuple):
    """A price, or a year with the number of years that it covers.

    Attributes:
        value: The number.
        years: 10 for a decade, 1 for a year, 0 for a price.
    """

    value: float
    years: int = 0


SpanValue = FieldValue | Number | PriceLevel


class Span(NamedTuple):
    """Words of a request that may be a condition.

    Attributes:
        start: Index of the first word.
        end: Index after the last word.
        kind: What it is.
        value: What it names.
    """

    start: int
    end: int
    kind: Kind
    value: SpanValue


@dataclasses.dataclass(frozen=True)
class RequestWords:
    """Words of a language that mean the same for every catalog.

    Attributes:
        levels: Phrase -> price level.
        numbers: Phrase -> number.
        decades: Phrase -> first year.
        names: Phrase -> texts of values that a catalog may have in other words or another language;
            the phrase names the value if the catalog has only one of them.
        known: Words of the request grammar; prompts show all others as `OTHER`.
        compounds: Words of several ideographs, which prompts show as one word.
        plain: Phrases that hold a name but mean something else, such as "more expensive than".
    """

    levels: Mapping[Phrase, PriceLevel]
    numbers: Mapping[Phrase, int]
    decades: Mapping[Phrase, int]
    names: Mapping[Phrase, tuple[str, ...]]
    known: frozenset[str]
    plain: frozenset[Phrase] = frozenset()
    compounds: frozenset[Phrase] = frozenset()

    def merged(self, words: Sequence[str]) -> list[str]:
        """Joins the compounds in a run of words, from left to right, the longest first."""
        if not self.compounds:
            return list(words)
        longest = self._longest_compound
        merged: list[str] = []
        start = 0
        while start < len(words):
            for end in range(min(start + longest, len(words)), start, -1):
                if end == start + 1 or tuple(words[start:end]) in self.compounds:
                    break
            merged.append("".join(words[start:end]))
            start = end
        return merged

    @functools.cached_property
    def _longest_compound(self) -> int:
        return max(map(len, self.compounds))

    @functools.cached_property
    def longest(self) -> int:
        """Words of the longest phrase."""
        tables = (self.levels, self.numbers, self.decades, self.plain, self.names)
        return max((len(phrase) for table in tables for phrase in table), default=1)


def find_spans(words: Sequence[str], lexicon: Lexicon, language: RequestWords) -> list[Span]:
    """Finds the spans of a request from left to right; of overlapping ones the longest.

    Args:
        words: The request, as `split_request` splits it.
        lexicon: The names of values.
        language: Words of the request's language.
    """
    longest = max(lexicon.longest, language.longest)
    spans: list[Span] = []
    start = 0
    while start < len(words):
        for end in range(min(start + longest, len(words)), start, -1):
            if tuple(words[start:end]) in language.plain:
                break
            if span := _span(words, (start, end), lexicon, language):
                spans.append(span)
                break
        else:
            end = start + 1
        start = end
    return spans


def _span(
    words: Sequence[str], place: tuple[int, int], lexicon: Lexicon, language: RequestWords
) -> Span | None:
    start, end = place
    phrase = tuple(words[start:end])
    if lexicon.has_price and phrase in language.levels:
        return Span(start, end, Kind.LEVEL, language.levels[phrase])
    if value := lexicon.find(phrase) or lexicon.only_value(language.names.get(phrase, ())):
        return Span(start, end, KIND_OF_FIELD[value.field], value)
    number = _number(phrase, language)
    if number is None:
        return None
    is_small_word = phrase in language.numbers and number.value < SMALL
    is_money = bool({*words[max(start - 1, 0) : start], *words[end : end + 1]} & _CURRENCY)
    if lexicon.has_year and not is_money:
        if number.years:
            return Span(start, end, Kind.YEAR, number)
        if number.value in YEARS:
            return Span(start, end, Kind.YEAR, Number(number.value, 1))
    if lexicon.has_price and not number.years and (is_money or not is_small_word):
        return Span(start, end, Kind.PRICE, number)
    return None


def _number(phrase: Phrase, language: RequestWords) -> Number | None:
    if phrase in language.decades:
        return Number(float(language.decades[phrase]), _DECADE_YEARS)
    if phrase in language.numbers:
        return Number(float(language.numbers[phrase]))
    word = " ".join(phrase)
    if len(phrase) > 1 or not word[:1].isdecimal() or len(word) > MAX_DIGITS:
        return None
    digits = word.rstrip("s").rstrip("'")
    if digits != word:
        year = int(digits)
        return Number(float(year if year >= 100 else 1900 + year), _DECADE_YEARS)
    return Number(float(digits.replace(",", "")))


def spans_prompt(
    words: Sequence[str], spans: Sequence[Span], asked: int, language: RequestWords
) -> str:
    """Returns a request with kinds in the place of spans, and `ASKED` before one of them.

    So the model learns the language around values and not the values, which may be of any
    catalog.

    Args:
        words: The request.
        spans: Its spans, in order.
        asked: Index of the span that the prompt asks about.
        language: Words of the request's language.
    """
    parts: list[str] = []
    end = 0
    for number, span in enumerate(spans):
        parts += _plain(words[end : span.start], language)
        parts += [ASKED] if number == asked else []
        parts.append(span.kind.value)
        end = span.end
    return " ".join(parts + _plain(words[end:], language))


def _plain(words: Sequence[str], language: RequestWords) -> list[str]:
    """Returns words as prompts show them; a run of unknown words is one `OTHER`."""
    shown: list[str] = []
    for word in language.merged(words):
        base = base_form(word) if is_letters(word) else word
        known = word if word in language.known else base if base in language.known else OTHER
        if known != OTHER or shown[-1:] != [OTHER]:
            shown.append(known)
    return shown
