"""A world whose next-item distribution is known, and the behavior log drawn from it."""

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
    Strengths,
    Tastes,
    build_dynamics,
    draw_tastes,
)
from irec_jax.log.utterances import draw_utterances

Domain = Literal["shop", "content", "social", "finance"]

EVENT_BYTES = 100
"""Of an event while a log is drawn, at least: eleven columns of 8 bytes, and its texts."""
ITEM_BYTES = 2 * 4 * CHUNK
"""Of an item, at least: its odds for `CHUNK` requests, once copied."""

_STRANGERS = 3_000  # users that the population marginal is averaged over


@dataclasses.dataclass(frozen=True)
class SimulateConfig:
    """What the simulated world is like; the defaults are a size that a laptop learns in minutes.

    The four strengths are in nats of log-odds; at 0 the part is switched off.

    Attributes:
        domain: Which of the four catalogs.
        users: Users in the log.
        items: Items in the catalog.
        events_per_user: Mean number of events of a user; each has 8 to 60.
        days: Length of the log in days.
        query_share: Share of events before which the user typed a query.
        specific_share: Share of the queries that are specific; the others are vague.
        review_share: Share of events that come with a review and a rating.
        taste: How much the user's long-term taste decides.
        continuation: How much the last three items decide.
        popularity: How much the popularity of an item decides.
        season: How much the time of the year decides.
        drift: Share of a user's tastes that are others at the end of the log.
        seed: Decides catalog, users and events.
    """

    domain: Domain = "shop"
    users: int = 3_000
    items: int = 1_000
    events_per_user: float = 20.0
    days: int = 730
    query_share: float = 0.5
    specific_share: float = 0.5
    review_share: float = 0.25
    taste: float = 1.0
    continuation: float = 1.0
    popularity: float = 1.0
    season: float = 0.5
    drift: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses impossible settings."""
        strength = Range(0, 3, "1 is the usual strength.")
        check_settings(
            self,
            "data.simulate.",
            users=Range(1, 10**9),
            items=Range(100, 10**8),
            events_per_user=Range(8, 40, "Use more users instead."),
            days=Range(30, 36_500),
            query_share=SHARE,
            specific_share=SHARE,
            review_share=SHARE,
            drift=SHARE,
            taste=strength,
            continuation=strength,
            popularity=strength,
            season=strength,
            seed=SEED,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class SimulatedWorld:
    """Everything that a simulated log was drawn from; built exactly again from its config.

    Attributes:
        config: What it was built from.
        catalog: The items.
        dynamics: What decides the next item for everybody.
        tastes: What each user likes.
        grammar: How users speak of items.
    """

    config: SimulateConfig
    catalog: SimulatedCatalog
    dynamics: Dynamics
    tastes: Tastes
    grammar: QueryGrammar

    @classmethod
    def build(cls, config: SimulateConfig) -> "SimulatedWorld":
        """Draws catalog and users, but no event yet.

        Args:
            config: Decides everything.

        Raises:
            InputError: It needs more memory than there is.
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
        strengths = Strengths(config.continuation, config.popularity, config.season, domain.repeat)
        return cls(
            config=config,
            catalog=catalog,
            dynamics=build_dynamics(catalog, strengths, config.days),
            tastes=_tastes(config, config.users, config.seed),
            grammar=QueryGrammar(catalog, config.specific_share),
        )

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The item of each column of the methods below; the order of the log's items table."""
        return self.catalog.ids

    def log(self) -> BehaviorLog:
        """Draws the behavior log of this world; the same world gives the same bytes."""
        config = self.config
        rng = np.random.default_rng([config.seed, 3])
        counts = draw_counts(rng, config.users, config.events_per_user)
        times = draw_times(rng, counts, config.days)
        items, _ = draw_items(self.dynamics, self.tastes, counts, times, rng)
        users = np.repeat(np.arange(config.users), counts)
        said = draw_utterances(self.grammar, items, self._joy(users, times, items), config, rng)
        kind = np.full(len(items), self.catalog.domain.event, object)
        kind[[review is not None for review in said.reviews]] = EventKind.REVIEW.value
        interactions = pl.DataFrame(
            {
                "user": users,
                "item": np.array(self.item_ids, object)[items],
                "time": times,
                "event": kind,
                "rating": pl.Series(said.ratings, dtype=pl.Float64),
                "review": pl.Series(said.reviews, dtype=pl.String),
                "query": pl.Series(said.queries, dtype=pl.String),
                "intention": pl.Series(said.intentions, dtype=pl.String),
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
        """The items table of the log."""
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
        """The distribution that the next item is drawn from.

        Args:
            users: `[requests]` user numbers of the log.
            histories: For each request the columns of all items before, oldest first.
            times: `[requests]` seconds; -1 for the end of the log.

        Returns:
            `[requests, items]` float32 log-probabilities; -inf for items of the history.

        Raises:
            InputError: A user or an item that is not in this world.
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
        """`[items]` float32 log P(query | item), -inf for items that it cannot be about.

        Args:
            query: What was typed; capitals and extra spaces do not matter.
        """
        return self.grammar.log_likelihood(query)

    def prior_log_probability(self) -> Float[np.ndarray, " items"]:
        """`[items]` float32 log P(item), for a request that says nothing of who asks.

        It is the mean of the exact distributions at all events of a fresh population, not a
        count of any log.
        """
        return self._prior

    @functools.cached_property
    def _prior(self) -> Float[np.ndarray, " items"]:
        config = self.config
        rng = np.random.default_rng([config.seed, 5])
        counts = draw_counts(rng, _STRANGERS, config.events_per_user)
        times = draw_times(rng, counts, config.days)
        tastes = _tastes(config, _STRANGERS, int(rng.integers(2**31)))
        _, mean = draw_items(self.dynamics, tastes, counts, times, rng)
        return np.log(mean).astype(np.float32)

    def _joy(
        self,
        users: Int[np.ndarray, " events"],
        times: Int[np.ndarray, " events"],
        items: Int[np.ndarray, " events"],
    ) -> Float[np.ndarray, " events"]:
        """`[events]` how well the item meets the user's taste, mean 0 and variance 1."""
        joy = np.empty(len(items))
        for first in range(0, len(items), CHUNK):
            part = slice(first, first + CHUNK)
            own = self.dynamics.taste(self.tastes, users[part], times[part])
            liked = np.take_along_axis(own, self.dynamics.features[items[part]], axis=1)
            joy[part] = liked.sum(axis=1)
        return (joy - joy.mean()) / max(float(joy.std()), 1e-6)

    @staticmethod
    def _check(numbers: Int[np.ndarray, " numbers"], count: int, what: str) -> None:
        wrong = numbers[(numbers < 0) | (numbers >= count)]
        if len(wrong):
            raise InputError(
                f"{what} {wrong[0]} is not in this world of {count} {what}s",
                where="data.simulate",
                hint="ask only about users and items of the log that this world drew.",
            )


def _tastes(config: SimulateConfig, users: int, seed: int) -> Tastes:
    domain = load_domain(config.domain)
    return draw_tastes(domain, users, taste=config.taste, drift=config.drift, seed=seed)
