"""Batches of stored rows for any number of hosts, in one global order."""

import dataclasses
from typing import Any

import grain
import numpy as np
from jaxtyping import Int

from irec_jax.batches.batch import Batch
from irec_jax.batches.packed import PackedRows
from irec_jax.batches.pipeline import PrefetchDataset
from irec_jax.errors import InputError

_POSITION = "global_next_index"


@dataclasses.dataclass(frozen=True)
class Reader:
    """The rows of every global batch that a host reads.

    Attributes:
        host: Number of the host among those that read different rows, from 0.
        hosts: Number of hosts; each reads the same number of rows.
        rows: Positions of the host's rows in a batch, ascending; by default the `host`-th of
            equal parts.
    """

    host: int = 0
    hosts: int = 1
    rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuses a number that no host has."""
        if not 0 <= self.host < self.hosts:
            raise InputError(
                f"must be between 0 and {self.hosts - 1}, got {self.host}", where="reader.host"
            )

    def positions(self, batch_size: int) -> tuple[int, ...]:
        """Returns the positions of the host's rows in a batch.

        Raises:
            InputError: `batch_size` is not a multiple of the number of hosts.
        """
        share, rest = divmod(batch_size, self.hosts)
        if batch_size < 1 or rest or (self.rows and len(self.rows) != share):
            raise InputError(
                f"{self.hosts} hosts cannot share batches of {batch_size} rows",
                where="train.batch_size",
                hint="Set it to a multiple of the number of hosts.",
            )
        return self.rows or tuple(range(self.host * share, (self.host + 1) * share))


def packed_batches(
    stored: PackedRows,
    *,
    batch_size: int,
    seed: int,
    reader: Reader | None = None,
    read_threads: int = 0,
) -> grain.IterDataset[Batch]:
    """Makes an unlimited iterator of batches; each pass has every row once, in another order.

    The global batch n has the same rows at the same positions for any number of hosts; each host
    reads its own rows. A background thread reads a few batches ahead. The iterator's
    `get_state()` is one number that is the same on all hosts; `set_state` continues from it with
    any number of hosts and any batch size.

    Args:
        stored: The packed rows.
        batch_size: Rows of a global batch.
        seed: Seed of the order, 0 to 2**32 - 1.
        reader: This host; None for a single host.
        read_threads: Number of threads that read ahead, for storage with a high latency.

    Raises:
        InputError: `batch_size` is not a multiple of the number of hosts.
    """
    rows = grain.MapDataset.source(_Whole(stored)).seed(seed).shuffle().repeat()
    own = _OwnRows(rows, batch_size, reader or Reader())
    return PrefetchDataset(lambda _: _Elastic(own, read_threads).map(_Split(stored)))


@dataclasses.dataclass(frozen=True)
class _Whole:
    """Rows as single arrays, so that a whole batch is split at once."""

    stored: PackedRows

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: int) -> Int[np.ndarray, " cells"]:
        return self.stored.whole(index)


@dataclasses.dataclass(frozen=True)
class _Split(grain.transforms.Map):
    """Splits a batch of such rows into the arrays of a `Batch`."""

    stored: PackedRows

    def map(self, element: Int[np.ndarray, "rows cells"]) -> Batch:
        return Batch(**self.stored.split(element))


class _OwnRows(grain.MapDataset):
    """Rows in an order in which this host owns every `hosts`-th row, as `ElasticIterator` reads.

    Attributes:
        start: Global index of the first row of a batch.
    """

    def __init__(
        self, rows: grain.MapDataset, batch_size: int, reader: Reader, start: int = 0
    ) -> None:
        super().__init__(rows)
        self.batch_size, self.reader, self.start = batch_size, reader, start
        self._positions = reader.positions(batch_size)

    def from_start(self, start: int) -> "_OwnRows":
        """Returns the same rows with another first row of a batch."""
        return _OwnRows(self._parent, self.batch_size, self.reader, start)

    def __len__(self) -> int:
        return len(self._parent)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        column = (index - self.start) % self.batch_size
        return self._parent[index - column + self._positions[column // self.reader.hosts]]


class _Elastic(grain.IterDataset):
    """Elastic reading; `ElasticIterator` of grain 0.2.18 returns one shared iterator."""

    def __init__(self, rows: _OwnRows, read_threads: int) -> None:
        super().__init__()
        self._rows = rows
        self._options = grain.ReadOptions(num_threads=read_threads)

    def __iter__(self) -> grain.DatasetIterator:
        return _ElasticIterator(self)

    def open_at(self, position: int) -> grain.DatasetIterator:
        """Makes an iterator whose first batch starts at row `position` of the global order."""
        reader, size = self._rows.reader, self._rows.batch_size
        iterator = grain.experimental.ElasticIterator(
            self._rows.from_start(position % size),
            size,
            grain.sharding.ShardOptions(reader.host, reader.hosts),
            read_options=self._options,
        ).__iter__()
        iterator.set_state({_POSITION: position})
        return iterator


class _ElasticIterator(grain.DatasetIterator):
    """Reopens at each `set_state`, as positions of rows count from the start of a batch."""

    def __init__(self, dataset: _Elastic) -> None:
        super().__init__()
        self._dataset, self._batches = dataset, dataset.open_at(0)

    def __next__(self) -> Int[np.ndarray, "rows cells"]:
        return next(self._batches)

    def get_state(self) -> dict[str, Any]:
        return self._batches.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        self.close()
        self._batches = self._dataset.open_at(state[_POSITION])

    def close(self) -> None:
        self._batches.close()
