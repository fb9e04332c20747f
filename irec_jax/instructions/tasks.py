"""Tasks: what is hidden, what is asked, and how the answer is graded (paper, section 2.2)."""

import dataclasses
import enum
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int

from irec_jax.errors import InputError, nearest
from irec_jax.instructions.cleaning import clean
from irec_jax.instructions.forms import Intention, Preference, Request, Scenario, TaskForm
from irec_jax.log.split import Role, Split

_INTENTION_CODES = {Intention.VAGUE: 1, Intention.SPECIFIC: 2}
_INTENTION_OF_CODE = {code: intention for intention, code in _INTENTION_CODES.items()}

Language = Literal["en"]
Domain = Literal["shop", "content", "social", "finance"]


class TaskName(enum.Enum):
    """The tasks by name, as configs and reports write them."""

    SEQUENTIAL_RECOMMENDATION = "sequential_recommendation"
    PRODUCT_SEARCH = "product_search"
    PERSONALIZED_SEARCH = "personalized_search"


@dataclasses.dataclass(frozen=True)
class InstructionsConfig:
    """Which instructions are made from a log.

    Attributes:
        tasks: What is trained on; a task listed twice is sampled twice as often.
        language: The template pack.
        domain: The pack's nouns and verbs.
        max_history: How many of the last items of a history are written into a prompt.
        answer_items: How many of the next items a training answer of sequential recommendation
            lists. More than 1 teaches more from one reading of a prompt (the first is the answer,
            the others follow it, each given those before); needs the atomic index. Queries are
            always answered by one item.
    """

    tasks: tuple[TaskName, ...] = tuple(TaskName)
    language: Language = "en"
    domain: Domain = "shop"
    max_history: int = 20
    answer_items: int = 1

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InputError(
                "no task is listed",
                where="instructions.tasks",
                mend=f"list one or more of: {', '.join(name.value for name in TaskName)}.",
            )
        for key, kind in (("language", Language), ("domain", Domain)):
            value, allowed = getattr(self, key), get_args(kind)
            if value not in allowed:
                raise InputError(
                    f"'{value}'; {nearest(str(value), allowed)}", where=f"instructions.{key}"
                )
        for key in ("max_history", "answer_items"):
            if getattr(self, key) < 1:
                raise InputError(
                    f"{getattr(self, key)} is less than 1", where=f"instructions.{key}"
                )


@dataclasses.dataclass(frozen=True)
class Task:
    """A question that a log can ask and grade.

    The target of a task is an event: its item is the answer, and it and everything that its user
    did after it are hidden. A *position* is the number of an event in a `Split`.

    Attributes:
        name: How configs and reports write it.
        preference: What the question says of the user's taste.
        intentions: What it can say of the user's wish: which one holds is a property of the
            event, so one task serves vague and specific queries.
        form: How the answer is asked for.
    """

    name: TaskName
    preference: Preference
    intentions: tuple[Intention, ...]
    form: TaskForm = TaskForm.MATCHING

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios of its requests."""
        return tuple(Scenario(self.preference, i, self.form) for i in self.intentions)

    @property
    def scenario(self) -> Scenario:
        """The scenario of a request whose words nobody has classed: the most specific one."""
        return self.scenarios[-1]

    @property
    def needs_history(self) -> bool:
        """Whether its prompts hold the history."""
        return self.preference is Preference.IMPLICIT

    @property
    def needs_query(self) -> bool:
        """Whether its prompts hold words of the user."""
        return Intention.NONE not in self.intentions

    def eligible(self, split: Split, role: Role) -> Int[np.ndarray, " positions"]:
        """Returns the positions (int64, ascending) with a role that can be its target.

        An event needs something before it where the question holds the history, and a query of a
        kind that the task serves where it holds the user's words.
        """
        chosen = split.roles == role.value
        if self.needs_history:
            first = np.zeros(len(split.items), dtype=bool)
            first[split.offsets[:-1][np.diff(split.offsets) > 0]] = True
            chosen &= ~first
        if self.needs_query:
            codes = [_INTENTION_CODES[intention] for intention in self.intentions]
            chosen &= np.isin(split.intentions, codes)
            for position in np.flatnonzero(chosen).tolist():
                chosen[position] = bool(clean(split.queries[position]))
        return np.flatnonzero(chosen)

    def hidden(self, split: Split, position: int) -> range:
        """Returns the positions that a prompt about `position` may not show."""
        row = int(np.searchsorted(split.offsets, position, side="right")) - 1
        return range(position, int(split.offsets[row + 1]))

    def scenario_at(self, split: Split, position: int) -> Scenario:
        """Returns the scenario of one eligible position."""
        intention = Intention.NONE
        if self.needs_query:
            intention = _INTENTION_OF_CODE[int(split.intentions[position])]
        return Scenario(self.preference, intention, self.form)

    def request(self, split: Split, position: int) -> Request:
        """Asks about one eligible position; the request holds nothing that is hidden.

        Where the scenario tells nothing of the user (P0), the history is empty and nothing is
        excluded: the question could be anybody's. `user` is always the log's, so that results
        can be grouped by it.
        """
        history = tuple(split.history(position).tolist()) if self.needs_history else ()
        row = int(np.searchsorted(split.offsets, position, side="right")) - 1
        return Request(
            scenario=self.scenario_at(split, position),
            history=history,
            instruction=split.queries[position] if self.needs_query else "",
            user=int(split.users[row]),
            time=int(split.times[position]),
            exclude=history,
        )

    def relevant(self, split: Split, position: int) -> tuple[int, ...]:
        """Returns the item numbers that are right answers; grading needs nothing else."""
        return (int(split.items[position]),)


SEQUENTIAL_RECOMMENDATION = Task(
    TaskName.SEQUENTIAL_RECOMMENDATION, Preference.IMPLICIT, (Intention.NONE,)
)
PRODUCT_SEARCH = Task(
    TaskName.PRODUCT_SEARCH, Preference.NONE, (Intention.VAGUE, Intention.SPECIFIC)
)
PERSONALIZED_SEARCH = Task(
    TaskName.PERSONALIZED_SEARCH, Preference.IMPLICIT, (Intention.VAGUE, Intention.SPECIFIC)
)
TASKS = (SEQUENTIAL_RECOMMENDATION, PRODUCT_SEARCH, PERSONALIZED_SEARCH)


def task_named(name: TaskName) -> Task:
    """Returns the task of a name."""
    return next(task for task in TASKS if task.name is name)


def task_for(*, has_history: bool, has_words: bool) -> Task:
    """Returns the task that a person's request is, by what it holds.

    Raises:
        InputError: It holds neither a history nor words.
    """
    for task in TASKS:
        if (task.needs_history, task.needs_query) == (has_history, has_words):
            return task
    raise InputError(
        "the request has neither a history nor an instruction",
        where="request",
        mend="name at least one item of the history, or say what is wanted.",
    )
