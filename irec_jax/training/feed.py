"""Where the rows of a batch go: each process puts its own on its devices."""

import functools

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Int

from irec_jax.batches.batch import Batch
from irec_jax.errors import InputError
from irec_jax.training.processes import how_many


def place_batch(sharding: NamedSharding, batch_size: int, batch: Batch) -> Batch:
    """Puts a batch on the devices.

    Args:
        sharding: How rows are cut.
        batch_size: Rows on all devices together.
        batch: All the rows, the same in every process, of which each puts on its devices what
            belongs there; or, if it has as many fewer rows as there are processes, the part of
            this one.

    Returns:
        The same rows in the same order, whatever the number of processes, if all have all rows.

    Raises:
        InputError: The batch has another number of rows.
    """
    rows = batch.inputs.shape[0]
    if batch_size not in (rows, rows * how_many()):
        what = f"a batch of {rows} rows in one of {how_many()} processes, for {batch_size} in all"
        mend = "Give every process all rows, or each its equal part."
        raise InputError(what, where="train.batch_size", mend=mend)
    return jax.tree.map(functools.partial(_place_rows, sharding, batch_size), batch)


def _place_rows(
    sharding: NamedSharding, batch_size: int, rows: Int[np.ndarray, "rows length"]
) -> jax.Array:
    # Where a process has all rows JAX takes those of its devices, else it has just those.
    shape = (batch_size, rows.shape[1])
    return jax.make_array_from_process_local_data(sharding, rows, shape)
