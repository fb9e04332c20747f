import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.batches.packing import pack

pytestmark = pytest.mark.fast


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 8)), max_size=60),
    st.integers(20, 40),
    st.integers(8, 12),
)
def test_each_example_once_and_no_row_too_long(examples, source_length, target_length):
    source = np.array([one for one, _ in examples], np.int64)
    target = np.array([other for _, other in examples], np.int64)
    rows = pack(source, target, source_length, target_length)
    assert sorted(number for row in rows for number in row) == list(range(len(examples)))
    for row in rows:
        assert row
        assert source[row].sum() <= source_length
        assert target[row].sum() <= target_length


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 8)), min_size=1, max_size=60))
def test_a_row_is_closed_only_when_nothing_left_fits(examples):
    source, target = (np.array(side) for side in zip(*examples, strict=True))
    rows = pack(source, target, 20, 8)
    for place, row in enumerate(rows):
        for later in rows[place + 1 :]:
            for number in later:
                fits = source[row].sum() + source[number] <= 20
                assert not (fits and target[row].sum() + target[number] <= 8)


def lengths(mean, least, most, seed):
    random = np.random.default_rng(seed)
    return np.clip(random.gamma(4, mean / 4, 4_096).astype(int), least, most)


@pytest.mark.parametrize(
    ("source_length", "mean", "target_length", "answer", "least"),
    [
        (64, 25, 24, 5, 0.99),
        (128, 40, 32, 2, 0.99),
        (128, 70, 32, 2, 0.98),
        (128, 70, 32, 8, 0.98),
        (256, 40, 32, 2, 0.98),
        (256, 70, 32, 2, 0.99),
        (256, 70, 64, 8, 0.99),
        (256, 110, 32, 2, 0.99),
        (256, 110, 32, 8, 0.99),
        (512, 110, 64, 8, 0.99),
    ],
)
def test_rows_are_nearly_full(source_length, mean, target_length, answer, least):
    """Share of the larger demand: what no packing could beat."""
    source = lengths(mean, 8, source_length, 0)
    target = lengths(answer, 2, target_length, 1) if answer > 2 else np.full(4_096, 2)
    rows = sum(
        len(pack(source[at : at + 1024], target[at : at + 1024], source_length, target_length))
        for at in range(0, 4_096, 1_024)
    )
    bound = max(source.sum() / source_length, target.sum() / target_length)
    assert bound / rows >= least


@pytest.mark.parametrize(
    ("source_length", "mean", "smallest", "least"),
    [(96, 25, 13, 0.98), (128, 25, 13, 0.98), (128, 40, 20, 0.985)],
)
def test_rows_are_full_where_no_prompt_is_small(source_length, mean, smallest, least):
    """As templates make them: no crumbs that fill any gap, so pairs have to be weighed."""
    source, target = lengths(mean, smallest, source_length, 0), lengths(5, 2, 32, 1)
    rows = sum(
        len(pack(source[at : at + 1024], target[at : at + 1024], source_length, 32))
        for at in range(0, 4_096, 1_024)
    )
    assert source.sum() / source_length / rows >= least
