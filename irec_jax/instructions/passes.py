"""The order of records: passes over all examples, each in an order drawn from the seed."""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from irec_jax.instructions.examples import Examples, TaskVariant, narrow
from irec_jax.random_draws import RandomStream, derive_key, permutation, scramble

_KEPT_ORDERS = 2
_NO_RECORD = (-1, None)


class RecordOrigin(NamedTuple):
    """The example and the draw that a record is made from.

    Attributes:
        variant: Task and kind of query.
        position: The position of the target.
        variant_number: The index of `variant` in `Examples.variants`.
        draw: 64 random bits for the language and the template, see `DrawField`.
    """

    variant: TaskVariant
    position: int
    variant_number: int
    draw: int


@dataclasses.dataclass(frozen=True, eq=False)
class RecordOrder:
    """Maps record numbers to examples; can be pickled, and called from several threads.

    Attributes:
        examples: Those of one pass.
        seed: Of the orders and draws.
    """

    examples: Examples
    seed: int
    _orders: dict[int, np.ndarray] = dataclasses.field(init=False, default_factory=dict, repr=False)
    _latest: list[tuple[int, RecordOrigin | None]] = dataclasses.field(
        init=False, default_factory=lambda: [_NO_RECORD], repr=False
    )

    def __len__(self) -> int:
        """Returns the number of records of one pass."""
        return len(self.examples.positions)

    def __getstate__(self) -> dict[str, Any]:
        # The first order is pickled too, so that not every worker has to sort.
        orders = {0: self._order(0)} if len(self) else {}
        return {**self.__dict__, "_orders": orders, "_latest": [_NO_RECORD]}

    def origin(self, number: int) -> RecordOrigin:
        """Returns the example and the draw of a record.

        Args:
            number: 0 or more; it belongs to the pass `number // len(self)`.
        """
        # A record is rendered and then audited, so the latest one is asked for twice.
        latest, known = self._latest[0]
        if known is not None and latest == number:
            return known
        examples = self.examples
        pass_number, place = divmod(number, len(examples.positions))
        example = self._order(pass_number).item(place)
        variant_number = examples.numbers.item(example)
        origin = RecordOrigin(
            examples.variants[variant_number],
            examples.positions.item(example),
            variant_number,
            scramble(self._record_key + number),
        )
        self._latest[0] = (number, origin)
        return origin

    @functools.cached_property
    def _record_key(self) -> int:
        return derive_key(self.seed, RandomStream.RECORD)

    def _order(self, pass_number: int) -> Int[np.ndarray, " examples"]:
        """Returns the order of the examples in a pass; the latest two orders are kept."""
        order = self._orders.get(pass_number)
        if order is None:
            key = derive_key(self.seed, RandomStream.EXAMPLE_ORDER, pass_number)
            order = narrow(permutation(key, len(self)))
            while len(self._orders) >= _KEPT_ORDERS:
                self._orders.pop(next(iter(self._orders)), None)
            self._orders[pass_number] = order
        return order
