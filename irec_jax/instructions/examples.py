"""The examples of one pass: every task at every event that can be its target."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from irec_jax.errors import InputError
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.context import RequestContext
from irec_jax.instructions.forms import Intention, Scenario, TaskForm
from irec_jax.instructions.tasks import Task, first_events, task_named
from irec_jax.instructions.teacher import Teacher
from irec_jax.log.split import Role, Split


class TaskVariant(NamedTuple):
    """A task, asked with one kind of query.

    Attributes:
        task: The task.
        intention: The kind of query that it reads.
    """

    task: Task
    intention: Intention

    @property
    def scenario(self) -> Scenario:
        """The scenario of its records."""
        return Scenario(self.task.preference, self.intention, self.task.form)


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """The examples of one pass, not yet in any order.

    Attributes:
        asked: The tasks and kinds of query that occur.
        numbers: `[examples]` int16, a number in `asked`.
        positions: `[examples]` the position of the target; int32 where that is enough.
    """

    asked: tuple[TaskVariant, ...]
    numbers: Int[np.ndarray, " examples"]
    positions: Int[np.ndarray, " examples"]


def list_examples(
    split: Split,
    config: InstructionsConfig,
    role: Role,
    *,
    teacher: Teacher,
    languages: Sequence[str],
    moments: RequestContext,
) -> Examples:
    """Lists every listed task at every event of a role that can be its target.

    Args:
        split: The log.
        config: The tasks.
        role: Which events are targets.
        teacher: Says where there are preferences, queries and reasons.
        languages: In which of them one is enough.
        moments: Say where there is a context.

    Raises:
        InputError: A task has no example.
    """
    asked: list[TaskVariant] = []
    numbers: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    allowed = _Allowed(split, role, teacher, tuple(languages), moments)
    for name in config.tasks:
        task = task_named(name)
        found = [
            (one, allowed.positions(one)) for one in (TaskVariant(task, i) for i in task.intentions)
        ]
        if not any(len(places) for _, places in found):
            raise _no_example(task, role)
        for one, places in found:
            if len(places) and one not in asked:
                asked.append(one)
        codes = [np.full(len(p), asked.index(a), np.int16) for a, p in found if len(p)]
        places = np.concatenate([p for _, p in found if len(p)])
        order = np.argsort(places, kind="stable")
        numbers.append(np.concatenate(codes)[order])
        positions.append(places[order])
    return Examples(tuple(asked), np.concatenate(numbers), narrow(np.concatenate(positions)))


def narrow(numbers: Int[np.ndarray, " numbers"]) -> Int[np.ndarray, " numbers"]:
    """Returns places among millions in half the memory: int32 where that is enough."""
    is_enough = not len(numbers) or numbers.max() <= np.iinfo(np.int32).max
    return numbers.astype(np.int32) if is_enough else numbers


@dataclasses.dataclass(frozen=True, eq=False)
class _Allowed:
    """Which positions a task can ask about."""

    split: Split
    role: Role
    teacher: Teacher
    languages: tuple[str, ...]
    moments: RequestContext

    def positions(self, asked: TaskVariant) -> Int[np.ndarray, " positions"]:
        task, split = asked.task, self.split
        chosen = split.roles == self.role.value
        if task.reads_history:
            chosen &= ~first_events(split)
        if task.reads_query or task.reads_preference or task.reads_reason:
            chosen &= self._told(asked)
        if task.needs_context:
            chosen &= self.moments.told()
        if task.form is not TaskForm.MATCHING:
            chosen &= self._has_negative()
        return np.flatnonzero(chosen)

    def _told(self, asked: TaskVariant) -> Bool[np.ndarray, " events"]:
        """Says where the teacher has all that a task reads, in at least one language."""
        told = np.zeros(len(self.split.items), bool)
        for language in self.languages:
            here = np.ones(len(told), bool)
            if asked.task.reads_query:
                here &= self.teacher.has_query(asked.intention, language)
            if asked.task.reads_preference:
                here &= self.teacher.has_preference(language)
            if asked.task.reads_reason:
                here &= self.teacher.has_reason(language)
            told |= here
        return told

    def _has_negative(self) -> Bool[np.ndarray, " events"]:
        """Says whose history surely leaves an item to draw."""
        split = self.split
        starts = np.repeat(split.offsets[:-1], np.diff(split.offsets))
        before = np.arange(len(split.items)) - starts
        pool = len(np.unique(split.items[split.roles == Role.TRAIN]))
        return before + 1 < pool


def _no_example(task: Task, role: Role) -> InputError:
    needs = " and ".join(
        what
        for what, is_needed in (
            ("an event before it", task.reads_history),
            ("a query", task.reads_query),
            ("a text about the user's taste", task.reads_preference),
            ("a reason", task.reads_reason),
            ("a context", task.needs_context),
            ("an item that its user has not had", task.form is not TaskForm.MATCHING),
        )
        if is_needed
    )
    return InputError(
        f"no {role.name.lower()} event of this log can be the target of "
        f"'{task.name.value}': each needs {needs}",
        where="instructions.tasks",
        hint=f"leave out {task.name.value}, or use a log (or a teacher) that has them.",
    )
