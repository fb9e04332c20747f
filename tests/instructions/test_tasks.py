"""Tasks: eligibility, what a request holds, grading, and the settings."""

import dataclasses
import itertools

import pytest

from irec_jax.errors import InputError
from irec_jax.instructions.built_in_tasks import (
    PERSONALIZED_SEARCH,
    PRODUCT_SEARCH,
    SEQUENTIAL_RECOMMENDATION,
    TASKS,
    task_for,
    task_named,
    task_of,
)
from irec_jax.instructions.config import ContextPart, InstructionsConfig
from irec_jax.instructions.forms import (
    ANSWER_MARK,
    Group,
    Intention,
    Preference,
    Scenario,
    Strategy,
    TaskForm,
    TaskName,
    graded_part,
)
from irec_jax.log.split import Role, Split

pytestmark = pytest.mark.fast


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
    assert task_for(has_history=True, has_query=False) is SEQUENTIAL_RECOMMENDATION
    assert task_for(has_history=False, has_query=True) is PRODUCT_SEARCH
    assert task_for(has_history=True, has_query=True) is PERSONALIZED_SEARCH
    with pytest.raises(InputError, match="neither"):
        task_for(has_history=False, has_query=False)
    assert PRODUCT_SEARCH.scenario.intention is Intention.SPECIFIC


def test_every_meaningful_combination_is_a_task_and_no_other():
    asked = {s for task in TASKS if task.strategy is Strategy.PLAIN for s in task.scenarios}
    every = itertools.product(Preference, Intention, TaskForm)
    # P0 and I0 together tell nothing but the moment: a task of its own, which needs a context.
    assert asked == {Scenario(*parts) for parts in every}
    for scenario in asked:
        task = task_of(scenario)
        nothing = (scenario.preference, scenario.intention) == (Preference.NONE, Intention.NONE)
        assert task.needs_context == nothing
        endings = ("recommendation", "search")
        if scenario.form is not TaskForm.MATCHING:
            endings = (scenario.form.value,)
        assert task.name.value.endswith(endings)


def test_the_groups_of_the_paper():
    assert SEQUENTIAL_RECOMMENDATION.group is Group.PREFERENCE
    assert task_named(TaskName.ITEM_TO_QUERY).group is Group.INTENTION
    assert task_named(TaskName.HISTORY_ITEM_TO_REASON).group is Group.COMBINED
    assert {task.strategy for task in TASKS} == set(Strategy)


@pytest.mark.parametrize(
    ("settings", "key", "what"),
    [
        ({"tasks": (TaskName.PREFERENCE_SEARCH,)}, "teacher", "a log has none"),
        ({"tasks": (TaskName.REASONED_SEARCH,)}, "teacher", "a log has none"),
        ({"tasks": (TaskName.HISTORY_ITEM_TO_REASON,)}, "teacher", "a log has none"),
        ({"tasks": (TaskName.CONTEXT_POINTWISE,)}, "context", "no part is listed"),
        ({"teacher_texts": "somewhere"}, "teacher_texts", "the teacher is 'log'"),
        ({"teacher": "texts"}, "teacher_texts", "the teacher is 'texts'"),
        ({"packs": ("de",)}, "packs", "'de'"),
        ({"packs": ("en", "en")}, "packs", "twice"),
        ({"packs": ()}, "packs", "no pack"),
        ({"candidates": 1}, "candidates", "must be between 2 and"),
        ({"max_overlap": 1.5}, "max_overlap", "must be between 0 and 1"),
        ({"context": (ContextPart.TIME, ContextPart.TIME)}, "context", "twice"),
    ],
)
def test_settings_that_make_no_sense_fail_when_the_config_is_read(
    settings: dict, key: str, what: str
):
    with pytest.raises(InputError, match=what) as caught:
        InstructionsConfig(**settings)
    assert caught.value.where == f"instructions.{key}"


def test_an_explicit_preference_is_asked_about_where_it_is_given(split: Split):
    task = task_named(TaskName.PREFERENCE_RECOMMENDATION)
    assert not len(task.eligible(split, Role.TEST))
    preferences = [
        "likes lamps" if position in (5, 13) else "" for position in range(len(split.items))
    ]
    split = dataclasses.replace(split, preferences=preferences)
    assert task.eligible(split, Role.TEST).tolist() == [5, 13]
    request = task.request(split, 5)
    assert (request.preference, request.instruction) == ("likes lamps", "")
    assert task_for(has_history=True, has_query=False, has_preference=True) is task


def test_what_is_graded_of_an_answer():
    assert graded_part(f"likes lamps{ANSWER_MARK}Red lamp") == "Red lamp"
    assert graded_part("Red lamp") == "Red lamp"


@pytest.mark.parametrize(
    ("key", "value"),
    [("tasks", ()), ("teacher", "me"), ("domain", "shops"), ("max_history", 0)],
)
def test_impossible_settings_are_refused(key: str, value: object):
    config = InstructionsConfig()
    # Past the check of annotations, which only tests have.
    object.__setattr__(config, key, value)
    with pytest.raises(InputError) as caught:
        config.__post_init__()
    assert caught.value.where == f"instructions.{key}"
