"""Where arrays of the train state live, and that it does not change what is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from irec_jax.errors import InputError
from irec_jax.model.config import XL
from irec_jax.model.params import abstract
from irec_jax.training.init_weights import from_scratch
from irec_jax.training.loop import dropout_key, first_state
from irec_jax.training.optimizer import OptimizerConfig, make_optimizer
from irec_jax.training.sharding import (
    MeshConfig,
    batch_sharding,
    check_batch,
    make_mesh,
    state_shardings,
)
from irec_jax.training.step import compile_step

SIZES = {"data": 2, "fsdp": 2, "tensor": 2}


def specs(tree, sizes):
    shardings = state_shardings(make_mesh(MeshConfig(**sizes)), tree)
    return jax.tree.map(lambda place: place.spec, shardings)


def test_the_weights_are_cut_by_what_they_are():
    found = specs(abstract(XL), SIZES)
    assert found["embedding"] == P("tensor", "fsdp")
    assert found["head"] == P("fsdp", "tensor")
    layers = found["decoder"]["layers"]
    for block in ("attention", "across"):
        for name in ("query", "key", "value"):
            assert layers[block][name] == P(None, "fsdp", "tensor")
        assert layers[block]["output"] == P(None, "tensor", "fsdp")
    assert layers["feed_forward"]["gate"] == layers["feed_forward"]["up"]
    assert layers["feed_forward"]["up"] == P(None, "fsdp", "tensor")
    assert layers["feed_forward"]["down"] == P(None, "tensor", "fsdp")
    assert layers["attention_norm"]["scale"] == found["decoder"]["bias"] == P()


@pytest.mark.parametrize("kind", ["adamw", "adafactor"])
def test_the_optimizer_is_cut_as_its_weights_are(kind):
    shapes = abstract(XL)
    state = jax.eval_shape(make_optimizer(OptimizerConfig(kind=kind), 10).init, shapes)
    found, weights = specs(state, SIZES)[1], specs(shapes, SIZES)
    if kind == "adamw":
        assert found.mu == found.nu == weights
    else:
        row = found["encoder"]["layers"]["attention"]["query"][0]
        assert (row.v_row, row.v_col, row.v) == (P(None, "fsdp"), P(None, "fsdp"), P())
        whole = found["encoder"]["layers"]["attention_norm"]["scale"][0]
        assert whole.v == P()


def test_an_axis_that_does_not_divide_stays_whole_and_the_largest_that_does_is_cut():
    sizes = {"data": 1, "fsdp": 8, "tensor": 1}
    tree = {
        "embedding": jax.ShapeDtypeStruct((64, 12), jnp.float32),
        "anything": jax.ShapeDtypeStruct((16, 24, 7), jnp.float32),
        "layers": {"odd": jax.ShapeDtypeStruct((8, 3), jnp.float32)},
    }
    found = specs(tree, sizes)
    assert found["embedding"] == P("fsdp", None)
    assert found["anything"] == P(None, "fsdp", None)
    assert found["layers"]["odd"] == P(), "the layer axis is never cut"


MESHES = {
    "one": {"devices": 1},
    "data": {"devices": 8},
    "all": {"devices": 8, "mesh": MeshConfig(data=2, fsdp=2, tensor=2)},
}


def few_losses(job):
    step, target, _ = compile_step(job.model, job.optimizer, job.train, job.mesh)
    state, key, losses = first_state(job, target), dropout_key(job), []
    for _ in range(4):
        batch = jax.device_put(next(job.batches), batch_sharding(job.mesh))
        with jax.set_mesh(job.mesh):
            state, scalars = step(state, batch, key)
        losses.append(float(scalars["loss"]))
    return losses, state


def test_losses_do_not_depend_on_the_mesh(make_job, tmp_path):
    losses, states = {}, {}
    for name, mesh in MESHES.items():
        losses[name], states[name] = few_losses(make_job(tmp_path, **mesh))
    np.testing.assert_allclose(losses["data"], losses["one"], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(losses["all"], losses["one"], atol=1e-5, rtol=1e-5)
    assert len(set(losses["one"])) == 4, "the weights do not move"
    # After some steps everything is still where it began: an eighth or a quarter a device.
    whole = states["all"]
    moment = whole.optimizer_state[1]["head"][0].v
    for leaf in (whole.params["head"], moment):
        assert leaf.sharding.spec == P("fsdp", "tensor")
        assert leaf.addressable_shards[0].data.shape == (8, 16)


def test_random_weights_do_not_depend_on_the_mesh(tiny, params, make_job, tmp_path):
    job = make_job(tmp_path, **MESHES["all"])
    _, target, _ = compile_step(job.model, job.optimizer, job.train, job.mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, target.params)
    found = from_scratch(tiny, 0)(places)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), params)
    assert found["head"].sharding.spec == P("fsdp", "tensor")


@pytest.mark.parametrize(
    ("config", "message"),
    [({"data": 3}, "does not fit 8 devices"), ({"fsdp": 3}, "does not fit 8 devices")],
)
def test_a_mesh_that_does_not_fit_is_refused(config, message):
    with pytest.raises(InputError, match=message):
        make_mesh(MeshConfig(**config))


@pytest.mark.parametrize("config", [{"data": 0}, {"fsdp": -1}, {"tensor": 0}])
def test_an_impossible_axis_is_named(config):
    with pytest.raises(InputError, match=f"mesh.{next(iter(config))}"):
        MeshConfig(**config)


def test_a_batch_that_cannot_be_cut_is_refused_with_the_nearest_that_can():
    with pytest.raises(InputError, match="Give 8 or 16"):
        check_batch(make_mesh(MeshConfig()), 10)
    check_batch(make_mesh(MeshConfig(tensor=8)), 10)
