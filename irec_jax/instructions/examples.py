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
from irec_jax.instructions.tasks import Task
from irec_jax.instructions.teacher import Teacher
from irec_jax.log.split import Role, Split


class TaskVariant(NamedTuple):
    """A task with one kind of query.

    Attributes:
        task: The task.
        intention: The kind of query that its prompt or answer holds.
    """

    task: Task
    intention: Intention

    @property
    def scenario(self) -> Scenario:
        """The scenario of its records."""
        return Scenario(self.task.preference, self.intention, self.task.form)


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """The examples of one pass, in the order of the tasks and positions.

    Attributes:
        variants: The tasks and kinds of query that occur.
        numbers: `[examples]` int16 indices into `variants`.
        positions: `[examples]` positions of the targets; int32 if they fit, otherwise int64.
    """

    variants: tuple[TaskVariant, ...]
    numbers: Int[np.ndarray, " examples"]
    positions: Int[np.ndarray, " examples"]


def list_examples(
    split: Split,
    config: InstructionsConfig,
    role: Role,
    *,
    teacher: Teacher,
    languages: Sequence[str],
    request_context: RequestContext,
) -> Examples:
    """Lists every task of a config at every event of a role that can be its target.

    Args:
        split: The log.
        config: The tasks.
        role: Of the events that are targets.
        teacher: Has preferences, queries and reasons of some events.
        languages: The texts of a task must exist in one of them.
        request_context: Has a phrase for some events.

    Raises:
        InputError: A task has no example.
    """
    variants: list[TaskVariant] = []
    numbers: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    sources = _TeacherSources(split, teacher, tuple(languages), request_context)
    for task in config.listed_tasks:
        eligible = {
            TaskVariant(task, intention): task.eligible(split, role, sources, (intention,))
            for intention in task.intentions
        }
        eligible = {variant: events for variant, events in eligible.items() if len(events)}
        if not eligible:
            raise _no_example(task, role)
        variants += [variant for variant in eligible if variant not in variants]
        codes = [np.full(len(e), variants.index(v), np.int16) for v, e in eligible.items()]
        events = np.concatenate(list(eligible.values()))
        order = np.argsort(events, kind="stable")
        numbers.append(np.concatenate(codes)[order])
        positions.append(events[order])
    return Examples(tuple(variants), np.concatenate(numbers), narrow(np.concatenate(positions)))


def narrow(numbers: Int[np.ndarray, " numbers"]) -> Int[np.ndarray, " numbers"]:
    """Returns non-negative integers as int32 if they fit, to halve their memory."""
    fits = not len(numbers) or numbers.max() <= np.iinfo(np.int32).max
    return numbers.astype(np.int32) if fits else numbers


@dataclasses.dataclass(frozen=True, eq=False)
class _TeacherSources:
    """`irec_jax.instructions.tasks.TaskSources` of a renderer."""

    split: Split
    teacher: Teacher
    languages: tuple[str, ...]
    request_context: RequestContext

    def has_texts(
        self, task: Task, intentions: Sequence[Intention], events: Bool[np.ndarray, " events"]
    ) -> Bool[np.ndarray, " events"]:
        """Returns where the teacher has all texts of a task in at least one language."""
        if not (task.reads_query or task.reads_preference or task.reads_reason):
            return events
        exists = np.zeros(len(events), bool)
        for language in self.languages:
            in_language = events.copy()
            if task.reads_query:
                queries = [self.teacher.has_query(i, language) for i in intentions]
                in_language &= np.logical_or.reduce(queries)
            if task.reads_preference:
                in_language &= self.teacher.has_preference(language)
            if task.reads_reason:
                in_language &= self.teacher.has_reason(language)
            exists |= in_language
        return exists

    def has_context(self) -> Bool[np.ndarray, " events"]:
        """Returns where there is a phrase about the request context."""
        return self.request_context.has_phrase()

    def has_negative(self) -> Bool[np.ndarray, " events"]:
        """Returns where the history is too short to hold all items of training."""
        split = self.split
        starts = np.repeat(split.offsets[:-1], np.diff(split.offsets))
        before = np.arange(len(split.items)) - starts
        pool = len(np.unique(split.items[split.roles == Role.TRAIN]))
        return before + 1 < pool


def _no_example(task: Task, role: Role) -> InputError:
    needs = " and ".join(
        need
        for need, is_needed in (
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
        hint=f"Leave out {task.name.value}, or use a log (or a teacher) that has them.",
    )
