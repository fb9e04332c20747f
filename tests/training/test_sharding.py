"""Shardings of the train state, and equal losses on every mesh."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from irec_jax.errors import InputError
from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig, abstract_adapters
from irec_jax.model.params import abstract
from irec_jax.training.init_weights import from_scratch
from irec_jax.training.initial_state import dropout_key, init_state
from irec_jax.training.optimizer import (
    OptimizerConfig,
    is_stacked,
    make_optimizer,
    path_name,
    per_layer,
)
from irec_jax.training.sharding import (
    MeshConfig,
    batch_sharding,
    check_batch,
    make_mesh,
    partition_specs,
)
from irec_jax.training.step import compile_step

XL = T5Config.flan("xl")

SPECS = Path(__file__).with_name("state_specs.json")


ALL_SIZES = [
    {"replica": 1, "data": 2, "fsdp": 2, "tensor": 2},
    {"replica": 1, "data": 1, "fsdp": 8, "tensor": 1},
    {"replica": 1, "data": 1, "fsdp": 1, "tensor": 8},
]
SIZES = ALL_SIZES[0]
ADAPTERS = LoraConfig(rank=8, targets="(query|value|down)$", whole="^head$")


def test_weights_are_sharded_by_their_rules():
    found = partition_specs(SIZES, abstract(XL))
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


def optimizer_specs(optimizer, params, sizes=SIZES):
    return partition_specs(sizes, jax.eval_shape(optimizer.init, params), params)


def trained(lora):
    return abstract_adapters(abstract(XL), ADAPTERS) if lora else abstract(XL)


@pytest.mark.parametrize(
    ("name", "settings", "lora"),
    [
        ("adafactor with average", OptimizerConfig(average=0.5), False),
        ("adamw", OptimizerConfig(kind="adamw"), False),
        ("muon", OptimizerConfig(kind="muon"), False),
        ("adamw of adapters", OptimizerConfig(kind="adamw"), True),
        ("adafactor of adapters", OptimizerConfig(), True),
    ],
)
def test_the_optimizer_state_has_its_committed_specs(name, settings, lora):
    """The file has each array that a mesh of `ALL_SIZES` shards, except Muon's `mu`."""
    expected = json.loads(SPECS.read_text())[name]
    found: dict[str, list[str]] = {}
    for sizes in ALL_SIZES:
        tree = optimizer_specs(make_optimizer(settings, 10), trained(lora), sizes)
        for path, spec in jax.tree_util.tree_leaves_with_path(tree):
            axes = ",".join(axis or "-" for axis in spec)
            found.setdefault(path_name(path), []).append(axes or "-")
    sharded = {path: specs for path, specs in found.items() if set(specs) != {"-"}}
    muon = {path for path in sharded if path.endswith("/0/mu")}
    assert {path: " | ".join(sharded[path]) for path in sharded.keys() - muon} == expected
    assert bool(muon) == (name == "muon")


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.lion(1e-3),
        optax.adan(1e-3),
        optax.chain(optax.ema(0.9), per_layer(optax.scale_by_lion(), is_stacked)),
        make_optimizer(OptimizerConfig(kind="muon"), 10),
    ],
    ids=["lion", "adan", "lion per layer", "muon"],
)
@pytest.mark.parametrize("lora", [False, True], ids=["weights", "adapters"])
def test_an_array_of_any_optimizer_is_sharded_like_the_parameter_of_its_shape(optimizer, lora):
    params = trained(lora)
    state = jax.eval_shape(optimizer.init, params)
    found = dict(jax.tree_util.tree_leaves_with_path(optimizer_specs(optimizer, params)))
    weights = {
        path_name(path): (leaf.shape, spec)
        for (path, leaf), spec in zip(
            jax.tree_util.tree_leaves_with_path(params),
            jax.tree.leaves(partition_specs(SIZES, params)),
            strict=True,
        )
    }
    checked = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        (parameter,) = [name for name in weights if f"/{name}/" in f"/{path_name(path)}/"] or [""]
        shape, spec = weights.get(parameter, (None, P()))
        if leaf.shape == shape:
            checked += spec != P()
            assert found[path] == spec, path_name(path)
        elif leaf.ndim == 0:
            assert found[path] == P()
    assert checked >= len([spec for _, spec in weights.values() if spec != P()])


def test_fsdp_takes_the_largest_axis_that_it_divides_where_no_rule_applies():
    tree = {
        "embedding": jax.ShapeDtypeStruct((64, 12), jnp.float32),
        "anything": jax.ShapeDtypeStruct((16, 24, 7), jnp.float32),
        "layers": {"odd": jax.ShapeDtypeStruct((8, 3), jnp.float32)},
    }
    found = partition_specs(ALL_SIZES[1], tree)
    assert found["embedding"] == P("fsdp", None)
    assert found["anything"] == P(None, "fsdp", None)
    assert found["layers"]["odd"] == P(), "the layer axis is never sharded"


MESHES = {
    "one": {"devices": 1},
    "data": {"devices": 8},
    "all": {"devices": 8, "mesh": MeshConfig(data=2, fsdp=2, tensor=2)},
}


def few_losses(inputs):
    step, target, _ = compile_step(inputs.model, inputs.optimizer, inputs.train, inputs.mesh)
    state, key, losses = init_state(inputs, target), dropout_key(inputs), []
    for _ in range(4):
        batch = jax.device_put(next(inputs.batches), batch_sharding(inputs.mesh))
        with jax.set_mesh(inputs.mesh):
            state, scalars = step(state, batch, key)
        losses.append(float(scalars["loss"]))
    return losses, state


def test_losses_do_not_depend_on_the_mesh(make_inputs, tmp_path):
    losses, states = {}, {}
    for name, mesh in MESHES.items():
        losses[name], states[name] = few_losses(make_inputs(tmp_path, **mesh))
    np.testing.assert_allclose(losses["data"], losses["one"], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(losses["all"], losses["one"], atol=1e-5, rtol=1e-5)
    assert len(set(losses["one"])) == 4, "the weights do not change"
    # The steps keep the shardings.
    state = states["all"]
    moment = state.optimizer_state[1]["head"][0].v
    for leaf in (state.params["head"], moment):
        assert leaf.sharding.spec == P("fsdp", "tensor")
        assert leaf.addressable_shards[0].data.shape == (8, 16)


def test_random_weights_do_not_depend_on_the_mesh(tiny, params, make_inputs, tmp_path):
    inputs = make_inputs(tmp_path, **MESHES["all"])
    _, target, _ = compile_step(inputs.model, inputs.optimizer, inputs.train, inputs.mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target.params)
    found = from_scratch(tiny, 0)(shardings)
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
def test_an_invalid_axis_is_named(config):
    with pytest.raises(InputError, match=f"mesh.{next(iter(config))}"):
        MeshConfig(**config)


def test_a_batch_that_the_mesh_does_not_divide_is_refused_with_the_nearest_sizes():
    with pytest.raises(InputError, match="Set it to 8 or 16"):
        check_batch(make_mesh(MeshConfig()), 10)
    check_batch(make_mesh(MeshConfig(tensor=8)), 10)
