"""The loss against SciPy, and its sum and weight of packed rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from irec_jax.batches.batch import Batch
from irec_jax.model.params import initialize, structure
from irec_jax.training.loss import cross_entropy, token_loss

pytestmark = pytest.mark.fast


def test_cross_entropy_equals_scipys_at_real_positions():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 30, (3, 5, 11)).astype(np.float32)
    targets = rng.integers(0, 11, (3, 5)).astype(np.int32)
    real = rng.random((3, 5)) < 0.6
    total, weight = cross_entropy(jnp.asarray(logits), jnp.asarray(targets), jnp.asarray(real))
    picked = np.take_along_axis(scipy.special.log_softmax(logits, -1), targets[..., None], -1)
    np.testing.assert_allclose(total, -picked[..., 0][real].sum(), rtol=1e-5)
    assert weight == real.sum()
    assert total.dtype == weight.dtype == jnp.float32


def test_the_gradient_is_softmax_minus_the_target():
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.normal(0, 1, (2, 3, 5)), jnp.float32)
    targets = jnp.asarray(rng.integers(0, 5, (2, 3)), jnp.int32)
    real = jnp.asarray([[True, True, False], [True, False, False]])
    gradient = jax.grad(lambda values: cross_entropy(values, targets, real)[0])(logits)
    expected = scipy.special.softmax(logits, -1) - np.eye(5)[targets]
    np.testing.assert_allclose(gradient, expected * np.asarray(real)[..., None], atol=1e-6)


def test_the_loss_of_a_packed_row_is_the_sum_of_its_examples(tiny):
    params = initialize(tiny, jax.random.key(0))
    loss = jax.jit(lambda batch: token_loss(structure(tiny), params, batch, None))
    rng = np.random.default_rng(2)
    tokens = rng.integers(2, tiny.vocabulary, (2, 12)).astype(np.int32)
    first = np.arange(12)[None] < 6
    packed = Batch(
        tokens[:1], np.where(first, 1, 2).astype(np.int32),
        tokens[1:], np.where(first, 1, 2).astype(np.int32),
    )  # fmt: skip
    unpacked = Batch(
        *(
            np.concatenate([np.where(first, row, 0), np.where(first, np.roll(row, -6), 0)])
            if kind == "tokens"
            else np.repeat(first.astype(np.int32), 2, axis=0)
            for row in (tokens[0], tokens[1])
            for kind in ("tokens", "segments")
        )
    )
    assert loss(packed)[1] == loss(unpacked)[1] == 12
    np.testing.assert_allclose(loss(packed)[0], loss(unpacked)[0], rtol=1e-5)
