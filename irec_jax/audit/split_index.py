"""Index of a split for the audit, computed without the renderer."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from irec_jax.instructions.context import DAY, POPULAR_DAYS, POPULAR_ITEMS
from irec_jax.instructions.templates import TemplatePack
from irec_jax.instructions.third_person import to_third_person
from irec_jax.log.split import Role, Split
from irec_jax.text_cleaning import clean


@dataclasses.dataclass(frozen=True, eq=False)
class SplitIndex:
    """A split with arrays that answer questions about one event in constant time.

    Attributes:
        split: The log.
        starts: `[events]` int64, the position of the first event of the same user.
        stops: `[events]` int64, one past the last event of the same user.
        users: `[events]` int64, the log's user number.
        run_ends: `[events]` int64, one past the run of events of the same user and role.
        follows_later_event: `[events]` bool: whether an earlier position of the same user has a
            later time or a later role, such as a test event before a training event.
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
    follows_later_event: Bool[np.ndarray, " events"]
    warm: Bool[np.ndarray, " items"]
    days: Int[np.ndarray, " events"]
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
        days = split.times // DAY
        training = split.roles == Role.TRAIN
        order = np.argsort(days[training], kind="stable")
        return cls(
            split=split,
            starts=starts,
            stops=stops,
            users=np.repeat(split.users, counts),
            run_ends=_run_ends(split.roles, stops),
            follows_later_event=_falls(split.times, starts) | _falls(split.roles, starts),
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
        """Returns the items of the user's events after one, the next one first."""
        return self.split.items[position + 1 : self.stops.item(position)].tolist()

    def is_typed(self, position: int, query: str, code: int, pack: TemplatePack) -> bool:
        """Returns whether the user of an event typed a query, apart from its grammatical person.

        Args:
            position: The event.
            query: A query as it is in a prompt.
            code: Its kind, a value of `INTENTION_CODES`.
            pack: Template pack of its language.
        """
        if self.split.intentions.item(position) != code:
            return False
        typed = clean(self.split.queries[position])
        return query in (typed, to_third_person(typed, pack.language, pack.person))

    def popular(self, position: int) -> tuple[int, ...]:
        """Returns the most frequent items of the training events of the days before an event."""
        day = self.days.item(position)
        popular = self._popular.get(day)
        if popular is None:
            first, last = np.searchsorted(self.train_days, [day - POPULAR_DAYS, day])
            items, counts = np.unique(self.train_items[first:last], return_counts=True)
            best = np.lexsort((items, -counts))[:POPULAR_ITEMS]
            popular = self._popular[day] = tuple(items[best].tolist())
        return popular


def _run_ends(
    roles: Int[np.ndarray, " events"], stops: Int[np.ndarray, " events"]
) -> Int[np.ndarray, " events"]:
    """Returns `[events]` one past the run of the same user and role."""
    ends = stops.copy()
    changes = np.flatnonzero(roles[1:] != roles[:-1]) + 1
    following = np.append(changes, len(roles))
    nearest = following[np.searchsorted(changes, np.arange(len(roles)), side="right")]
    return np.minimum(ends, nearest)


def _falls(
    values: Int[np.ndarray, " events"], starts: Int[np.ndarray, " events"]
) -> Bool[np.ndarray, " events"]:
    """Returns `[events]` whether the user has a higher value at an earlier position."""
    if not len(values):
        return np.zeros(0, bool)
    ranks = np.unique(values, return_inverse=True)[1].astype(np.int64)
    lifted = ranks + starts * (ranks.max() + 1)
    return np.maximum.accumulate(lifted) > lifted
