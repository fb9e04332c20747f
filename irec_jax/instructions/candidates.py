"""The wrong items that a prompt offers beside the right one."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from irec_jax.random_draws import permutation, scramble

_TRIES = 8


@runtime_checkable
class Known(Protocol):
    """Says whether an item is one that may not be drawn."""

    def __contains__(self, item: object, /) -> bool: ...


@dataclasses.dataclass(frozen=True)
class Negatives:
    """Draws items that a user has not had, each as likely as the next.

    Nothing that the user does later is looked at: an item that is bought afterwards can be a
    negative, as it could for a live system.

    Attributes:
        pool: The item numbers that can be drawn: those that were met in training.
    """

    pool: tuple[int, ...]

    def draw(self, key: int, count: int, known: Known) -> list[int]:
        """Draws distinct items in random order.

        Args:
            key: Decides everything; equal keys draw the same.
            count: How many; fewer come back only if the pool has no more.
            known: What may not be drawn.
        """
        drawn: list[int] = []
        size = len(self.pool)
        for number in range(_TRIES * count):
            item = self.pool[scramble(key + number) % size]
            if item not in known and item not in drawn:
                drawn.append(item)
                if len(drawn) == count:
                    return drawn
        for place in permutation(key, size).tolist():
            item = self.pool[place]
            if item not in known and item not in drawn:
                drawn.append(item)
                if len(drawn) == count:
                    break
        return drawn


def placed(target: int, negatives: Sequence[int], key: int) -> tuple[int, ...]:
    """Puts the target among the negatives, at every place as likely, in an order of the key's.

    The set does not depend on the key, only the order does.
    """
    items = [target, *negatives]
    for last in range(len(items) - 1, 0, -1):
        other = scramble(key + last) % (last + 1)
        items[last], items[other] = items[other], items[last]
    return tuple(items)
