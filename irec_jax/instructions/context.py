"""The moment of an event as a phrase: part of the day, season, place, and what is popular."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Int

from irec_jax.errors import InputError
from irec_jax.instructions.config import ContextPart
from irec_jax.instructions.templates import TemplatePack
from irec_jax.log.events import TimeUnit
from irec_jax.log.split import Role, Split
from irec_jax.text_cleaning import clean

DAY = 86_400
POPULAR_DAYS = 7
POPULAR_ITEMS = 3
"""How many items a context names as popular now."""

_DAY_PARTS = ("night", "morning", "afternoon", "evening")
_SEASONS = ("winter", "spring", "summer", "autumn")
_JOINT = " , "


@dataclasses.dataclass(frozen=True, eq=False)
class RequestContext:
    """What can be said of the moment of each event, in the log's own time.

    Times are read as UTC and seasons as those of the north, as the log tells no better. What is
    popular is counted over the training events of the `POPULAR_DAYS` whole days before the day of
    the event, so neither the event itself nor a later one is ever read.

    Attributes:
        parts: What is said, in this order.
        hours: `[events]` int8, 0 to 3: night, morning, afternoon, evening.
        weekends: `[events]` bool.
        seasons: `[events]` int8, 0 to 3, from winter.
        days: `[events]` int64, days since 1970.
        places: `[events]` cleaned names, "" where unknown.
        popular: Day -> the item numbers that were met most, most first.
    """

    parts: tuple[ContextPart, ...]
    hours: Int[np.ndarray, " events"]
    weekends: Bool[np.ndarray, " events"]
    seasons: Int[np.ndarray, " events"]
    days: Int[np.ndarray, " events"]
    places: tuple[str, ...]
    popular: dict[int, tuple[int, ...]]

    @classmethod
    def build(cls, split: Split, parts: tuple[ContextPart, ...]) -> "RequestContext":
        """Reads the moments of a split.

        Args:
            split: The log.
            parts: What is said.

        Raises:
            InputError: The log cannot tell a part: it has positions instead of times, or no
                places.
        """
        timed = [part for part in parts if part is not ContextPart.PLACE]
        if timed and split.time_unit is TimeUnit.POSITION:
            raise InputError(
                f"'{timed[0].value}' asks for real times, and this log has only positions",
                where="instructions.context",
                hint="leave it out, or prepare the log from a table with a time column.",
            )
        if ContextPart.PLACE in parts and not any(split.places):
            raise InputError(
                "'place' asks for places, and this log has none",
                where="instructions.context",
                hint="leave it out, or prepare the log from a table with a place column.",
            )
        days = split.times // DAY
        moments = split.times.astype("datetime64[s]")
        months = moments.astype("datetime64[M]").astype(np.int64) % 12
        return cls(
            parts=parts,
            hours=(split.times % DAY // (DAY // 4)).astype(np.int8),
            weekends=(days + 3) % 7 >= 5,
            seasons=((months + 1) % 12 // 3).astype(np.int8),
            days=days,
            places=tuple(map(clean, split.places)),
            popular=_popular(split, days) if ContextPart.POPULAR in parts else {},
        )

    def told(self) -> Bool[np.ndarray, " events"]:
        """Says where there is something to say."""
        told = np.zeros(len(self.days), bool)
        for part in self.parts:
            if part is ContextPart.PLACE:
                told |= np.array([bool(place) for place in self.places], bool)
            elif part is ContextPart.POPULAR:
                told |= np.isin(self.days, list(self.popular))
            else:
                told[:] = True
        return told

    def popular_at(self, position: int) -> tuple[int, ...]:
        """Returns the item numbers that a phrase about an event names."""
        return self.popular.get(self.days.item(position), ())

    def phrase(self, position: int, pack: TemplatePack, popular: str) -> str:
        """Says when and where an event happened, "" where nothing is known.

        Args:
            position: The event.
            pack: The words.
            popular: `popular_at(position)` as it is written.
        """
        words, said = pack.context, []
        for part in self.parts:
            if part is ContextPart.TIME:
                said.append(words[_DAY_PARTS[self.hours.item(position)]])
                said.append(words["weekend" if self.weekends.item(position) else "weekday"])
            elif part is ContextPart.SEASON:
                said.append(words[_SEASONS[self.seasons.item(position)]])
            elif part is ContextPart.PLACE and self.places[position]:
                said.append(f"{words['place']} {self.places[position]}")
            elif part is ContextPart.POPULAR and popular:
                said.append(f"{words['popular']} {popular}")
        return _JOINT.join(said)


def _popular(split: Split, days: Int[np.ndarray, " events"]) -> dict[int, tuple[int, ...]]:
    """Counts the training events of a sliding window, day by day."""
    training = split.roles == Role.TRAIN
    order = np.argsort(days[training], kind="stable")
    training_days, training_items = days[training][order], split.items[training][order]
    wanted = np.unique(days)
    starts = np.searchsorted(training_days, wanted - POPULAR_DAYS)
    ends = np.searchsorted(training_days, wanted)
    popular: dict[int, tuple[int, ...]] = {}
    counts = np.zeros(split.num_items, np.int64)
    low = high = 0
    for day, start, end in zip(wanted.tolist(), starts.tolist(), ends.tolist(), strict=True):
        np.add.at(counts, training_items[high:end], 1)
        np.subtract.at(counts, training_items[low:start], 1)
        low, high = start, end
        if start < end:
            top = min(POPULAR_ITEMS, split.num_items)
            # Ties go to the lower item number; numbers are random, and no two keys are equal.
            keys = counts * split.num_items - np.arange(split.num_items)
            best = np.argpartition(-keys, top - 1)[:top]
            best = best[np.argsort(-keys[best])]
            popular[day] = tuple(int(item) for item in best if counts[item])
    return popular
