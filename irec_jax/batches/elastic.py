"""Stored rows as the batches of any number of hosts, in one global order."""

import dataclasses
from typing import Any

import grain
import numpy as np
from jaxtyping import Int

from irec_jax.batches.batch import Batch
from irec_jax.batches.packed import PackedRows
from irec_jax.batches.pipeline import Ahead
from irec_jax.errors import InputError

_POSITION = "global_next_index"


@dataclasses.dataclass(frozen=True)
class Reader:
    """Which rows of every global batch somebody reads.

    Attributes:
        host: Its number among those who read different rows, from 0.
        hosts: How many there are; each reads as many rows.
        rows: The places of its rows in a batch, rising; left out, they are the `host`-th of equal
            parts.
    """

    host: int = 0
    hosts: int = 1
    rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuses a number that no host has."""
        if not 0 <= self.host < self.hosts:
            raise InputError(f"host {self.host} of {self.hosts}", where="reader.host")

    def places(self, batch_size: int) -> tuple[int, ...]:
        """The places of its rows in a batch.

        Raises:
            InputError: The hosts cannot share it.
        """
        share, left = divmod(batch_size, self.hosts)
        if batch_size < 1 or left or (self.rows and len(self.rows) != share):
            raise InputError(
                f"{self.hosts} hosts cannot share batches of {batch_size} rows",
                where="train.batch_size",
                hint="use a multiple of the number of hosts.",
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
    """Endless batches of stored rows; every pass is in another order, and has every row once.

    The global batch number n has the same rows in the same places for any number of hosts, of
    which each reads its own. Batches are read a few ahead in a background thread. The iterator's
    `get_state()` is one number that is the same on all hosts; `set_state` goes on from it on any
    number of hosts, and with any batch size.

    Args:
        stored: The rows.
        batch_size: Rows of a global batch.
        seed: Of the order, 0 to 2**32 - 1.
        reader: Which host this is; left out, there is one.
        read_threads: How many threads read ahead; worth it where the disk is far away.

    Raises:
        InputError: The hosts cannot share a batch.
    """
    rows = grain.MapDataset.source(_Whole(stored)).seed(seed).shuffle().repeat()
    own = _OwnRows(rows, batch_size, reader or Reader())
    return Ahead(lambda _: _Elastic(own, read_threads).map(_Split(stored)))


@dataclasses.dataclass(frozen=True)
class _Whole:
    """Rows in one piece: a batch is cut once, not each of its rows."""

    stored: PackedRows

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: int) -> Int[np.ndarray, " cells"]:
        return self.stored.whole(index)


@dataclasses.dataclass(frozen=True)
class _Split(grain.transforms.Map):
    """Cuts a batch of such rows."""

    stored: PackedRows

    def map(self, element: Int[np.ndarray, "rows cells"]) -> Batch:
        return Batch(**self.stored.split(element))


class _OwnRows(grain.MapDataset):
    """Rows dealt so that every `hosts`-th, which is what `ElasticIterator` reads, is an own one.

    Attributes:
        start: Where a batch begins; others begin whole batches before and after.
    """

    def __init__(
        self, rows: grain.MapDataset, batch_size: int, reader: Reader, start: int = 0
    ) -> None:
        super().__init__(rows)
        self.batch_size, self.reader, self.start = batch_size, reader, start
        self._places = reader.places(batch_size)

    def from_start(self, start: int) -> "_OwnRows":
        """The same with batches that begin elsewhere."""
        return _OwnRows(self._parent, self.batch_size, self.reader, start)

    def __len__(self) -> int:
        return len(self._parent)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        at = (index - self.start) % self.batch_size
        return self._parent[index - at + self._places[at // self.reader.hosts]]


class _Elastic(grain.IterDataset):
    """Grain's elastic reading; grain 0.2.18 itself gives one and the same iterator to all."""

    def __init__(self, rows: _OwnRows, read_threads: int) -> None:
        super().__init__()
        self._rows = rows
        self._options = grain.ReadOptions(num_threads=read_threads)

    def __iter__(self) -> grain.DatasetIterator:
        return _ElasticIterator(self)

    def open_at(self, position: int) -> grain.DatasetIterator:
        """An iterator whose first batch begins with the row at `position` of the global order."""
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
    """Opens anew where it is sent: places of rows count from where its batches begin."""

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
