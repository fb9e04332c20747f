"""The train step: equal on every mesh, with microbatches and with rematerialization."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from irec_jax.batches.batch import Batch
from irec_jax.errors import InputError
from irec_jax.model.params import initialize, merge, structure
from irec_jax.model.seq2seq import shift_right
from irec_jax.training.config import TrainConfig
from irec_jax.training.loss import Penalties, token_loss
from irec_jax.training.optimizer import OptimizerConfig
from irec_jax.training.sharding import (
    MeshConfig,
    batch_sharding,
    check_batch,
    make_mesh,
    state_shardings,
)
from irec_jax.training.step import abstract_batch, compile_step, loss_and_gradient

ROWS = 16
MESHES = {
    "1": MeshConfig(data=1),
    "2 tensor": MeshConfig(data=1, tensor=2),
    "4 fsdp": MeshConfig(data=1, fsdp=4),
    "4 data x tensor": MeshConfig(data=2, tensor=2),
    "8 fsdp": MeshConfig(data=1, fsdp=8),
    "8 data x fsdp x tensor": MeshConfig(data=2, fsdp=2, tensor=2),
    "8 replica x fsdp x tensor": MeshConfig(replica=2, data=1, fsdp=2, tensor=2),
}


@pytest.fixture(scope="module")
def model(tiny):
    return dataclasses.replace(tiny, encoder_layers=2, decoder_layers=2, dropout=0.0)


@pytest.fixture(scope="module")
def weights(model):
    return jax.device_get(jax.jit(initialize, static_argnums=0)(model, jax.random.key(2)))


@pytest.fixture(scope="module")
def batches(model):
    """Packed rows, and rows with one example each."""
    rng = np.random.default_rng(3)
    made = {}
    for name, most in (("packed", 4), ("unpacked", 2)):
        sides = []
        for length in (12, 6):
            segments = np.sort(rng.integers(0, most, (ROWS, length)), axis=1)[:, ::-1]
            tokens = rng.integers(2, model.vocabulary, (ROWS, length))
            sides += [np.where(segments > 0, tokens, 0), segments]
        made[name] = Batch(*(side.astype(np.int32) for side in sides))
    return made


def on_mesh(model, weights, batch, config, accumulate):
    sizes = config.replica * abs(config.data) * config.fsdp * config.tensor
    mesh = make_mesh(config, jax.devices()[:sizes])
    tokens = np.float32((batch.target_segments > 0).sum())

    def part_loss(params, part, key):
        return token_loss(structure(model), params, part, key)[0] / jnp.asarray(tokens)

    shardings = state_shardings(mesh, weights)
    with jax.set_mesh(mesh):
        found = jax.jit(
            lambda params, batch: loss_and_gradient(
                part_loss, params, batch, jax.random.key(0), accumulate
            ),
            in_shardings=(shardings, batch_sharding(mesh)),
        )(jax.device_put(weights, shardings), jax.device_put(batch, batch_sharding(mesh)))
    return jax.device_get(found)


FEW = ("2 tensor", "8 data x fsdp x tensor", "8 replica x fsdp x tensor")


@pytest.mark.parametrize(
    ("remat", "accumulate", "kind", "names"),
    [
        ("none", 1, "packed", tuple(MESHES)),
        ("none", 2, "unpacked", FEW),
        pytest.param("dots", 1, "packed", FEW[1:2], marks=pytest.mark.slow),
        pytest.param("full", 2, "unpacked", FEW[1:], marks=pytest.mark.slow),
    ],
)
def test_losses_and_gradients_are_equal_on_every_mesh(
    model, weights, batches, remat, accumulate, kind, names
):
    plain = on_mesh(model, weights, batches[kind], MESHES["1"], 1)
    model = dataclasses.replace(model, remat=remat)
    for name in names:
        loss, gradient = on_mesh(model, weights, batches[kind], MESHES[name], accumulate)
        np.testing.assert_allclose(loss, plain[0], rtol=1e-5, err_msg=name)
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(
                one, other, atol=1e-5 * np.abs(other).max(), rtol=1e-5
            ),
            gradient,
            plain[1],
        )


def test_the_gradient_is_that_of_the_mean_loss_over_all_tokens(model, weights, batches):
    batch = batches["packed"]

    def mean(params):
        total, weight = token_loss(structure(model), params, batch, None)
        return total / weight

    loss, gradient = on_mesh(model, weights, batch, MESHES["4 fsdp"], 4)
    expected_loss, expected = jax.jit(jax.value_and_grad(mean))(weights)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    np.testing.assert_allclose(gradient["embedding"], expected["embedding"], atol=1e-6)


@pytest.mark.slow
def test_rematerialization_needs_less_memory(model):
    # Under a scan: XLA for CPUs merges recomputed layers with the first ones if they are unrolled.
    sizes = {"encoder_layers": 8, "decoder_layers": 8, "width": 64, "mlp_dim": 256}
    deep = dataclasses.replace(model, **sizes, unroll_layers=False)
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    batch = abstract_batch(mesh, 32, 128, 32)
    needed = {}
    for remat in ("none", "dots", "full"):
        step = compile_step(
            dataclasses.replace(deep, remat=remat), OptimizerConfig(), TrainConfig(), mesh
        )
        key = jax.eval_shape(lambda: jax.random.key(0))
        with jax.set_mesh(mesh):
            compiled = step.run.lower(step.target, batch, key).compile()
        needed[remat] = compiled.memory_analysis().temp_size_in_bytes
    assert needed["full"] < needed["dots"] < needed["none"]
    assert needed["full"] < 0.5 * needed["none"]


def test_microbatches_give_the_same_update(model, batches):
    mesh = make_mesh(MeshConfig(data=2), jax.devices()[:2])
    states = {}
    for accumulate in (1, 4):
        train = TrainConfig(steps=3, batch_size=ROWS, accumulate=accumulate)
        step = compile_step(model, OptimizerConfig(kind="adamw", peak=1e-2), train, mesh)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, step.target)
        state = jax.jit(
            lambda target=step.target: jax.tree.map(
                lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), target
            ),
            out_shardings=shardings,
        )()
        with jax.set_mesh(mesh):
            for _ in range(2):
                batch = jax.device_put(batches["packed"], batch_sharding(mesh))
                state, scalars = step.run(state, batch, jax.random.key(0))
        states[accumulate] = jax.device_get((state.params, scalars))
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-6),
        states[1],
        states[4],
    )


def test_a_batch_that_microbatches_do_not_divide_is_refused():
    mesh = make_mesh(MeshConfig())
    check_batch(mesh, 32, 4)
    with pytest.raises(InputError, match=r"multiple of 8 .* x 4 .* got 24\n.*Set it to 32"):
        check_batch(mesh, 24, 4)


@pytest.mark.parametrize(
    "penalties", [Penalties(), Penalties(1e-2), Penalties(0.0, 0.1), Penalties(1e-2, 0.1)]
)
def test_the_loss_with_penalties_equals_that_of_optax(model, weights, batches, penalties):
    batch = batches["packed"]
    total, weight = jax.jit(
        lambda params: token_loss(structure(model), params, batch, None, penalties)
    )(weights)
    net = merge(structure(model), jax.tree.map(jnp.asarray, weights))
    encoded = net.encode(jnp.asarray(batch.inputs), jnp.asarray(batch.input_segments))
    segments = jnp.asarray(batch.target_segments)
    targets = jnp.asarray(batch.targets)
    hidden_states = net.decode(
        shift_right(targets, segments), segments, encoded, jnp.asarray(batch.input_segments)
    )
    logits = net.logits(hidden_states)
    labels = optax.smooth_labels(
        jax.nn.one_hot(targets, model.vocabulary), penalties.label_smoothing
    )
    losses = optax.softmax_cross_entropy(logits, labels)
    losses += penalties.z_loss * jax.nn.logsumexp(logits, axis=-1) ** 2
    real = np.asarray(batch.target_segments) > 0
    np.testing.assert_allclose(total, np.asarray(losses)[real].sum(), rtol=1e-5)
    assert float(weight) == real.sum()


@pytest.mark.parametrize(
    ("key", "value"),
    [("accumulate", 0), ("z_loss", -1.0), ("label_smoothing", 1.0), ("max_skipped", -1)],
)
def test_an_invalid_setting_is_named(key, value):
    with pytest.raises(InputError, match=f"train.{key}"):
        TrainConfig(**{key: value})
