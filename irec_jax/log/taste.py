"""Next-item distribution of the simulator: taste, last items, popularity and season.

Each item has one *feature* per part: its category, its brand, and one value of each attribute.
The log-odds of item i for user u at time t after items h1, h2, h3 (newest first) are

    appeal[i] + sum over features f of i of w[f], with
    w[f] = taste[u, t, f] + sum_k RECENCY_WEIGHTS[k] * transitions[h_k, f] + season[t, f]

so the distribution over the whole catalog is exact, and effects are shared by similar items.
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
RECENCY_WEIGHTS = (1.0, 0.5, 0.25)
"""Weights of the transitions from the last, second last and third last item."""

_YEAR = 365.25 * DAY

CATEGORY_FOLLOWS = 1.8
"""Nats for a category in the `next` list of the last one."""

VALUE_FOLLOWS = 0.9
"""Nats for the attribute value that follows the last item's value."""

BRAND_FOLLOWS = 0.45
"""Nats for the last item's brand."""

_CATEGORY_WEIGHTS = (1.35, 1.2, 1.0)
_BRAND_WEIGHTS = (0.6, 0.5)
_VALUE_WEIGHTS = (2.1,)
_GAMMA_SHAPE = 12.0  # shape of the gamma distribution of a weight around its mean


@dataclasses.dataclass(frozen=True)
class FeatureLayout:
    """Order of the features: categories, then brands, then the values of each attribute.

    Attributes:
        sizes: `[parts]` number of features of each part.
    """

    sizes: tuple[int, ...]

    @classmethod
    def of(cls, domain: DomainData) -> "FeatureLayout":
        """Returns the layout of a domain."""
        slots = tuple(len(slot.values) for slot in domain.slots)
        return cls((len(domain.categories), len(domain.brands), *slots))

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        """`[parts]` index of the first feature of each part."""
        return tuple(int(first) for first in np.cumsum((0, *self.sizes[:-1])))

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(self.sizes)


@dataclasses.dataclass(frozen=True, eq=False)
class Tastes:
    """Feature weights of users at both ends of the log, interpolated linearly in between.

    Attributes:
        first: `[users, features]` float32 nats at the start.
        last: `[users, features]` float32 nats at the end.
    """

    first: Float[np.ndarray, "users features"]
    last: Float[np.ndarray, "users features"]


@dataclasses.dataclass(frozen=True)
class EffectStrengths:
    """Strengths of the parts of the next-item distribution, in nats of log-odds; 0 for none.

    Attributes:
        taste: Factor on the user's long-term tastes.
        continuation: Factor on the transitions from the last items.
        popularity: Weight of log popularity.
        season: Amplitude of the yearly cosine.
        drift: Probability that a taste belongs to another feature at the end of the log.
    """

    taste: float = 1.0
    continuation: float = 1.0
    popularity: float = 1.0
    season: float = 0.5
    drift: float = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class Dynamics:
    """The parts of the next-item distribution that all users share.

    Attributes:
        layout: The features.
        features: `[items, parts]` the features of each item, columns of `weights`.
        appeal: `[items]` float32 log-odds by popularity alone.
        transitions: `[items, features]` float32 weights for the next item after each item; not
            symmetric: a case follows a phone more than a phone follows a case.
        season: `[categories, 2]` weights on the cosine and sine of the time of the year.
        seconds: Length of the log in seconds.
    """

    layout: FeatureLayout
    features: Int[np.ndarray, "items parts"]
    appeal: Float[np.ndarray, " items"]
    transitions: Float[np.ndarray, "items features"]
    season: Float[np.ndarray, "categories two"]
    seconds: float

    def taste(
        self,
        tastes: Tastes,
        users: Int[np.ndarray, " requests"],
        times: Int[np.ndarray, " requests"],
    ) -> Float[np.ndarray, "requests features"]:
        """Returns `[requests, features]` float32 weights of the long-term taste at these times."""
        progress = np.clip((times - START) / self.seconds, 0, 1).astype(np.float32)[:, None]
        return (1 - progress) * tastes.first[users] + progress * tastes.last[users]

    def weights(
        self,
        tastes: Tastes,
        users: Int[np.ndarray, " requests"],
        times: Int[np.ndarray, " requests"],
        recent: Int[np.ndarray, "requests recent"],
    ) -> Float[np.ndarray, "requests features"]:
        """Returns the feature weights, given user, time and last items.

        Args:
            tastes: Weights of all users.
            users: `[requests]` rows of `tastes`.
            times: `[requests]` Unix seconds.
            recent: `[requests, len(RECENCY_WEIGHTS)]` items, newest first, padded with -1.

        Returns:
            `[requests, features]` float32.
        """
        weights = self.taste(tastes, users, times)
        for index, strength in enumerate(RECENCY_WEIGHTS):
            item = recent[:, index]
            weights += np.float32(strength) * self.transitions[item] * (item >= 0)[:, None]
        angle = 2 * np.pi * ((times - START) / _YEAR)
        seasonal = np.cos(angle)[:, None] * self.season[:, 0]
        seasonal += np.sin(angle)[:, None] * self.season[:, 1]
        weights[:, : seasonal.shape[1]] += seasonal.astype(np.float32)
        return weights

    def odds(
        self, weights: Float[np.ndarray, "requests features"]
    ) -> Float[np.ndarray, "items requests"]:
        """Returns `[items, requests]` float32 odds, 1 for an item with every largest weight.

        The exponentials of single features are multiplied to tables for pairs of parts, in which
        items look up their rows. This costs no more than a matrix product, uses one thread, and
        gives equal bits on all machines with the same exponential function.
        """
        offsets, sizes = self.layout.offsets, self.layout.sizes
        parts = []
        for first, size in zip(offsets, sizes, strict=True):
            part = weights[:, first : first + size].T
            parts.append(np.exp(part - part.max(axis=0)))
        result = np.repeat(np.exp(self.appeal - self.appeal.max())[:, None], len(weights), axis=1)
        for pair, index in self._pairs:
            table = parts[pair[0]]
            if len(pair) == 2:
                table = (table[:, None] * parts[pair[1]]).reshape(-1, len(weights))
            result *= table[index]
        return result

    @functools.cached_property
    def _pairs(self) -> list[tuple[tuple[int, ...], Int[np.ndarray, " items"]]]:
        """Pairs of a large and a small part, and `[items]` the row of each item in their table."""
        values = self.features - np.array(self.layout.offsets)
        order = [int(part) for part in np.argsort(self.layout.sizes, kind="stable")]
        pairs = []
        while order:
            large = order.pop()
            if order:
                small = order.pop(0)
                index = values[:, large] * self.layout.sizes[small] + values[:, small]
                pairs.append(((large, small), index))
            else:
                pairs.append(((large,), values[:, large]))
        return pairs


def build_dynamics(catalog: SimulatedCatalog, strengths: EffectStrengths, days: int) -> Dynamics:
    """Builds the dynamics of a catalog; nothing in them is random.

    Args:
        catalog: The items.
        strengths: Strengths of the parts.
        days: Length of the log in days.
    """
    domain = catalog.domain
    layout = FeatureLayout.of(domain)
    matrix = np.zeros((layout.width, layout.width), np.float32)
    for number, leaf in enumerate(domain.categories):
        matrix[number, number] = domain.repeat
        matrix[number, list(leaf.next)] = CATEGORY_FOLLOWS
    brands = layout.offsets[1] + np.arange(len(domain.brands))
    matrix[brands, brands] = BRAND_FOLLOWS
    for slot, first in zip(domain.slots, layout.offsets[2:], strict=True):
        value = np.arange(len(slot.values))
        step = 1 if slot.follow == "next" else 0
        matrix[first + value, first + (value + step) % len(value)] = VALUE_FOLLOWS
    season = np.zeros((len(domain.categories), 2))
    for number, leaf in enumerate(domain.categories):
        if leaf.peak:
            angle = 2 * np.pi * (leaf.peak - 0.5) / 12
            season[number] = strengths.season * np.array([np.cos(angle), np.sin(angle)])
    parts = np.column_stack([catalog.categories, catalog.brands, catalog.values])
    features = parts + np.array(layout.offsets)
    return Dynamics(
        layout=layout,
        features=features,
        appeal=(strengths.popularity * catalog.log_popularity).astype(np.float32),
        transitions=np.float32(strengths.continuation) * matrix[features].sum(axis=1),
        season=season,
        seconds=float(days * DAY),
    )


def draw_tastes(domain: DomainData, users: int, strengths: EffectStrengths, seed: int) -> Tastes:
    """Draws the tastes of users: three categories, two brands and one value per attribute.

    Args:
        domain: The domain, whose features are the columns.
        users: Number of users.
        strengths: `taste` and `drift` of the tastes.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng([seed, 2])
    layout = FeatureLayout.of(domain)
    liked_weights = [_CATEGORY_WEIGHTS, _BRAND_WEIGHTS] + [_VALUE_WEIGHTS] * len(domain.slots)
    start_weights = np.zeros((users, layout.width), np.float32)
    end_weights = np.zeros((users, layout.width), np.float32)
    rows = np.arange(users)[:, None]
    for start, size, liked in zip(layout.offsets, layout.sizes, liked_weights, strict=True):
        order = np.argsort(rng.random((users, size)), axis=1)
        ranks = np.arange(len(liked))
        drifts = rng.random((users, len(liked))) < strengths.drift
        # A weight that drifts moves to a feature without a weight at the start.
        drifted = np.where(drifts, order[:, (ranks + len(liked)) % size], order[:, ranks])
        spread = rng.gamma(_GAMMA_SHAPE, 1 / _GAMMA_SHAPE, (users, len(liked)))
        weights = strengths.taste * np.array(liked) * spread
        start_weights[rows, start + order[:, ranks]] = weights
        end_weights[rows, start + drifted] = weights
    return Tastes(start_weights, end_weights)
