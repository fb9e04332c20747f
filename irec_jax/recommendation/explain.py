"""Explanations of recommendations: the prompt, the probabilities, the shared categories."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from irec_jax.recommendation.catalog import Catalog


@dataclasses.dataclass(frozen=True)
class ItemExplanation:
    """The explanation of one returned item.

    An item is returned for its probability alone. The shared categories describe the catalog;
    the model may or may not use them.

    Attributes:
        log_probability: Of the item's tokens, given the prompt.
        share: The item's part of the probability of all allowed items.
        rank: The item's rank among the allowed items by probability, from 1. It differs from the
            rank in the list if the list is diversified, if items of equal titles are dropped, or
            if the beam is too narrow.
        shared_categories: Categories that the item shares with the history, the most frequent
            in the history first.
    """

    log_probability: float
    share: float
    rank: int
    shared_categories: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Explanation:
    """The explanation of a list of recommendations.

    Attributes:
        prompt: The prompt.
        readable_prompt: The prompt with titles in place of item tokens.
        scenario: The code of the request's scenario.
        allowed: Number of items that may be returned.
        excluded: Number of items that may not: in the history, excluded, or not meeting the
            condition.
        mass: The probability of all allowed items together; the rest belongs to excluded items
            and to texts that name no item.
        items: One for each recommendation.
    """

    prompt: str
    readable_prompt: str
    scenario: str
    allowed: int
    excluded: int
    mass: float
    items: tuple[ItemExplanation, ...]


def explain_items(
    items: Sequence[int],
    scores: Float[np.ndarray, " items"],
    allowed: Bool[np.ndarray, " items"],
    history: Sequence[int],
    catalog: Catalog,
) -> tuple[ItemExplanation, ...]:
    """Explains each returned item.

    Args:
        items: Item numbers of the recommendations.
        scores: `[items]` log-probability of every item of the catalog.
        allowed: `[items]` whether an item may be returned.
        history: Item numbers of the request's history.
        catalog: The catalog, for its categories.
    """
    # Relative to the most likely item: the probability of a long title can underflow.
    best = scores[allowed].max()
    relative = np.exp((scores - best).astype(np.float64))
    seen = [name for item in history for name in catalog.categories[item]]
    explanations = []
    for item in items:
        shared = set(catalog.categories[item]) & set(seen)
        explanations.append(
            ItemExplanation(
                log_probability=float(scores[item]),
                share=float(relative[item] / relative[allowed].sum()),
                rank=1 + int(np.sum(scores[allowed] > scores[item])),
                shared_categories=tuple(sorted(shared, key=lambda name: (-seen.count(name), name))),
            )
        )
    return tuple(explanations)
