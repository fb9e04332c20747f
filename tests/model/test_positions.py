"""Relative position buckets and biases."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.model.positions import (
    BUCKETS,
    MAX_DISTANCE,
    bias_by_distance,
    bias_matrix,
    buckets,
)

pytestmark = pytest.mark.fast


@pytest.mark.parity
@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_are_those_of_transformers(bidirectional):
    torch = pytest.importorskip("torch")
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = np.arange(-3000, 3001)
    theirs = T5Attention._relative_position_bucket(
        torch.tensor(distances), bidirectional, BUCKETS, MAX_DISTANCE
    )
    ours = buckets(distances, bidirectional=bidirectional)
    np.testing.assert_array_equal(ours, theirs.numpy())


@settings(deadline=None, max_examples=25)  # each new length is compiled
@given(length=st.integers(1, 200), bidirectional=st.booleans())
def test_the_matrix_holds_the_bias_of_each_distance(length, bidirectional):
    table = jax.random.normal(jax.random.key(length), (BUCKETS, 3))
    matrix = bias_matrix(table, length, bidirectional=bidirectional)
    assert matrix.shape == (3, length, length)
    distances = np.arange(length)[None, :] - np.arange(length)[:, None]
    bucket = buckets(distances, bidirectional=bidirectional)
    np.testing.assert_array_equal(matrix, np.moveaxis(np.asarray(table)[bucket], -1, 0))
    row = bias_by_distance(table, distances[0], bidirectional=bidirectional)
    np.testing.assert_array_equal(row, matrix[:, 0])
