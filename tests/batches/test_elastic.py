"""Stored rows as batches: one global order, for any number of hosts, from any position."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irec_jax.batches.elastic import Reader, packed_batches
from irec_jax.batches.packed import PackedRows, Packing, write_packed
from irec_jax.errors import InputError

from .fakes import FakeRenderer, fake_writer

pytestmark = pytest.mark.fast

ROW = 64


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "rows"
    packing = Packing(FakeRenderer(), {}, fake_writer(), ROW, 16)
    count = write_packed(packing, folder, 1_000).rows
    assert count % 8, "batches must go over the end of a pass for these tests to say anything"
    return folder


def order_of(folder: Path, rows: int) -> list[list[int]]:
    """The first rows of the global order."""
    one = iter(packed_batches(PackedRows(folder), batch_size=1, seed=3))
    return [np.asarray(next(one).inputs)[0].tolist() for _ in range(rows)]


def opened(folder: Path, hosts: int, batch_size: int, position: int = 0) -> list:
    readers = []
    for host in range(hosts):
        reader = Reader(host, hosts)
        readers.append(
            iter(packed_batches(PackedRows(folder), batch_size=batch_size, seed=3, reader=reader))
        )
        if position:
            readers[-1].set_state({"global_next_index": position})
    return readers


def joined(readers: list) -> list[list[int]]:
    """A global batch, the hosts' parts one after the other."""
    parts = [np.asarray(next(reader).inputs) for reader in readers]
    assert len({part.shape for part in parts}) == 1
    return np.concatenate(parts).tolist()


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_every_row_has_one_place_for_any_number_of_hosts(stored: Path, hosts: int):
    steps = 2 * len(PackedRows(stored)) // 8
    readers = opened(stored, hosts, 8)
    batches = [row for _ in range(steps) for row in joined(readers)]
    assert batches == order_of(stored, 8 * steps)


def test_an_epoch_has_every_row_once_and_another_order_each_time(stored: Path):
    rows = PackedRows(stored)
    count = len(rows)
    order = [tuple(row) for row in order_of(stored, 2 * count)]
    expected = sorted(tuple(rows[number]["inputs"].tolist()) for number in range(count))
    assert sorted(order[:count]) == sorted(order[count:]) == expected
    assert order[:count] != order[count:]


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.integers(0, 30),
    before=st.sampled_from([1, 2, 4]),
    after=st.sampled_from([1, 2, 3]),
    batch_size=st.sampled_from([6, 12]),
)
def test_a_position_serves_any_number_of_hosts_and_any_batch(
    stored: Path, steps: int, before: int, after: int, batch_size: int
):
    old = iter(packed_batches(PackedRows(stored), batch_size=8, seed=3, reader=Reader(0, before)))
    for _ in range(steps):
        next(old)
    (position,) = json.loads(json.dumps(old.get_state())).values()
    assert position == 8 * steps
    readers = opened(stored, after, batch_size, position)
    rows = [row for _ in range(3) for row in joined(readers)]
    assert rows == order_of(stored, position + 3 * batch_size)[position:]


def test_a_host_may_have_rows_from_anywhere_in_a_batch(stored: Path):
    order = order_of(stored, 16)
    for host, places in enumerate([(0, 1, 6, 7), (2, 3, 4, 5)]):
        reader = Reader(host, 2, places)
        batches = iter(packed_batches(PackedRows(stored), batch_size=8, seed=3, reader=reader))
        for start in (0, 8):
            assert next(batches).inputs.tolist() == [order[start + place] for place in places]


def test_iterators_of_one_data_set_do_not_share_a_position(stored: Path):
    batches = packed_batches(PackedRows(stored), batch_size=4, seed=0, read_threads=2)
    first, second = iter(batches), iter(batches)
    ahead = [np.asarray(next(first).targets).tolist() for _ in range(3)]
    assert [np.asarray(next(second).targets).tolist() for _ in range(3)] == ahead


def test_hosts_that_cannot_share_are_refused(stored: Path):
    with pytest.raises(InputError, match="3 hosts cannot share batches of 8"):
        packed_batches(PackedRows(stored), batch_size=8, seed=0, reader=Reader(0, 3))
    with pytest.raises(InputError, match="2 hosts cannot share batches of 8"):
        packed_batches(PackedRows(stored), batch_size=8, seed=0, reader=Reader(0, 2, (1, 2, 3)))
    with pytest.raises(InputError, match="must be between 0 and 1, got 2"):
        Reader(2, 2)
