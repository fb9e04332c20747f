"""What users type: a grammar of queries whose likelihood is exact, and the reviews.

A query is made in steps, each with a known probability: the kind (specific, or vague by occasion
or by group), a pattern, which attributes in which order, and a surface form for each of them. The
likelihood of a text given an item is the sum over all ways in which the grammar can make it.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from irec_jax.log.domain import DomainData
from irec_jax.log.simulated_catalog import SimulatedCatalog

ECHO = 0.1
"""Probability that a word is said in the form that the item's title uses."""

SPECIFIC, GROUP, OCCASION = "specific", "group", "occasion"
_PLACEHOLDERS = ("noun", "facet", "brand", "group", "occasion")

Meaning = tuple[int, ...]
Words = tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class QueryGrammar:
    """Speaks of the items of a catalog.

    Attributes:
        catalog: The items.
        specific_share: Share of queries that are specific.
    """

    catalog: SimulatedCatalog
    specific_share: float

    def query(self, item: int, chance: Sequence[float]) -> tuple[str, str]:
        """Makes a query for an item.

        Args:
            item: The item that the user is after.
            chance: Uniform numbers in [0, 1), at least `chances` of them.

        Returns:
            The query and its intention, `specific` or `vague`.
        """
        kind = SPECIFIC
        if chance[0] >= self.specific_share:
            both = self._occasions[item] and chance[1] < 0.5
            kind = OCCASION if both else GROUP
        patterns = self._patterns[kind]
        text = self.say(patterns[int(chance[2] * len(patterns))], item, chance[3:])
        return text, SPECIFIC if kind == SPECIFIC else "vague"

    @functools.cached_property
    def chances(self) -> int:
        """Uniform numbers that one text uses at most."""
        longest = max(len(pattern) for pattern in self._patterns["all"])
        return 3 + len(self.catalog.domain.slots) + longest

    def say(self, pattern: Words, item: int, chance: Sequence[float]) -> str:
        """Fills a pattern with what is true of an item, in words of the user's choice."""
        domain, values, forms, category, brand, department = self._rows
        slots = len(domain.slots)
        order = sorted(range(slots), key=chance.__getitem__)
        said, facets = [], 0
        for element, luck in zip(pattern, chance[slots:], strict=False):
            if element == "{facet}":
                slot = order[facets]
                facets += 1
                spoken = domain.slots[slot].values[values[item][slot]]
                said.append(_choose(spoken, forms[item][slot], luck))
            elif element == "{noun}":
                spoken = domain.categories[category[item]].forms
                said.append(_choose(spoken, forms[item][-1], luck))
            elif element == "{brand}":
                said.append(domain.brands[brand[item]].lower())
            elif element == "{group}":
                spoken = domain.departments[department[item]]
                said.append(spoken[int(luck * len(spoken))])
            elif element == "{occasion}":
                spoken = self._occasions[item]
                said.append(spoken[int(luck * len(spoken))])
            else:
                said.append(element)
        return " ".join(said)

    def log_likelihood(self, query: str) -> Float[np.ndarray, " items"]:
        """`[items]` float32 log P(query | item, something was typed), -inf where impossible.

        Args:
            query: Any text; capitals and extra spaces do not matter.
        """
        words = tuple(query.lower().split())
        total = np.zeros(len(self.catalog.ids))
        fits = self.catalog.occasions.any(axis=1)
        share = {
            SPECIFIC: self.specific_share,
            OCCASION: (1 - self.specific_share) * 0.5 * fits,
            GROUP: (1 - self.specific_share) * (1 - 0.5 * fits),
        }
        for kind, weight in share.items():
            for pattern in self._patterns[kind]:
                for meanings in self._readings(pattern, words):
                    total += weight * self._probability(meanings) / len(self._patterns[kind])
        with np.errstate(divide="ignore"):
            return np.log(total).astype(np.float32)

    def _probability(self, meanings: Sequence[tuple[str, Meaning]]) -> Float[np.ndarray, " items"]:
        """`[items]` probability that the placeholders of a pattern come out as these meanings."""
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
                spoken = _form_probability(catalog.forms[:, slot], form, count)
                result *= chosen * spoken * (catalog.values[:, slot] == value)
            elif placeholder == "{noun}":
                category, form = meaning
                count = len(domain.categories[category].forms)
                spoken = _form_probability(catalog.forms[:, -1], form, count)
                result *= spoken * (catalog.categories == category)
            elif placeholder == "{brand}":
                result *= catalog.brands == meaning[0]
            elif placeholder == "{group}":
                count = len(domain.departments[meaning[0]])
                result *= (catalog.departments == meaning[0]) / count
            else:
                result *= catalog.occasions[:, meaning[0]] / np.maximum(self._wordings, 1)
        return result

    def _readings(self, pattern: Words, words: Words) -> Iterator[tuple[tuple[str, Meaning], ...]]:
        """All ways to read `words` as `pattern`: the meaning of each placeholder."""
        if not pattern:
            if not words:
                yield ()
            return
        head, rest = pattern[0], pattern[1:]
        if head not in self._lexicon:
            if words and words[0] == head:
                yield from self._readings(rest, words[1:])
            return
        for length in range(1, len(words) + 1):
            for meaning in self._lexicon[head].get(words[:length], ()):
                for others in self._readings(rest, words[length:]):
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
        for name, text, meaning in _spoken(domain):
            lexicon[f"{{{name}}}"].setdefault(tuple(text.lower().split()), []).append(meaning)
        return lexicon

    @functools.cached_property
    def _occasions(self) -> list[list[str]]:
        """For each item the wordings of all occasions that it fits."""
        needs = self.catalog.domain.occasions
        return [
            [form for number in np.nonzero(row)[0] for form in needs[number].forms]
            for row in self.catalog.occasions
        ]

    @functools.cached_property
    def _wordings(self) -> Float[np.ndarray, " items"]:
        """`[items]` how many wordings of occasions fit; all are equally likely."""
        sizes = np.array([len(need.forms) for need in self.catalog.domain.occasions], np.float64)
        return self.catalog.occasions @ sizes

    @functools.cached_property
    def _rows(self) -> tuple[DomainData, list, list, list, list, list]:
        """The catalog as lists, which Python reads faster one by one."""
        catalog = self.catalog
        arrays = (catalog.values, catalog.forms, catalog.categories, catalog.brands)
        return (catalog.domain, *(a.tolist() for a in arrays), catalog.departments.tolist())


def split_pattern(pattern: str) -> Words:
    """The words and placeholders of a pattern."""
    return tuple(pattern.split())


def _split(patterns: Sequence[str]) -> tuple[Words, ...]:
    return tuple(split_pattern(pattern) for pattern in patterns)


def _spoken(domain: DomainData) -> Iterator[tuple[str, str, Meaning]]:
    """Every text that can stand for a placeholder: (placeholder, text, meaning)."""
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


def _choose(forms: Sequence[str], title_form: int, luck: float) -> str:
    """The title's form with probability `ECHO`, else one of the others."""
    if luck < ECHO:
        return forms[title_form]
    others = len(forms) - 1
    place = int((luck - ECHO) / (1 - ECHO) * others)
    place = min(place, others - 1)
    return forms[place + (place >= title_form)]


def _form_probability(
    title_forms: np.ndarray, form: int, count: int
) -> Float[np.ndarray, " items"]:
    """`[items]` probability of a surface form out of `count`, given the titles' forms."""
    return np.where(title_forms == form, ECHO, (1 - ECHO) / (count - 1))
