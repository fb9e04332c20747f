"""Protocol splits of a behavior log, as index arrays."""

import dataclasses
import enum
from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from irec_jax.bounds import Range, check_settings
from irec_jax.errors import InputError
from irec_jax.log.events import BehaviorLog, TimeUnit
from irec_jax.log.kcore import filter_core

# The last part of the events before the temporal cut that chooses settings and stops training.
VALIDATION_SHARE = 0.1

# What each random draw of a split is for: one stream each, so that one never moves another.
_TIES, _NUMBERS = 1, 2

_INTENTIONS = {"vague": 1, "specific": 2}


class SplitProtocol(enum.StrEnum):
    """How training, validation and test targets are chosen."""

    LEAVE_ONE_OUT = "leave_one_out"
    TEMPORAL = "temporal"


class Role(enum.IntEnum):
    """The permitted use of an event."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """A log cut for one protocol; everything after the log works on this.

    An *item number* is a row of `catalog`; rows are shuffled by the seed, so that no order
    leaks through the numbers. Events are grouped by user, oldest first, ties in time shuffled
    by the seed; the events of the user in row `u` are `offsets[u]:offsets[u + 1]`.

    Attributes:
        protocol: The protocol that made it.
        catalog: The items that can be recommended, columns as in `items.parquet`.
        users: `[users]` int64, the log's user numbers.
        offsets: `[users + 1]` int64.
        items: `[events]` int32 item numbers.
        times: `[events]` int64, seconds or sequence positions.
        queries: `[events]` what the user typed before the event, "" where nothing.
        intentions: `[events]` int8: 0 no query, 1 a vague one, 2 a specific one.
        roles: `[events]` int8, values of `Role`.
        reviews: `[events]` what the user wrote of the item, "" where nothing; () where the log
            has no reviews.
        places: `[events]` where the user was, "" where unknown; () where the log does not tell.
        preferences: `[events]` the user's taste in a sentence, as it was known before the event,
            "" where unknown; () where all are unknown.
        time_unit: What `times` counts.
    """

    protocol: SplitProtocol
    catalog: pl.DataFrame
    users: Int[np.ndarray, " users"]
    offsets: Int[np.ndarray, " users_plus_one"]
    items: Int[np.ndarray, " events"]
    times: Int[np.ndarray, " events"]
    queries: list[str]
    intentions: Int[np.ndarray, " events"]
    roles: Int[np.ndarray, " events"]
    reviews: Sequence[str] = ()
    places: Sequence[str] = ()
    preferences: Sequence[str] = ()
    time_unit: TimeUnit = TimeUnit.SECONDS

    @property
    def num_items(self) -> int:
        """How many items can be recommended."""
        return self.catalog.height

    @property
    def num_users(self) -> int:
        """How many users there are."""
        return len(self.users)

    def event_users(self) -> Int[np.ndarray, " events"]:
        """Gives `[events]` int64: the row of the user of each event."""
        return np.repeat(np.arange(self.num_users), np.diff(self.offsets))

    def history(self, position: int) -> Int[np.ndarray, " history"]:
        """Gives `[history]` int32: the item numbers of the user before an event, oldest first.

        Args:
            position: The event's place in `items`, from 0.
        """
        if not 0 <= position < len(self.items):
            raise IndexError(f"event {position} of {len(self.items)}")
        user = np.searchsorted(self.offsets, position, side="right") - 1
        return self.items[self.offsets[user] : position]

    def targets(self, role: Role) -> Int[np.ndarray, " targets"]:
        """Gives `[targets]` int64: the positions of the events of a role, in order."""
        return np.flatnonzero(self.roles == role)

    def warm_items(self) -> Bool[np.ndarray, " items"]:
        """Gives `[items]` bool: whether an item has a TRAIN event; the others are cold."""
        warm = np.zeros(self.num_items, bool)
        warm[self.items[self.roles == Role.TRAIN]] = True
        return warm


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """How a log is split.

    Attributes:
        protocol: How training, validation and test targets are chosen.
        core: Users and items with fewer events are dropped, until none is left: of the whole
            log (leave one out), or of the part before the cut (temporal). 1 keeps all.
        cut: Temporal only: the share of the log's events before the cut.
    """

    protocol: SplitProtocol = SplitProtocol.LEAVE_ONE_OUT
    core: int = 5
    cut: float = 0.8

    def __post_init__(self) -> None:
        """Refuses impossible settings."""
        check_settings(
            self,
            "data.",
            core=Range(1, 10**9, "Set it to 1 to keep every user and item that has an event."),
            cut=Range(0, 1, "Set it to the share of events before the cut.", True, True),
        )


def split_log(log: BehaviorLog, config: SplitConfig, seed: int) -> Split:
    """Cuts a log for a protocol; the same arguments give the same bytes.

    Args:
        log: The log.
        config: The protocol and its settings.
        seed: Orders ties in time and numbers the items.

    Raises:
        InputError: No user is left after the k-core, or a temporal cut is asked of a log
            whose times are positions or all equal.
    """
    users = log.interactions["user"].to_numpy()
    items = log.item_rows()
    times = log.interactions["time"].to_numpy()
    if config.protocol is SplitProtocol.LEAVE_ONE_OUT:
        keep = filter_core(users, items, config.core)
        catalog = np.unique(items[keep])
    else:
        keep = _temporal_events(log, users, items, config)
        catalog = np.arange(log.items.height)
    if not keep.any():
        raise InputError(
            f"no user is left: none has {config.core} events with items of {config.core} events",
            where="data.core",
            hint="Lower data.core, or prepare a larger log (`irec data describe` counts it).",
        )
    order = _shuffled_ties(users, times, seed)
    order = order[keep[order]]
    catalog = np.random.default_rng([seed, _NUMBERS]).permutation(catalog)
    numbers = np.full(log.items.height, -1, np.int32)
    numbers[catalog] = np.arange(len(catalog), dtype=np.int32)
    owners = users[order]
    starts = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
    offsets = np.append(starts, len(order)).astype(np.int64)
    queries, intentions = _queries(log, order)
    if config.protocol is SplitProtocol.LEAVE_ONE_OUT:
        roles = _leave_one_out_roles(offsets)
    else:
        roles = _temporal_roles(times[order], *_cuts(times, config.cut))
    return Split(
        protocol=config.protocol,
        catalog=log.items[catalog],
        users=owners[starts],
        offsets=offsets,
        items=numbers[items[order]],
        times=times[order],
        queries=queries,
        intentions=intentions,
        roles=roles,
        reviews=_texts(log, "review", order),
        places=_texts(log, "place", order),
        time_unit=log.manifest.time_unit,
    )


def _shuffled_ties(
    users: Int[np.ndarray, " events"], times: Int[np.ndarray, " events"], seed: int
) -> Int[np.ndarray, " events"]:
    """Gives `[events]`: the log's order, with the events of each tie dealt at random."""
    same = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    tied = np.flatnonzero(np.append(False, same) | np.append(same, False))
    deal = np.random.default_rng([seed, _TIES]).random(len(tied))
    order = np.arange(len(users))
    order[tied] = tied[np.lexsort((deal, times[tied], users[tied]))]
    return order


def _queries(
    log: BehaviorLog, order: Int[np.ndarray, " events"]
) -> tuple[list[str], Int[np.ndarray, " events"]]:
    table = log.interactions
    if "query" not in table.columns:
        return [""] * len(order), np.zeros(len(order), np.int8)
    query = table["query"].fill_null("").str.strip_chars()
    if "intention" in table.columns:
        words = table["intention"].fill_null("specific")
    else:
        words = pl.repeat("specific", table.height, eager=True)
    codes = words.replace_strict(_INTENTIONS, return_dtype=pl.Int8).to_numpy()
    intentions = np.where((query != "").to_numpy(), codes, 0).astype(np.int8)
    return query[order].to_list(), intentions[order]


def _texts(log: BehaviorLog, column: str, order: Int[np.ndarray, " events"]) -> list[str]:
    if column not in log.interactions.columns:
        return []
    return log.interactions[column].fill_null("").str.strip_chars()[order].to_list()


def _leave_one_out_roles(offsets: Int[np.ndarray, " users_plus_one"]) -> Int[np.ndarray, " events"]:
    roles = np.full(offsets[-1], Role.TRAIN, np.int8)
    ends = offsets[1:][np.diff(offsets) >= 3]
    roles[ends - 1] = Role.TEST
    roles[ends - 2] = Role.VALIDATION
    return roles


def _cuts(times: Int[np.ndarray, " events"], cut: float) -> tuple[int, int]:
    """Gives the first moments of validation and of test, both quantiles of the log's events."""
    ordered = np.sort(times)
    test = ordered[int(len(ordered) * cut)]
    validation = ordered[int(len(ordered) * cut * (1 - VALIDATION_SHARE))]
    return int(validation), int(test)


def _temporal_roles(
    times: Int[np.ndarray, " events"], validation: int, test: int
) -> Int[np.ndarray, " events"]:
    roles = np.full(len(times), Role.TRAIN, np.int8)
    roles[times >= validation] = Role.VALIDATION
    roles[times >= test] = Role.TEST
    return roles


def _temporal_events(
    log: BehaviorLog,
    users: Int[np.ndarray, " events"],
    items: Int[np.ndarray, " events"],
    config: SplitConfig,
) -> Bool[np.ndarray, " events"]:
    """Marks the k-core before the cut and all that its users did after it."""
    if log.manifest.time_unit is TimeUnit.POSITION:
        raise InputError(
            "temporal asks for real times, and this log has only sequence positions",
            where="data.protocol",
            hint="Use leave_one_out, or prepare the log from a table with a time column.",
        )
    times = log.interactions["time"].to_numpy()
    validation, test = _cuts(times, config.cut)
    if not times.min() < validation:
        raise InputError(
            f"no event is before the cut at {test}: too many share one time",
            where="data.cut",
            hint="Raise data.cut, or use leave_one_out.",
        )
    before = times < test
    keep = np.zeros(len(users), bool)
    keep[before] = filter_core(users[before], items[before], config.core)
    return keep | (~before & np.isin(users, users[keep]))
