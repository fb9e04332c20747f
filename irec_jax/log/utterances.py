"""What users say around their events: queries before, reviews and ratings after."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from irec_jax.log.query_grammar import QueryGrammar, split_pattern


@runtime_checkable
class Shares(Protocol):
    """How much users talk."""

    @property
    def query_share(self) -> float:
        """Share of events before which something was typed."""
        ...

    @property
    def review_share(self) -> float:
        """Share of events with a review and a rating."""
        ...


@dataclasses.dataclass(frozen=True)
class Utterances:
    """Words of `[events]`, None where nothing was said.

    Attributes:
        queries: What was typed.
        intentions: `specific` or `vague`.
        reviews: What was written afterwards.
        ratings: 1 to 5, where there is a review.
    """

    queries: list[str | None]
    intentions: list[str | None]
    reviews: list[str | None]
    ratings: list[float | None]


def draw_utterances(
    grammar: QueryGrammar,
    items: Int[np.ndarray, " events"],
    joy: Float[np.ndarray, " events"],
    shares: Shares,
    rng: np.random.Generator,
) -> Utterances:
    """Lets users speak of the items of their events.

    Whether somebody speaks, and with which intention, depends on nothing else; so the items are
    as likely given a silent event as given a query not yet read.

    Args:
        grammar: How they speak.
        items: `[events]` what they took.
        joy: `[events]` how well it meets their taste, mean 0 and variance 1.
        shares: How much they talk.
        rng: Source of randomness.
    """
    events = len(items)
    asked = np.nonzero(rng.random(events) < shares.query_share)[0]
    reviewed = np.nonzero(rng.random(events) < shares.review_share)[0]
    queries: list[str | None] = [None] * events
    intentions: list[str | None] = [None] * events
    reviews: list[str | None] = [None] * events
    ratings: list[float | None] = [None] * events
    numbers = items.tolist()
    for event, chance in zip(asked.tolist(), _luck(rng, asked, grammar), strict=True):
        queries[event], intentions[event] = grammar.query(numbers[event], chance)
    felt = np.clip(np.round(3.9 + 0.8 * joy + rng.normal(0, 0.5, events)), 1, 5).tolist()
    patterns = {
        tone: [split_pattern(pattern) for pattern in lines]
        for tone, lines in grammar.catalog.domain.reviews.items()
    }
    for event, chance in zip(reviewed.tolist(), _luck(rng, reviewed, grammar), strict=True):
        lines = patterns["good" if felt[event] >= 4 else "bad"]
        reviews[event] = grammar.say(lines[int(chance[0] * len(lines))], numbers[event], chance[1:])
        ratings[event] = felt[event]
    return Utterances(queries, intentions, reviews, ratings)


def _luck(
    rng: np.random.Generator, events: Int[np.ndarray, " spoken"], grammar: QueryGrammar
) -> list[list[float]]:
    """Uniform numbers for each text; lists, which Python reads faster."""
    return rng.random((len(events), grammar.chances)).tolist()
