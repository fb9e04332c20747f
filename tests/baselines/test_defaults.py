"""Selection of the baselines of an evaluation."""

import pytest

from irec_jax.baselines.bm25 import BM25
from irec_jax.baselines.defaults import DEFAULT_BASELINES, select_baselines
from irec_jax.baselines.popularity import Popularity
from irec_jax.errors import InputError
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.log.events import TimeUnit
from irec_jax.settings import ImportedSettings

pytestmark = pytest.mark.fast


def names(baselines):
    return [baseline.name for baseline in baselines]


def test_the_default_baselines_depend_on_the_time_unit():
    config = EvaluationConfig()
    assert select_baselines(config, TimeUnit.SECONDS) == DEFAULT_BASELINES
    assert names(DEFAULT_BASELINES) == ["popularity", "recent popularity", "markov", "bm25"]
    assert names(select_baselines(config, TimeUnit.POSITION)) == ["popularity", "markov", "bm25"]


def test_listed_baselines_replace_the_default_ones_and_are_imported():
    imported = ImportedSettings("irec_jax.baselines.bm25:BM25", settings={"k1": 0.5})
    config = EvaluationConfig(baselines=(Popularity(), imported))
    assert select_baselines(config, TimeUnit.POSITION) == (Popularity(), BM25(k1=0.5))


def test_days_without_a_clock_are_refused():
    config = EvaluationConfig(baselines=(Popularity(days=7.0),))
    assert select_baselines(config, TimeUnit.SECONDS) == config.baselines
    with pytest.raises(InputError, match=r"'popularity' counts days, but .* is 'position'"):
        select_baselines(config, TimeUnit.POSITION)
