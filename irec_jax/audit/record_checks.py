"""Reads one record against what the split says that it may show."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool

from irec_jax.audit.answer_checks import check_answer
from irec_jax.audit.bias_tests import (
    CUT_HISTORIES,
    FALLBACKS,
    LANGUAGE_FALLBACKS,
    MILLION,
    MILLIONTHS,
    RECORDS,
    Counts,
    Measure,
    Tally,
)
from irec_jax.audit.expectations import Expectations, TaskProfile
from irec_jax.audit.split_index import SplitIndex
from irec_jax.audit.text_leaks import Finding, ItemNames, Problem, ShownValues, diagnose
from irec_jax.audit.title_leaks import RequestText, TextLeaks, titles_of
from irec_jax.instructions.config import ContextPart
from irec_jax.instructions.context import RequestContext
from irec_jax.instructions.forms import Instruction, Part, Slot, TaskForm
from irec_jax.instructions.passes import RecordOrigin
from irec_jax.instructions.render import Renderer, preference_variant
from irec_jax.instructions.slots import SlotInputs, fill_slot
from irec_jax.instructions.templates import TemplatePack
from irec_jax.instructions.third_person import to_third_person
from irec_jax.log.split import Split
from irec_jax.word_overlap import overlaps, words_of

_VERDICTS, _PLACES = Measure.VERDICTS.value, Measure.PLACES.value
_TEMPLATES, _LANGUAGES = Measure.TEMPLATES.value, Measure.LANGUAGES.value
_LENGTHS, _COUNTED = Measure.LENGTHS.value, Measure.COUNTED.value
_OVERLAPS = (Measure.OVERLAP.value, Measure.OVERLAP_PAIRS.value)
_WRITTEN = (Part.QUERY, Part.PREFERENCE)


@dataclasses.dataclass(frozen=True, eq=False)
class RecordChecker:
    """Looks at one record.

    Attributes:
        renderer: Says what each number is about.
        evidence: The split.
        names: How items are called.
        telling: Reads queries and preferences.
        moments: The times and places of the split.
        has_context: `[events]` bool, where there is a context.
        plans: One for each of `renderer.variants`.
        count: Counts the tokens of a text; without it, words are counted.
        role: Which events are targets, a value of `Role`.
        role_name: The same, as records write it.
    """

    renderer: Renderer
    evidence: SplitIndex
    names: ItemNames
    telling: TextLeaks
    moments: RequestContext
    has_context: Bool[np.ndarray, " events"]
    plans: tuple[TaskProfile, ...]
    count: Callable[[str], int] | None
    role: int
    role_name: str

    @classmethod
    def build(
        cls, renderer: Renderer, split: Split, count: Callable[[str], int] | None = None
    ) -> "RecordChecker":
        """Lays a split out for questions; see `irec_jax.audit.audit.Auditor.build`."""
        evidence = SplitIndex.build(split)
        wording = renderer.prompt_writer
        names = ItemNames(wording.names, titles_of(evidence), wording.separator)
        moments = RequestContext.build(split, wording.config.context)
        return cls(
            renderer=renderer,
            evidence=evidence,
            names=names,
            telling=TextLeaks.build(evidence, names, renderer.role),
            moments=moments,
            has_context=moments.has_phrase(),
            plans=tuple(TaskProfile.build(asked, renderer) for asked in renderer.variants),
            count=count,
            role=int(renderer.role),
            role_name=renderer.role.name.lower(),
        )

    def inspect(self, number: int, record: Instruction, counts: Counts) -> list[Problem]:
        """Says what is wrong with a record.

        Args:
            number: Which one it is.
            record: Its content.
            counts: Grows by what is counted of it.
        """
        source = self.renderer.origin(number)
        position = source.position
        if not 0 <= position < len(self.evidence.users):
            return [(Finding.ROLE, f"there is no event {position}")]
        for pack in self.renderer.prompt_writer.packs:
            if pack.language == record.language:
                break
        else:
            return [(Finding.TEMPLATE, f"no pack is in the language '{record.language}'")]
        subject = self.subject(number, record, source, pack)
        found = self._labels(subject)
        found += self._candidates(subject)
        found += self._prompt(subject)
        found += check_answer(subject, self.evidence, self.names, self.renderer)
        found += self._drawn(subject, counts)
        if subject.query or subject.preference:
            found += self._texts(subject, counts)
        self._tally(subject, counts)
        return found

    def subject(
        self,
        number: int,
        record: Instruction,
        source: RecordOrigin,
        pack: TemplatePack,
    ) -> Expectations:
        """Puts a record beside what the split says of its event.

        Args:
            number: The record's.
            record: Its content.
            source: Its task and its event.
            pack: The words of its language.
        """
        evidence, config = self.evidence, self.renderer.prompt_writer.config
        plan, position = self.plans[source.variant_number], source.position
        start = max(evidence.starts.item(position), position - config.max_history)
        items = len(self.names.written)
        query = preference = ""
        if plan.code:
            query = self._query(plan, position, pack)
        if plan.reads_preference:
            preference = self._preference(source, record, pack.language)
        return Expectations(
            number=number,
            record=record,
            plan=plan,
            position=position,
            pack=pack,
            target=evidence.split.items.item(position),
            history=evidence.split.items[start:position].tolist(),
            candidates=[item for item in record.candidates if 0 <= item < items],
            query=query,
            preference=preference,
            popular=evidence.popular(position) if ContextPart.POPULAR in config.context else (),
        )

    def shown(self, subject: Expectations) -> ShownValues:
        """Lists what the prompt of a record may show, and what it hides."""
        task, evidence = subject.plan.task, self.evidence
        items = {
            Slot.HISTORY: subject.history,
            Slot.PREFERENCE: evidence.before(subject.position),
            Slot.TARGET: (subject.target,),
            Slot.CANDIDATE: subject.candidates,
            Slot.FIRST: subject.candidates[:1],
            Slot.SECOND: subject.candidates[1:2],
            Slot.CANDIDATES: subject.candidates,
            Slot.CONTEXT: subject.popular,
        }
        slots = [slot for slot in Slot if slot in task.slots]
        texts = {Part.QUERY: subject.query, Part.PREFERENCE: subject.preference}
        return ShownValues(
            values={slot.value: self.value(slot.value, subject) for slot in slots},
            items={slot.value: items.get(slot, ()) for slot in slots},
            target=subject.target if task.hides_target else None,
            later=evidence.later(subject.position),
            texts=[texts[part] for part in task.answer_parts if part in _WRITTEN],
            answers=subject.history if Part.HISTORY in task.answer_parts else (),
            user=evidence.users.item(subject.position),
        )

    def value(self, slot: str, subject: Expectations) -> str:
        """Returns the text that belongs into a slot, "" if it has no text."""
        inputs = SlotInputs(
            history=subject.history,
            candidates=subject.candidates,
            query=subject.query,
            preference=subject.preference,
            target=subject.target,
        )
        if slot == Slot.CONTEXT.value:
            popular = self.names.join(subject.popular)
            context = self.moments.phrase(subject.position, subject.pack, popular)
            inputs = inputs._replace(context=context)
        return fill_slot(Slot(slot), inputs, self.names.join)

    def _query(self, plan: TaskProfile, position: int, pack: TemplatePack) -> str:
        text = self.renderer.teacher.query(position, plan.asked.intention, pack.language)
        return to_third_person(text, pack.language, pack.person)

    def _preference(self, source: RecordOrigin, record: Instruction, language: str) -> str:
        """Returns the preference of an event that the record holds, any if it holds none."""
        teacher, text = self.renderer.teacher, ""
        likely = preference_variant(source.draw, teacher.variants)
        for step in range(teacher.variants):
            variant = (likely + step) % teacher.variants
            text = teacher.preference(source.position, variant, language)
            if text in record.inputs or text in record.targets:
                break
        return text

    def _labels(self, subject: Expectations) -> list[Problem]:
        record, plan, evidence = subject.record, subject.plan, self.evidence
        role, found = evidence.split.roles.item(subject.position), []
        if role != self.role or record.split != self.role_name:
            message = (
                f"event {subject.position} has the role {role}, the record says {record.split}"
            )
            found.append((Finding.ROLE, f"{message}, and {self.role_name} is asked for"))
        if evidence.early.item(subject.position):
            message = f"the events before event {subject.position} hold a later one"
            found.append((Finding.FUTURE, message))
        target = subject.target if plan.names_item else -1
        wanted = (evidence.users.item(subject.position), target, self.renderer.seed, *plan.labels)
        labels = (record.scenario, record.strategy, record.task)
        if (record.user, record.target_item, record.seed, *labels) != wanted:
            found.append((Finding.LABEL, f"not the user, item, seed and task of {wanted}"))
        return found

    def _candidates(self, subject: Expectations) -> list[Problem]:
        plan, offered = subject.plan, subject.record.candidates
        if not plan.size:
            return [(Finding.CANDIDATES, f"{offered} for no candidates")] if offered else []
        problem = ""
        evidence, target = self.evidence, subject.target
        if len(offered) != len(subject.candidates):
            problem = "not all are items"
        elif len(set(offered)) < len(offered):
            problem = "one occurs twice"
        elif plan.task.form is not TaskForm.POINTWISE and target not in offered:
            problem = f"the target {target} is not among them"
        else:
            had = {target, *evidence.before(subject.position)}
            wrong = [item for item in offered if item != target]
            if len(offered) != plan.size and len(wrong) != self._drawable(had):
                problem = f"not {plan.size}"
            for item in wrong:
                if item in had:
                    problem = f"the user has had {item}"
                elif not evidence.warm.item(item):
                    problem = f"{item} was not met in training"
        return [(Finding.CANDIDATES, f"{offered}: {problem}")] if problem else []

    def _prompt(self, subject: Expectations) -> list[Problem]:
        record = subject.record
        wording = subject.plan.wordings.get((record.language, record.template))
        found = []
        if wording is None:
            found.append(
                (Finding.TEMPLATE, f"'{record.template}' is not for {subject.plan.labels[2]}")
            )
        else:
            text = wording.first
            for slot, literal in wording.pieces:
                text += self.value(slot, subject) + literal
            if text == record.inputs and "  " not in text:
                return found
        return found + diagnose(record.inputs, wording, self.shown(subject), self.names)

    def _drawable(self, had: set[int]) -> int:
        """Counts the items of training that are no longer new to a user."""
        return int(self.evidence.warm.sum()) - sum(self.evidence.warm.item(item) for item in had)

    def _drawn(self, subject: Expectations, counts: Counts) -> list[Problem]:
        """Compares the language and the template with those that were drawn."""
        record = subject.record
        language, template = self.renderer.drawn_template(subject.number)
        counts[_LANGUAGES, "", f"{language}*1"] += 1
        if (record.language, record.template) == (language, template):
            return []
        counts[_COUNTED, "", FALLBACKS] += 1
        if record.language == language:
            return []
        counts[_COUNTED, "", LANGUAGE_FALLBACKS] += 1
        pack = next(p for p in self.renderer.prompt_writer.packs if p.language == language)
        plan, position, teacher = subject.plan, subject.position, self.renderer.teacher
        can = [
            not plan.code or self._query(plan, position, pack),
            not plan.task.reads_preference or teacher.preference(position, 0, language),
            not plan.task.reads_reason or teacher.reason(position, language),
        ]
        message = f"'{language}' was drawn and can be written, the record is in '{record.language}'"
        return [(Finding.TEMPLATE, message)] if all(can) else []

    def _texts(self, subject: Expectations, counts: Counts) -> list[Problem]:
        """Reads the query and the preference."""
        plan, position, found = subject.plan, subject.position, []
        if subject.query:
            words = words_of(subject.query)
            title = self.telling.title(subject.target).ngrams
            group = f"{plan.kind} {subject.record.language}"
            for measure, share in zip(_OVERLAPS, overlaps(words.content, title), strict=True):
                if share is not None:
                    counts[measure, group, share] += 1
            if plan.shows_query:
                typed = self.evidence.typed(position, plan.code)
                text = RequestText(subject.query, words, position, True, typed)
                found += self.telling.read(text, counts)
        if plan.shows_preference:
            words = words_of(subject.preference)
            text = RequestText(subject.preference, words, position, False, False)
            found += self.telling.read(text, counts)
        return found

    def _tally(self, subject: Expectations, counts: Counts) -> None:
        """Counts what only many records together can say something of."""
        plan, record, position = subject.plan, subject.record, subject.position
        if plan.task.form is TaskForm.POINTWISE:
            verdict = "yes" if record.targets == subject.pack.yes else "no"
            counts[_VERDICTS, plan.labels[2], verdict] += 1
        elif plan.size and subject.target in subject.candidates:
            size, place = len(subject.candidates), subject.candidates.index(subject.target)
            counts[_PLACES, f"{plan.labels[2]} ({size})", _place(place, size)] += 1
        group, cells = plan.groups[record.language, self.has_context.item(position)]
        if record.template in cells:
            counts[_TEMPLATES, group, cells[record.template]] += 1
        if plan.task.needs_history:
            before = position - self.evidence.starts.item(position)
            if before > len(subject.history):
                counts[_COUNTED, "", CUT_HISTORIES] += 1
        for text, content in (("prompt", record.inputs), ("answer", record.targets)):
            length = content.count(" ") + 1 if self.count is None else self.count(content)
            counts[_LENGTHS, text, length] += 1

    def tallies(self, counts: Counts) -> dict[str, Tally]:
        """Returns counts by measure and group, with a 0 where an outcome never came."""
        tallies: dict[str, Tally] = {}
        for (measure, group, cell), count in counts.items():
            cells = tallies.setdefault(measure, {}).setdefault(group, {})
            for name, times in _shares(cell) if isinstance(cell, float) else ((str(cell), 1),):
                cells[name] = cells.get(name, 0) + times * count
        for plan in self.plans:
            for group, cells in plan.groups.values():
                _fill_up(tallies.get(_TEMPLATES, {}).get(group), list(cells.values()))
        for group, cells in tallies.get(_PLACES, {}).items():
            size = int(group.rpartition("(")[2].rstrip(")"))
            _fill_up(cells, [_place(place, size) for place in range(size)])
        languages = [f"{pack.language}*1" for pack in self.renderer.prompt_writer.packs]
        _fill_up(tallies.get(_LANGUAGES, {}).get(""), languages)
        return {
            measure: {group: dict(sorted(cells.items())) for group, cells in sorted(tally.items())}
            for measure, tally in sorted(tallies.items())
        }


def _place(place: int, size: int) -> str:
    """Names a place among candidates, so that names sort as places do; all are as likely."""
    return f"{place + 1:0{len(str(size))}}*1"


def _shares(share: float) -> tuple[tuple[str, int], ...]:
    """Returns what one share adds to a tally of shares."""
    tenth = f"{int(share * 10) / 10:.1f}"
    return (RECORDS, 1), (MILLIONTHS, round(share * MILLION)), (tenth, 1)


def _fill_up(cells: dict[str, int] | None, outcomes: list[str]) -> None:
    if cells is not None:
        for outcome in outcomes:
            cells.setdefault(outcome, 0)
