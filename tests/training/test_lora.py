"""Adapters: zero at first, trained alone, and merged exactly."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from irec_jax.errors import InputError
from irec_jax.model.config import T5Config
from irec_jax.model.lora import (
    LoraConfig,
    abstract_adapters,
    first_adapters,
    frozen_part,
    merged,
    reached_part,
    trained_share,
)
from irec_jax.model.params import abstract, structure
from irec_jax.training.checkpoint import TrainState
from irec_jax.training.config import TrainConfig
from irec_jax.training.loss import token_loss
from irec_jax.training.optimizer import OptimizerConfig, make_optimizer
from irec_jax.training.sharding import (
    MeshConfig,
    batch_sharding,
    make_mesh,
    partition_specs,
)
from irec_jax.training.step import compile_step

XL = T5Config.flan("xl")

LORA = LoraConfig(rank=2, alpha=4.0, targets=r"/(query|value|gate)$")


@pytest.fixture(scope="module")
def model(tiny):
    return dataclasses.replace(tiny, encoder_layers=2, decoder_layers=2, dropout=0.0)


@pytest.fixture(scope="module")
def weights(model):
    shapes = abstract(model)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)


def put(tree, target):
    """Put arrays on the devices with the shardings of a tree of shapes."""
    return jax.device_put(tree, jax.tree.map(lambda leaf: leaf.sharding, target))


def loss_of(model, weights, batch):
    total, count = jax.jit(lambda w: token_loss(structure(model), w, batch, None))(weights)
    return float(total / count)


def test_initial_adapters_change_nothing_and_differ_from_each_other(weights):
    adapters = first_adapters(weights, LORA, jax.random.key(0))
    whole = merged(weights, adapters, LORA)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), weights)
    downs = [adapters[side]["layers"]["attention"]["query"]["down"] for side in
             ("encoder", "decoder")]  # fmt: skip
    assert not np.allclose(downs[0], downs[1])
    assert not np.allclose(downs[0][0], downs[0][1]), "each layer has its own values"


@pytest.mark.parametrize("mesh", [MeshConfig(data=1), MeshConfig(data=2, fsdp=2, tensor=2)])
def test_only_the_adapters_are_trained_and_merging_is_exact(model, weights, toy_batches, mesh):
    size = mesh.data * mesh.fsdp * mesh.tensor
    devices = make_mesh(mesh, jax.devices()[:size])
    settings, train = OptimizerConfig(kind="adamw", peak=5e-2), TrainConfig(steps=8)
    step = compile_step(model, settings, train, devices, LORA)
    assert step.frozen is not None
    adapters = jax.device_get(first_adapters(weights, LORA, jax.random.key(0)))
    state = TrainState(
        jnp.zeros((), jnp.int32), adapters, make_optimizer(settings, 8).init(adapters)
    )
    state, frozen = put(state, step.target), put(weights, step.frozen)
    losses = []
    batch = next(toy_batches)
    with jax.set_mesh(devices):
        for _ in range(8):
            rows = jax.device_put(batch, batch_sharding(devices))
            state, scalars = step.run(state, rows, jax.random.key(0), frozen)
            losses.append(float(scalars["loss"]))
    assert losses[-1] < losses[0] - 0.01
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(frozen), weights)
    whole = jax.device_get(merged(weights, jax.device_get(state.params), LORA))
    changed = {
        "/".join(str(part.key) for part in path)
        for (path, new), old in zip(
            jax.tree_util.tree_leaves_with_path(whole), jax.tree.leaves(weights), strict=True
        )
        if not np.array_equal(new, old)
    }
    assert {name.rsplit("/", 1)[1] for name in changed} == {"query", "value", "gate"}
    # The loss of the next step, with merged weights instead of adapters.
    with jax.set_mesh(devices):
        rows = jax.device_put(batch, batch_sharding(devices))
        _, scalars = step.run(state, rows, jax.random.key(0), frozen)
    np.testing.assert_allclose(loss_of(model, whole, batch), float(scalars["loss"]), rtol=1e-5)


def test_the_merged_weight_is_that_of_the_paper(weights):
    adapters = first_adapters(weights, LORA, jax.random.key(0))
    query = adapters["encoder"]["layers"]["attention"]["query"]
    rng = np.random.default_rng(1)
    query["up"] = rng.normal(size=query["up"].shape).astype(np.float32)
    whole = merged(weights, adapters, LORA)["encoder"]["layers"]["attention"]["query"]
    old = weights["encoder"]["layers"]["attention"]["query"]
    for layer in range(2):
        expected = old[layer] + 2.0 * np.asarray(query["down"][layer]) @ query["up"][layer]
        np.testing.assert_allclose(whole[layer], expected, atol=1e-5)


@pytest.mark.parametrize("config", [T5Config.small(), T5Config.flan("base"), XL])
def test_adapters_of_usual_rank_are_less_than_two_percent_of_the_weights(config):
    assert 0 < trained_share(abstract(config), LoraConfig(rank=8)) < 0.02


def test_weights_can_be_trained_whole_beside_the_adapters(weights):
    config = dataclasses.replace(LORA, whole="^(embedding|head)$")
    shapes = abstract_adapters(weights, config)
    assert shapes["embedding"].shape == weights["embedding"].shape
    adapters = first_adapters(weights, config, jax.random.key(0))
    np.testing.assert_array_equal(adapters["head"], weights["head"])
    changed_head = {**adapters, "head": adapters["head"] + 1.0}
    np.testing.assert_array_equal(
        merged(weights, changed_head, config)["head"], weights["head"] + 1.0
    )
    frozen = frozen_part(weights, config)
    assert not {"embedding", "head"} & frozen.keys()
    jax.tree.map(
        np.testing.assert_array_equal,
        merged(frozen, changed_head, config),
        merged(weights, changed_head, config),
    )
    reached = reached_part(weights, config)
    assert set(reached) == {"decoder", "embedding", "encoder", "head"}
    assert set(reached["encoder"]["layers"]["feed_forward"]) == {"gate"}


def test_a_whole_weight_named_like_a_part_of_an_adapter_is_unchanged_at_first(weights):
    config = dataclasses.replace(LORA, whole="feed_forward/(up|down)$")
    adapters = first_adapters(weights, config, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, merged(weights, adapters, config), weights)


def test_an_adapter_is_sharded_like_its_weight_except_its_rank():
    every = LoraConfig(rank=8, targets="(query|key|value|output|gate|up|down|embedding|head)$")
    shapes = abstract_adapters(abstract(XL), every)
    init = make_optimizer(OptimizerConfig(kind="adamw"), 10).init
    sizes = {"replica": 1, "data": 2, "fsdp": 2, "tensor": 2}
    weights, adapters = (partition_specs(sizes, tree) for tree in (abstract(XL), shapes))
    state = partition_specs(sizes, jax.eval_shape(init, shapes), shapes)
    assert state[1].mu == adapters
    for side, block in (
        ("encoder", "attention"),
        ("decoder", "across"),
        ("decoder", "feed_forward"),
    ):
        for name, weight in weights[side]["layers"][block].items():
            _, inward, outward = weight
            assert adapters[side]["layers"][block][name] == {
                "down": P(None, inward, None),
                "up": P(None, None, outward),
            }
    for name in ("embedding", "head"):
        inward, outward = weights[name]
        assert adapters[name] == {"down": P(inward, None), "up": P(None, outward)}
    # `fsdp` does not take another axis, as in weights: adapters are small.
    specs = partition_specs({"replica": 1, "data": 2, "fsdp": 4, "tensor": 1}, shapes)
    query = specs["encoder"]["layers"]["attention"]["query"]
    assert query == {"down": P(None, "fsdp", None), "up": P()}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"rank": -1}, "rank"),
        ({"alpha": 0.0}, "alpha"),
        ({"targets": "("}, "targets"),
        ({"whole": "["}, "whole"),
    ],
)
def test_an_invalid_setting_is_named(settings, key):
    with pytest.raises(InputError, match=f"lora.{key}"):
        LoraConfig(**settings)


@pytest.mark.parametrize(
    ("targets", "message"), [("nothing", "matches no path"), ("scale", "is not a matrix")]
)
def test_targets_without_a_matrix_are_refused(weights, targets, message):
    with pytest.raises(InputError, match=message):
        abstract_adapters(weights, dataclasses.replace(LORA, targets=targets))
