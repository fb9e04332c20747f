"""The best possible ranking, known because the log was drawn from a known distribution."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from irec_jax.instructions.forms import Preference, Ranker, Ranking, Request
from irec_jax.log.simulate import World
from irec_jax.log.split import Split


def oracle(world: World, split: Split) -> Ranker:
    """Ranks by the true probability that the item is next, given what the request says.

    With a history (or a preference read off one) that is `P(item | user, history, time)`; without
    one, what a stranger takes, `P(item)`. Words multiply it by `P(words | item)` (Bayes' rule;
    what is left out is the same for all items). No ranker that is told no more can have a higher
    expected Recall@k, NDCG@k or MRR on requests drawn from the world.

    Args:
        world: What the log was drawn from.
        split: A split of that log; items that it dropped leave the ranking.
    """
    places = {item: place for place, item in enumerate(world.item_ids)}
    items = split.catalog["item"].to_list()
    columns = np.array([places[item] for item in items], np.int64)

    def rank(requests: Sequence[Request]) -> Ranking:
        scores = np.empty((len(requests), len(columns)), np.float64)
        personal = [r.scenario.preference is not Preference.NONE for r in requests]
        if not all(personal):
            scores[~np.array(personal)] = world.prior_log_probability()[columns]
        if any(personal):
            scores[np.array(personal)] = _next_items(
                world, [r for r, own in zip(requests, personal, strict=True) if own], columns
            )
        for row, request in enumerate(requests):
            if request.instruction:
                scores[row] += world.query_log_likelihood(request.instruction)[columns]
        return Ranking(scores)

    return rank


def _next_items(
    world: World, requests: list[Request], columns: np.ndarray
) -> Float[np.ndarray, "requests items"]:
    """`log P(item | user, history, time)` in the split's item numbers."""
    users = np.array([request.user for request in requests], np.int64)
    times = np.array([request.time for request in requests], np.int64)
    histories = [columns[list(request.history)] for request in requests]
    return world.next_item_log_probability(users, histories, times)[:, columns]
