"""Which requests are asked, and what makes two evaluations the same."""

import dataclasses

import numpy as np
import pytest

from irec_jax.errors import InputError
from irec_jax.evaluation.protocol import EvaluationConfig, select_requests, split_counts, split_hash
from irec_jax.instructions.tasks import PRODUCT_SEARCH, SEQUENTIAL_RECOMMENDATION
from irec_jax.log.split import Role


def test_questions_are_the_last_events(make_split):
    split = make_split([[0, 1, 2, 3], [4, 5], [2, 0, 6]], items=8)
    test = select_requests(SEQUENTIAL_RECOMMENDATION, split, EvaluationConfig(), seed=0)
    assert test.positions.tolist() == [3, 8]
    assert test.targets.tolist() == [3, 6]
    assert test.users.tolist() == [100, 102]
    assert test.warm.tolist() == [False, False]
    role = EvaluationConfig(role="validation")
    earlier = select_requests(SEQUENTIAL_RECOMMENDATION, split, role, seed=0)
    assert earlier.targets.tolist() == [2, 0]
    assert earlier.warm.tolist() == [True, True]


def test_a_sample_is_the_same_for_everybody(random_split):
    config = EvaluationConfig(max_requests=20)
    first = select_requests(SEQUENTIAL_RECOMMENDATION, random_split, config, seed=1)
    assert len(first) == len(set(first.positions.tolist())) == 20
    assert first.eligible == 60
    every = random_split.targets(Role.TEST)
    assert np.isin(first.positions, every).all()
    assert (np.diff(first.positions) > 0).all()
    again = select_requests(SEQUENTIAL_RECOMMENDATION, random_split, config, seed=1)
    np.testing.assert_array_equal(first.positions, again.positions)
    other = select_requests(SEQUENTIAL_RECOMMENDATION, random_split, config, seed=2)
    assert first.positions.tolist() != other.positions.tolist()


def test_search_asks_only_where_a_query_was_typed(make_split):
    words = ["", "", "red hat", "", "", ""]
    split = make_split([[0, 1, 2], [3, 4, 5]], items=6, queries=words)
    assert select_requests(PRODUCT_SEARCH, split, EvaluationConfig(), seed=0).targets.tolist() == [
        2
    ]


def test_the_hash_sees_every_part_of_a_split(make_split):
    split = make_split([[0, 1, 2], [3, 4, 5]], items=6)
    seen = {split_hash(split)}
    for name in ("users", "items", "times", "roles"):
        changed = getattr(split, name).copy()
        changed[0] += 1
        seen.add(split_hash(dataclasses.replace(split, **{name: changed})))
    seen.add(split_hash(dataclasses.replace(split, queries=["hat", *split.queries[1:]])))
    seen.add(split_hash(dataclasses.replace(split, catalog=split.catalog.reverse())))
    assert len(seen) == 7
    assert split_hash(make_split([[0, 1, 2], [3, 4, 5]], items=6)) in seen


def test_counts(make_split):
    counts = split_counts(make_split([[0, 1, 2, 3], [4, 5]], items=8))
    roles = {"train_events": 4, "validation_events": 1, "test_events": 1}
    assert counts == {"users": 2, "items": 8, "events": 6, **roles}


@pytest.mark.parametrize(
    ("setting", "value"),
    [("max_requests", -1), ("resamples", 10), ("recent_days", 0.0), ("recent_days", float("nan"))],
)
def test_impossible_settings_name_their_key(setting, value):
    with pytest.raises(InputError, match=f"evaluation.{setting}"):
        EvaluationConfig(**{setting: value})
