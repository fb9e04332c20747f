"""Tasks: points of the instruction space as data (paper, section 2.2)."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from irec_jax.errors import InputError
from irec_jax.instructions.forms import (
    AnyTaskName,
    Group,
    Intention,
    Part,
    Preference,
    Request,
    Scenario,
    Slot,
    Strategy,
    TaskForm,
)
from irec_jax.instructions.slots import AnySlot, CustomSlot, is_custom
from irec_jax.log.split import Role, Split
from irec_jax.settings import ImportedSettings
from irec_jax.text_cleaning import clean

INTENTION_CODES = {Intention.VAGUE: 1, Intention.SPECIFIC: 2}
"""The values of `Split.intentions`."""

_INTENTION_OF_CODE = {code: intention for intention, code in INTENTION_CODES.items()}

FORM_SLOTS = {
    TaskForm.POINTWISE: (Slot.CANDIDATE,),
    TaskForm.PAIRWISE: (Slot.FIRST, Slot.SECOND),
    TaskForm.MATCHING: (),
    TaskForm.RERANKING: (Slot.CANDIDATES,),
}
"""The slots of the candidates in every prompt of a form."""


@runtime_checkable
class TaskSources(Protocol):
    """The events at which the data exist that a task needs, beside a history."""

    def has_texts(
        self, task: "Task", intentions: Sequence[Intention], events: Bool[np.ndarray, " events"]
    ) -> Bool[np.ndarray, " events"]:
        """Returns those of `events` that have the query, preference and reason of a task."""
        ...

    def has_context(self) -> Bool[np.ndarray, " events"]:
        """Returns the events that have a request context."""
        ...

    def has_negative(self) -> Bool[np.ndarray, " events"]:
        """Returns the events for which a negative can be sampled."""
        ...


@dataclasses.dataclass(frozen=True)
class Task:
    """A point of the instruction space: the slots of its prompt and the parts of its answer.

    The target of a task is an event: its item is the answer, or the answer is about it. Prompts
    never hold the target or later events of its user, except in the slot `target`. A *position*
    is the index of an event in a `Split`.

    Attributes:
        name: Its name in configs and reports.
        preference: How the prompt describes the user's taste.
        intentions: The kinds of query that it accepts: one task serves vague and specific queries.
        form: The form of the answer.
        strategy: How the instruction is made.
        required_slots: The slots that each of its templates has once.
        optional_slots: The slots that a template may have once besides.
        answer_parts: The parts of the answer in order, joined by `ANSWER_MARK`.
    """

    name: AnyTaskName
    preference: Preference
    intentions: tuple[Intention, ...]
    form: TaskForm = TaskForm.MATCHING
    strategy: Strategy = Strategy.PLAIN
    required_slots: tuple[AnySlot, ...] = ()
    optional_slots: tuple[AnySlot, ...] = (Slot.CONTEXT,)
    answer_parts: tuple[Part, ...] = (Part.ITEM,)

    def __post_init__(self) -> None:
        """Refuses a task that cannot be rendered."""
        where = f"task {self.name.value}"
        for field in ("intentions", "required_slots", "answer_parts"):
            if not getattr(self, field):
                raise InputError("is empty", where=f"{where}.{field}", hint="List one or more.")
        for slot in FORM_SLOTS[self.form]:
            if slot not in self.required_slots:
                raise InputError(
                    f"a {self.form.value} task needs the slot {{{slot.value}}}",
                    where=f"{where}.required_slots",
                    hint=f"Add Slot.{slot.name}.",
                )
        self._check_custom_slots(where)

    def _check_custom_slots(self, where: str) -> None:
        names = {slot.value for slot in Slot}
        for slot in (*self.required_slots, *self.optional_slots):
            if isinstance(slot, Slot):
                continue
            if not isinstance(slot, ImportedSettings):
                if not isinstance(slot, CustomSlot):
                    hint = "Give an instance of a dataclass with `name` and `fill(inputs, write)`."
                    raise InputError(f"{slot!r} is not a slot", where=where, hint=hint)
                slot = ImportedSettings.of(slot, where=where)
            name = slot.settings.get("name")
            if not isinstance(name, str) or not name.isidentifier() or name in names:
                raise InputError(
                    f"'{name}' cannot be the name of a slot of your own",
                    where=where,
                    hint="Give its dataclass a field `name` with a new word of letters, digits "
                    "and underscores.",
                )
            names.add(name)

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios of its requests."""
        return tuple(Scenario(self.preference, i, self.form) for i in self.intentions)

    @property
    def scenario(self) -> Scenario:
        """The scenario of a request with an unclassified query: the most specific one."""
        return self.scenarios[-1]

    @property
    def group(self) -> Group:
        """The paper's group of its templates."""
        if not self.reads_query and Slot.TARGET not in self.required_slots:
            return Group.PREFERENCE
        is_personal = self.reads_history or self.reads_preference
        return Group.COMBINED if is_personal else Group.INTENTION

    @functools.cached_property
    def is_ranked(self) -> bool:
        """Whether the answer is one item of the whole catalog, so that rankers can be graded."""
        return self.strategy is Strategy.PLAIN and self.form is TaskForm.MATCHING

    @functools.cached_property
    def needs_history(self) -> bool:
        """Whether every prompt holds the history."""
        return Slot.HISTORY in self.required_slots

    @functools.cached_property
    def needs_query(self) -> bool:
        """Whether every prompt holds a query."""
        return Slot.QUERY in self.required_slots

    @functools.cached_property
    def needs_preference(self) -> bool:
        """Whether every prompt holds a sentence about the user's taste."""
        return Slot.PREFERENCE in self.required_slots

    @functools.cached_property
    def needs_context(self) -> bool:
        """Whether every prompt holds the request context."""
        return Slot.CONTEXT in self.required_slots

    @functools.cached_property
    def reads_history(self) -> bool:
        """Whether prompts or answers are made from the history, as custom slots may be."""
        has_custom = any(map(is_custom, self.slots))
        in_answer = Part.HISTORY in self.answer_parts
        return self.needs_history or in_answer or self.reads_preference or has_custom

    @functools.cached_property
    def reads_query(self) -> bool:
        """Whether prompts or answers hold a query."""
        return self.needs_query or Part.QUERY in self.answer_parts

    @functools.cached_property
    def reads_preference(self) -> bool:
        """Whether prompts or answers hold a preference; one is written from a history."""
        return self.needs_preference or Part.PREFERENCE in self.answer_parts

    @functools.cached_property
    def reads_reason(self) -> bool:
        """Whether answers say why an item suits a user."""
        return Part.REASON in self.answer_parts

    @functools.cached_property
    def hides_target(self) -> bool:
        """Whether prompts name the target only as a candidate."""
        return Slot.TARGET not in self.required_slots

    @functools.cached_property
    def slots(self) -> frozenset[AnySlot]:
        """The slots that a template may have."""
        return frozenset((*self.required_slots, *self.optional_slots))

    def eligible(
        self,
        split: Split,
        role: Role,
        sources: TaskSources | None = None,
        intentions: Sequence[Intention] | None = None,
    ) -> Int[np.ndarray, " positions"]:
        """Returns the positions of the events that can be the target of the task.

        An event needs an earlier event of its user where the history is read, and the texts,
        context and negative that the task needs.

        Args:
            split: The log.
            role: Of the targets.
            sources: Where those exist; by default queries and preferences are those of the split,
                see `irec_jax.instructions.teacher.add_teacher_texts`, and the rest exists.
            intentions: Kinds of query, by default all of the task.

        Returns:
            `[positions]` int64, ascending.
        """
        events = split.roles == role.value
        if self.reads_history:
            events &= ~first_events(split)
        if sources is None:
            return np.flatnonzero(self._has_split_texts(split, events))
        events = sources.has_texts(self, intentions or self.intentions, events)
        if self.needs_context:
            events &= sources.has_context()
        if self.form is not TaskForm.MATCHING:
            events &= sources.has_negative()
        return np.flatnonzero(events)

    def _has_split_texts(
        self, split: Split, events: Bool[np.ndarray, " events"]
    ) -> Bool[np.ndarray, " events"]:
        if self.reads_query:
            codes = [INTENTION_CODES[intention] for intention in self.intentions]
            events &= np.isin(split.intentions, codes)
            for position in np.flatnonzero(events).tolist():
                events[position] = bool(clean(split.queries[position]))
        if self.needs_preference:
            events &= np.array([bool(text) for text in split.preferences] or False, bool)
        return events

    def scenario_at(self, split: Split, position: int) -> Scenario:
        """Returns the scenario of one eligible position."""
        intention = Intention.NONE
        if self.reads_query:
            intention = _INTENTION_OF_CODE[int(split.intentions[position])]
        return Scenario(self.preference, intention, self.form)

    def request(self, split: Split, position: int) -> Request:
        """Returns the request at one eligible position, which does not hold the answer.

        Where the scenario has no preference (P0), the history is empty and no item is excluded.
        `user` is always the log's, so that results can be grouped by it.
        """
        is_personal = self.preference is not Preference.NONE
        history = tuple(split.history(position).tolist()) if is_personal else ()
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


def first_events(split: Split) -> np.ndarray:
    """Returns `[events]` bool: whether an event is its user's first."""
    first = np.zeros(len(split.items), dtype=bool)
    first[split.offsets[:-1][np.diff(split.offsets) > 0]] = True
    return first
