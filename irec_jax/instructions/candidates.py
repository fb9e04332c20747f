"""Negatives: wrong candidates that a prompt offers beside the target."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from irec_jax.random_draws import permutation, scramble

_ATTEMPTS_PER_ITEM = 8


@runtime_checkable
class ItemContainer(Protocol):
    """Item numbers with a membership test, such as a set."""

    def __contains__(self, item: object, /) -> bool: ...


@dataclasses.dataclass(frozen=True)
class NegativeSampler:
    """Samples items uniformly from a pool.

    Items of later events are not excluded, as a live system does not know them either.

    Attributes:
        pool: The item numbers that can be sampled: those with a training event.
    """

    pool: tuple[int, ...]

    def sample(self, key: int, count: int, excluded: ItemContainer) -> list[int]:
        """Samples distinct items in random order.

        Args:
            key: Of the draws; equal keys give equal samples.
            count: The number of items; fewer are returned only if the pool has no more.
            excluded: Items that are not sampled.
        """
        sampled: list[int] = []
        size = len(self.pool)
        for number in range(_ATTEMPTS_PER_ITEM * count):
            item = self.pool[scramble(key + number) % size]
            if item not in excluded and item not in sampled:
                sampled.append(item)
                if len(sampled) == count:
                    return sampled
        for place in permutation(key, size).tolist():
            item = self.pool[place]
            if item not in excluded and item not in sampled:
                sampled.append(item)
                if len(sampled) == count:
                    break
        return sampled


def shuffle_candidates(target: int, negatives: Sequence[int], key: int) -> tuple[int, ...]:
    """Returns the target and the negatives in an order drawn uniformly by `key`."""
    items = [target, *negatives]
    for last in range(len(items) - 1, 0, -1):
        other = scramble(key + last) % (last + 1)
        items[last], items[other] = items[other], items[last]
    return tuple(items)
