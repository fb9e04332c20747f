"""The hashed masks: their rate, and that nothing repeats across elements, layers or steps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from irec_jax.model.dropout import DropoutRng, dropout, fold_in, keep_mask

pytestmark = pytest.mark.fast

SHAPE = (4, 3, 64, 96)
SIZE = int(np.prod(SHAPE))


def mask(seed=0, places=(), rate=0.5, shape=SHAPE):
    dropout_rng = DropoutRng.start(jax.random.key(seed), rate)
    for place in places:
        dropout_rng = fold_in(dropout_rng, place)
    return np.asarray(keep_mask(dropout_rng.words, shape, rate))


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
def test_the_rate_is_kept_overall_and_in_every_row_and_column(rate):
    dropped = ~mask(rate=rate)
    assert abs(dropped.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / SIZE)
    for axis in range(4):
        counts = dropped.sum(axis=axis).ravel()
        # Binomial counts: their variance is neither too regular nor too clustered.
        expected = SHAPE[axis] * rate * (1 - rate)
        assert 0.9 < counts.var() / expected < 1.1, axis


def test_masks_of_steps_layers_and_places_are_independent():
    masks = [
        mask(seed, (layer, place)) for seed in range(3) for layer in range(3) for place in range(3)
    ]
    signs = np.stack([np.where(m, 1.0, -1.0).ravel() for m in masks])
    correlations = np.corrcoef(signs)[np.triu_indices(len(masks), 1)]
    assert np.abs(correlations).max() < 5 / np.sqrt(SIZE)
    assert stats.kstest(correlations * np.sqrt(SIZE), "norm").pvalue > 1e-3


def test_no_mask_is_a_shifted_copy_of_another_or_of_itself():
    flat = [np.where(mask(seed), 1.0, -1.0).ravel() for seed in range(3)]
    limit = 6 / np.sqrt(SIZE)  # over some 400,000 shifts
    for one, other in itertools.combinations_with_replacement(flat, 2):
        spectrum = np.fft.rfft(one) * np.conj(np.fft.rfft(other))
        shifted = np.fft.irfft(spectrum) / SIZE
        if one is other:
            shifted[0] = 0.0
        assert np.abs(shifted).max() < limit


def test_neighbors_do_not_depend_on_each_other():
    """All 256 patterns of 8 neighbors in a row are equally frequent."""
    bits = mask(shape=(64, 64, 64)).reshape(-1, 8)
    patterns = np.bincount(bits @ (1 << np.arange(8)), minlength=256)
    assert stats.chisquare(patterns).pvalue > 1e-3


def test_the_same_key_gives_the_same_mask_and_kept_values_are_scaled_up():
    values = jnp.full((50, 200), 2.0)
    dropout_rng = DropoutRng.start(jax.random.key(3), 0.2)
    dropped = dropout(values, dropout_rng)
    np.testing.assert_array_equal(dropped, jax.jit(lambda v: dropout(v, dropout_rng))(values))
    np.testing.assert_allclose(np.unique(dropped), [0.0, 2.5])
    assert abs(float(dropped.mean()) - 2.0) < 0.05


def test_without_a_key_or_a_rate_nothing_is_dropped():
    assert DropoutRng.start(None, 0.1) is None
    assert DropoutRng.start(jax.random.key(0), 0.0) is None
    assert fold_in(None, 3) is None
    values = jnp.arange(6.0)
    assert dropout(values, None) is values
