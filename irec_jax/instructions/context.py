"""The request context as a phrase: part of the day, season, place and popular items."""

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
"""Popular items in a phrase."""

_DAY_PARTS = ("night", "morning", "afternoon", "evening")
_SEASONS = ("winter", "spring", "summer", "autumn")
_SEPARATOR = " , "


@dataclasses.dataclass(frozen=True, eq=False)
class RequestContext:
    """Time, place, season and popular items at each event.

    Times are taken as UTC and seasons as northern, as a log has no time zones. Popularity counts
    the training events of the `POPULAR_DAYS` whole days before the day of the event, so neither
    the event itself nor a later one is read.

    Attributes:
        parts: The parts of a phrase in order.
        hours: `[events]` int8, 0 to 3: night, morning, afternoon, evening.
        weekends: `[events]` bool.
        seasons: `[events]` int8, 0 to 3, from winter.
        days: `[events]` int64, days since 1970.
        places: `[events]` cleaned names, "" where unknown.
        popular: Day -> item numbers by descending count.
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
        """Reads the times and places of a split.

        Args:
            split: The log.
            parts: The parts of a phrase in order.

        Raises:
            InputError: The log lacks a part: it has positions instead of times, or no places.
        """
        timed = [part for part in parts if part is not ContextPart.PLACE]
        if timed and split.time_unit is TimeUnit.POSITION:
            raise InputError(
                f"'{timed[0].value}' needs real times, and this log has only positions",
                where="instructions.context",
                hint="Leave it out, or prepare the log from a table with a time column.",
            )
        if ContextPart.PLACE in parts and not any(split.places):
            raise InputError(
                "'place' needs places, and this log has none",
                where="instructions.context",
                hint="Leave it out, or prepare the log from a table with a place column.",
            )
        days = split.times // DAY
        seconds = split.times.astype("datetime64[s]")
        months = seconds.astype("datetime64[M]").astype(np.int64) % 12
        return cls(
            parts=parts,
            hours=(split.times % DAY // (DAY // 4)).astype(np.int8),
            weekends=(days + 3) % 7 >= 5,
            seasons=((months + 1) % 12 // 3).astype(np.int8),
            days=days,
            places=tuple(map(clean, split.places)),
            popular=_popular(split, days) if ContextPart.POPULAR in parts else {},
        )

    def has_phrase(self) -> Bool[np.ndarray, " events"]:
        """Returns the events at which `phrase` is not empty."""
        exists = np.zeros(len(self.days), bool)
        for part in self.parts:
            if part is ContextPart.PLACE:
                exists |= np.array([bool(place) for place in self.places], bool)
            elif part is ContextPart.POPULAR:
                exists |= np.isin(self.days, list(self.popular))
            else:
                exists[:] = True
        return exists

    def popular_at(self, position: int) -> tuple[int, ...]:
        """Returns the item numbers that are popular at an event, most popular first."""
        return self.popular.get(self.days.item(position), ())

    def phrase(self, position: int, pack: TemplatePack, popular: str) -> str:
        """Describes the context of an event, "" where nothing is known.

        Args:
            position: The event.
            pack: Its `context` has the words.
            popular: The names of `popular_at(position)`.
        """
        words, phrases = pack.context, []
        for part in self.parts:
            if part is ContextPart.TIME:
                phrases.append(words[_DAY_PARTS[self.hours.item(position)]])
                phrases.append(words["weekend" if self.weekends.item(position) else "weekday"])
            elif part is ContextPart.SEASON:
                phrases.append(words[_SEASONS[self.seasons.item(position)]])
            elif part is ContextPart.PLACE and self.places[position]:
                phrases.append(f"{words['place']} {self.places[position]}")
            elif part is ContextPart.POPULAR and popular:
                phrases.append(f"{words['popular']} {popular}")
        return _SEPARATOR.join(phrases)


def _popular(split: Split, days: Int[np.ndarray, " events"]) -> dict[int, tuple[int, ...]]:
    """Returns the most frequent items of a sliding window of training events for each day."""
    training = split.roles == Role.TRAIN
    order = np.argsort(days[training], kind="stable")
    training_days, training_items = days[training][order], split.items[training][order]
    all_days = np.unique(days)
    starts = np.searchsorted(training_days, all_days - POPULAR_DAYS)
    ends = np.searchsorted(training_days, all_days)
    popular: dict[int, tuple[int, ...]] = {}
    counts = np.zeros(split.num_items, np.int64)
    low = high = 0
    for day, start, end in zip(all_days.tolist(), starts.tolist(), ends.tolist(), strict=True):
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
