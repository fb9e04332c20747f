"""Transfer of batches to the devices: each process puts its own rows."""

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


@functools.cache
def reader_of(sharding: NamedSharding, batch_size: int) -> Reader:
    """Return the rows of a batch that the devices of this process hold.

    Processes may hold the same rows, as those along the tensor axis do.

    Args:
        sharding: The sharding of the rows.
        batch_size: Rows on all devices together.

    Raises:
        InputError: Two processes share some of their rows, but not all.
    """
    held: dict[int, set[int]] = {}
    for device, (rows, *_) in sharding.devices_indices_map((batch_size,)).items():
        held.setdefault(device.process_index, set()).update(range(batch_size)[rows])
    return share_of(held, jax.process_index())


def share_of(held: Mapping[int, Set[int]], process: int) -> Reader:
    """Return the rows of a batch that a process reads.

    Args:
        held: The rows that the devices of each process hold, by process.
        process: The number of the process.

    Raises:
        InputError: Two processes share some of their rows, but not all.
    """
    groups = sorted({tuple(sorted(rows)) for rows in held.values()})
    count = len(set().union(*groups))
    if sum(map(len, groups)) != count or len({len(rows) for rows in groups}) > 1:
        raise InputError(
            "two processes share some of their rows, but not all",
            where="mesh.tensor",
            hint="Set it to a divisor or a multiple of the number of devices per process.",
        )
    own = tuple(sorted(held[process]))
    return Reader(groups.index(own), len(groups), own)


def place_batch(sharding: NamedSharding, batch_size: int, batch: Batch) -> Batch:
    """Put a batch on the devices.

    Args:
        sharding: The sharding of the rows.
        batch_size: Rows on all devices together.
        batch: Numpy arrays of all rows, the same in every process; or of the rows that
            `reader_of` returns for this process.

    Returns:
        Global arrays of all rows, in the same order for any number of processes.

    Raises:
        InputError: The batch has another number of rows.
    """
    rows = batch.inputs.shape[0]
    if rows == batch_size:
        numbers = tuple(range(batch_size))
    else:
        numbers = reader_of(sharding, batch_size).rows
    if rows != len(numbers):
        problem = (
            f"expected a batch of {batch_size} rows or of the {len(numbers)} rows of this process, "
            f"got {rows}"
        )
        hint = "Pass all rows to every process, or to each the rows of its devices."
        raise InputError(problem, where="train.batch_size", hint=hint)
    return jax.tree.map(functools.partial(_place_rows, sharding, batch_size, numbers), batch)


def _place_rows(
    sharding: NamedSharding,
    batch_size: int,
    numbers: tuple[int, ...],
    rows: Int[np.ndarray, "rows length"],
) -> jax.Array:
    def part(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(batch_size)
        # The rows of a device are consecutive, so they are among those of its process too.
        first = numbers.index(start)
        return rows[first : first + stop - start, index[1]]

    return jax.make_array_from_callback((batch_size, rows.shape[1]), sharding, part)
