"""Names of slices, and the links of a slice that an exchange can use."""

import math

import pytest

from irec_jax.errors import InputError
from irec_jax.planning.topology import Topology, datasheet, libtpu_arguments

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("text", "generation", "shape", "slices", "chips", "devices"),
    [
        ("v5e:8x8", "v5e", (8, 8), 1, 64, 64),
        ("v5e:4x4*2", "v5e", (4, 4), 2, 32, 32),
        ("v5p:4x4x4", "v5p", (4, 4, 4), 1, 64, 64),
        ("tpu7x:2x2x1", "tpu7x", (2, 2, 1), 1, 4, 8),
    ],
)
def test_a_name_is_parsed_and_formatted(text, generation, shape, slices, chips, devices):
    topology = Topology.parse(text)
    assert (topology.generation, topology.shape, topology.slices) == (generation, shape, slices)
    assert (topology.chips, topology.devices) == (chips, devices)
    assert str(topology) == text


def test_the_number_of_slices_may_be_a_separate_argument():
    assert str(Topology.parse("v5e:4x4", 3)) == "v5e:4x4*3"
    assert Topology.parse("local").chip is None


@pytest.mark.parametrize("text", ["v5e", "v9:2x2", "v5e:2x2x2", "v5p:4x4", "v5e:0x4", "v5e:2x2*0"])
def test_a_malformed_topology_is_refused(text):
    with pytest.raises(InputError, match="topology"):
        Topology.parse(text)


def test_every_generation_has_a_source_and_increasing_shapes():
    for name, chip in datasheet().items():
        assert chip.source.startswith("https://"), name
        assert 0.85 * chip.hbm / chip.devices < chip.usable < 1.02 * chip.hbm / chip.devices
        sizes = [math.prod(map(int, shape.split("x"))) for shape in chip.shapes]
        assert sizes == sorted(set(sizes)), name


def test_larger_topologies_keep_the_number_of_slices():
    assert [str(larger) for larger in Topology.parse("v5e:8x8*2").larger()] == [
        "v5e:8x16*2",
        "v5e:16x16*2",
    ]
    assert Topology.parse("local").larger() == []


def coordinates(*extents):
    grid = [()]
    for extent in extents:
        grid = [(*chip, position) for chip in grid for position in extent]
    return grid


@pytest.mark.parametrize(
    ("text", "extents", "links"),
    [
        ("v5e:8x8", (range(8), range(8)), 2),  # two lines: their ends have one neighbor
        ("v5e:16x16", (range(16), range(16)), 4),  # two rings
        ("v5e:16x16", (range(16), range(1)), 2),
        ("v5e:16x16", (range(8), range(1)), 1),  # a part of a ring is a line
        ("v5p:4x4x4", (range(4), range(4), range(4)), 6),
        ("v5p:2x2x1", (range(2), range(2), range(1)), 2),
        ("v5e:2x2", (range(1), range(1)), 0),
    ],
)
def test_rings_have_two_links_and_lines_one(text, extents, links):
    assert Topology.parse(text).links(coordinates(*extents)) == links


def test_a_given_stack_size_is_kept():
    default = libtpu_arguments("")
    assert libtpu_arguments("--a=1") == f"--a=1 {default}"
    assert libtpu_arguments(f"{default.split('=')[0]}=99 --a=1").endswith("=99 --a=1")
    assert libtpu_arguments(default) == default
