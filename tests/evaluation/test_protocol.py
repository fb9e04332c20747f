"""Requests of an evaluation, the checksum of a split, and refused settings."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from irec_jax.baselines.markov import Markov
from irec_jax.baselines.popularity import Popularity
from irec_jax.errors import InputError
from irec_jax.evaluation.protocol import EvaluationConfig, select_requests, split_counts, split_hash
from irec_jax.instructions.built_in_tasks import PRODUCT_SEARCH, SEQUENTIAL_RECOMMENDATION
from irec_jax.log.split import Role
from irec_jax.settings import ImportedSettings, from_json, load_settings, to_json

pytestmark = pytest.mark.fast


def test_requests_are_for_the_last_events(make_split):
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


def test_a_sample_depends_on_the_seed_alone(random_split):
    config = EvaluationConfig(max_requests=20)
    first = select_requests(SEQUENTIAL_RECOMMENDATION, random_split, config, seed=1)
    assert len(first) == len(set(first.positions.tolist())) == 20
    assert first.eligible == 60
    eligible = random_split.targets(Role.TEST)
    assert np.isin(first.positions, eligible).all()
    assert (np.diff(first.positions) > 0).all()
    again = select_requests(SEQUENTIAL_RECOMMENDATION, random_split, config, seed=1)
    np.testing.assert_array_equal(first.positions, again.positions)
    other = select_requests(SEQUENTIAL_RECOMMENDATION, random_split, config, seed=2)
    assert first.positions.tolist() != other.positions.tolist()


def test_search_requests_are_events_with_a_query(make_split):
    queries = ["", "", "red hat", "", "", ""]
    split = make_split([[0, 1, 2], [3, 4, 5]], items=6, queries=queries)
    assert select_requests(PRODUCT_SEARCH, split, EvaluationConfig(), seed=0).targets.tolist() == [
        2
    ]


def test_the_hash_depends_on_every_part_of_a_split(make_split):
    split = make_split([[0, 1, 2], [3, 4, 5]], items=6)
    hashes = {split_hash(split)}
    for name in ("users", "items", "times", "roles"):
        changed = getattr(split, name).copy()
        changed[0] += 1
        hashes.add(split_hash(dataclasses.replace(split, **{name: changed})))
    hashes.add(split_hash(dataclasses.replace(split, queries=["hat", *split.queries[1:]])))
    hashes.add(split_hash(dataclasses.replace(split, catalog=split.catalog.reverse())))
    assert len(hashes) == 7
    assert split_hash(make_split([[0, 1, 2], [3, 4, 5]], items=6)) in hashes


def test_split_counts(make_split):
    counts = split_counts(make_split([[0, 1, 2, 3], [4, 5]], items=8))
    roles = {"train_events": 4, "validation_events": 1, "test_events": 1}
    assert counts == {"users": 2, "items": 8, "events": 6, **roles}


@pytest.mark.parametrize(
    ("setting", "value"),
    [("max_requests", -1), ("resamples", 10)],
)
def test_impossible_settings_name_their_key(setting, value):
    with pytest.raises(InputError, match=f"evaluation.{setting}"):
        EvaluationConfig(**{setting: value})


@pytest.mark.parametrize("name", ["popularity", "chance", "tuned model", "best possible"])
def test_a_name_that_is_taken_is_refused(name):
    baselines = (Popularity(), Markov(name=name))
    with pytest.raises(InputError, match=f"evaluation.baselines: the name '{name}' is taken"):
        EvaluationConfig(baselines=baselines)


def test_a_value_that_is_not_a_baseline_is_refused():
    # Without the type checks of these tests, which refuse it too.
    program = """
from irec_jax.errors import InputError
from irec_jax.evaluation.protocol import EvaluationConfig
try:
    EvaluationConfig(baselines=(3,))
except InputError as error:
    print(error)
"""
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "evaluation.baselines: expected an instance of a dataclass" in printed
    assert "got 3" in printed


def test_baselines_survive_json_without_an_import():
    config = EvaluationConfig(baselines=(Popularity(days=2.0), Markov(window=3)))
    stored = from_json(EvaluationConfig, json.loads(json.dumps(to_json(config))))
    assert stored.baselines[1] == ImportedSettings(
        "irec_jax.baselines.markov:Markov", "", {"window": 3, "last": 3, "name": "markov"}
    )
    assert to_json(stored) == to_json(config)
    loaded = tuple(load_settings(baseline) for baseline in stored.baselines)
    assert loaded == config.baselines
