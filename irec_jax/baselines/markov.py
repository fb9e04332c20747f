"""Windowed Markov: what people take soon after an item, counted."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from irec_jax.baselines.popularity import training_counts
from irec_jax.bounds import LENGTH, check_settings
from irec_jax.instructions.forms import Ranker, Ranking, Request
from irec_jax.log.split import Role, Split

TIE_WEIGHT = 1e-6


@dataclasses.dataclass(frozen=True)
class MarkovConfig:
    """How far the counting reaches; the defaults were chosen on the validation part of a log.

    Attributes:
        window: Pairs up to so many events apart are counted, with weight 1 / distance.
        last: So many of the last items of a history speak, the k-th from the end with 1 / k.
    """

    window: int = 10
    last: int = 3

    def __post_init__(self) -> None:
        check_settings(self, "markov.", window=LENGTH, last=LENGTH)


def markov(split: Split, config: MarkovConfig | None = None) -> Ranker:
    """Ranks by weighted counts of training pairs `(item of the history, later item)`.

    `score(b) = sum_k 1/k W[h_k, b]` over the last items `h_1, h_2, ...` of the history, where
    `W[a, b]` sums `1/d` over the training pairs with `b` at distance `d` after `a` in the
    events of one user. Equal scores are ordered by popularity, and a request without a history
    gets popularity alone.

    Args:
        split: Only its training events are counted.
        config: How far the counting reaches.
    """
    settings = config or MarkovConfig()
    transitions = _transitions(split, settings.window)
    counts = training_counts(split)
    # Scores are sums of 1 / (k d), so they differ by far more than this if they differ at all.
    # Float32 could not hold both, hence float64.
    ties = TIE_WEIGHT * counts / (counts.max(initial=0) + 1)

    def rank(requests: Sequence[Request]) -> Ranking:
        speaking = _speaking(requests, settings.last, split.num_items)
        return Ranking(sparse.csr_array(speaking @ transitions).toarray() + ties)

    return rank


def _transitions(split: Split, window: int) -> sparse.csr_array:
    """`W` of `markov`, `[items, items]` float64."""
    trained = split.roles == Role.TRAIN
    items, users = split.items[trained], split.event_users()[trained]
    shape = (split.num_items, split.num_items)
    total = sparse.csr_array(shape, dtype=np.float64)
    for distance in range(1, window + 1):
        together = users[distance:] == users[:-distance]
        before, after = items[:-distance][together], items[distance:][together]
        weights = np.full(len(before), 1.0 / distance)
        total = total + sparse.coo_array((weights, (before, after)), shape=shape).tocsr()
    return total


def _speaking(requests: Sequence[Request], last: int, items: int) -> sparse.csr_array:
    """`[requests, items]` with weight 1 / k at the k-th item from the end of each history."""
    tails = [request.history[: -last - 1 : -1] for request in requests]
    rows = np.repeat(np.arange(len(tails)), [len(tail) for tail in tails])
    columns = np.array([item for tail in tails for item in tail], np.int64)
    weights = np.array([1.0 / (place + 1) for tail in tails for place in range(len(tail))])
    return sparse.coo_array((weights, (rows, columns)), shape=(len(tails), items)).tocsr()
