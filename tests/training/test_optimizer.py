"""Schedules against values by hand, updates against Optax on one layer at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from irec_jax.errors import InputError
from irec_jax.training.optimizer import (
    OptimizerConfig,
    decay_mask,
    find_average,
    learning_rate,
    make_optimizer,
)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", {1: 0.25, 4: 1.0, 5: 1.0, 12: 1.0}),
        ("linear", {1: 0.25, 4: 1.0, 5: 1.0, 9: 0.5, 12: 0.125}),
        ("cosine", {1: 0.25, 4: 1.0, 5: 1.0, 9: 0.5}),
        ("inverse_sqrt", {1: 0.25, 4: 1.0, 9: 2 / 3, 12: (4 / 12) ** 0.5}),
    ],
)
def test_a_schedule_warms_up_and_then_follows_its_formula(schedule, expected):
    rate = learning_rate(OptimizerConfig(peak=1.0, schedule=schedule, warmup=4), steps=12)
    for step, value in expected.items():
        np.testing.assert_allclose(rate(step - 1), value, rtol=1e-6)


def two_layers(rng, width, hidden):
    def draw(*shape):
        return jnp.asarray(rng.normal(0, 1, shape), jnp.float32)

    return {"embedding": draw(160, width), "layers": {"up": draw(2, width, hidden)}}


@pytest.mark.parametrize("size", [(128, 160), (8, 16)], ids=["factored", "whole"])
def test_adafactor_updates_each_stacked_layer_as_optax_does_one_matrix(size):
    rng = np.random.default_rng(0)
    params = two_layers(rng, *size)
    # Layers of different scale show whether means are taken over both.
    params["layers"]["up"] *= jnp.asarray([1.0, 10.0])[:, None, None]
    ours = make_optimizer(OptimizerConfig(kind="adafactor", peak=0.1, clip=0.0), 10)
    theirs = optax.adafactor(0.1)
    alone = {
        "embedding": params["embedding"], 0: params["layers"]["up"][0], 1: params["layers"]["up"][1]
    }  # fmt: skip
    state, other = ours.init(params), {name: theirs.init(value) for name, value in alone.items()}
    for _ in range(3):
        gradient = two_layers(rng, *size)
        gradient["layers"]["up"] *= jnp.asarray([1.0, 100.0])[:, None, None]
        updates, state = ours.update(gradient, state, params)
        for name, value in alone.items():
            part = gradient["embedding"] if name == "embedding" else gradient["layers"]["up"][name]
            expected, other[name] = theirs.update(part, other[name], value)
            got = updates["embedding"] if name == "embedding" else updates["layers"]["up"][name]
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-7)


def test_adafactor_factors_each_layer_not_the_stack():
    params = two_layers(np.random.default_rng(0), 128, 160)
    shapes = jax.tree.map(jnp.shape, make_optimizer(OptimizerConfig(), 1).init(params)[1])
    factored = shapes["layers"]["up"][0]
    assert (factored.v_row, factored.v_col, factored.v) == ((2, 128), (2, 160), (2, 1))


def test_adamw_equals_optax_with_decay_on_matrices_only():
    rng = np.random.default_rng(0)

    def draw():
        return {
            "encoder": {"bias": jnp.asarray(rng.normal(size=(4, 2)), jnp.float32)},
            "layers": {
                "up": jnp.asarray(rng.normal(size=(2, 4, 3)), jnp.float32),
                "attention_norm": {"scale": jnp.asarray(rng.normal(size=(2, 4)), jnp.float32)},
            },
        }

    params = draw()
    settings = OptimizerConfig(kind="adamw", peak=0.1, weight_decay=0.3, clip=1.0, b2=0.9)
    mask = {"encoder": {"bias": False}, "layers": {"up": True, "attention_norm": {"scale": False}}}
    assert decay_mask(params) == mask
    ours = make_optimizer(settings, 10)
    adamw = optax.adamw(0.1, b2=0.9, weight_decay=0.3, mask=mask)
    theirs = optax.chain(optax.clip_by_global_norm(1.0), adamw)
    state, other = ours.init(params), theirs.init(params)
    for _ in range(3):
        gradient = draw()
        updates, state = ours.update(gradient, state, params)
        expected, other = theirs.update(gradient, other, params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates, expected)


def test_muon_updates_each_stacked_layer_as_optax_does_one_matrix():
    rng = np.random.default_rng(0)

    def draw():
        params = two_layers(rng, 8, 24)
        params["layers"]["attention_norm"] = {"scale": jnp.asarray(rng.normal(size=(2, 8)))}
        return params

    params = draw()
    ours = make_optimizer(OptimizerConfig(kind="muon", peak=0.1, clip=0.0), 10)
    matrix = optax.contrib.muon(0.1, consistent_rms=0.2, weight_decay=0.0)
    adam = optax.adam(0.1, b2=0.98)
    rest = {"embedding": params["embedding"], "scale": params["layers"]["attention_norm"]["scale"]}
    state, other = ours.init(params), adam.init(rest)
    layers = [matrix.init(params["layers"]["up"][layer]) for layer in range(2)]
    for _ in range(3):
        gradient = draw()
        gradient["layers"]["up"] *= jnp.asarray([1.0, 100.0])[:, None, None]
        updates, state = ours.update(gradient, state, params)
        for layer in range(2):
            expected, layers[layer] = matrix.update(
                gradient["layers"]["up"][layer], layers[layer], params["layers"]["up"][layer]
            )
            np.testing.assert_allclose(updates["layers"]["up"][layer], expected, rtol=1e-4)
        gradients = {
            "embedding": gradient["embedding"],
            "scale": gradient["layers"]["attention_norm"]["scale"],
        }
        expected, other = adam.update(gradients, other, rest)
        np.testing.assert_allclose(updates["embedding"], expected["embedding"], rtol=1e-5)
        found = updates["layers"]["attention_norm"]["scale"]
        np.testing.assert_allclose(found, expected["scale"], rtol=1e-5)


def test_the_running_average_is_of_the_weights_after_each_step():
    rng = np.random.default_rng(0)
    params = two_layers(rng, 4, 6)
    optimizer = make_optimizer(OptimizerConfig(kind="adamw", peak=0.1, average=0.9), 10)
    state = optimizer.init(params)
    expected = jax.tree.map(np.asarray, params)
    for _ in range(4):
        updates, state = optimizer.update(two_layers(rng, 4, 6), state, params)
        params = optax.apply_updates(params, updates)
        expected = jax.tree.map(lambda a, w: 0.9 * a + 0.1 * np.asarray(w), expected, params)
    found = find_average(state)
    jax.tree.map(
        lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6), found, expected
    )
    assert find_average(make_optimizer(OptimizerConfig(), 10).init(params)) is None


@pytest.mark.parametrize(
    ("setting", "where"),
    [
        ({"peak": 0.0}, "optimizer.peak"),
        ({"peak": float("nan")}, "optimizer.peak"),
        ({"warmup": -1}, "optimizer.warmup"),
        ({"clip": -1.0}, "optimizer.clip"),
        ({"b2": 1.0}, "optimizer.b2"),
        ({"average": 1.0}, "optimizer.average"),
    ],
)
def test_an_invalid_setting_is_named(setting, where):
    with pytest.raises(InputError, match=where):
        OptimizerConfig(**setting)


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(InputError, match=r"optimizer\.warmup"):
        learning_rate(OptimizerConfig(warmup=20), steps=10)
