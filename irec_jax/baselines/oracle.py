"""The best possible ranking of a simulated log, by the simulator's own distribution."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from irec_jax.instructions.forms import Preference, Ranker, Ranking, Request
from irec_jax.log.simulate import SimulatedWorld
from irec_jax.log.split import Split


def oracle(world: SimulatedWorld, split: Split) -> Ranker:
    """Ranks by the true probability that an item is next, given the request.

    With a history, or a preference made from it, the probability is
    `P(item | user, history, time)`; without, the prior `P(item)`. A query multiplies it by
    `P(query | item)` (Bayes' rule, up to a factor that is the same for all items). No ranker with
    the same information has a higher expected Recall@k, NDCG@k or MRR on requests drawn from the
    world.

    Args:
        world: The simulator that the log was drawn from.
        split: A split of that log; items that it dropped are not ranked.
    """
    column_of = {item: column for column, item in enumerate(world.item_ids)}
    columns = np.array([column_of[item] for item in split.catalog["item"].to_list()], np.int64)

    def rank(requests: Sequence[Request]) -> Ranking:
        scores = np.empty((len(requests), len(columns)), np.float64)
        is_personal = np.array(
            [r.scenario.preference is not Preference.NONE for r in requests], bool
        )
        if not is_personal.all():
            scores[~is_personal] = world.prior_log_probability()[columns]
        if is_personal.any():
            personal = [requests[row] for row in np.flatnonzero(is_personal).tolist()]
            scores[is_personal] = _next_items(world, personal, columns)
        for row, request in enumerate(requests):
            if request.instruction:
                scores[row] += world.query_log_likelihood(request.instruction)[columns]
        return Ranking(scores)

    return rank


def _next_items(
    world: SimulatedWorld, requests: list[Request], columns: np.ndarray
) -> Float[np.ndarray, "requests items"]:
    """`log P(item | user, history, time)`, columns by the split's item numbers."""
    users = np.array([request.user for request in requests], np.int64)
    times = np.array([request.time for request in requests], np.int64)
    histories = [columns[list(request.history)] for request in requests]
    return world.next_item_log_probability(users, histories, times)[:, columns]
