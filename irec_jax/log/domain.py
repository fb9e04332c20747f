"""The four domains as data: their words, and what goes with what."""

import dataclasses
import functools
import tomllib
from importlib import resources
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class DomainSlot:
    """A kind of attribute that every item of the domain has.

    Attributes:
        name: Its placeholder in the title patterns.
        follow: Which value the next item tends to have: the `same`, or the `next` in the list.
        values: Surface forms of each value; the first two may stand in titles.
        price: Factor on the price of each value, empty where it does not matter.
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
        department: Index of the branch that it hangs on.
        price: Median price, 0 where things have none.
        peak: Month (1 to 12) in which it is most wanted, 0 for none.
        next: Categories that go well after it.
    """

    forms: tuple[str, ...]
    department: int
    price: float
    peak: int
    next: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Occasion:
    """A vague need: it fits items of one of the categories with one of the values.

    Attributes:
        forms: Wordings.
        categories: Category indices.
        values: (slot, value) pairs.
    """

    forms: tuple[str, ...]
    categories: frozenset[int]
    values: frozenset[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class DomainData:
    """One domain, as its TOML file tells it.

    Attributes:
        prefix: First letters of item ids.
        event: Kind of an event without a review.
        repeat: Nats for the same category once more, directly after it.
        brands: Brand, maker or author names.
        lines: Words that tell two equal titles apart.
        titles: Title patterns with `{brand}`, `{noun}` and the slots' names.
        departments: Wordings of each branch of the category tree.
        categories: Its leaves.
        slots: Attributes.
        occasions: Needs.
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
        The domain, every name in it resolved to an index.
    """
    text = resources.files("irec_jax.log").joinpath("worlds", f"{name}.toml").read_text("utf-8")
    return parse_domain(tomllib.loads(text))


def parse_domain(raw: dict[str, Any]) -> DomainData:
    """Makes a domain of a parsed TOML file.

    Args:
        raw: The keys that the files in `worlds/` show.

    Returns:
        The domain.

    Raises:
        KeyError: A name that is used is not defined.
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
