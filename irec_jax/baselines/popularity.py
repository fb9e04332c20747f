"""Popularity: training events per item, over all of the training time or its last days."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from irec_jax.errors import InputError
from irec_jax.instructions.forms import Ranker, Ranking, Request
from irec_jax.log.split import Role, Split

SECONDS_PER_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class Popularity:
    """Ranks by the number of training events of an item.

    Attributes:
        days: Count the training events of so many days before the end of training, and order
            items with equal counts by all of their training events; None counts all at once. The
            log's times must be seconds.
        name: The name of its row in a report.
    """

    days: float | None = None
    name: str = "popularity"

    def __post_init__(self) -> None:
        if self.days is not None and not 0 < self.days < float("inf"):
            raise InputError(
                f"must be positive and finite, got {self.days}",
                where="Popularity.days",
                hint="Set it to a number of days, or to None for all training events.",
            )

    def build(self, split: Split) -> Ranker:
        """Counts the training events of a split."""
        counts = training_counts(split)
        if self.days is not None:
            recent = training_counts(split, days=self.days)
            counts = recent + counts / (counts.max(initial=0) + 1)

        def rank(requests: Sequence[Request]) -> Ranking:
            return Ranking(np.tile(counts, (len(requests), 1)))

        return rank


def training_counts(split: Split, *, days: float | None = None) -> Float[np.ndarray, " items"]:
    """Counts the training events of each item, those of the last `days` or all, as float64."""
    is_counted = split.roles == Role.TRAIN
    if days is not None:
        end = split.times[is_counted].max(initial=split.times.min())
        is_counted &= split.times > end - days * SECONDS_PER_DAY
    return np.bincount(split.items[is_counted], minlength=split.num_items).astype(np.float64)
