"""The tasks of the package, and how they are found by name, scenario or data of a request."""

from collections.abc import Sequence

from irec_jax.errors import InputError
from irec_jax.instructions.forms import (
    Intention,
    Part,
    Preference,
    Scenario,
    Slot,
    Strategy,
    TaskForm,
    TaskName,
)
from irec_jax.instructions.tasks import FORM_SLOTS, Task

NAMED_TASKS = (
    TaskName.SEQUENTIAL_RECOMMENDATION,
    TaskName.PRODUCT_SEARCH,
    TaskName.PERSONALIZED_SEARCH,
)
"""The scenarios that have a name in the paper, over the whole catalog."""

_ANY_QUERY = (Intention.VAGUE, Intention.SPECIFIC)
_NO_QUERY = (Intention.NONE,)

_SITUATIONS = {
    "sequential": (Preference.IMPLICIT, _NO_QUERY, (Slot.HISTORY,), (Slot.CONTEXT,)),
    "preference": (
        Preference.EXPLICIT,
        _NO_QUERY,
        (Slot.PREFERENCE,),
        (Slot.HISTORY, Slot.CONTEXT),
    ),
    "context": (Preference.NONE, _NO_QUERY, (Slot.CONTEXT,), ()),
    "product_search": (Preference.NONE, _ANY_QUERY, (Slot.QUERY,), (Slot.CONTEXT,)),
    "personalized_search": (
        Preference.IMPLICIT,
        _ANY_QUERY,
        (Slot.HISTORY, Slot.QUERY),
        (Slot.CONTEXT,),
    ),
    "preference_search": (
        Preference.EXPLICIT,
        _ANY_QUERY,
        (Slot.PREFERENCE, Slot.QUERY),
        (Slot.HISTORY, Slot.CONTEXT),
    ),
}


def _plain_task(situation: str, form: TaskForm) -> Task:
    preference, intentions, required_slots, optional_slots = _SITUATIONS[situation]
    ending = form.value
    if form is TaskForm.MATCHING:
        ending = "" if situation.endswith("search") else "recommendation"
    return Task(
        name=TaskName(f"{situation}_{ending}".rstrip("_")),
        preference=preference,
        intentions=intentions,
        form=form,
        required_slots=(*required_slots, *FORM_SLOTS[form]),
        optional_slots=optional_slots,
        answer_parts=(Part.VERDICT,) if form is TaskForm.POINTWISE else (Part.ITEM,),
    )


def _strategy_task(
    name: TaskName,
    strategy: Strategy,
    kind: tuple[Preference, Sequence[Intention]],
    required_slots: tuple[Slot, ...],
    answer_parts: tuple[Part, ...],
) -> Task:
    return Task(
        name, kind[0], tuple(kind[1]), TaskForm.MATCHING, strategy, required_slots, (), answer_parts
    )


_IMPLICIT_QUERY = (Preference.IMPLICIT, _ANY_QUERY)
_STRATEGY_TASKS = (
    _strategy_task(
        TaskName.HISTORY_TO_PREFERENCE,
        Strategy.TURN_AROUND,
        (Preference.IMPLICIT, _NO_QUERY),
        (Slot.HISTORY,),
        (Part.PREFERENCE,),
    ),
    _strategy_task(
        TaskName.ITEM_TO_QUERY,
        Strategy.TURN_AROUND,
        (Preference.NONE, _ANY_QUERY),
        (Slot.TARGET,),
        (Part.QUERY,),
    ),
    _strategy_task(
        TaskName.HISTORY_ITEM_TO_QUERY,
        Strategy.TURN_AROUND,
        _IMPLICIT_QUERY,
        (Slot.HISTORY, Slot.TARGET),
        (Part.QUERY,),
    ),
    _strategy_task(
        TaskName.HISTORY_ITEM_TO_REASON,
        Strategy.TURN_AROUND,
        (Preference.IMPLICIT, _NO_QUERY),
        (Slot.HISTORY, Slot.TARGET),
        (Part.REASON,),
    ),
    _strategy_task(
        TaskName.QUERY_TO_ITEMS,
        Strategy.TURN_AROUND,
        (Preference.NONE, _ANY_QUERY),
        (Slot.QUERY,),
        (Part.HISTORY, Part.ITEM),
    ),
    _strategy_task(
        TaskName.QUERY_ITEM_TO_HISTORY,
        Strategy.RELATEDNESS,
        (Preference.NONE, _ANY_QUERY),
        (Slot.QUERY, Slot.TARGET),
        (Part.HISTORY,),
    ),
    _strategy_task(
        TaskName.HISTORY_TO_QUERY_ITEM,
        Strategy.RELATEDNESS,
        _IMPLICIT_QUERY,
        (Slot.HISTORY,),
        (Part.QUERY, Part.ITEM),
    ),
    _strategy_task(
        TaskName.REASONED_RECOMMENDATION,
        Strategy.CHAIN_OF_THOUGHT,
        (Preference.IMPLICIT, _NO_QUERY),
        (Slot.HISTORY,),
        (Part.PREFERENCE, Part.ITEM),
    ),
    _strategy_task(
        TaskName.REASONED_SEARCH,
        Strategy.CHAIN_OF_THOUGHT,
        _IMPLICIT_QUERY,
        (Slot.HISTORY, Slot.QUERY),
        (Part.PREFERENCE, Part.ITEM),
    ),
)

TASKS = (*(_plain_task(s, form) for s in _SITUATIONS for form in TaskForm), *_STRATEGY_TASKS)
"""All tasks of the package, in the order of `TaskName`."""

_BY_NAME = {task.name: task for task in TASKS}

SEQUENTIAL_RECOMMENDATION = _BY_NAME[TaskName.SEQUENTIAL_RECOMMENDATION]
PRODUCT_SEARCH = _BY_NAME[TaskName.PRODUCT_SEARCH]
PERSONALIZED_SEARCH = _BY_NAME[TaskName.PERSONALIZED_SEARCH]


def task_named(name: TaskName) -> Task:
    """Returns a task of the package by name."""
    return _BY_NAME[name]


def task_of(scenario: Scenario) -> Task:
    """Returns the plain task of a scenario.

    Raises:
        InputError: The scenario has neither preference, intention nor context.
    """
    for task in TASKS:
        if task.strategy is Strategy.PLAIN and scenario in task.scenarios:
            return task
    raise InputError(
        f"there is no task in the scenario {scenario.code}",
        where="scenario",
        hint="Give a preference, an intention, or a context.",
    )


def task_for(*, has_history: bool, has_query: bool, has_preference: bool = False) -> Task:
    """Returns the task of a user's request by the data that the request holds.

    Raises:
        InputError: It holds neither a history nor a query nor a preference.
    """
    if has_preference:
        preference = Preference.EXPLICIT
    else:
        preference = Preference.IMPLICIT if has_history else Preference.NONE
    if not has_query and preference is Preference.NONE:
        raise InputError(
            "the request has neither a history nor an instruction",
            where="request",
            hint="Name at least one item of the history, or give an instruction.",
        )
    intention = Intention.SPECIFIC if has_query else Intention.NONE
    return task_of(Scenario(preference, intention, TaskForm.MATCHING))
