"""Collectives read from programs in which they are known."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from irec_jax.planning.hlo import Collective, read_traffic, sent_share

pytestmark = pytest.mark.fast

SIZES = {"data": 2, "fsdp": 4}
ROWS, WIDTH = 16, 32  # per device


@pytest.fixture(scope="module")
def mesh():
    kinds = (AxisType.Auto,) * 2
    return jax.make_mesh(tuple(SIZES.values()), tuple(SIZES), axis_types=kinds)


def traffic_of(mesh, body):
    """Reads the collectives of `body`, which gets a `[ROWS, WIDTH]` float32 part per device."""
    spec = PartitionSpec(("data", "fsdp"))
    mapped = jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    shape = jax.ShapeDtypeStruct((8 * ROWS, WIDTH), jnp.float32, sharding=NamedSharding(mesh, spec))
    text = jax.jit(mapped).lower(shape).compile().as_text()
    return read_traffic(text, dict(mesh.shape)).collectives


BYTES = ROWS * WIDTH * 4
PAIRS = ((0, 1), (1, 2), (2, 3), (3, 0))
CASES = {
    "all-reduce over one axis": (
        lambda x: jax.lax.psum(x, "fsdp"),
        ("all-reduce", ("fsdp",), 4, BYTES),
    ),
    "all-reduce over both": (
        lambda x: jax.lax.psum(x, ("data", "fsdp")),
        ("all-reduce", ("data", "fsdp"), 8, BYTES),
    ),
    "all-gather": (
        lambda x: jax.lax.all_gather(x, "data").sum(0),
        ("all-gather", ("data",), 2, 2 * BYTES),
    ),
    "reduce-scatter": (
        lambda x: jnp.tile(jax.lax.psum_scatter(x, "fsdp", tiled=True), (4, 1)),
        ("reduce-scatter", ("fsdp",), 4, BYTES),
    ),
    "all-to-all": (
        lambda x: jax.lax.all_to_all(x.reshape(4, 4, WIDTH), "fsdp", 0, 0).reshape(ROWS, WIDTH),
        ("all-to-all", ("fsdp",), 4, BYTES),
    ),
    "collective-permute": (
        lambda x: jax.lax.ppermute(x, "fsdp", PAIRS),
        ("collective-permute", ("fsdp",), 2, BYTES),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_kind_has_its_bytes_and_axes(mesh, name):
    body, (kind, axes, chips, payload) = CASES[name]
    (collective,) = traffic_of(mesh, body)
    assert collective[:5] == (kind, axes, chips, payload, 1)


def test_loops_count_by_their_trip_count(mesh):
    def inner(carry, _):
        return jax.lax.psum(carry, "data") * 0.5, None

    def outer(carry, _):
        carry = jax.lax.psum(carry, "fsdp") * 0.25
        return jax.lax.scan(inner, carry, None, length=3)[0], None

    collectives = traffic_of(mesh, lambda x: jax.lax.scan(outer, x, None, length=7)[0])
    assert {(c.axes, c.times) for c in collectives} == {(("fsdp",), 7), (("data",), 21)}


def test_a_loop_that_ends_by_data_counts_with_the_maximum(mesh):
    def body(x):
        def more(carry):
            return carry[0] + 1, jax.lax.psum(carry[1], "data") * 0.5

        limit = jnp.int32(jnp.abs(x[0, 0]))
        return jax.lax.while_loop(lambda carry: carry[0] < limit, more, (jnp.int32(0), x))[1]

    spec = PartitionSpec(("data", "fsdp"))
    mapped = jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    shape = jax.ShapeDtypeStruct((8 * ROWS, WIDTH), jnp.float32, sharding=NamedSharding(mesh, spec))
    text = jax.jit(mapped).lower(shape).compile().as_text()
    traffic = read_traffic(text, dict(mesh.shape), unknown_trips=9)
    assert traffic.unknown_loops == 1
    assert [c.times for c in traffic.collectives] == [9]


# From libtpu: an all-gather split into two fusions of one channel, a loop with the trip count in
# its condition, an all-reduce that is half of a reduce-scatter, and asynchronous pairs.
TPU = Path(__file__).with_name("tpu_program.txt")


def test_collectives_of_a_tpu_program():
    traffic = read_traffic(TPU.read_text("utf-8"), SIZES)
    assert traffic.unknown_loops == 0
    assert sorted(collective[:5] for collective in traffic.collectives) == [
        ("all-gather", ("fsdp",), 4, 64 * 32 * 2, 24),
        ("all-reduce", ("data",), 2, 24 * 8 * 4 + 4, 1),
        ("collective-permute", ("data",), 2, 4 * 8 * 4, 1),
        ("reduce-scatter", ("fsdp",), 4, 64 * 8 * 2, 24),
        ("reduce-scatter", ("fsdp",), 4, 64 * 8 * 2, 24),
    ]


SLICES = """
ENTRY %main (x: f32[8]) -> f32[8] {
  %r.1 = f32[16,8]{1,0} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%add
  %r.2 = f32[64]{0} all-reduce(%x), channel_id=1, replica_groups={{0,1,2,3}}, to_apply=%add
  %s.1 = (bf16[32,8]{1,0:T(8,128)(2,1)}, u32[], token[]) send(%r.1, %t), channel_id=1, \
is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"\
,_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %s.2 = (f32[7]{0}, u32[], token[]) send(%r.1, %t), channel_id=2, is_host_transfer=true
}
"""


def test_slices_have_their_own_programs_and_send_through_their_hosts():
    mesh = {"replica": 2, "data": 2, "fsdp": 2}
    collectives = read_traffic(SLICES, mesh, slices=2).collectives
    assert [collective[:5] for collective in collectives] == [
        ("all-reduce", ("fsdp",), 2, 16 * 8 * 4, 1),
        ("all-reduce", ("data", "fsdp"), 4, 64 * 4, 1),
        ("all-reduce", ("replica",), 2, 32 * 8 * 2, 1),
    ]
    assert collectives[2].members == (0, 4)


def groups_of(text):
    line = f"  %r = f32[8] all-reduce(%x), channel_id=1, replica_groups={text}, to_apply=%add"
    program = f"ENTRY %main (x: f32[8]) -> f32[8] {{\n{line}\n}}\n"
    (collective,) = read_traffic(program, {"a": 2, "b": 2, "c": 2}).collectives
    assert isinstance(collective, Collective)
    return collective.axes, collective.members


@pytest.mark.parametrize(
    ("text", "axes", "members"),
    [
        ("{{0,1},{2,3},{4,5},{6,7}}", ("c",), (0, 1)),
        ("[4,2]<=[8]", ("c",), (0, 1)),
        ("[4,2]<=[4,2]T(1,0)", ("b",), (0, 2)),
        ("[4,2]<=[2,4]T(1,0)", ("a",), (0, 4)),
        ("[2,4]<=[2,2,2]T(1,0,2)", ("a", "c"), (0, 1, 4, 5)),
        ("mesh['x'=4,'y'=2] {'y'}", ("c",), (0, 1)),
        ("mesh['x'=2,'y'=4], device_ids=([4,2]T(1,0)) {'x'}", ("c",), (0, 1)),
        ("mesh['x'=2,'y'=4], device_ids=([2,2,2]T(2,1,0)) {'x'}", ("c",), (0, 1)),
        ("mesh['x'=8] {'x':(2)2}", ("b",), (0, 2)),
        ("mesh['x'=8] {'x':(1)2}", ("a",), (0, 4)),
        ("{}", ("a", "b", "c"), tuple(range(8))),
    ],
)
def test_every_notation_of_groups_is_read(text, axes, members):
    assert groups_of(text) == (axes, members)


@pytest.mark.parametrize(
    ("kind", "chips", "share"),
    [
        ("all-gather", 4, 0.75),
        ("reduce-scatter", 8, 0.875),
        ("all-reduce", 2, 1.0),
        ("all-reduce", 4, 1.5),
        ("collective-permute", 2, 1.0),
        ("collective-permute", 1, 0.0),
        ("all-reduce", 1, 0.0),
    ],
)
def test_sent_share_of_each_kind(kind, chips, share):
    assert functools.partial(sent_share, kind)(chips) == pytest.approx(share)
