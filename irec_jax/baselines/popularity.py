"""Popularity: the same answer for everybody, and harder to beat than it looks."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from irec_jax.errors import InputError
from irec_jax.instructions.forms import Ranker, Ranking, Request
from irec_jax.log.split import Role, Split

SECONDS_A_DAY = 86_400


def popularity(split: Split, *, last_days: int | float | None = None) -> Ranker:
    """Ranks by how many training events an item has.

    Args:
        split: Only its training events are counted.
        last_days: Count the training events of so many days before the end of training, and
            order items with equal counts by all of their training events; None counts all at
            once. The log's times must be seconds.

    Raises:
        InputError: If the window is not a positive number of days.
    """
    counts = training_counts(split)
    if last_days is not None:
        recent = training_counts(split, last_days=last_days)
        counts = recent + counts / (counts.max(initial=0) + 1)

    def rank(requests: Sequence[Request]) -> Ranking:
        return Ranking(np.tile(counts, (len(requests), 1)))

    return rank


def training_counts(
    split: Split, *, last_days: int | float | None = None
) -> Float[np.ndarray, " items"]:
    """How many training events each item has, as in `popularity`."""
    chosen = split.roles == Role.TRAIN
    if last_days is not None:
        if not last_days > 0:
            raise InputError(f"a window of {last_days} days is empty", where="last_days")
        end = split.times[chosen].max(initial=split.times.min())
        chosen &= split.times > end - last_days * SECONDS_A_DAY
    return np.bincount(split.items[chosen], minlength=split.num_items).astype(np.float64)
