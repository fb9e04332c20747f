"""Domains of the simulator, read from TOML: words, category tree, transitions and texts."""

import dataclasses
import functools
import tomllib
from importlib import resources
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class DomainSlot:
    """An attribute that every item of the domain has.

    Attributes:
        name: Its placeholder in the title patterns.
        follow: The likelier value of the next item: the `same`, or the `next` in the list.
        values: Surface forms of each value; the first two may stand in titles.
        price: Price factor of each value; empty for no effect.
    """

    name: str
    follow: Literal["same", "next"]
    values: tuple[tuple[str, ...], ...]
    price: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Category:
    """A leaf of the category tree.

    Attributes:
        forms: Nouns for it; the first is its name, the first two may stand in titles.
        department: Index of its department, the upper level of the tree.
        price: Median price, 0 for none.
        peak: Month (1 to 12) of highest demand, 0 for none.
        next: Categories that are likelier after it.
    """

    forms: tuple[str, ...]
    department: int
    price: float
    peak: int
    next: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Occasion:
    """A vague need of items with one of the categories and one of the values.

    Attributes:
        forms: Surface forms.
        categories: Category indices.
        values: (slot, value) pairs.
    """

    forms: tuple[str, ...]
    categories: frozenset[int]
    values: frozenset[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class DomainData:
    """The content of a domain's TOML file.

    Attributes:
        prefix: First letters of item ids.
        event: Kind of an event without a review.
        repeat: Nats for the category of the last item.
        brands: Brand, maker or author names.
        lines: Names of product lines, to make equal titles distinct.
        titles: Title patterns with `{brand}`, `{noun}` and the slots' names.
        departments: Surface forms of each department.
        categories: The leaves of the category tree.
        slots: Attributes.
        occasions: Vague needs.
        queries: Query patterns by kind: `specific`, `group`, `occasion`.
        reviews: Review patterns: `good`, `bad`.
    """

    prefix: str
    event: str
    repeat: float
    brands: tuple[str, ...]
    lines: tuple[str, ...]
    titles: tuple[str, ...]
    departments: tuple[tuple[str, ...], ...]
    categories: tuple[Category, ...]
    slots: tuple[DomainSlot, ...]
    occasions: tuple[Occasion, ...]
    queries: dict[str, tuple[str, ...]]
    reviews: dict[str, tuple[str, ...]]


@functools.cache
def load_domain(name: str) -> DomainData:
    """Reads `worlds/NAME.toml` of this package.

    Args:
        name: One of the file names there.

    Returns:
        The domain, with all names resolved to indices.
    """
    text = resources.files("irec_jax.log").joinpath("worlds", f"{name}.toml").read_text("utf-8")
    return parse_domain(tomllib.loads(text))


def parse_domain(raw: dict[str, Any]) -> DomainData:
    """Makes a domain from a parsed TOML file.

    Args:
        raw: The content of a file in `worlds/`.

    Returns:
        The domain.

    Raises:
        KeyError: A name is not defined.
    """
    slots = tuple(
        DomainSlot(
            name=slot["name"],
            follow=slot["follow"],
            values=tuple(tuple(forms) for forms in slot["values"]),
            price=tuple(slot.get("price", ())),
        )
        for slot in raw["slots"]
    )
    categories = _categories(raw)
    return DomainData(
        prefix=raw["prefix"],
        event=raw["event"],
        repeat=raw["repeat"],
        brands=tuple(raw["brands"]),
        lines=tuple(raw["lines"]),
        titles=tuple(raw["titles"]),
        departments=tuple(tuple(entry["forms"]) for entry in raw["departments"]),
        categories=categories,
        slots=slots,
        occasions=_occasions(raw, slots, categories),
        queries={kind: tuple(patterns) for kind, patterns in raw["queries"].items()},
        reviews={kind: tuple(patterns) for kind, patterns in raw["reviews"].items()},
    )


def _categories(raw: dict[str, Any]) -> tuple[Category, ...]:
    leaves = [
        (number, leaf)
        for number, department in enumerate(raw["departments"])
        for leaf in department["categories"]
    ]
    index = {leaf["forms"][0]: place for place, (_, leaf) in enumerate(leaves)}
    return tuple(
        Category(
            forms=tuple(leaf["forms"]),
            department=number,
            price=float(leaf.get("price", 0)),
            peak=leaf.get("peak", 0),
            next=tuple(index[name] for name in leaf["next"]),
        )
        for number, leaf in leaves
    )


def _occasions(
    raw: dict[str, Any], slots: tuple[DomainSlot, ...], categories: tuple[Category, ...]
) -> tuple[Occasion, ...]:
    category_of = {leaf.forms[0]: index for index, leaf in enumerate(categories)}
    value_of = {
        forms[0]: (number, value)
        for number, slot in enumerate(slots)
        for value, forms in enumerate(slot.values)
    }
    return tuple(
        Occasion(
            forms=tuple(entry["forms"]),
            categories=frozenset(category_of[name] for name in entry["categories"]),
            values=frozenset(value_of[name] for name in entry["values"]),
        )
        for entry in raw["occasions"]
    )
