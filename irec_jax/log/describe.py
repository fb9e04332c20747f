"""The contents of a log: sizes, lengths, and causes of inflated results."""

import dataclasses
import datetime
from collections.abc import Iterable

import numpy as np
import polars as pl
from jaxtyping import Int

from irec_jax.log.events import COUNTED_CORE, BehaviorLog, TimeUnit
from irec_jax.log.kcore import filter_core

PERCENTILES = (0, 10, 50, 90, 99, 100)


@dataclasses.dataclass(frozen=True, eq=False)
class Description:
    """Figures of one log; shares are between 0 and 1.

    Attributes:
        source: The reader that made the log.
        counts: As in the manifest, computed again.
        lengths: `[users]` events of each user.
        popularity: `[items]` events of each item, most popular first, 0 for untouched ones.
        first: The earliest time.
        last: The latest time.
        unit: What times count.
        tied: Events that share their time with another of the same user: their order is
            unknown.
        duplicated: Events that repeat user, item, time and kind of an earlier row.
        repeated: Events whose user had the item before.
        unreachable: Share of the leave-one-out test targets of the 5-core that are in their own
            history: where seen items are masked, no model can find them.
        ascending: Share of consecutive events of a user in ascending order of the item table;
            far from one half, the numbering of the source gives the next item away.
        shared_titles: Items whose title another item has, too.
        queries: Share of events with a query.
        specific: Share of the queries that are specific, as far as the log says.
        reviews: Share of events with a review.
        ratings: Share of events with a rating.
    """

    source: str
    counts: dict[str, int]
    lengths: Int[np.ndarray, " users"]
    popularity: Int[np.ndarray, " items"]
    first: int
    last: int
    unit: TimeUnit
    tied: int
    duplicated: int
    repeated: int
    unreachable: float
    ascending: float
    shared_titles: int
    queries: float
    specific: float
    reviews: float
    ratings: float

    def rows(self) -> list[tuple[str, str, str]]:
        """Gives (name, figure, why it matters) for a table."""
        counts, core = self.counts, f"core{COUNTED_CORE}"
        events = counts["interactions"]
        quantiles = np.percentile(self.lengths, PERCENTILES).astype(int).tolist()
        top = self.popularity[: max(1, round(0.01 * len(self.popularity)))].sum() / events
        untouched = int((self.popularity == 0).sum())
        sizes = ("users", "items", "interactions")
        return [
            ("users / items / interactions", _figures(counts[n] for n in sizes), "all of the log"),
            (
                f"after the {COUNTED_CORE}-core",
                _figures(counts[f"{core}_{n}"] for n in sizes),
                "what leave-one-out works on",
            ),
            ("times", self._span(), f"counted in {self.unit.value}"),
            (
                "events per user",
                _figures(quantiles),
                "percentiles " + ", ".join(str(p) for p in PERCENTILES),
            ),
            ("events on the top 1 % of items", _percent(top), "what popularity can win"),
            ("items without events", f"{untouched:,}", "cold under every protocol"),
            ("ties in time", _of(self.tied, events), "ordered by the seed, not by the log"),
            ("duplicate events", _of(self.duplicated, events), "same user, item, time and kind"),
            ("repeated user-item pairs", _of(self.repeated, events), "the user had it before"),
            (
                "unreachable test targets",
                _percent(self.unreachable),
                "last items (5-core) that masking the history hides",
            ),
            (
                "ascending item order",
                _percent(self.ascending),
                "of consecutive events; 50 % is chance",
            ),
            (
                "items with a shared title",
                _of(self.shared_titles, counts["items"]),
                "made distinct by the item index",
            ),
            ("events with a query", _percent(self.queries), "targets of the search tasks"),
            ("specific queries", _percent(self.specific), "of the queries; the rest is vague"),
            ("events with a review", _percent(self.reviews), ""),
            ("events with a rating", _percent(self.ratings), ""),
        ]

    def _span(self) -> str:
        if self.unit is TimeUnit.POSITION:
            return f"{self.first:,} to {self.last:,}"
        moments = (
            datetime.datetime.fromtimestamp(time, datetime.UTC) for time in (self.first, self.last)
        )
        return " to ".join(f"{moment:%Y-%m-%d %H:%M}" for moment in moments)


def describe(log: BehaviorLog) -> Description:
    """Counts everything in a `Description`."""
    table = log.interactions
    items = log.item_rows()
    users = table["user"].to_numpy()
    popularity = np.bincount(items, minlength=log.items.height)
    same_user = users[1:] == users[:-1]
    steps = np.diff(items)[same_user]
    steps = steps[steps != 0]
    query = _present(log, "query")
    intention = table["intention"] if "intention" in table.columns else None
    named = intention.filter(query).drop_nulls() if intention is not None else None
    return Description(
        source=log.manifest.source,
        counts=log.recounted().manifest.counts,
        lengths=np.unique(users, return_counts=True)[1],
        popularity=np.sort(popularity)[::-1],
        first=int(table["time"].to_numpy().min()),
        last=int(table["time"].to_numpy().max()),
        unit=log.manifest.time_unit,
        tied=int(table.select(pl.struct("user", "time").is_duplicated().sum()).item()),
        duplicated=table.height - table.select("user", "item", "time", "event").n_unique(),
        repeated=table.height - table.select("user", "item").n_unique(),
        unreachable=_unreachable(users, items),
        ascending=float((steps > 0).mean()) if len(steps) else 0.5,
        shared_titles=int(log.items["title"].is_duplicated().sum()),
        queries=float(query.to_numpy().mean()),
        specific=float((named == "specific").to_numpy().mean())
        if named is not None and len(named)
        else float(query.any()),
        reviews=float(_present(log, "review").to_numpy().mean()),
        ratings=float(_present(log, "rating").to_numpy().mean()),
    )


def _present(log: BehaviorLog, name: str) -> pl.Series:
    table = log.interactions
    if name not in table.columns:
        return pl.repeat(False, table.height, eager=True)
    column = table[name].is_not_null()
    if table[name].dtype == pl.String:
        return column & (table[name].fill_null("").str.strip_chars() != "")
    return column


def _unreachable(users: Int[np.ndarray, " events"], items: Int[np.ndarray, " events"]) -> float:
    keep = filter_core(users, items, COUNTED_CORE)
    users, items = users[keep], items[keep]
    if len(users) == 0:
        return 0.0
    last = np.append(users[1:] != users[:-1], True)
    pairs = users * (items.max() + 1) + items
    counts = np.unique(pairs, return_inverse=True, return_counts=True)
    return float((counts[2][counts[1]][last] > 1).mean())


def _figures(numbers: Iterable[int]) -> str:
    return " / ".join(f"{number:,}" for number in numbers)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _of(count: int, total: int) -> str:
    return f"{count:,} ({_percent(count / total)})"
