"""What an answer was made from, told without embellishment."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from irec_jax.recommendation.catalog import Catalog


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why one item was returned.

    The model's only reason is its probability. The shared categories are a fact about the
    catalog for the reader; the model may or may not have used them.

    Attributes:
        log_probability: Of the item's tokens, given the prompt.
        share: The item's part of the probability of all items that could be returned.
        place: The item's place among them by probability, from 1; it differs from the rank where
            the list was diversified, freed of twins, or found by a narrow beam.
        shared_categories: Categories that it has in common with the history, most frequent there
            first.
    """

    log_probability: float
    share: float
    place: int
    shared_categories: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a list of recommendations was made from.

    Attributes:
        prompt: The text that the model was given.
        scenario: The code of the scenario that the request was taken for.
        allowed: How many items could be returned.
        excluded: How many could not: seen, excluded, or against the condition.
        mass: The part of its probability that the model gives to the items that could be
            returned; the rest lies on excluded items and on text that is no item.
        reasons: One for each recommendation.
    """

    prompt: str
    scenario: str
    allowed: int
    excluded: int
    mass: float
    reasons: tuple[Reason, ...]


def reasons_for(
    items: Sequence[int],
    scores: Float[np.ndarray, " items"],
    allowed: Bool[np.ndarray, " items"],
    history: Sequence[int],
    catalog: Catalog,
) -> tuple[Reason, ...]:
    """Gives the reason of each returned item.

    Args:
        items: The returned item numbers.
        scores: Log-probability of every item of the catalog.
        allowed: Which items could be returned.
        history: The request's history.
        catalog: For the categories.
    """
    # Relative to the most likely one: a title's own probability can be too small for a float.
    best = scores[allowed].max()
    relative = np.exp((scores - best).astype(np.float64))
    seen = [name for item in history for name in catalog.categories[item]]
    reasons = []
    for item in items:
        shared = set(catalog.categories[item]) & set(seen)
        reasons.append(
            Reason(
                log_probability=float(scores[item]),
                share=float(relative[item] / relative[allowed].sum()),
                place=1 + int(np.sum(scores[allowed] > scores[item])),
                shared_categories=tuple(sorted(shared, key=lambda name: (-seen.count(name), name))),
            )
        )
    return tuple(reasons)
