"""Which example a record number is: passes over all examples, each in an order of its own."""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from irec_jax.instructions.examples import Examples, TaskVariant, narrow
from irec_jax.random_draws import RandomStream, derive_key, permutation, scramble

_KEPT_ORDERS = 2
_NONE_YET = (-1, None)


class RecordOrigin(NamedTuple):
    """What a record is made from.

    Attributes:
        asked: Task and kind of query.
        position: The event that it is about.
        kind: The number of `asked` among those that occur.
        draw: 64 random bits, for its language and wording.
    """

    asked: TaskVariant
    position: int
    kind: int
    draw: int


@dataclasses.dataclass(frozen=True, eq=False)
class Passes:
    """Finds the example of any record number; can be pickled, and called from several threads.

    Attributes:
        examples: Those of one pass.
        seed: Of the orders and draws.
    """

    examples: Examples
    seed: int
    _orders: dict[int, np.ndarray] = dataclasses.field(init=False, default_factory=dict, repr=False)
    _latest: list[tuple[int, RecordOrigin | None]] = dataclasses.field(
        init=False, default_factory=lambda: [_NONE_YET], repr=False
    )

    def __len__(self) -> int:
        """Returns the number of records of one pass."""
        return len(self.examples.positions)

    def __getstate__(self) -> dict[str, Any]:
        # The first order goes with it, so that not every worker has to sort.
        orders = {0: self._order(0)} if len(self) else {}
        return {**self.__dict__, "_orders": orders, "_latest": [_NONE_YET]}

    def source(self, number: int) -> RecordOrigin:
        """Returns what a record is made from.

        Args:
            number: 0 or more; it is of the pass `number // len(self)`.
        """
        # Who reads a record asks for what it was just made from.
        latest, known = self._latest[0]
        if known is not None and latest == number:
            return known
        examples = self.examples
        turn, place = divmod(number, len(examples.positions))
        example = self._order(turn).item(place)
        kind = examples.numbers.item(example)
        source = RecordOrigin(
            examples.asked[kind],
            examples.positions.item(example),
            kind,
            scramble(self._draw_key + number),
        )
        self._latest[0] = (number, source)
        return source

    @functools.cached_property
    def _draw_key(self) -> int:
        return derive_key(self.seed, RandomStream.RECORD)

    def _order(self, turn: int) -> Int[np.ndarray, " examples"]:
        """Returns the order of the examples in a pass; two passes are kept for the next call."""
        order = self._orders.get(turn)
        if order is None:
            order = narrow(
                permutation(derive_key(self.seed, RandomStream.EXAMPLE_ORDER, turn), len(self))
            )
            while len(self._orders) >= _KEPT_ORDERS:
                self._orders.pop(next(iter(self._orders)), None)
            self._orders[turn] = order
        return order
