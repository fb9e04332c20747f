"""Figures on MovieTweetings against peer libraries and direct counts."""

import dataclasses

import numpy as np
import pytest

from irec_jax.baselines.markov import Markov
from irec_jax.baselines.popularity import Popularity
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.evaluation.report import evaluate_rankers
from irec_jax.instructions.built_in_tasks import SEQUENTIAL_RECOMMENDATION
from irec_jax.instructions.forms import Ranking
from irec_jax.log.readers.movietweetings import read_movietweetings
from irec_jax.log.split import Role, SplitConfig, SplitProtocol, split_log

METRICS = ["recall@1", "recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr"]


@pytest.fixture(scope="module")
def split(shared):
    log = read_movietweetings(shared / "data" / "movietweetings-100k", seed=0)
    return split_log(log, SplitConfig(), seed=0)


def tied(ranker):
    """Ties items with equal recent counts, as the peers do."""
    return lambda requests: Ranking(np.floor(ranker(requests).scores))


def means(report, ranker, group="all"):
    figures = report.tasks[0].row(ranker, group).figures
    return [figures[name].value for name in METRICS]


def test_leave_one_out(split):
    rankers = {
        "popularity": Popularity().build(split),
        "window 10": Markov().build(split),
        "window 3": Markov(window=3).build(split),
    }
    config = EvaluationConfig(resamples=200)
    report = evaluate_rankers(rankers, split, [SEQUENTIAL_RECOMMENDATION], config, seed=0)
    assert report.tasks[0].requests == {"all": 4333}
    # Two events of the log share their time with another, so a figure can move by one user.
    expected = {
        "popularity": [0.0233, 0.0863, 0.1461, 0.2225, 0.0547, 0.0738, 0.0931, 0.0650],
        "window 10": [0.0535, 0.1495, 0.2257, 0.3060, 0.1013, 0.1259, 0.1462, 0.1079],
        "window 3": [0.0512, 0.1442, 0.2146, 0.2979, 0.0976, 0.1204, 0.1415, 0.1041],
    }
    for ranker, figures in expected.items():
        np.testing.assert_allclose(means(report, ranker), figures, atol=4e-4)
    # One standard error of Recall@10 is .0066 at .25 and .0054 at .15: the interval is 3.9 wide.
    figure = report.tasks[0].row("popularity").figures["recall@10"]
    assert (figure.high - figure.low) / 3.92 == pytest.approx(0.0054, rel=0.12)


def test_validation_targets(split):
    config = EvaluationConfig(role="validation", resamples=100)
    rankers = {"popularity": Popularity().build(split), "markov": Markov().build(split)}
    report = evaluate_rankers(rankers, split, [SEQUENTIAL_RECOMMENDATION], config, seed=0)
    ndcg = [means(report, name)[METRICS.index("ndcg@10")] for name in rankers]
    np.testing.assert_allclose(ndcg, [0.0857, 0.1433], atol=4e-4)


def test_one_global_cut(split):
    # The peers cut the 5-core of the whole log, so the split is made by hand from that.
    cut = np.quantile(split.times, 0.8)
    roles = np.where(split.times < cut, Role.TRAIN, Role.TEST).astype(np.int8)
    assert (roles == Role.TRAIN).sum() == 54_444
    temporal = dataclasses.replace(split, protocol=SplitProtocol.TEMPORAL, roles=roles)
    rankers = {
        "popularity": Popularity().build(temporal),
        "7 days": tied(Popularity(days=7.0).build(temporal)),
        "30 days": tied(Popularity(days=30.0).build(temporal)),
    }
    config = EvaluationConfig(resamples=100)
    report = evaluate_rankers(rankers, temporal, [SEQUENTIAL_RECOMMENDATION], config, seed=0)
    task = report.tasks[0]
    assert task.requests == {"all": 13_448, "warm": 13_448 - 1_254, "cold": 1_254}
    assert task.users["all"] == 2_895
    expected = {
        "popularity": [0.0076, 0.0497, 0.0930, 0.1439, 0.0280, 0.0416, 0.0546, 0.0362],
        "7 days": [0.0291, 0.0877, 0.1363, 0.1850, 0.0597, 0.0751, 0.0875, 0.0651],
        "30 days": [0.0153, 0.0697, 0.1331, 0.1841, 0.0419, 0.0622, 0.0751, 0.0504],
    }
    for ranker, figures in expected.items():
        np.testing.assert_allclose(means(report, ranker), figures, atol=4e-4)
    warm = {"popularity": (0.1025, 0.0459), "7 days": (0.1503, 0.0829), "30 days": (0.1468, 0.0686)}
    for ranker, (recall, ndcg) in warm.items():
        figures = task.row(ranker, "warm").figures
        assert figures["recall@10"].value == pytest.approx(recall, abs=4e-4)
        assert figures["ndcg@10"].value == pytest.approx(ndcg, abs=4e-4)
        assert task.row(ranker, "cold").figures["recall@10"].value == 0
