"""Where the rows of a batch go: each process puts its own on its devices."""

import functools
from collections.abc import Mapping, Set
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Int

from irec_jax.batches.batch import Batch
from irec_jax.batches.elastic import Reader
from irec_jax.errors import InputError
from irec_jax.training.distributed import process_count


@functools.cache
def reader_of(sharding: NamedSharding, batch_size: int) -> Reader:
    """Which rows of a batch the devices of this process hold; some processes may hold the same.

    Args:
        sharding: How rows are cut.
        batch_size: Rows on all devices together.

    Raises:
        InputError: Processes hold the same rows in part.
    """
    held: dict[int, set[int]] = {}
    for device, (rows, *_) in sharding.devices_indices_map((batch_size,)).items():
        held.setdefault(device.process_index, set()).update(range(batch_size)[rows])
    return share_of(held, jax.process_index())


def share_of(held: Mapping[int, Set[int]], process: int) -> Reader:
    """Which rows of a batch a process reads.

    Args:
        held: The rows that the devices of each process hold, all processes together all rows.
        process: Which one.

    Raises:
        InputError: Two hold some of their rows both and others not.
    """
    groups = sorted({tuple(sorted(rows)) for rows in held.values()})
    count = len(set().union(*groups))
    if sum(map(len, groups)) != count or len({len(rows) for rows in groups}) > 1:
        raise InputError(
            "some processes hold the same rows in part",
            where="mesh.tensor",
            hint="Let it divide the devices of a process, or be a multiple of them.",
        )
    own = tuple(sorted(held[process]))
    return Reader(groups.index(own), len(groups), own)


def place_batch(sharding: NamedSharding, batch_size: int, batch: Batch) -> Batch:
    """Puts a batch on the devices.

    Args:
        sharding: How rows are cut.
        batch_size: Rows on all devices together.
        batch: All the rows, the same in every process, of which each puts on its devices what
            belongs there; or just those, as `reader_of` names them.

    Returns:
        The same rows in the same order, whatever the number of processes.

    Raises:
        InputError: The batch has another number of rows.
    """
    rows = batch.inputs.shape[0]
    if rows == batch_size:
        places = tuple(range(batch_size))
    else:
        places = reader_of(sharding, batch_size).rows
    if rows != len(places):
        what = (
            f"a batch of {rows} rows in one of {process_count()} processes, for {batch_size} in all"
        )
        hint = "Give every process all rows, or each those of its devices."
        raise InputError(what, where="train.batch_size", hint=hint)
    return jax.tree.map(functools.partial(_place_rows, sharding, batch_size, places), batch)


def _place_rows(
    sharding: NamedSharding,
    batch_size: int,
    places: tuple[int, ...],
    rows: Int[np.ndarray, "rows length"],
) -> jax.Array:
    def part(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(batch_size)
        # A device's rows follow each other, so they do among those of its process.
        first = places.index(start)
        return rows[first : first + stop - start, index[1]]

    return jax.make_array_from_callback((batch_size, rows.shape[1]), sharding, part)
