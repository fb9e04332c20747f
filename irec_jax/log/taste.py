"""What decides the next item: taste, what went before, popularity and the season.

An item has one *feature* of each part: its category, its brand, and one value of each attribute.
The log-odds of an item are its appeal to everybody plus the sum of the weights of its features,
and all that is known of a user, a moment and the last items goes into those weights. So the
distribution over the whole catalog is exact, and what is learned of one item holds for others.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Int

from irec_jax.log.domain import DomainData
from irec_jax.log.simulated_catalog import SimulatedCatalog

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
class Layout:
    """Where the features stand: categories, then brands, then the values of each attribute.

    Attributes:
        sizes: Number of features of each part.
    """

    sizes: tuple[int, ...]

    @classmethod
    def of(cls, domain: DomainData) -> "Layout":
        """The features of a domain."""
        slots = tuple(len(slot.values) for slot in domain.slots)
        return cls((len(domain.categories), len(domain.brands), *slots))

    @functools.cached_property
    def firsts(self) -> tuple[int, ...]:
        """First feature of each part."""
        return tuple(int(first) for first in np.cumsum((0, *self.sizes[:-1])))

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(self.sizes)


@dataclasses.dataclass(frozen=True, eq=False)
class Tastes:
    """Weights of users on features at the two ends of the log; in between they drift.

    Attributes:
        first: `[users, features]` float32 at the start.
        last: `[users, features]` float32 at the end.
    """

    first: Float[np.ndarray, "users features"]
    last: Float[np.ndarray, "users features"]


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


@dataclasses.dataclass(frozen=True, eq=False)
class Dynamics:
    """Everything about the next item that is the same for all users.

    Attributes:
        layout: The features.
        features: `[items, parts]` the features of each item, columns of `weights`.
        appeal: `[items]` float32 log-odds that depend on nothing.
        follows: `[items, features]` float32 weights for the next item after each item; not
            symmetric: a case follows a phone more than a phone follows a case.
        season: `[categories, 2]` weights on the cosine and sine of the time of the year.
        seconds: Length of the log.
    """

    layout: Layout
    features: Int[np.ndarray, "items parts"]
    appeal: Float[np.ndarray, " items"]
    follows: Float[np.ndarray, "items features"]
    season: Float[np.ndarray, "categories two"]
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
        """Weights on features, given who asks, when, and after what.

        Args:
            tastes: Of all users.
            users: `[requests]` rows of `tastes`.
            times: `[requests]` seconds.
            recent: `[requests, len(RECENT)]` items, newest first, -1 where there is none.

        Returns:
            `[requests, features]` float32.
        """
        weights = self.taste(tastes, users, times)
        for place, strength in enumerate(RECENT):
            here = recent[:, place]
            weights += np.float32(strength) * self.follows[here] * (here >= 0)[:, None]
        angle = 2 * np.pi * ((times - START) / _YEAR)
        waves = np.cos(angle)[:, None] * self.season[:, 0]
        waves += np.sin(angle)[:, None] * self.season[:, 1]
        weights[:, : waves.shape[1]] += waves.astype(np.float32)
        return weights

    def odds(
        self, weights: Float[np.ndarray, "requests features"]
    ) -> Float[np.ndarray, "items requests"]:
        """`[items, requests]` float32 odds of each item, relative to an item that has it all.

        The exponential is taken of single features, pairs of parts are multiplied into tables,
        and items look their rows up there. It costs no more than a matrix product, keeps out of
        its threads, and gives the same bits on every machine with the same exponential.
        """
        firsts, sizes = self.layout.firsts, self.layout.sizes
        parts = []
        for first, size in zip(firsts, sizes, strict=True):
            part = weights[:, first : first + size].T
            parts.append(np.exp(part - part.max(axis=0)))
        result = np.repeat(np.exp(self.appeal - self.appeal.max())[:, None], len(weights), axis=1)
        for pair, place in self._pairs:
            table = parts[pair[0]]
            if len(pair) == 2:
                table = (table[:, None] * parts[pair[1]]).reshape(-1, len(weights))
            result *= table[place]
        return result

    @functools.cached_property
    def _pairs(self) -> list[tuple[tuple[int, ...], Int[np.ndarray, " items"]]]:
        """Parts, large with small, and `[items]` the place of each item in their product."""
        values = self.features - np.array(self.layout.firsts)
        order = [int(part) for part in np.argsort(self.layout.sizes, kind="stable")]
        pairs = []
        while order:
            large = order.pop()
            if order:
                small = order.pop(0)
                place = values[:, large] * self.layout.sizes[small] + values[:, small]
                pairs.append(((large, small), place))
            else:
                pairs.append(((large,), values[:, large]))
        return pairs


def build_dynamics(catalog: SimulatedCatalog, strengths: Strengths, days: int) -> Dynamics:
    """The part of the next-item distribution that all users share.

    Args:
        catalog: The items.
        strengths: Nats of the parts.
        days: Length of the log.

    Returns:
        The dynamics; nothing in them is random, they follow from the domain's data.
    """
    domain = catalog.domain
    layout = Layout.of(domain)
    matrix = np.zeros((layout.width, layout.width), np.float32)
    for number, leaf in enumerate(domain.categories):
        matrix[number, number] = strengths.repeat
        matrix[number, list(leaf.next)] = CATEGORY_FOLLOWS
    brands = layout.firsts[1] + np.arange(len(domain.brands))
    matrix[brands, brands] = BRAND_FOLLOWS
    for slot, first in zip(domain.slots, layout.firsts[2:], strict=True):
        value = np.arange(len(slot.values))
        step = 1 if slot.follow == "next" else 0
        matrix[first + value, first + (value + step) % len(value)] = VALUE_FOLLOWS
    season = np.zeros((len(domain.categories), 2))
    for number, leaf in enumerate(domain.categories):
        if leaf.peak:
            angle = 2 * np.pi * (leaf.peak - 0.5) / 12
            season[number] = strengths.season * np.array([np.cos(angle), np.sin(angle)])
    parts = np.column_stack([catalog.categories, catalog.brands, catalog.values])
    features = parts + np.array(layout.firsts)
    return Dynamics(
        layout=layout,
        features=features,
        appeal=(strengths.popularity * catalog.log_popularity).astype(np.float32),
        follows=np.float32(strengths.continuation) * matrix[features].sum(axis=1),
        season=season,
        seconds=float(days * DAY),
    )


def draw_tastes(domain: DomainData, users: int, *, taste: float, drift: float, seed: int) -> Tastes:
    """Draws what users like: some categories and brands, and one value of each attribute.

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
    layout = Layout.of(domain)
    likings = [_LIKED_CATEGORIES, _LIKED_BRANDS] + [_LIKED_VALUES] * len(domain.slots)
    first_end = np.zeros((users, layout.width), np.float32)
    last_end = np.zeros((users, layout.width), np.float32)
    rows = np.arange(users)[:, None]
    for start, size, strengths in zip(layout.firsts, layout.sizes, likings, strict=True):
        order = np.argsort(rng.random((users, size)), axis=1)
        places = np.arange(len(strengths))
        drifts = rng.random((users, len(strengths))) < drift
        # A liking that drifts moves to something that was not liked before.
        later = np.where(drifts, order[:, (places + len(strengths)) % size], order[:, places])
        spread = rng.gamma(_SPREAD, 1 / _SPREAD, (users, len(strengths)))
        weights = taste * np.array(strengths) * spread
        first_end[rows, start + order[:, places]] = weights
        last_end[rows, start + later] = weights
    return Tastes(first_end, last_end)
