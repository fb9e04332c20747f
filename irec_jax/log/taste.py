"""What decides the next item: taste, what went before, popularity and the season.

Every part is linear in the item's features, so that one row of weights per request and one matrix
product give the exact distribution over the catalog.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from irec_jax.log.catalog import Catalog
from irec_jax.log.domain import DomainData

START = 1_672_531_200
"""First second of every simulated log: 2023-01-01, UTC."""

DAY = 86_400
RECENT = (1.0, 0.5, 0.25)
"""How much the last item, the one before and the third last decide the continuation."""

_YEAR = 365.25 * DAY

CATEGORY_FOLLOWS = 1.8
"""Nats for a category that goes well after the last one."""

VALUE_FOLLOWS = 0.9
"""Nats for the attribute value that follows that of the last item."""

BRAND_FOLLOWS = 0.45
"""Nats for the brand of the last item."""

_LIKED_CATEGORIES = (1.35, 1.2, 1.0)
_LIKED_BRANDS = (0.6, 0.5)
_LIKED_VALUES = (2.1,)
_SPREAD = 12.0  # shape of the gamma distribution of a liking around its mean


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where each part of an item stands in its feature row.

    The row is: one-hot department, category and brand, one-hot value of each slot, log popularity.

    Attributes:
        departments: First column of the departments, always 0.
        categories: First column of the categories.
        brands: First column of the brands.
        slots: First column of each slot.
        popularity: The column of log popularity, the last one.
    """

    departments: int
    categories: int
    brands: int
    slots: tuple[int, ...]
    popularity: int

    @property
    def width(self) -> int:
        """Number of features."""
        return self.popularity + 1

    @classmethod
    def of(cls, domain: DomainData) -> "Columns":
        """Lays out the features of a domain."""
        categories = len(domain.departments)
        brands = categories + len(domain.categories)
        ends = [brands + len(domain.brands)]
        for slot in domain.slots:
            ends.append(ends[-1] + len(slot.values))
        return cls(0, categories, brands, tuple(ends[:-1]), ends[-1])


@dataclasses.dataclass(frozen=True, eq=False)
class Tastes:
    """Weights of users on item features at the two ends of the log; in between they drift.

    Attributes:
        first: `[users, features]` float32 at the start.
        last: `[users, features]` float32 at the end.
    """

    first: Float[np.ndarray, "users features"]
    last: Float[np.ndarray, "users features"]


@dataclasses.dataclass(frozen=True, eq=False)
class Dynamics:
    """Everything about the next item that is the same for all users.

    Attributes:
        features: `[items, features]` float32.
        continuation: `[features, features]` float32, row = feature of an earlier item, column =
            feature of the next one; not symmetric.
        popularity: Weight of log popularity.
        season: `[categories, 2]` weights on the cosine and sine of the time of the year.
        columns: The layout of features.
        seconds: Length of the log.
    """

    features: Float[np.ndarray, "items features"]
    continuation: Float[np.ndarray, "features features"]
    popularity: float
    season: Float[np.ndarray, "categories two"]
    columns: Columns
    seconds: float

    def taste(
        self,
        tastes: Tastes,
        users: Int[np.ndarray, " requests"],
        times: Int[np.ndarray, " requests"],
    ) -> Float[np.ndarray, "requests features"]:
        """`[requests, features]` float32 weights of the long-term taste at these times."""
        progress = np.clip((times - START) / self.seconds, 0, 1).astype(np.float32)[:, None]
        return (1 - progress) * tastes.first[users] + progress * tastes.last[users]

    def weights(
        self,
        tastes: Tastes,
        users: Int[np.ndarray, " requests"],
        times: Int[np.ndarray, " requests"],
        recent: Int[np.ndarray, "requests recent"],
    ) -> Float[np.ndarray, "requests features"]:
        """Weights on item features, given who asks, when, and after what.

        Args:
            tastes: Of all users.
            users: `[requests]` rows of `tastes`.
            times: `[requests]` seconds.
            recent: `[requests, len(RECENT)]` items, newest first, -1 where there is none.

        Returns:
            `[requests, features]` float32; times the features they are the log-odds.
        """
        weights = self.taste(tastes, users, times)
        before = np.zeros_like(weights)
        for place, strength in enumerate(RECENT):
            here = recent[:, place]
            before += np.float32(strength) * self.features[here] * (here >= 0)[:, None]
        weights += before @ self.continuation
        weights[:, self.columns.popularity] += self.popularity
        angle = 2 * np.pi * ((times - START) / _YEAR)
        waves = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ self.season.T
        first = self.columns.categories
        weights[:, first : first + waves.shape[1]] += waves.astype(np.float32)
        return weights


@dataclasses.dataclass(frozen=True)
class Strengths:
    """Nats that the parts of the next-item distribution are worth.

    Attributes:
        continuation: Factor on what follows from the last items.
        popularity: Weight of log popularity.
        season: Half of the swing between the best and the worst month.
        repeat: The same category directly once more, before `continuation`.
    """

    continuation: float
    popularity: float
    season: float
    repeat: float


def item_features(catalog: Catalog) -> Float[np.ndarray, "items features"]:
    """`[items, features]` float32, laid out as `Columns` says."""
    columns = Columns.of(catalog.domain)
    features = np.zeros((len(catalog.ids), columns.width), np.float32)
    rows = np.arange(len(catalog.ids))
    features[rows, columns.departments + catalog.departments] = 1
    features[rows, columns.categories + catalog.categories] = 1
    features[rows, columns.brands + catalog.brands] = 1
    for number, first in enumerate(columns.slots):
        features[rows, first + catalog.values[:, number]] = 1
    features[:, columns.popularity] = catalog.log_popularity
    return features


def build_dynamics(catalog: Catalog, strengths: Strengths, days: int) -> Dynamics:
    """The part of the next-item distribution that all users share.

    Args:
        catalog: The items.
        strengths: Nats of the parts.
        days: Length of the log.

    Returns:
        The dynamics; nothing in them is random, they follow from the domain's data.
    """
    domain = catalog.domain
    columns = Columns.of(domain)
    matrix = np.zeros((columns.width, columns.width), np.float32)
    for number, leaf in enumerate(domain.categories):
        row = columns.categories + number
        matrix[row, row] = strengths.repeat
        for follower in leaf.next:
            matrix[row, columns.categories + follower] = CATEGORY_FOLLOWS
    for slot, first in zip(domain.slots, columns.slots, strict=True):
        count = len(slot.values)
        step = 1 if slot.follow == "next" else 0
        for value in range(count):
            matrix[first + value, first + (value + step) % count] = VALUE_FOLLOWS
    for brand in range(columns.brands, columns.slots[0]):
        matrix[brand, brand] = BRAND_FOLLOWS
    season = np.zeros((len(domain.categories), 2))
    for number, leaf in enumerate(domain.categories):
        if leaf.peak:
            angle = 2 * np.pi * (leaf.peak - 0.5) / 12
            season[number] = strengths.season * np.array([np.cos(angle), np.sin(angle)])
    return Dynamics(
        features=item_features(catalog),
        continuation=strengths.continuation * matrix,
        popularity=strengths.popularity,
        season=season,
        columns=columns,
        seconds=float(days * DAY),
    )


def draw_tastes(domain: DomainData, users: int, *, taste: float, drift: float, seed: int) -> Tastes:
    """Draws what users like.

    Args:
        domain: Its parts are what can be liked.
        users: How many.
        taste: Factor on all weights.
        drift: Share of the likings that are others at the end of the log.
        seed: Decides everything.

    Returns:
        Weights at both ends of the log.
    """
    rng = np.random.default_rng([seed, 2])
    columns = Columns.of(domain)
    parts = [
        (columns.categories, len(domain.categories), _LIKED_CATEGORIES),
        (columns.brands, len(domain.brands), _LIKED_BRANDS),
    ]
    parts += [
        (first, len(slot.values), _LIKED_VALUES)
        for slot, first in zip(domain.slots, columns.slots, strict=True)
    ]
    first_end = np.zeros((users, columns.width), np.float32)
    last_end = np.zeros((users, columns.width), np.float32)
    for start, count, strengths in parts:
        liked = np.argsort(rng.random((users, count)), axis=1)
        # A liking that drifts moves to a value that was not liked before.
        places = np.arange(len(strengths))
        drifts = rng.random((users, len(strengths))) < drift
        later = np.where(drifts, liked[:, (places + len(strengths)) % count], liked[:, places])
        weights = taste * np.array(strengths) * _spread(rng, liked[:, places])
        rows = np.arange(users)[:, None]
        first_end[rows, start + liked[:, places]] = weights
        last_end[rows, start + later] = weights
    return Tastes(first_end, last_end)


def _spread(
    rng: np.random.Generator, liked: Int[np.ndarray, "users likings"]
) -> Float[np.ndarray, "users likings"]:
    """Factors around 1: some like a thing more than others do."""
    return rng.gamma(_SPREAD, 1 / _SPREAD, liked.shape)
