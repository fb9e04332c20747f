"""Windowed Markov: weighted counts of the transitions between items."""

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
class Markov:
    """Ranks by weighted counts of training pairs `(item of the history, later item)`.

    `score(b) = sum_k 1/k W[h_k, b]` over the last items `h_1, h_2, ...` of the history, where
    `W[a, b]` sums `1/d` over the training pairs with `b` at distance `d` after `a` in the
    events of one user. Equal scores are ordered by popularity, and a request without a history
    gets popularity alone. The defaults were chosen on validation events (decision 0073).

    Attributes:
        window: Pairs up to so many events apart are counted, with weight 1 / distance.
        last: Number of items at the end of a history that are used, the k-th from the end with
            weight 1 / k.
        name: The name of its row in a report.
    """

    window: int = 10
    last: int = 3
    name: str = "markov"

    def __post_init__(self) -> None:
        check_settings(self, "Markov.", window=LENGTH, last=LENGTH)

    def build(self, split: Split) -> Ranker:
        """Counts the transitions between the training events of a split."""
        transitions = _transitions(split, self.window)
        counts = training_counts(split)
        # Distinct sums of 1 / (k d) differ by far more than these ties; float32 cannot hold both.
        ties = TIE_WEIGHT * counts / (counts.max(initial=0) + 1)

        def rank(requests: Sequence[Request]) -> Ranking:
            weights = _history_weights(requests, self.last, split.num_items)
            return Ranking(sparse.csr_array(weights @ transitions).toarray() + ties)

        return rank


def _transitions(split: Split, window: int) -> sparse.csr_array:
    """`W` of `Markov`, `[items, items]` float64."""
    is_training = split.roles == Role.TRAIN
    items, users = split.items[is_training], split.event_users()[is_training]
    shape = (split.num_items, split.num_items)
    total = sparse.csr_array(shape, dtype=np.float64)
    for distance in range(1, window + 1):
        is_pair = users[distance:] == users[:-distance]
        before, after = items[:-distance][is_pair], items[distance:][is_pair]
        weights = np.full(len(before), 1.0 / distance)
        total = total + sparse.coo_array((weights, (before, after)), shape=shape).tocsr()
    return total


def _history_weights(requests: Sequence[Request], last: int, items: int) -> sparse.csr_array:
    """`[requests, items]` with weight 1 / k at the k-th item from the end of each history."""
    tails = [request.history[: -last - 1 : -1] for request in requests]
    rows = np.repeat(np.arange(len(tails)), [len(tail) for tail in tails])
    columns = np.array([item for tail in tails for item in tail], np.int64)
    weights = np.array([1.0 / (place + 1) for tail in tails for place in range(len(tail))])
    return sparse.coo_array((weights, (rows, columns)), shape=(len(tails), items)).tocsr()
