"""Ranking metrics: pure functions from the rank of the single target to a value per request.

A *rank* is a float: 1 + the number of better items + half of the number of equal ones, so equal
scores give no advantage. It is never rounded. A request without a target has rank infinity and
value 0 of every metric.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from irec_jax.errors import InputError

CUTOFFS_RECALL = (1, 5, 10, 20)
CUTOFFS_NDCG = (5, 10, 20)
HEADLINES = ("recall@10", "ndcg@10")


def recall(ranks: Float[np.ndarray, " requests"], cutoff: int) -> Float[np.ndarray, " requests"]:
    """1 where the target is among the first `cutoff` items, else 0: `[rank <= cutoff]`.

    With one target per request this is also the hit rate.

    >>> recall(np.array([1.0, 10.0, 10.5, np.inf]), 10).tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    return (ranks <= cutoff).astype(np.float64)


def ndcg(ranks: Float[np.ndarray, " requests"], cutoff: int) -> Float[np.ndarray, " requests"]:
    """Discounted gain of the target: `[rank <= cutoff] / log2(rank + 1)`.

    The ideal gain of a single target is 1, so the gain is already normalized.

    >>> ndcg(np.array([1.0, 3.0, 7.0, 11.0]), 10).round(4).tolist()
    [1.0, 0.5, 0.3333, 0.0]
    """
    return np.where(ranks <= cutoff, 1.0 / np.log2(ranks + 1.0), 0.0)


def reciprocal_rank(ranks: Float[np.ndarray, " requests"]) -> Float[np.ndarray, " requests"]:
    """Reciprocal rank `1 / rank`, without a cutoff; its mean is the MRR.

    >>> reciprocal_rank(np.array([1.0, 2.5, 4.0, np.inf])).tolist()
    [1.0, 0.4, 0.25, 0.0]
    """
    return 1.0 / ranks


def _metrics() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    table: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    for cutoff in CUTOFFS_RECALL:
        table[f"recall@{cutoff}"] = lambda ranks, cutoff=cutoff: recall(ranks, cutoff)
    for cutoff in CUTOFFS_NDCG:
        table[f"ndcg@{cutoff}"] = lambda ranks, cutoff=cutoff: ndcg(ranks, cutoff)
    table["mrr"] = reciprocal_rank
    return table


METRICS = _metrics()


def per_request(ranks: Float[np.ndarray, " requests"]) -> Float[np.ndarray, "requests metrics"]:
    """Computes all of `METRICS`, in their order.

    >>> list(METRICS)[:2], per_request(np.array([1.0, 4.0]))[:, :2].tolist()
    (['recall@1', 'recall@5'], [[1.0, 1.0], [0.0, 1.0]])
    """
    return np.stack([metric(ranks) for metric in METRICS.values()], axis=1)


def chance(candidates: Int[np.ndarray, " requests"]) -> Float[np.ndarray, "requests metrics"]:
    """Returns the exact expectation of each of `METRICS` for a random order of the candidates.

    The rank is uniform on 1..candidates, so each value is a mean over that range.

    >>> chance(np.array([4]))[0, :2].tolist()
    [0.25, 1.0]
    """
    if not candidates.size:
        return np.zeros((0, len(METRICS)))
    most = int(candidates.max())
    sums = np.cumsum(per_request(np.arange(1.0, most + 1.0)), axis=0)
    return sums[candidates - 1] / candidates[:, None]


def full_ranks(
    scores: Float[np.ndarray, "requests items"],
    targets: Int[np.ndarray, " requests"],
    excluded: Sequence[Sequence[int]],
    *,
    name: str = "ranker",
) -> Float[np.ndarray, " requests"]:
    """Ranks each target among all items of the catalog that its request does not exclude.

    Equal scores count half, also between items at -inf: for a ranker that returns only its best
    ten, every other target has the middle rank of the rest.

    Args:
        scores: Higher is better; -inf for an item that the ranker does not return.
        targets: Item number of the target.
        excluded: For each request the item numbers that are not ranked; repeats are ignored.
        name: The ranker's name, for messages.

    Raises:
        InputError: A score is NaN, or a target is excluded.
    """
    if np.isnan(scores).any():
        row, item = (int(index) for index in np.argwhere(np.isnan(scores))[0])
        raise InputError(
            f"the score of item {item} in request {row} is NaN",
            where=name,
            hint="Set the scores of items that the ranker does not return to -inf.",
        )
    own = np.take_along_axis(scores, targets[:, None].astype(np.int64), axis=1)
    better = (scores > own).sum(axis=1)
    equal = (scores == own).sum(axis=1) - 1
    for row, items in enumerate(excluded):
        masked = np.unique(np.asarray(items, np.int64))
        if targets[row] in masked:
            problem = f"item {targets[row]} is the target of request {row} and excluded by it"
            raise InputError(problem, where=name)
        better[row] -= (scores[row, masked] > own[row]).sum()
        equal[row] -= (scores[row, masked] == own[row]).sum()
    return 1.0 + better + 0.5 * equal
