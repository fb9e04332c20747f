"""Simulated catalog: attributes of items, and titles written by a grammar."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Int

from irec_jax.log.domain import DomainData

TITLE_FORMS = 2
"""Number of surface forms of a word that titles use."""

_SMALL_WORDS = frozenset(["a", "about", "an", "and", "by", "for", "from", "in", "of", "on", "with"])


@dataclasses.dataclass(frozen=True, eq=False)
class SimulatedCatalog:
    """The items of a simulated world.

    Attributes:
        domain: Words and category tree.
        categories: `[items]` index of the category.
        brands: `[items]` index of the brand.
        values: `[items, slots]` value of each attribute.
        forms: `[items, slots + 1]` surface form in the title, the noun's in the last column.
        prices: `[items]`, 0 for none.
        log_popularity: `[items]` mean 0.
        titles: `[items]` distinct titles.
        ids: `[items]` distinct identifiers.
    """

    domain: DomainData
    categories: Int[np.ndarray, " items"]
    brands: Int[np.ndarray, " items"]
    values: Int[np.ndarray, "items slots"]
    forms: Int[np.ndarray, "items slots_and_noun"]
    prices: Float[np.ndarray, " items"]
    log_popularity: Float[np.ndarray, " items"]
    titles: tuple[str, ...]
    ids: tuple[str, ...]

    @functools.cached_property
    def departments(self) -> Int[np.ndarray, " items"]:
        """`[items]` index of the department."""
        return np.array([leaf.department for leaf in self.domain.categories])[self.categories]

    @functools.cached_property
    def occasions(self) -> Int[np.ndarray, "items occasions"]:
        """`[items, occasions]` 1 where the item fits the occasion."""
        fits = np.zeros((len(self.ids), len(self.domain.occasions)), np.int64)
        for number, occasion in enumerate(self.domain.occasions):
            valued = np.zeros(len(self.ids), bool)
            for slot, value in occasion.values:
                valued |= self.values[:, slot] == value
            fits[:, number] = valued & np.isin(self.categories, sorted(occasion.categories))
        return fits


def build_catalog(domain: DomainData, items: int, seed: int) -> SimulatedCatalog:
    """Draws a catalog.

    Args:
        domain: Words and category tree.
        items: Number of items.
        seed: Seed of the draws.

    Returns:
        The catalog; popularity follows a power law over items in random order.
    """
    rng = np.random.default_rng([seed, 1])
    leaves = domain.categories
    share = rng.dirichlet(np.full(len(leaves), 6.0))
    categories = rng.choice(len(leaves), size=items, p=share)
    departments = np.array([leaf.department for leaf in leaves])[categories]
    values = np.stack(
        [_draw_values(rng, departments, len(slot.values)) for slot in domain.slots], axis=1
    )
    brands = _draw_brands(rng, departments, domain)
    forms = rng.integers(TITLE_FORMS, size=(items, len(domain.slots) + 1))
    rank = rng.permutation(items) + 1
    log_popularity = -1.3 * np.log(rank + items / 50)
    titles = _write_titles(rng, domain, categories=categories, brands=brands, parts=(values, forms))
    return SimulatedCatalog(
        domain=domain,
        categories=categories,
        brands=brands,
        values=values,
        forms=forms,
        prices=_draw_prices(rng, domain, categories, values),
        log_popularity=log_popularity - log_popularity.mean(),
        titles=tuple(titles),
        ids=tuple(f"{domain.prefix}{number:05d}" for number in range(items)),
    )


def _draw_values(
    rng: np.random.Generator, departments: Int[np.ndarray, " items"], count: int
) -> Int[np.ndarray, " items"]:
    """Draws `[items]` values, with shares of their own in each department."""
    share = rng.dirichlet(np.full(count, 8.0), size=int(departments.max()) + 1)
    cumulative = np.cumsum(share, axis=1)[departments]
    drawn = (cumulative < rng.random((len(departments), 1))).sum(1)
    return np.minimum(drawn, count - 1)


def _draw_brands(
    rng: np.random.Generator, departments: Int[np.ndarray, " items"], domain: DomainData
) -> Int[np.ndarray, " items"]:
    """Draws `[items]` brands: each belongs to two departments and has its own share."""
    count, places = len(domain.brands), len(domain.departments)
    home = np.zeros((places, count))
    for brand in range(count):
        second = (brand + 1 + rng.integers(places - 1)) % places
        home[[brand % places, second], brand] = rng.gamma(3.0)
    cumulative = np.cumsum(home / home.sum(1, keepdims=True), axis=1)[departments]
    drawn = (cumulative < rng.random((len(departments), 1)) * cumulative[:, -1:]).sum(1)
    return np.minimum(drawn, count - 1)


def _draw_prices(
    rng: np.random.Generator,
    domain: DomainData,
    categories: Int[np.ndarray, " items"],
    values: Int[np.ndarray, "items slots"],
) -> Float[np.ndarray, " items"]:
    """Draws `[items]` log-normal prices around the category's, times the values' factors."""
    price = np.array([leaf.price for leaf in domain.categories])[categories]
    for number, slot in enumerate(domain.slots):
        if slot.price:
            price = price * np.array(slot.price)[values[:, number]]
    return np.round(price * rng.lognormal(0.0, 0.15, len(price)), 2)


def _write_titles(
    rng: np.random.Generator,
    domain: DomainData,
    *,
    categories: Int[np.ndarray, " items"],
    brands: Int[np.ndarray, " items"],
    parts: tuple[Int[np.ndarray, "items slots"], Int[np.ndarray, "items slots_and_noun"]],
) -> list[str]:
    """Writes titles in item order; equal ones get the name of a product line, then a number."""
    values, forms = parts
    patterns = rng.integers(len(domain.titles), size=len(categories))
    titles: list[str] = []
    seen: set[str] = set()
    for item in range(len(categories)):
        words = {
            slot.name: slot.values[values[item, number]][forms[item, number]]
            for number, slot in enumerate(domain.slots)
        }
        words["noun"] = domain.categories[categories[item]].forms[forms[item, -1]]
        words["brand"] = domain.brands[brands[item]]
        pattern = domain.titles[patterns[item]]
        title = title_case(pattern.format(**words))
        attempt = 0
        while title in seen:
            line = domain.lines[attempt % len(domain.lines)]
            edition = f" {attempt // len(domain.lines) + 1}" if attempt >= len(domain.lines) else ""
            title = title_case(
                pattern.replace("{noun}", f"{line}{edition} {{noun}}").format(**words)
            )
            attempt += 1
        seen.add(title)
        titles.append(title)
    return titles


def title_case(text: str) -> str:
    """Capitalizes the first letter of each word except short function words.

    >>> title_case("kettle in off white by Ostra")
    'Kettle in Off White by Ostra'
    """
    words = [word if word in _SMALL_WORDS else word[:1].upper() + word[1:] for word in text.split()]
    joined = " ".join(words)
    return joined[:1].upper() + joined[1:]
