"""Vector bin packing of examples into rows, by encoder and decoder lengths together."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

PAIR_BELOW = 2.0
"""In examples of mean size: with less free room, the last two of a row are chosen together."""

PAIR_GAIN = 0.03
"""Share of a row that a pair must save over one example, so that small ones stay available."""

PAIR_CHOICES = 32
"""Number of sizes tried on each side of a pair, evenly spaced among those that fit."""

SCARCITY = 16
"""Exponent of the ratio of demands, which weights the side that fills first."""


class _Room(NamedTuple):
    """Free slots of a row on both sides, or the sizes of examples."""

    source: Int[np.ndarray, "*kinds"]
    target: Int[np.ndarray, "*kinds"]

    def holds(self, other: "_Room") -> np.ndarray:
        return (self.source >= other.source) & (self.target >= other.target)

    def without(self, other: "_Room") -> "_Room":
        return _Room(self.source - other.source, self.target - other.target)

    def at(self, index: Any) -> "_Room":
        return _Room(self.source[index], self.target[index])


def pack(
    source: Int[np.ndarray, " examples"],
    target: Int[np.ndarray, " examples"],
    source_length: int,
    target_length: int,
) -> list[list[int]]:
    """Groups examples into rows, one row at a time, greedily.

    A row starts with the largest remaining example. Then it takes the example that fits on both
    sides and leaves the least room. When a row has room for one or two more examples, pairs are
    tried too: minimum bin slack (Gupta and Ho 1999, "A new heuristic algorithm for the
    one-dimensional bin-packing problem") for the last two items. The remaining room is measured as
    a norm over both sides (Panigrahy et al. 2011, "Heuristics for Vector Bin Packing", section 3)
    with nearly all the weight on the side that fills first. Examples of one size are one kind.

    Args:
        source: Encoder tokens of each example, 1 to `source_length`.
        target: Decoder tokens of each example, 1 to `target_length`.
        source_length: Encoder columns of a row.
        target_length: Decoder columns of a row.

    Returns:
        Example numbers of each row; every example is in exactly one.
    """
    if not len(source):
        return []
    lengths = np.array([source_length, target_length])
    sizes = np.stack([source, target], axis=1)
    kinds, waiting = _by_size(sizes, lengths)
    left = np.array([len(numbers) for numbers in waiting])
    mean = sizes.mean(axis=0)
    demand = mean / lengths
    weight = (demand / demand.max()) ** SCARCITY / lengths
    rows: list[list[int]] = []
    largest, packed = 0, 0
    while packed < len(sizes):
        while not left[largest]:
            largest += 1
        kind, row, free = largest, list[int](), _Room(*lengths)
        while True:
            row.append(waiting[kind].pop())
            left[kind] -= 1
            free = free.without(kinds.at(kind))
            fits = np.flatnonzero((left > 0) & free.holds(kinds))
            if not len(fits):
                break
            is_nearly_full = bool((np.array(free) < PAIR_BELOW * mean).any())
            kind = fits[_next_kind(free, kinds.at(fits), left[fits], weight, is_nearly_full)]
        rows.append(row)
        packed += len(row)
    return rows


def _by_size(
    sizes: Int[np.ndarray, "examples 2"], lengths: Int[np.ndarray, "2"]
) -> tuple[_Room, list[list[int]]]:
    """Returns the distinct sizes, largest share of a row first, and the examples of each size."""
    kinds, kind_of = np.unique(sizes, axis=0, return_inverse=True)
    order = np.argsort(-(kinds / lengths).max(axis=1), kind="stable")
    by_kind = np.split(
        np.argsort(kind_of, kind="stable"), np.cumsum(np.bincount(kind_of))[:-1].tolist()
    )
    return _Room(*kinds[order].T), [by_kind[kind][::-1].tolist() for kind in order]


def _next_kind(
    free: _Room,
    kinds: _Room,
    left: Int[np.ndarray, " kinds"],
    weight: Float[np.ndarray, "2"],
    is_nearly_full: bool,
) -> int:
    """Chooses the next kind of a row.

    Args:
        free: Free slots of the row.
        kinds: Sizes of the kinds that fit.
        left: Remaining examples of each kind.
        weight: Weight of a slot on each side.
        is_nearly_full: Whether to try pairs too.
    """
    after = free.without(kinds)
    waste = _norm(after, weight)
    best = int(np.argmin(waste))
    if not is_nearly_full or waste[best] < PAIR_GAIN:
        return best
    tried = np.unique(np.linspace(0, len(left) - 1, PAIR_CHOICES).astype(int))
    first, second = after.at((tried, None)), kinds.at(tried)
    fits = first.holds(second) & ~np.diag(left[tried] == 1)
    both = np.where(fits, _norm(first.without(second), weight), np.inf).min(axis=1)
    pair = int(np.argmin(both))
    return int(tried[pair]) if both[pair] < waste[best] - PAIR_GAIN else best


def _norm(room: _Room, weight: Float[np.ndarray, "2"]) -> np.ndarray:
    return np.hypot(weight[0] * room.source, weight[1] * room.target)
