"""Index of a split for the audit, computed without the renderer."""

import dataclasses
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from irec_jax.instructions.context import DAY, POPULAR_DAYS, POPULAR_ITEMS
from irec_jax.log.split import Role, Split


@dataclasses.dataclass(frozen=True, eq=False)
class SplitIndex:
    """A split, with arrays that answer questions about one event.

    Attributes:
        split: The log.
        starts: `[events]` int64, the position of the first event of the same user.
        stops: `[events]` int64, one past the last event of the same user.
        users: `[events]` int64, the log's user number.
        follows_later: `[events]` bool: whether an earlier position of the user has a later time
            or a later role (a test event before a training event).
        warm: `[items]` bool: whether it has a training event.
        train_days: `[training events]` int64, ascending days since 1970.
        train_items: `[training events]` in the same order.
    """

    split: Split
    starts: Int[np.ndarray, " events"]
    stops: Int[np.ndarray, " events"]
    users: Int[np.ndarray, " events"]
    follows_later: Bool[np.ndarray, " events"]
    warm: Bool[np.ndarray, " items"]
    train_days: Int[np.ndarray, " training"]
    train_items: Int[np.ndarray, " training"]
    _popular: dict[int, tuple[int, ...]] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def build(cls, split: Split) -> "SplitIndex":
        """Indexes a split."""
        counts = np.diff(split.offsets)
        starts, stops = (
            np.repeat(ends, counts) for ends in (split.offsets[:-1], split.offsets[1:])
        )
        time, role = pl.col("time"), pl.col("role")
        follows_later = (time.cum_max().over("start") > time) | (
            role.cum_max().over("start") > role
        )
        events = pl.DataFrame({"start": starts, "time": split.times, "role": split.roles})
        training = split.roles == Role.TRAIN
        days = split.times[training] // DAY
        order = np.argsort(days, kind="stable")
        return cls(
            split=split,
            starts=starts,
            stops=stops,
            users=np.repeat(split.users, counts),
            follows_later=events.select(later=follows_later)["later"].to_numpy(),
            warm=split.warm_items(),
            train_days=days[order],
            train_items=split.items[training][order],
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_popular": {}}

    def before(self, position: int) -> list[int]:
        """Returns the items of the user's events before one, oldest first."""
        return self.split.items[self.starts.item(position) : position].tolist()

    def later(self, position: int) -> list[int]:
        """Returns the items of the user's events after one, the next one first."""
        return self.split.items[position + 1 : self.stops.item(position)].tolist()

    def run(self, position: int, count: int) -> list[int]:
        """Returns up to `count` items from an event on, as long as user and role are the same."""
        end = min(position + count, self.stops.item(position))
        roles = self.split.roles[position:end].tolist()
        same = next((n for n, role in enumerate(roles) if role != roles[0]), len(roles))
        return self.split.items[position : position + same].tolist()

    def popular(self, position: int) -> tuple[int, ...]:
        """Returns the most frequent items of the training events of the days before an event."""
        day = self.split.times.item(position) // DAY
        popular = self._popular.get(day)
        if popular is None:
            first, last = np.searchsorted(self.train_days, [day - POPULAR_DAYS, day])
            items, counts = np.unique(self.train_items[first:last], return_counts=True)
            best = np.lexsort((items, -counts))[:POPULAR_ITEMS]
            popular = self._popular[day] = tuple(items[best].tolist())
        return popular
