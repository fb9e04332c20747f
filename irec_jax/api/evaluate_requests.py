"""`irec evaluate --requests`: satisfaction with hand-written requests, by ability."""

import functools
import json
from os import PathLike
from pathlib import Path

import numpy as np

from irec_jax.api.process import set_up_process
from irec_jax.baselines.bm25 import BM25
from irec_jax.evaluation.figures import TUNED
from irec_jax.evaluation.request_suite import (
    TOP,
    Answerer,
    SuiteAnswer,
    SuiteReport,
    grade_suite,
    read_suite,
)
from irec_jax.experiment.run_config import load_run
from irec_jax.files import write_text
from irec_jax.instructions.built_in_tasks import PRODUCT_SEARCH
from irec_jax.instructions.forms import Ranker, Request
from irec_jax.log.dataset import load_log
from irec_jax.log.split import split_log
from irec_jax.recommendation.recommender import Recommender
from irec_jax.recommendation.request_extras import Extras
from irec_jax.recommendation.request_understanding import UnderstandingMode
from irec_jax.run_checksums import refuse_missing_log
from irec_jax.run_folder import REPORTS_FOLDER
from irec_jax.settings import to_json

SWITCHED_OFF = "model alone"
"""The row of the tuned model that reads no conditions."""


def evaluate_requests(run: PathLike[str] | str, suite: str) -> SuiteReport:
    """Asks a run and the baselines the requests of a suite.

    The rankers are a random order, BM25, the run without understanding, and the run. The report is
    written to `RUN/reports/requests_SUITE.json`.

    Args:
        run: The folder that `tune` wrote.
        suite: The name of a suite of this package (`shop_en`, `shop_zh`,
            `movies_en`, `beauty_en`), or the path of a TOML file.

    Raises:
        InputError: The suite or the run cannot be read, or they do not fit each other.
    """
    set_up_process()
    run, requests = Path(run), read_suite(suite)
    experiment = load_run(run)
    refuse_missing_log(run, experiment.data.folder)
    recommender = Recommender.load(run)
    split = split_log(load_log(experiment.data), experiment.data, experiment.seed)
    rng = np.random.default_rng([experiment.seed, len(requests.requests)])
    language = requests.language
    answerers: dict[str, Answerer] = {
        "random": lambda text: SuiteAnswer(rng.permutation(split.num_items)[:TOP].tolist()),
        "bm25": functools.partial(_ranked, BM25().build(split)),
        SWITCHED_OFF: functools.partial(
            _recommended,
            recommender,
            Extras(language=language, understanding=UnderstandingMode.OFF),
        ),
        TUNED: functools.partial(_recommended, recommender, Extras(language=language)),
    }
    report = grade_suite(
        requests,
        answerers,
        lambda condition: recommender.catalog.mask(condition or None),
        warned=TUNED,
        seed=experiment.seed,
        resamples=experiment.evaluation.resamples,
    )
    folder = run / REPORTS_FOLDER
    folder.mkdir(exist_ok=True)
    text = json.dumps(to_json(report), indent=2, ensure_ascii=False)
    write_text(folder / f"requests_{requests.name}.json", text + "\n")
    return report


def _ranked(ranker: Ranker, text: str) -> SuiteAnswer:
    scores = ranker([Request(PRODUCT_SEARCH.scenario, (), text)]).scores[0]
    return SuiteAnswer(np.argsort(-scores, kind="stable")[:TOP].tolist())


def _recommended(recommender: Recommender, extras: Extras, text: str) -> SuiteAnswer:
    answer = recommender.recommend(instruction=text, k=TOP, extras=extras)
    warnings = tuple(warning.kind.value for warning in answer.warnings)
    condition = answer.understood.where if answer.understood is not None else ""
    return SuiteAnswer([item.number for item in answer], warnings, condition)
