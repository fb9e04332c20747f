"""The rows that each process reads, and their transfer to the devices."""

import jax
import numpy as np
import pytest

from irec_jax.batches.elastic import Reader
from irec_jax.errors import InputError
from irec_jax.training.device_put import place_batch, reader_of, share_of
from irec_jax.training.sharding import MeshConfig, batch_sharding, make_mesh

from .conftest import ToyBatches

pytestmark = pytest.mark.fast


def test_processes_that_hold_the_same_rows_read_the_same():
    held = {0: {0, 1}, 1: {0, 1}, 2: {2, 3}, 3: {2, 3}}
    assert share_of(held, 0) == share_of(held, 1) == Reader(0, 2, (0, 1))
    assert share_of(held, 3) == Reader(1, 2, (2, 3))


def test_the_rows_of_a_process_need_not_be_consecutive():
    held = {0: {0, 1, 6, 7}, 1: {2, 3, 4, 5}}
    assert share_of(held, 0) == Reader(0, 2, (0, 1, 6, 7))
    assert share_of(held, 1) == Reader(1, 2, (2, 3, 4, 5))


@pytest.mark.parametrize("held", [{0: {0, 1}, 1: {1, 2}}, {0: {0, 1}, 1: {2}}])
def test_processes_that_share_some_but_not_all_rows_are_refused(held):
    with pytest.raises(InputError, match=r"mesh\.tensor"):
        share_of(held, 0)


def test_one_process_holds_all_rows_in_their_order():
    sharding = batch_sharding(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2)))
    assert reader_of(sharding, 8) == Reader(0, 1, tuple(range(8)))
    batch = next(ToyBatches())
    on_devices = place_batch(sharding, 8, batch)
    jax.tree.map(np.testing.assert_array_equal, on_devices, batch)
    assert on_devices.inputs.sharding == sharding
    with pytest.raises(InputError, match=r"train\.batch_size"):
        place_batch(sharding, 16, batch)
