import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.batches.prompt_batches import PromptBuckets, pad_prompts, request_batches
from irec_jax.errors import InputError
from irec_jax.tokens.text import EOS

SMALL = PromptBuckets(batches=(1, 4), lengths=(8, 16))


def test_padded_to_the_smallest_bucket():
    inputs, segments = pad_prompts([[5, 6, 1], [7, 1]], SMALL)
    assert inputs.dtype == segments.dtype == np.int32
    assert inputs.tolist() == [
        [5, 6, 1, 0, 0, 0, 0, 0],
        [7, 1, 0, 0, 0, 0, 0, 0],
        [EOS, 0, 0, 0, 0, 0, 0, 0],
        [EOS, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert np.array_equal(segments, inputs > 0)
    assert pad_prompts([[5] * 9], SMALL)[0].shape == (1, 16)


@pytest.mark.parametrize("prompts", [[[1]] * 5, [[1] * 17]])
def test_prompts_that_fit_no_bucket_are_refused(prompts):
    with pytest.raises(ValueError, match="largest bucket"):
        pad_prompts(prompts, SMALL)


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=16), max_size=30))
def test_every_prompt_comes_once_in_few_shapes(prompts):
    seen = {}
    for numbers, inputs, segments in request_batches(prompts, SMALL):
        assert inputs.shape[0] in SMALL.batches
        assert inputs.shape[1] in SMALL.lengths
        for row, number in enumerate(numbers.tolist()):
            assert number not in seen
            seen[number] = inputs[row][segments[row] == 1].tolist()
        assert (segments.sum(axis=1) > 0).all()
    assert [seen[number] for number in range(len(prompts))] == prompts


@pytest.mark.parametrize("sizes", [(), (0, 2), (4, 2), (2, 2)])
@pytest.mark.parametrize("name", ["batches", "lengths"])
def test_buckets_must_rise(name, sizes):
    with pytest.raises(InputError, match=name):
        PromptBuckets(**{name: sizes})
