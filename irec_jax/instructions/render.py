"""The renderer: (split, config, names, seed, record number) -> `Instruction`, and nothing else."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from irec_jax.errors import InputError
from irec_jax.instructions.candidates import Negatives, placed
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.context import RequestContext
from irec_jax.instructions.examples import TaskVariant, list_examples
from irec_jax.instructions.forms import (
    ANSWER_MARK,
    Instruction,
    Part,
    Slot,
    TaskForm,
)
from irec_jax.instructions.passes import Passes, RecordOrigin
from irec_jax.instructions.prompts import SEPARATOR, PromptWriter
from irec_jax.instructions.tasks import Task
from irec_jax.instructions.teacher import Teacher
from irec_jax.instructions.templates import Template, TemplatePack
from irec_jax.instructions.third_person import to_third_person
from irec_jax.log.split import Role, Split
from irec_jax.random_draws import DrawField, RandomStream, derive_key, draw_field, scramble

ANSWER_HISTORY = 5
"""How many of the last items an answer that tells a history lists."""


@dataclasses.dataclass(frozen=True, eq=False)
class Renderer:
    """Renders the instruction of any record number, again and again to the byte.

    One pass over the data is `len(renderer)` records: every listed task at every position that
    can be its target, once for each kind of query that is there. Each pass is in another order.
    It can be pickled, and called from several threads.

    Attributes:
        wording: Names and templates.
        teacher: Preferences, queries and reasons.
        moments: What contexts are made of.
        negatives: Where wrong candidates come from.
        role: Which events are targets.
        seed: Of every draw.
        passes: Which event and task each number is.
        starts: `[events]` int64, the first position of the same user.
        ends: `[events]` int64, behind the last position that an answer may reach.
        users: `[events]` int64, the log's user number.
        items: `[events]` int32 item numbers.
    """

    wording: PromptWriter
    teacher: Teacher
    moments: RequestContext
    negatives: Negatives
    role: Role
    seed: int
    passes: Passes
    starts: Int[np.ndarray, " events"]
    ends: Int[np.ndarray, " events"]
    users: Int[np.ndarray, " events"]
    items: Int[np.ndarray, " events"]
    _templates: dict[tuple[int, int], tuple[Template, ...]] = dataclasses.field(
        default_factory=dict, repr=False
    )

    @classmethod
    def build(
        cls,
        split: Split,
        config: InstructionsConfig,
        names: Sequence[str],
        seed: int,
        role: Role = Role.TRAIN,
        *,
        teacher: Teacher,
    ) -> "Renderer":
        """Lists the examples of one pass.

        Args:
            split: Targets are its events with the role `role`.
            config: Tasks, templates and length of the history.
            names: `[items]` how each item number is written.
            seed: Of the order and of every draw.
            role: Which events are targets.
            teacher: Writes preferences, queries and reasons; it was made for `split`.

        Raises:
            InputError: A listed task has no example in this split or no template, a name is
                empty, or there are not as many names as items.
        """
        if len(names) != len(split.catalog):
            what = f"{len(names)} items are named, but the log's catalog has {len(split.catalog)}"
            hint = "Use the log that the run was tuned on, or tune again with this log."
            raise InputError(what, where="item index", hint=hint)
        wording = PromptWriter.build(config, names)
        if config.answer_items > 1 and wording.separator == SEPARATOR:
            raise InputError(
                f"an answer of {config.answer_items} items needs items that are one token each",
                where="instructions.answer_items",
                hint="set it to 1, or tokens.index to atomic.",
            )
        moments = RequestContext.build(split, config.context)
        languages = [pack.language for pack in wording.packs]
        listed = list_examples(
            split, config, role, teacher=teacher, languages=languages, moments=moments
        )
        events = np.diff(split.offsets)
        templates = {
            (kind, number): _trained_on(pack, asked, bool(config.context))
            for kind, asked in enumerate(listed.asked)
            for number, pack in enumerate(wording.packs)
        }
        return cls(
            wording=wording,
            teacher=teacher,
            moments=moments,
            negatives=Negatives(tuple(np.flatnonzero(split.warm_items()).tolist())),
            role=role,
            seed=seed,
            passes=Passes(listed, seed),
            starts=np.repeat(split.offsets[:-1], events),
            ends=_ends(split, role),
            users=np.repeat(split.users, events),
            items=split.items,
            _templates=templates,
        )

    def __len__(self) -> int:
        """Returns the number of records of one pass."""
        return len(self.passes)

    @property
    def asked(self) -> tuple[TaskVariant, ...]:
        """The tasks and kinds of query that occur."""
        return self.passes.examples.asked

    @property
    def cut_histories(self) -> int:
        """How many records of a pass show only the end of a history."""
        examples = self.passes.examples
        shown = np.array([asked.task.needs_history for asked in examples.asked])
        lengths = examples.positions - self.starts[examples.positions]
        cut = shown[examples.numbers] & (lengths > self.wording.config.max_history)
        return int(cut.sum())

    def fingerprint(self) -> str:
        """Returns the SHA-256 of all that the records are made from, the settings apart."""
        digest = hashlib.sha256()
        examples = self.passes.examples
        numbers = (examples.numbers, examples.positions, self.starts, self.ends, self.users)
        for array in (*numbers, self.items, np.array(self.negatives.pool), *self._moment_arrays()):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        kinds = [f"{asked.task.name.value} {asked.intention.value}" for asked in self.asked]
        # What they say, wherever they were read.
        packs = [repr(dataclasses.replace(pack, file="")) for pack in self.wording.packs]
        for texts in (self.wording.names, self.moments.places, kinds, packs):
            digest.update("\n".join(texts).encode("utf-8") + b"\0")
        digest.update(self.teacher.fingerprint().encode("ascii"))
        return digest.hexdigest()

    def _moment_arrays(self) -> list[np.ndarray]:
        popular = [[day, *items] for day, items in sorted(self.moments.popular.items())]
        flat = np.array([number for row in popular for number in row], dtype=np.int64)
        return [self.moments.hours, self.moments.days, flat]

    def source(self, number: int) -> RecordOrigin:
        """Returns what a record is made from; see `record`."""
        return self.passes.source(number)

    def drawn(self, number: int) -> tuple[str, str]:
        """Returns the language and the template that are drawn for a record.

        The record has others where nothing can be written in that language, or where a slot of
        the template would stay empty.
        """
        _, _, kind, draw = self.passes.source(number)
        choice = self._first_pack(draw)
        templates = self._templates[kind, choice]
        return self.wording.packs[choice].language, templates[draw % len(templates)].name

    def history(self, position: int) -> list[int]:
        """Returns the item numbers that a prompt about an event shows as its history."""
        start = max(self.starts.item(position), position - self.wording.config.max_history)
        return self.items[start:position].tolist()

    def record(self, number: int, shuffle: int = 0) -> Instruction:
        """Renders one record.

        Args:
            number: 0 or more; pass `number // len(self)`.
            shuffle: Another order of the candidates; it changes nothing else.
        """
        asked, position, kind, draw = self.passes.source(number)
        task, packs, first = asked.task, self.wording.packs, self._first_pack(draw)
        for step in range(len(packs)):
            choice = (first + step) % len(packs)
            pack = packs[choice]
            texts = self._texts(asked, position, draw, pack)
            if texts is not None:
                break
        else:
            raise ValueError(f"nothing to write for record {number}")  # examples are listed so
        candidates, verdict = self._candidates(task, number, position, shuffle)
        context = self._context(task, position, pack)
        template = _fillable(self._templates[kind, choice], draw, bool(context))
        values = {
            slot: self._value(slot, position, texts, candidates, context) for slot in template.slots
        }
        labels = self._labels[kind]
        return Instruction(
            inputs=template.fill(values),
            targets=self._answer(task, position, texts, pack.yes if verdict else pack.no),
            scenario=labels.scenario,
            strategy=labels.strategy,
            task=labels.task,
            template=template.name,
            language=pack.language,
            user=self.users.item(position),
            target_item=self.items.item(position) if labels.names_item else -1,
            candidates=candidates,
            split=labels.split,
            seed=self.seed,
        )

    @functools.cached_property
    def _keys(self) -> tuple[int, int]:
        streams = RandomStream.NEGATIVES, RandomStream.CANDIDATE_ORDER
        return derive_key(self.seed, streams[0]), derive_key(self.seed, streams[1])

    @functools.cached_property
    def _labels(self) -> tuple["_Labels", ...]:
        return tuple(_Labels.of(asked, self.role) for asked in self.asked)

    def _first_pack(self, draw: int) -> int:
        return draw_field(draw, DrawField.LANGUAGE) % len(self.wording.packs)

    def _texts(
        self, asked: TaskVariant, position: int, draw: int, pack: TemplatePack
    ) -> dict[Part, str] | None:
        """Asks the teacher for what the task reads; None where it does not speak the language."""
        task, texts = asked.task, {}
        if task.reads_query:
            query = self.teacher.query(position, asked.intention, pack.language)
            texts[Part.QUERY] = to_third_person(query, pack.language, pack.person)
        if task.reads_preference:
            variant = preference_variant(draw, self.teacher.variants)
            texts[Part.PREFERENCE] = self.teacher.preference(position, variant, pack.language)
        if task.reads_reason:
            texts[Part.REASON] = self.teacher.reason(position, pack.language)
        return None if "" in texts.values() else texts

    def _candidates(
        self, task: Task, number: int, position: int, shuffle: int
    ) -> tuple[tuple[int, ...], bool]:
        """Draws the candidates, and whether a pointwise one is the target."""
        if task.form is TaskForm.MATCHING:
            return (), True
        target, (negative_key, place_key) = self.items.item(position), self._keys
        key = scramble(negative_key + number)
        known = {target, *self.items[self.starts.item(position) : position].tolist()}
        if task.form is TaskForm.POINTWISE:
            verdict = bool(key & 1)
            return ((target,) if verdict else tuple(self.negatives.draw(key, 1, known))), verdict
        wanted = 2 if task.form is TaskForm.PAIRWISE else self.wording.config.candidates
        negatives = self.negatives.draw(key, wanted - 1, known)
        order = scramble(scramble(place_key + number) + shuffle)
        return placed(target, negatives, order), True

    def _context(self, task: Task, position: int, pack: TemplatePack) -> str:
        """Says when and where an event happened, "" where no template of the task would."""
        if not self.moments.parts or not (task.needs_context or Slot.CONTEXT in task.may_show):
            return ""
        popular = self.wording.written(self.moments.popular_at(position))
        return self.moments.phrase(position, pack, popular)

    def _value(
        self,
        slot: Slot,
        position: int,
        texts: dict[Part, str],
        candidates: tuple[int, ...],
        context: str,
    ) -> str:
        """Writes what stands in a slot."""
        if slot is Slot.HISTORY:
            return self.wording.written(self.history(position))
        if slot is Slot.QUERY:
            return texts[Part.QUERY]
        if slot is Slot.PREFERENCE:
            return texts[Part.PREFERENCE]
        if slot is Slot.CANDIDATES:
            return self.wording.written(candidates)
        if slot is Slot.CONTEXT:
            return context
        if slot is Slot.TARGET:
            return self.wording.names[self.items.item(position)]
        return self.wording.names[candidates[1 if slot is Slot.SECOND else 0]]

    def _answer(self, task: Task, position: int, texts: dict[Part, str], verdict: str) -> str:
        parts = []
        for part in task.answers:
            if part is Part.ITEM:
                parts.append(self._items_answer(task, position))
            elif part is Part.VERDICT:
                parts.append(verdict)
            elif part is Part.HISTORY:
                parts.append(self.wording.written(self.history(position)[-ANSWER_HISTORY:]))
            else:
                parts.append(texts[part])
        return ANSWER_MARK.join(parts)

    def _items_answer(self, task: Task, position: int) -> str:
        listed = self.wording.config.answer_items if task.is_ranked and not task.needs_query else 1
        end = min(position + listed, self.ends.item(position))
        return self.wording.written(self.items[position:end].tolist())


def preference_variant(draw: int, variants: int) -> int:
    """Returns which of a user's preference texts a record tells."""
    return draw_field(draw, DrawField.PREFERENCE_VARIANT) % variants


class _Labels(NamedTuple):
    """What all records of a kind have in common, as they write it."""

    scenario: str
    strategy: str
    task: str
    split: str
    names_item: bool

    @classmethod
    def of(cls, asked: TaskVariant, role: Role) -> "_Labels":
        task = asked.task
        return cls(
            asked.scenario.code,
            task.strategy.value,
            task.name.value,
            role.name.lower(),
            task.answers != (Part.PREFERENCE,),
        )


def _fillable(templates: tuple[Template, ...], draw: int, has_context: bool) -> Template:
    """Draws a template; one that shows a context gives way, where there is none, to the next."""
    for step in range(len(templates)):
        template = templates[(draw + step) % len(templates)]
        if has_context or Slot.CONTEXT not in template.slots:
            return template
    raise ValueError(f"no template of {templates[0].task.value} can be filled")


def _trained_on(pack: TemplatePack, asked: TaskVariant, has_context: bool) -> tuple[Template, ...]:
    """Returns the templates of a task, making sure that one of them can always be filled."""
    templates = tuple(
        template
        for template in pack.of(asked.task.name, asked.intention)
        if has_context or Slot.CONTEXT not in template.slots
    )
    if not any(set(template.slots) <= set(asked.task.shows) for template in templates):
        shown = " ".join(f"{{{slot.value}}}" for slot in asked.task.shows)
        raise InputError(
            f"every template of the task {asked.task.name.value} has a slot that may stay empty",
            where=pack.file,
            hint=f"write one with no other slots than {shown}.",
        )
    return templates


def _ends(split: Split, role: Role) -> Int[np.ndarray, " events"]:
    """Returns, for each event, the position behind the run of its user's events with `role`."""
    stops = np.zeros(len(split.items) + 1, dtype=bool)
    stops[split.offsets] = True
    stops[:-1] |= split.roles != role.value
    places = np.where(stops, np.arange(len(stops)), len(stops))
    return np.minimum.accumulate(places[::-1])[::-1][1:]
