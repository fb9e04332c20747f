"""Tasks: what is hidden, what is asked, and how the answer is graded (paper, section 2.2)."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from irec_jax.errors import InputError
from irec_jax.instructions.forms import (
    Group,
    Intention,
    Part,
    Preference,
    Request,
    Scenario,
    Slot,
    Strategy,
    TaskForm,
    TaskName,
)
from irec_jax.log.split import Role, Split
from irec_jax.text_cleaning import clean

INTENTION_CODES = {Intention.VAGUE: 1, Intention.SPECIFIC: 2}
"""How a split's `intentions` writes them."""

_INTENTION_OF_CODE = {code: intention for intention, code in INTENTION_CODES.items()}

NAMED_TASKS = (
    TaskName.SEQUENTIAL_RECOMMENDATION,
    TaskName.PRODUCT_SEARCH,
    TaskName.PERSONALIZED_SEARCH,
)
"""The scenarios that have a name in the paper, asked for the whole catalog."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A question that a log can ask and grade.

    The target of a task is an event: its item is the answer (or what the answer is about), and
    it and everything that its user did after it are hidden, but for what `shows` names. A
    *position* is the number of an event in a `Split`.

    Attributes:
        name: How configs and reports write it.
        preference: What the question says of the user's taste.
        intentions: What it can say of the user's wish: which one holds is a property of the
            event's query, so one task serves vague and specific queries.
        form: How the answer is asked for.
        strategy: How it is made.
        shows: The slots that each of its templates has once.
        may_show: Slots that a template may have, once, besides.
        answers: The parts of the answer in their order; `ANSWER_MARK` stands before an item that
            is not alone.
    """

    name: TaskName
    preference: Preference
    intentions: tuple[Intention, ...]
    form: TaskForm = TaskForm.MATCHING
    strategy: Strategy = Strategy.PLAIN
    shows: tuple[Slot, ...] = ()
    may_show: tuple[Slot, ...] = (Slot.CONTEXT,)
    answers: tuple[Part, ...] = (Part.ITEM,)

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios of its requests."""
        return tuple(Scenario(self.preference, i, self.form) for i in self.intentions)

    @property
    def scenario(self) -> Scenario:
        """The scenario of a request whose words nobody has classed: the most specific one."""
        return self.scenarios[-1]

    @property
    def group(self) -> Group:
        """The paper's group of its templates."""
        if not self.reads_query and Slot.TARGET not in self.shows:
            return Group.PREFERENCE
        personal = self.reads_history or self.reads_preference
        return Group.COMBINED if personal else Group.INTENTION

    @functools.cached_property
    def is_ranked(self) -> bool:
        """Whether it asks for one item of the whole catalog, so that rankers can be graded."""
        return self.strategy is Strategy.PLAIN and self.form is TaskForm.MATCHING

    @functools.cached_property
    def needs_history(self) -> bool:
        """Whether its prompts hold the history."""
        return Slot.HISTORY in self.shows

    @functools.cached_property
    def needs_query(self) -> bool:
        """Whether its prompts hold words of the user."""
        return Slot.QUERY in self.shows

    @functools.cached_property
    def needs_preference(self) -> bool:
        """Whether its prompts hold a sentence about the user's taste."""
        return Slot.PREFERENCE in self.shows

    @functools.cached_property
    def needs_context(self) -> bool:
        """Whether its prompts hold the moment."""
        return Slot.CONTEXT in self.shows

    @functools.cached_property
    def reads_history(self) -> bool:
        """Whether its prompts or answers hold the history."""
        return self.needs_history or Part.HISTORY in self.answers or self.reads_preference

    @functools.cached_property
    def reads_query(self) -> bool:
        """Whether its prompts or answers hold a query."""
        return self.needs_query or Part.QUERY in self.answers

    @functools.cached_property
    def reads_preference(self) -> bool:
        """Whether its prompts or answers hold a preference; one is written from a history."""
        return self.needs_preference or Part.PREFERENCE in self.answers

    @functools.cached_property
    def reads_reason(self) -> bool:
        """Whether its answers say why an item suits a user."""
        return Part.REASON in self.answers

    @functools.cached_property
    def hides_target(self) -> bool:
        """Whether its prompts may hold the target's item as nothing but a candidate."""
        return Slot.TARGET not in self.shows

    def eligible(self, split: Split, role: Role) -> Int[np.ndarray, " positions"]:
        """Returns the positions (int64, ascending) with a role that can be its target.

        An event needs something before it where the history is read, and a query of a kind that
        the task serves where the user's words are, a preference where the
        prompt tells one. What a teacher writes counts where it is part of the split: see
        `irec_jax.instructions.teacher.add_teacher_texts`.
        """
        chosen = split.roles == role.value
        if self.reads_history:
            chosen &= ~first_events(split)
        if self.reads_query:
            codes = [INTENTION_CODES[intention] for intention in self.intentions]
            chosen &= np.isin(split.intentions, codes)
            for position in np.flatnonzero(chosen).tolist():
                chosen[position] = bool(clean(split.queries[position]))
        if self.needs_preference:
            chosen &= np.array([bool(text) for text in split.preferences] or False, bool)
        return np.flatnonzero(chosen)

    def hidden(self, split: Split, position: int) -> range:
        """Returns the positions that a prompt about `position` may not show."""
        row = int(np.searchsorted(split.offsets, position, side="right")) - 1
        return range(position, int(split.offsets[row + 1]))

    def scenario_at(self, split: Split, position: int) -> Scenario:
        """Returns the scenario of one eligible position."""
        intention = Intention.NONE
        if self.reads_query:
            intention = _INTENTION_OF_CODE[int(split.intentions[position])]
        return Scenario(self.preference, intention, self.form)

    def request(self, split: Split, position: int) -> Request:
        """Asks about one eligible position; the request holds nothing that is hidden.

        Where the scenario tells nothing of the user (P0), the history is empty and nothing is
        excluded: the question could be anybody's. `user` is always the log's, so that results
        can be grouped by it.
        """
        tells_user = self.preference is not Preference.NONE
        history = tuple(split.history(position).tolist()) if tells_user else ()
        row = int(np.searchsorted(split.offsets, position, side="right")) - 1
        return Request(
            scenario=self.scenario_at(split, position),
            history=history,
            instruction=split.queries[position] if self.needs_query else "",
            user=int(split.users[row]),
            time=int(split.times[position]),
            exclude=history,
            preference=split.preferences[position] if self.needs_preference else "",
        )

    def relevant(self, split: Split, position: int) -> tuple[int, ...]:
        """Returns the item numbers that are right answers; grading needs nothing else."""
        return (int(split.items[position]),)


def first_events(split: Split) -> np.ndarray:
    """Returns `[events]` bool: whether an event is its user's first."""
    first = np.zeros(len(split.items), dtype=bool)
    first[split.offsets[:-1][np.diff(split.offsets) > 0]] = True
    return first


_QUERIED = (Intention.VAGUE, Intention.SPECIFIC)
_UNASKED = (Intention.NONE,)

_SITUATIONS = {
    "sequential": (Preference.IMPLICIT, _UNASKED, (Slot.HISTORY,), (Slot.CONTEXT,)),
    "preference": (
        Preference.EXPLICIT,
        _UNASKED,
        (Slot.PREFERENCE,),
        (Slot.HISTORY, Slot.CONTEXT),
    ),
    "context": (Preference.NONE, _UNASKED, (Slot.CONTEXT,), ()),
    "product_search": (Preference.NONE, _QUERIED, (Slot.QUERY,), (Slot.CONTEXT,)),
    "personalized_search": (
        Preference.IMPLICIT,
        _QUERIED,
        (Slot.HISTORY, Slot.QUERY),
        (Slot.CONTEXT,),
    ),
    "preference_search": (
        Preference.EXPLICIT,
        _QUERIED,
        (Slot.PREFERENCE, Slot.QUERY),
        (Slot.HISTORY, Slot.CONTEXT),
    ),
}
_FORM_SLOTS = {
    TaskForm.POINTWISE: (Slot.CANDIDATE,),
    TaskForm.PAIRWISE: (Slot.FIRST, Slot.SECOND),
    TaskForm.MATCHING: (),
    TaskForm.RERANKING: (Slot.CANDIDATES,),
}


def _plain_task(situation: str, form: TaskForm) -> Task:
    preference, intentions, shows, may_show = _SITUATIONS[situation]
    ending = form.value
    if form is TaskForm.MATCHING:
        ending = "" if situation.endswith("search") else "recommendation"
    return Task(
        name=TaskName(f"{situation}_{ending}".rstrip("_")),
        preference=preference,
        intentions=intentions,
        form=form,
        shows=(*shows, *_FORM_SLOTS[form]),
        may_show=may_show,
        answers=(Part.VERDICT,) if form is TaskForm.POINTWISE else (Part.ITEM,),
    )


def _strategy_task(
    name: TaskName,
    strategy: Strategy,
    kind: tuple[Preference, Sequence[Intention]],
    shows: tuple[Slot, ...],
    answers: tuple[Part, ...],
) -> Task:
    return Task(name, kind[0], tuple(kind[1]), TaskForm.MATCHING, strategy, shows, (), answers)


_IMPLICIT_QUERIED = (Preference.IMPLICIT, _QUERIED)
_STRATEGY_TASKS = (
    _strategy_task(
        TaskName.HISTORY_TO_PREFERENCE,
        Strategy.TURN_AROUND,
        (Preference.IMPLICIT, _UNASKED),
        (Slot.HISTORY,),
        (Part.PREFERENCE,),
    ),
    _strategy_task(
        TaskName.ITEM_TO_QUERY,
        Strategy.TURN_AROUND,
        (Preference.NONE, _QUERIED),
        (Slot.TARGET,),
        (Part.QUERY,),
    ),
    _strategy_task(
        TaskName.HISTORY_ITEM_TO_QUERY,
        Strategy.TURN_AROUND,
        _IMPLICIT_QUERIED,
        (Slot.HISTORY, Slot.TARGET),
        (Part.QUERY,),
    ),
    _strategy_task(
        TaskName.HISTORY_ITEM_TO_REASON,
        Strategy.TURN_AROUND,
        (Preference.IMPLICIT, _UNASKED),
        (Slot.HISTORY, Slot.TARGET),
        (Part.REASON,),
    ),
    _strategy_task(
        TaskName.QUERY_TO_ITEMS,
        Strategy.TURN_AROUND,
        (Preference.NONE, _QUERIED),
        (Slot.QUERY,),
        (Part.HISTORY, Part.ITEM),
    ),
    _strategy_task(
        TaskName.QUERY_ITEM_TO_HISTORY,
        Strategy.RELATEDNESS,
        (Preference.NONE, _QUERIED),
        (Slot.QUERY, Slot.TARGET),
        (Part.HISTORY,),
    ),
    _strategy_task(
        TaskName.HISTORY_TO_QUERY_ITEM,
        Strategy.RELATEDNESS,
        _IMPLICIT_QUERIED,
        (Slot.HISTORY,),
        (Part.QUERY, Part.ITEM),
    ),
    _strategy_task(
        TaskName.REASONED_RECOMMENDATION,
        Strategy.CHAIN_OF_THOUGHT,
        (Preference.IMPLICIT, _UNASKED),
        (Slot.HISTORY,),
        (Part.PREFERENCE, Part.ITEM),
    ),
    _strategy_task(
        TaskName.REASONED_SEARCH,
        Strategy.CHAIN_OF_THOUGHT,
        _IMPLICIT_QUERIED,
        (Slot.HISTORY, Slot.QUERY),
        (Part.PREFERENCE, Part.ITEM),
    ),
)

TASKS = (*(_plain_task(s, form) for s in _SITUATIONS for form in TaskForm), *_STRATEGY_TASKS)
"""All tasks, in the order of `TaskName`'s groups."""

_BY_NAME = {task.name: task for task in TASKS}

SEQUENTIAL_RECOMMENDATION = _BY_NAME[TaskName.SEQUENTIAL_RECOMMENDATION]
PRODUCT_SEARCH = _BY_NAME[TaskName.PRODUCT_SEARCH]
PERSONALIZED_SEARCH = _BY_NAME[TaskName.PERSONALIZED_SEARCH]


def task_named(name: TaskName) -> Task:
    """Returns the task of a name."""
    return _BY_NAME[name]


def task_of(scenario: Scenario) -> Task:
    """Returns the plain task that asks in a scenario.

    Raises:
        InputError: The scenario tells nothing that a question could be answered from.
    """
    for task in TASKS:
        if task.strategy is Strategy.PLAIN and scenario in task.scenarios:
            return task
    raise InputError(
        f"no task asks in the scenario {scenario.code}",
        where="scenario",
        hint="tell a preference, an intention, or a context.",
    )


def task_for(*, has_history: bool, has_words: bool, has_preference: bool = False) -> Task:
    """Returns the task that a person's request is, by what it holds.

    Raises:
        InputError: It holds neither a history nor words nor a preference.
    """
    if has_preference:
        preference = Preference.EXPLICIT
    else:
        preference = Preference.IMPLICIT if has_history else Preference.NONE
    if not has_words and preference is Preference.NONE:
        raise InputError(
            "the request has neither a history nor an instruction",
            where="request",
            hint="name at least one item of the history, or say what is wanted.",
        )
    intention = Intention.SPECIFIC if has_words else Intention.NONE
    return task_of(Scenario(preference, intention, TaskForm.MATCHING))
