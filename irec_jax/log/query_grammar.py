"""Grammar of simulated queries and reviews, with the exact likelihood of a query.

A query is drawn in steps with known probabilities: its kind k (specific, or vague by occasion or
by group), a pattern p of that kind (uniform), the attributes that fill it, and a surface form of
each. So P(query | item) = sum over k, p and parses of P(k | item) / #patterns(k) * P(parse | item).
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from irec_jax.log.domain import DomainData
from irec_jax.log.simulated_catalog import SimulatedCatalog

TITLE_FORM_PROBABILITY = 0.1
"""Probability that a word has the surface form that the item's title uses."""

SPECIFIC, GROUP, OCCASION = "specific", "group", "occasion"
_PLACEHOLDERS = ("noun", "facet", "brand", "group", "occasion")

Meaning = tuple[int, ...]
Words = tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class QueryGrammar:
    """Draws queries and reviews of the items of a catalog.

    Attributes:
        catalog: The items.
        specific_share: Share of queries that are specific.
    """

    catalog: SimulatedCatalog
    specific_share: float = 0.5

    def query(self, item: int, uniform: Sequence[float]) -> tuple[str, str]:
        """Draws a query for an item.

        Args:
            item: Index of the item that the user will choose.
            uniform: At least `max_draws` uniform numbers in [0, 1).

        Returns:
            The query and its intention, `specific` or `vague`.
        """
        kind = SPECIFIC
        if uniform[0] >= self.specific_share:
            is_occasion = self._occasions[item] and uniform[1] < 0.5
            kind = OCCASION if is_occasion else GROUP
        patterns = self._patterns[kind]
        text = self.fill(patterns[int(uniform[2] * len(patterns))], item, uniform[3:])
        return text, SPECIFIC if kind == SPECIFIC else "vague"

    @functools.cached_property
    def max_draws(self) -> int:
        """Largest number of uniform numbers that one text uses."""
        longest = max(len(pattern) for pattern in self._patterns["all"])
        return 3 + len(self.catalog.domain.slots) + longest

    def fill(self, pattern: Words, item: int, uniform: Sequence[float]) -> str:
        """Fills a pattern with attributes of an item, each in a drawn surface form."""
        domain, values, forms, category, brand, department = self._catalog_lists
        slots = len(domain.slots)
        order = sorted(range(slots), key=uniform.__getitem__)
        words, facets = [], 0
        for element, draw in zip(pattern, uniform[slots:], strict=False):
            if element == "{facet}":
                slot = order[facets]
                facets += 1
                forms_of_value = domain.slots[slot].values[values[item][slot]]
                words.append(_choose_form(forms_of_value, forms[item][slot], draw))
            elif element == "{noun}":
                forms_of_value = domain.categories[category[item]].forms
                words.append(_choose_form(forms_of_value, forms[item][-1], draw))
            elif element == "{brand}":
                words.append(domain.brands[brand[item]].lower())
            elif element == "{group}":
                forms_of_value = domain.departments[department[item]]
                words.append(forms_of_value[int(draw * len(forms_of_value))])
            elif element == "{occasion}":
                forms_of_value = self._occasions[item]
                words.append(forms_of_value[int(draw * len(forms_of_value))])
            else:
                words.append(element)
        return " ".join(words)

    def log_likelihood(self, query: str) -> Float[np.ndarray, " items"]:
        """Returns `[items]` float32 log P(query | item, a query exists), -inf where impossible.

        Args:
            query: Any text; case and extra spaces are ignored.
        """
        words = tuple(query.lower().split())
        total = np.zeros(len(self.catalog.ids))
        has_occasion = self.catalog.occasions.any(axis=1)
        share = {
            SPECIFIC: self.specific_share,
            OCCASION: (1 - self.specific_share) * 0.5 * has_occasion,
            GROUP: (1 - self.specific_share) * (1 - 0.5 * has_occasion),
        }
        for kind, weight in share.items():
            for pattern in self._patterns[kind]:
                for meanings in self._parses(pattern, words):
                    total += weight * self._probability(meanings) / len(self._patterns[kind])
        with np.errstate(divide="ignore"):
            return np.log(total).astype(np.float32)

    def _probability(self, meanings: Sequence[tuple[str, Meaning]]) -> Float[np.ndarray, " items"]:
        """Returns `[items]` P(the placeholders of a pattern have these meanings | item)."""
        catalog, domain = self.catalog, self.catalog.domain
        result = np.ones(len(catalog.ids))
        slots_left = set(range(len(domain.slots)))
        for placeholder, meaning in meanings:
            if placeholder == "{facet}":
                slot, value, form = meaning
                if slot not in slots_left:
                    return np.zeros_like(result)
                chosen = 1 / len(slots_left)
                slots_left.remove(slot)
                count = len(domain.slots[slot].values[value])
                forms_of_value = _form_probability(catalog.forms[:, slot], form, count)
                result *= chosen * forms_of_value * (catalog.values[:, slot] == value)
            elif placeholder == "{noun}":
                category, form = meaning
                count = len(domain.categories[category].forms)
                forms_of_value = _form_probability(catalog.forms[:, -1], form, count)
                result *= forms_of_value * (catalog.categories == category)
            elif placeholder == "{brand}":
                result *= catalog.brands == meaning[0]
            elif placeholder == "{group}":
                count = len(domain.departments[meaning[0]])
                result *= (catalog.departments == meaning[0]) / count
            else:
                result *= catalog.occasions[:, meaning[0]] / np.maximum(
                    self._occasion_forms_count, 1
                )
        return result

    def _parses(self, pattern: Words, words: Words) -> Iterator[tuple[tuple[str, Meaning], ...]]:
        """Yields every parse of `words` by `pattern`: the meaning of each placeholder."""
        if not pattern:
            if not words:
                yield ()
            return
        head, rest = pattern[0], pattern[1:]
        if head not in self._lexicon:
            if words and words[0] == head:
                yield from self._parses(rest, words[1:])
            return
        for length in range(1, len(words) + 1):
            for meaning in self._lexicon[head].get(words[:length], ()):
                for others in self._parses(rest, words[length:]):
                    yield ((head, meaning), *others)

    @functools.cached_property
    def _patterns(self) -> dict[str, tuple[Words, ...]]:
        domain = self.catalog.domain
        kinds = {kind: _split(patterns) for kind, patterns in domain.queries.items()}
        reviews = sum((_split(patterns) for patterns in domain.reviews.values()), ())
        return {**kinds, "all": sum(kinds.values(), ()) + reviews}

    @functools.cached_property
    def _lexicon(self) -> dict[str, dict[Words, list[Meaning]]]:
        domain = self.catalog.domain
        lexicon: dict[str, dict[Words, list[Meaning]]] = {
            f"{{{name}}}": {} for name in _PLACEHOLDERS
        }
        for name, text, meaning in _lexicon_entries(domain):
            lexicon[f"{{{name}}}"].setdefault(tuple(text.lower().split()), []).append(meaning)
        return lexicon

    @functools.cached_property
    def _occasions(self) -> list[list[str]]:
        """The surface forms of all occasions that each item fits."""
        needs = self.catalog.domain.occasions
        return [
            [form for number in np.nonzero(row)[0] for form in needs[number].forms]
            for row in self.catalog.occasions
        ]

    @functools.cached_property
    def _occasion_forms_count(self) -> Float[np.ndarray, " items"]:
        """`[items]` number of these surface forms; all are equally likely."""
        sizes = np.array([len(need.forms) for need in self.catalog.domain.occasions], np.float64)
        return self.catalog.occasions @ sizes

    @functools.cached_property
    def _catalog_lists(self) -> tuple[DomainData, list, list, list, list, list]:
        """The catalog as lists, which Python indexes faster."""
        catalog = self.catalog
        arrays = (catalog.values, catalog.forms, catalog.categories, catalog.brands)
        return (catalog.domain, *(a.tolist() for a in arrays), catalog.departments.tolist())


def split_pattern(pattern: str) -> Words:
    """Returns the words and placeholders of a pattern."""
    return tuple(pattern.split())


def _split(patterns: Sequence[str]) -> tuple[Words, ...]:
    return tuple(split_pattern(pattern) for pattern in patterns)


def _lexicon_entries(domain: DomainData) -> Iterator[tuple[str, str, Meaning]]:
    """Yields every text of a placeholder: (placeholder, text, meaning)."""
    facets = [
        ((number, value), forms)
        for number, slot in enumerate(domain.slots)
        for value, forms in enumerate(slot.values)
    ]
    tables: dict[str, list[tuple[Meaning, Words]]] = {
        "noun": [((number,), leaf.forms) for number, leaf in enumerate(domain.categories)],
        "facet": facets,
        "group": [((number,), forms) for number, forms in enumerate(domain.departments)],
        "occasion": [((number,), need.forms) for number, need in enumerate(domain.occasions)],
    }
    for placeholder, table in tables.items():
        for meaning, forms in table:
            for form, text in enumerate(forms):
                yield placeholder, text, (*meaning, form)
    for brand, text in enumerate(domain.brands):
        yield "brand", text, (brand,)


def _choose_form(forms: Sequence[str], title_form: int, draw: float) -> str:
    """Returns the title's form with probability `TITLE_FORM_PROBABILITY`, else another one."""
    if draw < TITLE_FORM_PROBABILITY:
        return forms[title_form]
    others = len(forms) - 1
    place = int((draw - TITLE_FORM_PROBABILITY) / (1 - TITLE_FORM_PROBABILITY) * others)
    place = min(place, others - 1)
    return forms[place + (place >= title_form)]


def _form_probability(
    title_forms: np.ndarray, form: int, count: int
) -> Float[np.ndarray, " items"]:
    """Returns `[items]` P(surface form out of `count` | form in the title)."""
    return np.where(
        title_forms == form, TITLE_FORM_PROBABILITY, (1 - TITLE_FORM_PROBABILITY) / (count - 1)
    )
