"""Index of what a record may show, built from the split alone, without the renderer."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from irec_jax.instructions.context import DAY, POPULAR_DAYS, POPULAR_ITEMS
from irec_jax.log.split import Role, Split
from irec_jax.text_cleaning import clean


@dataclasses.dataclass(frozen=True, eq=False)
class SplitIndex:
    """A split, laid out so that a question about one event costs little.

    Attributes:
        split: The log.
        starts: `[events]` int64, the position of the first event of the same user.
        stops: `[events]` int64, behind the last event of the same user.
        users: `[events]` int64, the log's user number.
        run_ends: `[events]` int64, behind the run of events of the same user and role.
        early: `[events]` bool: whether the user's events before it hold one that is later, or
            that is of a later role (a test event before a training event, say).
        warm: `[items]` bool: whether it has a training event.
        days: `[events]` int64, days since 1970, where times are seconds.
        train_days: `[training events]` int64, ascending.
        train_items: `[training events]` in the same order.
    """

    split: Split
    starts: Int[np.ndarray, " events"]
    stops: Int[np.ndarray, " events"]
    users: Int[np.ndarray, " events"]
    run_ends: Int[np.ndarray, " events"]
    early: Bool[np.ndarray, " events"]
    warm: Bool[np.ndarray, " items"]
    days: Int[np.ndarray, " events"]
    train_days: Int[np.ndarray, " training"]
    train_items: Int[np.ndarray, " training"]
    _popular: dict[int, tuple[int, ...]] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def build(cls, split: Split) -> "SplitIndex":
        """Reads a split."""
        counts = np.diff(split.offsets)
        starts, stops = (
            np.repeat(ends, counts) for ends in (split.offsets[:-1], split.offsets[1:])
        )
        days = split.times // DAY
        training = split.roles == Role.TRAIN
        order = np.argsort(days[training], kind="stable")
        return cls(
            split=split,
            starts=starts,
            stops=stops,
            users=np.repeat(split.users, counts),
            run_ends=_run_ends(split.roles, stops),
            early=_falls(split.times, starts) | _falls(split.roles, starts),
            warm=split.warm_items(),
            days=days,
            train_days=days[training][order],
            train_items=split.items[training][order],
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_popular": {}}

    def before(self, position: int) -> list[int]:
        """Returns the items of the user's events before one, oldest first."""
        return self.split.items[self.starts.item(position) : position].tolist()

    def later(self, position: int) -> list[int]:
        """Returns the items of the user's events behind one, the next one first."""
        return self.split.items[position + 1 : self.stops.item(position)].tolist()

    def typed(self, position: int, code: int) -> bool:
        """Says whether the user typed a query of a kind (a value of `INTENTION_CODES`)."""
        return self.split.intentions.item(position) == code and bool(
            clean(self.split.queries[position])
        )

    def popular(self, position: int) -> tuple[int, ...]:
        """Returns what was met most in the training events of the days before an event."""
        day = self.days.item(position)
        found = self._popular.get(day)
        if found is None:
            first, last = np.searchsorted(self.train_days, [day - POPULAR_DAYS, day])
            items, counts = np.unique(self.train_items[first:last], return_counts=True)
            best = np.lexsort((items, -counts))[:POPULAR_ITEMS]
            found = self._popular[day] = tuple(items[best].tolist())
        return found


def _run_ends(
    roles: Int[np.ndarray, " events"], stops: Int[np.ndarray, " events"]
) -> Int[np.ndarray, " events"]:
    """Walks back from the end of each user."""
    ends = stops.copy()
    changes = np.flatnonzero(roles[1:] != roles[:-1]) + 1
    following = np.append(changes, len(roles))
    nearest = following[np.searchsorted(changes, np.arange(len(roles)), side="right")]
    return np.minimum(ends, nearest)


def _falls(
    values: Int[np.ndarray, " events"], starts: Int[np.ndarray, " events"]
) -> Bool[np.ndarray, " events"]:
    """Says where a user had a higher value before."""
    if not len(values):
        return np.zeros(0, bool)
    ranks = np.unique(values, return_inverse=True)[1].astype(np.int64)
    lifted = ranks + starts * (ranks.max() + 1)
    return np.maximum.accumulate(lifted) > lifted
