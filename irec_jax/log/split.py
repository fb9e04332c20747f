"""Protocol splits of a behavior log, as index arrays."""

import dataclasses
import enum

import numpy as np
import polars as pl
from jaxtyping import Int


class SplitProtocol(enum.Enum):
    """How train, validation and test targets are told apart."""

    LEAVE_ONE_OUT = "leave_one_out"
    TEMPORAL = "temporal"


class Role(enum.IntEnum):
    """What an event may be used for."""

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
