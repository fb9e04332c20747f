"""The baselines of every evaluation, unless the experiment lists others."""

from irec_jax.baselines.bm25 import BM25
from irec_jax.baselines.markov import Markov
from irec_jax.baselines.popularity import Popularity
from irec_jax.errors import InputError
from irec_jax.evaluation.protocol import Baseline, EvaluationConfig
from irec_jax.log.events import TimeUnit
from irec_jax.settings import load_settings

DEFAULT_BASELINES: tuple[Baseline, ...] = (
    Popularity(),
    Popularity(days=7.0, name="recent popularity"),
    Markov(),
    BM25(),
)
"""Their order is the order of the rows in a report."""


def select_baselines(config: EvaluationConfig, time_unit: TimeUnit) -> tuple[Baseline, ...]:
    """Returns the baselines that a config lists, or the default ones that a log allows.

    Args:
        config: Its baselines may name classes that are imported here.
        time_unit: Of the log; popularity of the last days needs seconds.

    Raises:
        InputError: A class cannot be imported, or a listed baseline needs times that the log lacks.
    """
    has_seconds = time_unit is TimeUnit.SECONDS
    if not config.baselines:
        return tuple(b for b in DEFAULT_BASELINES if has_seconds or not _counts_days(b))
    baselines = tuple(load_settings(baseline) for baseline in config.baselines)
    for baseline in baselines:
        if _counts_days(baseline) and not has_seconds:
            raise InputError(
                f"'{baseline.name}' counts days, but the log's time unit is '{time_unit.value}'",
                where="evaluation.baselines",
                hint="Remove this baseline, or set its days to None.",
            )
    return baselines


def _counts_days(baseline: Baseline) -> bool:
    return isinstance(baseline, Popularity) and baseline.days is not None
