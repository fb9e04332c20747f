"""Simulated texts of users: queries before an event, reviews and ratings after it."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from irec_jax.log.query_grammar import QueryGrammar, split_pattern


@runtime_checkable
class UtteranceRates(Protocol):
    """Rates of queries and reviews."""

    @property
    def query_share(self) -> float:
        """Share of events with a query before them."""
        ...

    @property
    def review_share(self) -> float:
        """Share of events with a review and a rating."""
        ...


@dataclasses.dataclass(frozen=True)
class Utterances:
    """Texts and ratings of events; each list has `events` values, None for no text or rating.

    Attributes:
        queries: Query before the event.
        intentions: `specific` or `vague`, with a query.
        reviews: Review after the event.
        ratings: 1 to 5, with a review.
    """

    queries: list[str | None]
    intentions: list[str | None]
    reviews: list[str | None]
    ratings: list[float | None]


def draw_utterances(
    grammar: QueryGrammar,
    items: Int[np.ndarray, " events"],
    enjoyment: Float[np.ndarray, " events"],
    rates: UtteranceRates,
    rng: np.random.Generator,
) -> Utterances:
    """Draws queries, reviews and ratings of events.

    Whether an event has a query, and its intention, is independent of the item: the existence of
    a query does not change the item's probability.

    With e = `enjoyment`, a rating is round(3.9 + 0.8 e + n) limited to 1..5, with n ~ N(0, 0.5^2).

    Args:
        grammar: Grammar of queries and reviews.
        items: `[events]` chosen items.
        enjoyment: `[events]` match of item and taste, standardized.
        rates: Rates of queries and reviews.
        rng: Source of random numbers.
    """
    events = len(items)
    with_query = np.nonzero(rng.random(events) < rates.query_share)[0]
    with_review = np.nonzero(rng.random(events) < rates.review_share)[0]
    queries: list[str | None] = [None] * events
    intentions: list[str | None] = [None] * events
    reviews: list[str | None] = [None] * events
    ratings: list[float | None] = [None] * events
    numbers = items.tolist()
    for event, uniform in zip(
        with_query.tolist(), _draw_uniform(rng, with_query, grammar), strict=True
    ):
        queries[event], intentions[event] = grammar.query(numbers[event], uniform)
    drawn_ratings = np.clip(
        np.round(3.9 + 0.8 * enjoyment + rng.normal(0, 0.5, events)), 1, 5
    ).tolist()
    patterns = {
        tone: [split_pattern(pattern) for pattern in lines]
        for tone, lines in grammar.catalog.domain.reviews.items()
    }
    for event, uniform in zip(
        with_review.tolist(), _draw_uniform(rng, with_review, grammar), strict=True
    ):
        lines = patterns["good" if drawn_ratings[event] >= 4 else "bad"]
        reviews[event] = grammar.fill(
            lines[int(uniform[0] * len(lines))], numbers[event], uniform[1:]
        )
        ratings[event] = drawn_ratings[event]
    return Utterances(queries, intentions, reviews, ratings)


def _draw_uniform(
    rng: np.random.Generator, events: Int[np.ndarray, " texts"], grammar: QueryGrammar
) -> list[list[float]]:
    """Returns uniform numbers for each text, as lists, which Python indexes faster."""
    return rng.random((len(events), grammar.max_draws)).tolist()
