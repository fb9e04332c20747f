"""The renderer: a pure function from a record number to an `Instruction`."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from irec_jax.errors import InputError
from irec_jax.instructions.candidates import NegativeSampler, shuffle_candidates
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.context import RequestContext
from irec_jax.instructions.examples import TaskVariant, list_examples
from irec_jax.instructions.forms import ANSWER_MARK, Instruction, Part, Slot, TaskForm
from irec_jax.instructions.passes import RecordOrder, RecordOrigin
from irec_jax.instructions.prompts import SEPARATOR, PromptWriter
from irec_jax.instructions.slots import SlotInputs, slot_name
from irec_jax.instructions.tasks import Task
from irec_jax.instructions.teacher import Teacher
from irec_jax.instructions.templates import Template, TemplatePack
from irec_jax.log.split import Role, Split
from irec_jax.random_draws import DrawField, RandomStream, derive_key, draw_field, scramble
from irec_jax.settings import to_json

ANSWER_HISTORY = 5
"""The number of last items in an answer with the part `Part.HISTORY`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Renderer:
    """Renders the instruction of any record number; the same number gives the same bytes.

    One pass over the data is `len(renderer)` records: every listed task at every position that
    can be its target, once for each kind of query. Each pass has another order. It can be
    pickled, and called from several threads.

    Attributes:
        prompt_writer: Item names and template packs.
        teacher: Writes preferences, queries and reasons.
        request_context: Time, place, season and popular items.
        negatives: Samples wrong candidates.
        role: Of the targets.
        seed: Of every draw.
        record_order: The example and the draw of each record number.
        starts: `[events]` int64, the first position of the same user.
        ends: `[events]` int64, behind the last position that an answer may reach.
        users: `[events]` int64, the log's user number.
        items: `[events]` int32 item numbers.
    """

    prompt_writer: PromptWriter
    teacher: Teacher
    request_context: RequestContext
    negatives: NegativeSampler
    role: Role
    seed: int
    record_order: RecordOrder
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
            split: The log; its events with the role `role` are targets.
            config: Tasks, templates and length of the history.
            names: `[items]` the name of each item.
            seed: Of the order and of every draw.
            role: Of the targets.
            teacher: Writes preferences, queries and reasons; it was made for `split`.

        Raises:
            InputError: A listed task has no example in this split or no template, a name is
                empty, or there are not as many names as items.
        """
        prompt_writer = _prompt_writer(split, config, names)
        request_context = RequestContext.build(split, config.context)
        examples = list_examples(
            split,
            config,
            role,
            teacher=teacher,
            languages=[pack.language for pack in prompt_writer.packs],
            request_context=request_context,
        )
        events = np.diff(split.offsets)
        templates = {
            (number, pack_number): _training_templates(pack, variant, bool(config.context))
            for number, variant in enumerate(examples.variants)
            for pack_number, pack in enumerate(prompt_writer.packs)
        }
        return cls(
            prompt_writer=prompt_writer,
            teacher=teacher,
            request_context=request_context,
            negatives=NegativeSampler(tuple(np.flatnonzero(split.warm_items()).tolist())),
            role=role,
            seed=seed,
            record_order=RecordOrder(examples, seed),
            starts=np.repeat(split.offsets[:-1], events),
            ends=_ends(split, role),
            users=np.repeat(split.users, events),
            items=split.items,
            _templates=templates,
        )

    def __len__(self) -> int:
        """Returns the number of records of one pass."""
        return len(self.record_order)

    @property
    def variants(self) -> tuple[TaskVariant, ...]:
        """The tasks and kinds of query that occur."""
        return self.record_order.examples.variants

    @property
    def cut_histories(self) -> int:
        """The number of records of a pass whose history is longer than `max_history`."""
        examples = self.record_order.examples
        has_history = np.array([variant.task.needs_history for variant in examples.variants])
        lengths = examples.positions - self.starts[examples.positions]
        cut = has_history[examples.numbers] & (lengths > self.prompt_writer.config.max_history)
        return int(cut.sum())

    def fingerprint(self) -> str:
        """Returns the SHA-256 of all that the records are made from, except the settings."""
        digest = hashlib.sha256()
        examples, context = self.record_order.examples, self.request_context
        popular = [[day, *items] for day, items in sorted(context.popular.items())]
        arrays = (
            *(examples.numbers, examples.positions, self.starts, self.ends, self.users),
            *(self.items, np.array(self.negatives.pool), context.hours, context.days),
            np.array([number for row in popular for number in row], dtype=np.int64),
        )
        for array in arrays:
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        variants = [f"{v.task.name.value} {v.intention.value}" for v in self.variants]
        # The content of the packs, not the files that they were read from.
        packs = [
            json.dumps(to_json(dataclasses.replace(pack, file="")))
            for pack in self.prompt_writer.packs
        ]
        for texts in (self.prompt_writer.names, context.places, variants, packs):
            digest.update("\n".join(texts).encode("utf-8") + b"\0")
        digest.update(self.teacher.fingerprint().encode("ascii"))
        return digest.hexdigest()

    def origin(self, number: int) -> RecordOrigin:
        """Returns the example and the draw of a record; see `record`."""
        return self.record_order.origin(number)

    def drawn_template(self, origin: RecordOrigin) -> tuple[str, str]:
        """Returns the language and the name of the template that are drawn for a record.

        The record has others if its texts do not exist in that language, or if a slot of the
        template would stay empty.
        """
        pack_number = self._first_pack(origin.draw)
        templates = self._templates[origin.variant_number, pack_number]
        template = templates[draw_field(origin.draw, DrawField.TEMPLATE) % len(templates)]
        return self.prompt_writer.packs[pack_number].language, template.name

    def history(self, position: int) -> list[int]:
        """Returns the item numbers of the history in a prompt about an event."""
        start = max(self.starts.item(position), position - self.prompt_writer.config.max_history)
        return self.items[start:position].tolist()

    def record(self, number: int, shuffle: int = 0) -> Instruction:
        """Renders one record.

        Args:
            number: 0 or more; it belongs to the pass `number // len(self)`.
            shuffle: Selects another order of the candidates, and changes nothing else.
        """
        variant, position, variant_number, draw = self.origin(number)
        task, packs, first = variant.task, self.prompt_writer.packs, self._first_pack(draw)
        for step in range(len(packs)):
            pack_number = (first + step) % len(packs)
            pack = packs[pack_number]
            texts = self._texts(variant, position, draw, pack)
            if texts is not None:
                break
        else:
            raise ValueError(f"record {number} has no texts in any language")
        candidates, verdict = self._candidates(task, number, position, shuffle)
        context = self._context(task, position, pack)
        template = _fillable(self._templates[variant_number, pack_number], draw, bool(context))
        inputs = SlotInputs(
            history=self.history(position) if template.reads_history else (),
            candidates=candidates,
            query=texts.get(Part.QUERY, ""),
            preference=texts.get(Part.PREFERENCE, ""),
            context=context,
            target=self.items.item(position),
        )
        labels = self._labels[variant_number]
        return Instruction(
            inputs=template.render(inputs, self.prompt_writer.join_names),
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
        """The keys of the negatives and of the order of the candidates."""
        return (
            derive_key(self.seed, RandomStream.NEGATIVES),
            derive_key(self.seed, RandomStream.CANDIDATE_ORDER),
        )

    @functools.cached_property
    def _labels(self) -> tuple["_Labels", ...]:
        return tuple(_Labels.of(variant, self.role) for variant in self.variants)

    def _first_pack(self, draw: int) -> int:
        return draw_field(draw, DrawField.LANGUAGE) % len(self.prompt_writer.packs)

    def _texts(
        self, variant: TaskVariant, position: int, draw: int, pack: TemplatePack
    ) -> dict[Part, str] | None:
        """Returns the teacher's texts for a task, None if one is missing in the language."""
        task, texts = variant.task, {}
        if task.reads_query:
            texts[Part.QUERY] = self.teacher.query(position, variant.intention, pack.language)
        if task.reads_preference:
            number = preference_variant(draw, self.teacher.variants)
            texts[Part.PREFERENCE] = self.teacher.preference(position, number, pack.language)
        if task.reads_reason:
            texts[Part.REASON] = self.teacher.reason(position, pack.language)
        return None if "" in texts.values() else texts

    def _candidates(
        self, task: Task, number: int, position: int, shuffle: int
    ) -> tuple[tuple[int, ...], bool]:
        """Returns the candidates, and whether the verdict of a pointwise answer is yes."""
        if task.form is TaskForm.MATCHING:
            return (), True
        target, (negative_key, order_key) = self.items.item(position), self._keys
        key = scramble(negative_key + number)
        known = {target, *self.items[self.starts.item(position) : position].tolist()}
        if task.form is TaskForm.POINTWISE:
            if key & 1:
                return (target,), True
            return tuple(self.negatives.sample(key, 1, known)), False
        count = 2 if task.form is TaskForm.PAIRWISE else self.prompt_writer.config.candidates
        negatives = self.negatives.sample(key, count - 1, known)
        order = scramble(scramble(order_key + number) + shuffle)
        return shuffle_candidates(target, negatives, order), True

    def _context(self, task: Task, position: int, pack: TemplatePack) -> str:
        """Returns the phrase of the request context, "" if no template of the task has its slot."""
        context = self.request_context
        if not context.parts or Slot.CONTEXT not in task.slots:
            return ""
        popular = self.prompt_writer.join_names(context.popular_at(position))
        return context.phrase(position, pack, popular)

    def _answer(self, task: Task, position: int, texts: dict[Part, str], verdict: str) -> str:
        parts = []
        for part in task.answer_parts:
            if part is Part.ITEM:
                parts.append(self._item_answer(task, position))
            elif part is Part.VERDICT:
                parts.append(verdict)
            elif part is Part.HISTORY:
                last = self.history(position)[-ANSWER_HISTORY:]
                parts.append(self.prompt_writer.join_names(last))
            else:
                parts.append(texts[part])
        return ANSWER_MARK.join(parts)

    def _item_answer(self, task: Task, position: int) -> str:
        has_several = task.is_ranked and not task.needs_query
        count = self.prompt_writer.config.answer_items if has_several else 1
        end = min(position + count, self.ends.item(position))
        return self.prompt_writer.join_names(self.items[position:end].tolist())


def _prompt_writer(split: Split, config: InstructionsConfig, names: Sequence[str]) -> PromptWriter:
    """Reads the packs, and compares names and settings with the catalog."""
    if len(names) != len(split.catalog):
        problem = f"{len(names)} items are named, but the log's catalog has {len(split.catalog)}"
        hint = "Use the log that the run was tuned on, or tune again with this log."
        raise InputError(problem, where="item index", hint=hint)
    prompt_writer = PromptWriter.build(config, names)
    if config.answer_items > 1 and prompt_writer.separator == SEPARATOR:
        raise InputError(
            f"an answer of {config.answer_items} items needs items that are one token each",
            where="instructions.answer_items",
            hint="Set it to 1, or tokens.index to atomic.",
        )
    return prompt_writer


def preference_variant(draw: int, variants: int) -> int:
    """Returns the number of the preference text that a record holds."""
    return draw_field(draw, DrawField.PREFERENCE_VARIANT) % variants


class _Labels(NamedTuple):
    """The fields that all records of a task variant share."""

    scenario: str
    strategy: str
    task: str
    split: str
    names_item: bool

    @classmethod
    def of(cls, variant: TaskVariant, role: Role) -> "_Labels":
        task = variant.task
        return cls(
            variant.scenario.code,
            task.strategy.value,
            task.name.value,
            role.name.lower(),
            task.answer_parts != (Part.PREFERENCE,),
        )


def _fillable(templates: tuple[Template, ...], draw: int, has_context: bool) -> Template:
    """Draws a template; without a context, the next one that has no slot for it."""
    first = draw_field(draw, DrawField.TEMPLATE)
    for step in range(len(templates)):
        template = templates[(first + step) % len(templates)]
        if has_context or Slot.CONTEXT not in template.slots:
            return template
    raise ValueError(f"no template of {templates[0].task.value} can be filled")


def _training_templates(
    pack: TemplatePack, variant: TaskVariant, has_context: bool
) -> tuple[Template, ...]:
    """Returns the training templates of a task; one of them has only required slots.

    Raises:
        InputError: Every template has an optional slot.
    """
    required = variant.task.required_slots
    templates = tuple(
        template
        for template in pack.of(variant.task.name, variant.intention)
        if has_context or Slot.CONTEXT not in template.slots
    )
    if not any(set(template.slots) <= set(required) for template in templates):
        slots = " ".join(f"{{{slot_name(slot)}}}" for slot in required)
        raise InputError(
            f"every template of the task {variant.task.name.value} has an optional slot",
            where=pack.file,
            hint=f"Write a template with only the slots {slots}.",
        )
    return templates


def _ends(split: Split, role: Role) -> Int[np.ndarray, " events"]:
    """Returns, for each event, the position behind the run of its user's events with `role`."""
    stops = np.zeros(len(split.items) + 1, dtype=bool)
    stops[split.offsets] = True
    stops[:-1] |= split.roles != role.value
    places = np.where(stops, np.arange(len(stops)), len(stops))
    return np.minimum.accumulate(places[::-1])[::-1][1:]
