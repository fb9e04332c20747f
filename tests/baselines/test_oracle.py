"""The best possible ranking: no baseline is above it, and its probabilities are calibrated."""

import numpy as np
import pytest

from irec_jax.baselines.markov import Markov
from irec_jax.baselines.oracle import oracle
from irec_jax.baselines.popularity import Popularity
from irec_jax.evaluation.protocol import EvaluationConfig, select_requests
from irec_jax.evaluation.report import evaluate_rankers
from irec_jax.instructions.built_in_tasks import (
    PERSONALIZED_SEARCH,
    PRODUCT_SEARCH,
    SEQUENTIAL_RECOMMENDATION,
)
from irec_jax.log.simulate import SimulateConfig, SimulatedWorld
from irec_jax.log.split import Role, SplitConfig, split_log

CONFIG = EvaluationConfig(resamples=200)
TASKS = (SEQUENTIAL_RECOMMENDATION, PRODUCT_SEARCH, PERSONALIZED_SEARCH)


@pytest.fixture(scope="module")
def world():
    return SimulatedWorld.build(SimulateConfig(users=1500, items=200, seed=3))


@pytest.fixture(scope="module")
def split(world):
    return split_log(world.log(), SplitConfig(), seed=1)


@pytest.fixture(scope="module")
def report(world, split):
    rankers = {"popularity": Popularity().build(split), "markov": Markov().build(split)}
    rankers["best"] = oracle(world, split)
    return evaluate_rankers(rankers, split, TASKS, CONFIG, seed=0)


@pytest.mark.parametrize("task", [task.name.value for task in TASKS])
def test_no_baseline_is_above_it(report, task):
    for baseline in ("popularity", "markov"):
        difference = report.task(task).difference("best", baseline)
        assert difference.figures["ndcg@10"].low > 0
        assert difference.figures["mrr"].low > 0


def test_history_and_query_together_rank_higher_than_each(report):
    both, query, history = (
        report.task(task.name.value).row("best").figures["ndcg@10"]
        for task in (PERSONALIZED_SEARCH, PRODUCT_SEARCH, SEQUENTIAL_RECOMMENDATION)
    )
    assert both.is_above(query)
    assert both.is_above(history)


def test_columns_are_the_splits_item_numbers(world, split):
    position = int(SEQUENTIAL_RECOMMENDATION.eligible(split, Role.TEST)[5])
    request = SEQUENTIAL_RECOMMENDATION.request(split, position)
    items = split.catalog["item"].to_list()
    places = {item: place for place, item in enumerate(world.item_ids)}
    history = np.array([places[items[number]] for number in request.history])
    log_probability = world.next_item_log_probability(
        np.array([request.user]), [history], np.array([request.time])
    )[0]
    scores = oracle(world, split)([request]).scores[0]
    for number in (0, 7, len(items) - 1):
        assert scores[number] == pytest.approx(log_probability[places[items[number]]])


@pytest.mark.parametrize("cutoff", [1, 5, 10])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name.value)
def test_expected_recall_is_the_measured_recall(world, split, report, task, cutoff):
    # A wrong probability would make the expected recall differ from the measured one.
    selected = select_requests(task, split, CONFIG, seed=0)
    requests = [task.request(split, int(position)) for position in selected.positions]
    scores = oracle(world, split)(requests).scores
    for row, request in enumerate(requests):
        scores[row, list(request.exclude)] = -np.inf
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    expected = np.sort(chances, axis=1)[:, -cutoff:].sum(axis=1).clip(0, 1)
    measured = report.task(task.name.value).row("best").figures[f"recall@{cutoff}"].value
    error = np.sqrt((expected * (1 - expected)).sum()) / len(expected)
    assert abs(expected.mean() - measured) < 4 * error


def test_mixed_requests_keep_their_rows(world, split):
    pairs = [(task, int(task.eligible(split, Role.TEST)[row])) for row in (0, 1) for task in TASKS]
    requests = [task.request(split, position) for task, position in pairs]
    rank = oracle(world, split)
    together = rank(requests).scores
    for row, request in enumerate(requests):
        np.testing.assert_allclose(together[row], rank([request]).scores[0], rtol=1e-5)
