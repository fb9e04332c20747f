"""Simulated behavior logs, drawn from a next-item distribution that is known exactly."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from irec_jax.bounds import SEED, SHARE, Range, check_memory, check_settings, machine_memory
from irec_jax.errors import InputError
from irec_jax.log.domain import load_domain
from irec_jax.log.event_times import draw_counts, draw_times
from irec_jax.log.events import BehaviorLog, EventKind, LogManifest
from irec_jax.log.item_draws import CHUNK, draw_items, masked_odds
from irec_jax.log.query_grammar import QueryGrammar
from irec_jax.log.simulated_catalog import SimulatedCatalog, build_catalog
from irec_jax.log.taste import (
    DAY,
    START,
    Dynamics,
    EffectStrengths,
    Tastes,
    build_dynamics,
    draw_tastes,
)
from irec_jax.log.utterances import draw_utterances

Domain = Literal["shop", "content", "social", "finance"]

EVENT_BYTES = 100
"""Bytes per event while a log is drawn, at least: eleven columns of 8 bytes, and texts."""
ITEM_BYTES = 2 * 4 * CHUNK
"""Bytes per item, at least: its odds for `CHUNK` requests, and one copy."""

_USUAL_STRENGTHS = EffectStrengths()
_POPULATION = 3_000  # users of the sample for the marginal item distribution


@dataclasses.dataclass(frozen=True)
class SimulateConfig:
    """Settings of the simulated world; a laptop learns the default size in minutes.

    Attributes:
        domain: Domain of the catalog and of the texts.
        users: Users in the log.
        items: Items in the catalog.
        events_per_user: Mean number of events of a user; each has 8 to 60.
        days: Length of the log in days.
        query_share: Share of events before which the user typed a query.
        review_share: Share of events that come with a review and a rating.
        seed: Seed of catalog, users and events.
    """

    domain: Domain = "shop"
    users: int = 3_000
    items: int = 1_000
    events_per_user: float = 20.0
    days: int = 730
    query_share: float = 0.5
    review_share: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses impossible settings."""
        check_settings(
            self,
            "data.simulate.",
            users=Range(1, 10**9),
            items=Range(100, 10**8),
            events_per_user=Range(8, 40, "Use more users instead."),
            days=Range(30, 36_500),
            query_share=SHARE,
            review_share=SHARE,
            seed=SEED,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class SimulatedWorld:
    """The distribution of a simulated log; a pure function of its config.

    Attributes:
        config: The settings.
        strengths: Strengths of the parts of the next-item distribution.
        catalog: The items.
        dynamics: The parts of the next-item distribution that all users share.
        tastes: The feature weights of each user.
        grammar: The grammar of queries and reviews.
    """

    config: SimulateConfig
    strengths: EffectStrengths
    catalog: SimulatedCatalog
    dynamics: Dynamics
    tastes: Tastes
    grammar: QueryGrammar

    @classmethod
    def build(
        cls, config: SimulateConfig, strengths: EffectStrengths = _USUAL_STRENGTHS
    ) -> "SimulatedWorld":
        """Draws catalog and users, but no events.

        Args:
            config: The settings.
            strengths: Strengths of the parts of the next-item distribution.

        Raises:
            InputError: The world needs more memory than the machine has.
        """
        events = config.users * config.events_per_user
        check_memory(
            EVENT_BYTES * events + ITEM_BYTES * config.items,
            machine_memory(),
            f"a log of {events:,.0f} events and {config.items:,} items",
            "data.simulate.users, data.simulate.items",
            "Lower them.",
        )
        domain = load_domain(config.domain)
        catalog = build_catalog(domain, config.items, config.seed)
        return cls(
            config=config,
            strengths=strengths,
            catalog=catalog,
            dynamics=build_dynamics(catalog, strengths, config.days),
            tastes=draw_tastes(domain, config.users, strengths, config.seed),
            grammar=QueryGrammar(catalog),
        )

    @property
    def item_ids(self) -> tuple[str, ...]:
        """`[items]` identifiers, in the order of the log's items table and of all arrays."""
        return self.catalog.ids

    def log(self) -> BehaviorLog:
        """Draws the behavior log; equal configs give equal bytes."""
        config = self.config
        rng = np.random.default_rng([config.seed, 3])
        counts = draw_counts(rng, config.users, config.events_per_user)
        times = draw_times(rng, counts, config.days)
        items, _ = draw_items(self.dynamics, self.tastes, counts, times, rng)
        users = np.repeat(np.arange(config.users), counts)
        utterances = draw_utterances(
            self.grammar, items, self._enjoyment(users, times, items), config, rng
        )
        kind = np.full(len(items), self.catalog.domain.event, object)
        kind[[review is not None for review in utterances.reviews]] = EventKind.REVIEW.value
        interactions = pl.DataFrame(
            {
                "user": users,
                "item": np.array(self.item_ids, object)[items],
                "time": times,
                "event": kind,
                "rating": pl.Series(utterances.ratings, dtype=pl.Float64),
                "review": pl.Series(utterances.reviews, dtype=pl.String),
                "query": pl.Series(utterances.queries, dtype=pl.String),
                "intention": pl.Series(utterances.intentions, dtype=pl.String),
            },
            schema_overrides={"item": pl.String, "event": pl.String},
        )
        manifest = LogManifest(
            source="simulated",
            license="CC0-1.0",
            seed=config.seed,
            settings={"simulate": dataclasses.asdict(config)},
        )
        return BehaviorLog.assemble(self.items(), interactions, manifest)

    def items(self) -> pl.DataFrame:
        """Returns the items table of the log."""
        catalog, domain = self.catalog, self.catalog.domain
        leaves = [
            [domain.departments[leaf.department][0], leaf.forms[0]] for leaf in domain.categories
        ]
        return pl.DataFrame(
            {
                "item": list(catalog.ids),
                "title": list(catalog.titles),
                "categories": [leaves[category] for category in catalog.categories],
                "brand": [domain.brands[brand] for brand in catalog.brands],
                "attributes": [
                    [slot.values[value][0] for slot, value in zip(domain.slots, row, strict=True)]
                    for row in catalog.values.tolist()
                ],
                "price": [price or None for price in catalog.prices.tolist()],
            },
            schema_overrides={"price": pl.Float64},
        )

    def next_item_log_probability(
        self,
        users: Int[np.ndarray, " requests"],
        histories: Sequence[Sequence[int] | np.ndarray],
        times: Int[np.ndarray, " requests"],
    ) -> Float[np.ndarray, "requests items"]:
        """Returns the exact next-item distribution of requests.

        Args:
            users: `[requests]` user numbers of the log.
            histories: For each request the indices of all earlier items, oldest first.
            times: `[requests]` Unix seconds; -1 for the end of the log.

        Returns:
            `[requests, items]` float32 log-probabilities; -inf for items of the history.

        Raises:
            InputError: A user or item number is out of range.
        """
        users, times = np.asarray(users), np.asarray(times)
        self._check(users, len(self.tastes.first), "user")
        lengths = [len(history) for history in histories]
        padded = np.full((len(users), max(lengths, default=0)), -1, np.int64)
        for row, history in enumerate(histories):
            padded[row, padded.shape[1] - lengths[row] :] = history
            self._check(padded[row, padded.shape[1] - lengths[row] :], len(self.item_ids), "item")
        times = np.where(times < 0, START + self.config.days * DAY, times)
        result = np.empty((len(users), len(self.item_ids)), np.float32)
        for first in range(0, len(users), CHUNK):
            part = slice(first, first + CHUNK)
            odds = masked_odds(self.dynamics, self.tastes, users[part], times[part], padded[part])
            with np.errstate(divide="ignore"):
                result[part] = np.log(odds / odds.sum(axis=0)).T
        return result

    def query_log_likelihood(self, query: str) -> Float[np.ndarray, " items"]:
        """Returns `[items]` float32 log P(query | item), -inf where impossible.

        Args:
            query: Any text; case and extra spaces are ignored.
        """
        return self.grammar.log_likelihood(query)

    def prior_log_probability(self) -> Float[np.ndarray, " items"]:
        """Returns `[items]` float32 log P(item), for a request without user and history.

        P(item) is the mean of the exact distributions at all events of a new sample of users.
        """
        return self._prior

    @functools.cached_property
    def _prior(self) -> Float[np.ndarray, " items"]:
        config = self.config
        rng = np.random.default_rng([config.seed, 5])
        counts = draw_counts(rng, _POPULATION, config.events_per_user)
        times = draw_times(rng, counts, config.days)
        tastes = draw_tastes(
            self.catalog.domain, _POPULATION, self.strengths, int(rng.integers(2**31))
        )
        _, mean = draw_items(self.dynamics, tastes, counts, times, rng)
        return np.log(mean).astype(np.float32)

    def _enjoyment(
        self,
        users: Int[np.ndarray, " events"],
        times: Int[np.ndarray, " events"],
        items: Int[np.ndarray, " events"],
    ) -> Float[np.ndarray, " events"]:
        """Returns `[events]` the sum of the user's weights on the item's features, standardized."""
        enjoyment = np.empty(len(items))
        for first in range(0, len(items), CHUNK):
            part = slice(first, first + CHUNK)
            weights = self.dynamics.taste(self.tastes, users[part], times[part])
            item_weights = np.take_along_axis(weights, self.dynamics.features[items[part]], axis=1)
            enjoyment[part] = item_weights.sum(axis=1)
        return (enjoyment - enjoyment.mean()) / max(float(enjoyment.std()), 1e-6)

    @staticmethod
    def _check(numbers: Int[np.ndarray, " numbers"], count: int, noun: str) -> None:
        wrong = numbers[(numbers < 0) | (numbers >= count)]
        if len(wrong):
            raise InputError(
                f"{noun} {wrong[0]} is not in this world of {count} {noun}s",
                where="data.simulate",
                hint="Use users and items of the log that this world drew.",
            )
