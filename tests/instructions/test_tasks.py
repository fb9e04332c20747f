"""Tasks: eligibility, what a request holds, grading, and the settings."""

import pytest

from irec_jax.errors import InputError
from irec_jax.instructions.forms import Intention, Preference, TaskForm
from irec_jax.instructions.tasks import (
    PERSONALIZED_SEARCH,
    PRODUCT_SEARCH,
    SEQUENTIAL_RECOMMENDATION,
    TASKS,
    InstructionsConfig,
    TaskName,
    task_for,
    task_named,
)
from irec_jax.log.split import Role, Split


def test_eligible_positions_by_role(split: Split):
    # Users start at 0, 6, 11, 14 and 16; queries stand at 0, 2, 5, 8 and 9.
    train = {task.name: task.eligible(split, Role.TRAIN).tolist() for task in TASKS}
    assert train[TaskName.SEQUENTIAL_RECOMMENDATION] == [1, 2, 3, 7, 8, 15]
    assert train[TaskName.PRODUCT_SEARCH] == [0, 2, 8]
    assert train[TaskName.PERSONALIZED_SEARCH] == [2, 8]
    assert SEQUENTIAL_RECOMMENDATION.eligible(split, Role.VALIDATION).tolist() == [4, 9, 12]
    assert PRODUCT_SEARCH.eligible(split, Role.VALIDATION).tolist() == [9]
    assert SEQUENTIAL_RECOMMENDATION.eligible(split, Role.TEST).tolist() == [5, 10, 13]
    assert PERSONALIZED_SEARCH.eligible(split, Role.TEST).tolist() == [5]


def test_a_query_that_cannot_be_read_is_no_query(split: Split):
    split.queries[2] = "\u202e \x00\n"
    assert PRODUCT_SEARCH.eligible(split, Role.TRAIN).tolist() == [0, 8]


def test_a_personalized_request_holds_all_before_and_nothing_of_the_target(split: Split):
    request = PERSONALIZED_SEARCH.request(split, 9)
    assert request.history == request.exclude == (5, 6, 7)
    assert request.instruction == "tall floor light"
    assert (request.user, request.time) == (900_002, 90)
    assert request.scenario.intention is Intention.SPECIFIC
    assert PERSONALIZED_SEARCH.request(split, 5).scenario.intention is Intention.VAGUE
    assert PERSONALIZED_SEARCH.relevant(split, 9) == (8,)
    assert list(PERSONALIZED_SEARCH.hidden(split, 9)) == [9, 10]


def test_sequential_recommendation_never_sees_the_query(split: Split):
    request = SEQUENTIAL_RECOMMENDATION.request(split, 2)
    assert request.instruction == ""
    assert request.history == (0, 1)
    assert request.scenario.code == "implicit-none-matching"


def test_product_search_could_be_anybodys(split: Split):
    request = PRODUCT_SEARCH.request(split, 2)
    assert request.history == request.exclude == ()
    assert request.instruction == "red desk light"
    assert request.scenario.preference is Preference.NONE
    assert PRODUCT_SEARCH.request(split, 0).scenario.intention is Intention.VAGUE


def test_a_task_by_name_and_by_what_a_person_gives():
    for name in TaskName:
        assert task_named(name).name is name
    assert task_for(has_history=True, has_words=False) is SEQUENTIAL_RECOMMENDATION
    assert task_for(has_history=False, has_words=True) is PRODUCT_SEARCH
    assert task_for(has_history=True, has_words=True) is PERSONALIZED_SEARCH
    with pytest.raises(InputError, match="neither"):
        task_for(has_history=False, has_words=False)
    assert PRODUCT_SEARCH.scenario.intention is Intention.SPECIFIC
    assert all(task.form is TaskForm.MATCHING for task in TASKS)


@pytest.mark.parametrize(
    ("key", "value"),
    [("tasks", ()), ("language", "eng"), ("domain", "shops"), ("max_history", 0)],
)
def test_impossible_settings_are_refused(key: str, value: object):
    config = InstructionsConfig()
    # Past the check of annotations, which only tests have.
    object.__setattr__(config, key, value)
    with pytest.raises(InputError) as caught:
        config.__post_init__()
    assert caught.value.where == f"instructions.{key}"
