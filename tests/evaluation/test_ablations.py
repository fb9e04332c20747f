"""Ablations: each changes one part of a request, and nothing else."""

import dataclasses

import numpy as np
import pytest

from irec_jax.evaluation.ablations import NO_INSTRUCTION, SHUFFLED, UNSEEN, ablation_rankers
from irec_jax.evaluation.protocol import EvaluationConfig
from irec_jax.evaluation.report import evaluate_rankers
from irec_jax.instructions.built_in_tasks import (
    PERSONALIZED_SEARCH,
    PRODUCT_SEARCH,
)
from irec_jax.instructions.built_in_tasks import SEQUENTIAL_RECOMMENDATION as SEQUENTIAL
from irec_jax.instructions.forms import Intention, Ranking, Request
from irec_jax.instructions.templates import load_packs
from irec_jax.log.simulate import SimulateConfig, SimulatedWorld
from irec_jax.log.split import Role, Split, SplitConfig, split_log

pytestmark = pytest.mark.fast

PACKS = load_packs(("en", "zh"), "shop")


@pytest.fixture(scope="module")
def split() -> Split:
    world = SimulatedWorld.build(SimulateConfig(users=300, items=100))
    return split_log(world.log(), SplitConfig(), 0)


class RecordingRanker:
    """A ranker that records its requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, requests: list[Request]) -> Ranking:
        self.requests += requests
        return Ranking(np.zeros((len(requests), 3), np.float32))


def changed_requests(task, split, name):
    """Pairs of each request and what an ablation makes of it."""
    ranker = RecordingRanker()
    requests = [task.request(split, int(p)) for p in task.eligible(split, Role.TEST)]
    ablation_rankers(ranker, PACKS, task, split, Role.TEST, 0)[name](requests)
    return list(zip(requests, ranker.requests, strict=True))


def test_each_task_has_its_ablations(split):
    names = {
        task: list(ablation_rankers(RecordingRanker(), PACKS, task, split, Role.TEST, 0))
        for task in (SEQUENTIAL, PRODUCT_SEARCH, PERSONALIZED_SEARCH)
    }
    assert names[SEQUENTIAL] == [UNSEEN, "in zh"]
    assert names[PRODUCT_SEARCH] == [SHUFFLED, UNSEEN, "in zh"]
    assert names[PERSONALIZED_SEARCH] == [NO_INSTRUCTION, SHUFFLED, UNSEEN, "in zh"]


def test_without_a_query_a_personalized_search_is_a_sequential_recommendation(split):
    for request, changed in changed_requests(PERSONALIZED_SEARCH, split, NO_INSTRUCTION):
        assert changed.scenario == SEQUENTIAL.scenario
        assert changed.instruction == ""
        assert (changed.history, changed.exclude) == (request.history, request.exclude)


@pytest.mark.parametrize("task", [PRODUCT_SEARCH, PERSONALIZED_SEARCH])
def test_a_shuffled_query_is_another_users_of_the_same_kind(task, split):
    queries = {kind: set() for kind in (Intention.VAGUE, Intention.SPECIFIC)}
    pairs = changed_requests(task, split, SHUFFLED)
    for request, _ in pairs:
        queries[request.scenario.intention].add(request.instruction)
    for request, changed in pairs:
        assert changed.instruction != request.instruction
        assert changed.instruction in queries[request.scenario.intention]
        assert dataclasses.replace(changed, instruction=request.instruction) == request
    used = [changed.instruction for _, changed in pairs]
    assert len(set(used)) > len(used) / 3, "drawn for each request"


@pytest.mark.parametrize("task", [SEQUENTIAL, PRODUCT_SEARCH, PERSONALIZED_SEARCH])
def test_unseen_templates_are_held_out_ones(task, split):
    for request, changed in changed_requests(task, split, UNSEEN):
        template = PACKS[0].named(changed.template)
        assert template.held_out
        assert template.task is task.name
        assert dataclasses.replace(changed, template="") == request


def test_another_language_changes_the_prompt_alone(split):
    for request, changed in changed_requests(SEQUENTIAL, split, "in zh"):
        assert changed == dataclasses.replace(request, language="zh")


def test_a_report_has_the_rows_of_each_task(split):
    def random_scores(requests):
        rows = [np.random.default_rng(r.time).random(split.num_items) for r in requests]
        return Ranking(np.array(rows, np.float32))

    def make_ablations(task):
        return ablation_rankers(random_scores, PACKS, task, split, Role.TEST, 0)

    config = EvaluationConfig(resamples=100, max_requests=40)
    tasks = (SEQUENTIAL, PERSONALIZED_SEARCH)
    report = evaluate_rankers({"tuned": random_scores}, split, tasks, config, 0, make_ablations)
    rows = {t.task: [row.ranker for row in t.rows] for t in report.tasks}
    assert rows["sequential_recommendation"] == ["chance", "tuned", UNSEEN, "in zh"]
    assert NO_INSTRUCTION in rows["personalized_search"]
    report.task("personalized_search").difference(SHUFFLED, NO_INSTRUCTION)
