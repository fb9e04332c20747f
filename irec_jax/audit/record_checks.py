"""Checks of one record against the split."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool

from irec_jax.audit.answer_checks import read_answer
from irec_jax.audit.bias_tests import (
    CUT_HISTORIES,
    FALLBACKS,
    LANGUAGE_FALLBACKS,
    MILLION,
    MILLIONTHS,
    RECORDS,
    CellCounts,
    GroupCounts,
    Measure,
)
from irec_jax.audit.expectations import Expectations, TaskProfile
from irec_jax.audit.split_index import SplitIndex
from irec_jax.audit.text_leaks import (
    Finding,
    ItemNames,
    Problem,
    ShownValues,
    check_prompt,
)
from irec_jax.audit.title_leaks import RequestText, TextLeaks, titles_of
from irec_jax.instructions.config import ContextPart
from irec_jax.instructions.context import RequestContext
from irec_jax.instructions.forms import Instruction, Part, Slot, TaskForm
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.templates import TemplatePack
from irec_jax.log.split import Split
from irec_jax.word_overlap import overlaps, words_of

_VERDICTS, _PLACES = Measure.VERDICTS.value, Measure.PLACES.value
_TEMPLATES, _LANGUAGES = Measure.TEMPLATES.value, Measure.LANGUAGES.value
_LENGTHS, _TOTALS = Measure.LENGTHS.value, Measure.TOTALS.value
_OVERLAPS = (Measure.OVERLAP.value, Measure.OVERLAP_PAIRS.value)
_QUERY, _PREFERENCE = Slot.QUERY.value, Slot.PREFERENCE.value


@dataclasses.dataclass(frozen=True, eq=False)
class RecordChecker:
    """Checks single records.

    Attributes:
        renderer: Used for the event, task, drawn language and drawn template of a record number,
            and for item names and template packs; it renders nothing here.
        split_index: The split.
        names: Names of items.
        text_leaks: Reads queries and preferences.
        context: Times and places of the split.
        has_context: `[events]` bool, whether a context phrase exists.
        profiles: One for each of `renderer.asked`.
        count_tokens: Counts the tokens of a text; None counts words.
        role: Role of the events that are targets, a value of `Role`.
        role_name: The same, as records write it.
    """

    renderer: Renderer
    split_index: SplitIndex
    names: ItemNames
    text_leaks: TextLeaks
    context: RequestContext
    has_context: Bool[np.ndarray, " events"]
    profiles: tuple[TaskProfile, ...]
    count_tokens: Callable[[str], int] | None
    role: int
    role_name: str

    @classmethod
    def build(
        cls, renderer: Renderer, split: Split, count_tokens: Callable[[str], int] | None = None
    ) -> "RecordChecker":
        """Indexes a split; see `irec_jax.audit.audit.Auditor.build`."""
        split_index = SplitIndex.build(split)
        wording = renderer.wording
        names = ItemNames(wording.names, titles_of(split_index), wording.separator)
        context = RequestContext.build(split, wording.config.context)
        return cls(
            renderer=renderer,
            split_index=split_index,
            names=names,
            text_leaks=TextLeaks.build(split_index, names, renderer.role),
            context=context,
            has_context=context.told(),
            profiles=tuple(TaskProfile.build(variant, renderer) for variant in renderer.asked),
            count_tokens=count_tokens,
            role=int(renderer.role),
            role_name=renderer.role.name.lower(),
        )

    def check(self, number: int, record: Instruction, counts: CellCounts) -> list[Problem]:
        """Returns the problems of a record.

        Args:
            number: Record number.
            record: Its content.
            counts: Incremented by the counts of this record.
        """
        _, position, kind, _ = self.renderer.source(number)
        if not 0 <= position < len(self.split_index.users):
            return [(Finding.ROLE, f"there is no event {position}")]
        for pack in self.renderer.wording.packs:
            if pack.language == record.language:
                break
        else:
            return [(Finding.TEMPLATE, f"no pack is in the language '{record.language}'")]
        expected = self._expectations(number, record, self.profiles[kind], position, pack)
        problems = self._labels(expected)
        problems += self._candidates(expected)
        answer_problems, answer_texts = read_answer(expected, self.split_index, self.names)
        prompt_problems, prompt_texts = self._prompt(expected, answer_texts)
        problems += prompt_problems + answer_problems
        query = prompt_texts.get(_QUERY) or answer_texts.get(Part.QUERY, "")
        problems += self._texts(expected, query, prompt_texts.get(_PREFERENCE, ""), counts)
        self._count_draws(expected, counts)
        self._count(expected, counts)
        return problems

    def _expectations(
        self,
        number: int,
        record: Instruction,
        profile: TaskProfile,
        position: int,
        pack: TemplatePack,
    ) -> Expectations:
        split_index, config = self.split_index, self.renderer.wording.config
        start = max(split_index.starts.item(position), position - config.max_history)
        items = len(self.names.written)
        has_popular = ContextPart.POPULAR in config.context
        return Expectations(
            number=number,
            record=record,
            profile=profile,
            position=position,
            pack=pack,
            target=split_index.split.items.item(position),
            history=split_index.split.items[start:position].tolist(),
            candidates=[item for item in record.candidates if 0 <= item < items],
            popular=split_index.popular(position) if has_popular else (),
        )

    def _slot_text(self, slot: str, expected: Expectations) -> str:
        """Returns the text that belongs in a slot of items or of the context."""
        if slot == "history":
            return self.names.join(expected.history)
        if slot == "target":
            return self.names.written[expected.target]
        if slot == "context":
            popular = self.names.join(expected.popular)
            return self.context.phrase(expected.position, expected.pack, popular)
        if slot == "candidates":
            return self.names.join(expected.candidates)
        place = int(slot == "second")
        return self.names.join(expected.candidates[place : place + 1])

    def _shown(self, expected: Expectations, answer_texts: Mapping[Part, str]) -> ShownValues:
        """Lists the content that the prompt of a record may show, and the content it hides."""
        task, split_index = expected.profile.task, self.split_index
        items = {
            Slot.HISTORY: expected.history,
            Slot.PREFERENCE: split_index.before(expected.position),
            Slot.TARGET: (expected.target,),
            Slot.CANDIDATE: expected.candidates,
            Slot.FIRST: expected.candidates[:1],
            Slot.SECOND: expected.candidates[1:2],
            Slot.CANDIDATES: expected.candidates,
            Slot.CONTEXT: expected.popular,
        }
        slots = [slot for slot in Slot if slot in task.shows or slot in task.may_show]
        return ShownValues(
            items={slot.value: items.get(slot, ()) for slot in slots},
            target=expected.target if task.hides_target else None,
            later=split_index.later(expected.position),
            texts=list(answer_texts.values()),
            answers=expected.history if Part.HISTORY in task.answers else (),
            user=split_index.users.item(expected.position),
        )

    def _labels(self, expected: Expectations) -> list[Problem]:
        record, profile, split_index = expected.record, expected.profile, self.split_index
        position, problems = expected.position, []
        role = split_index.split.roles.item(position)
        if role != self.role or record.split != self.role_name:
            problem = f"event {position} has the role {role}, the record has {record.split}"
            problems.append((Finding.ROLE, f"{problem}, and the set is of {self.role_name}"))
        if split_index.follows_later_event.item(position):
            problem = f"the events before event {position} include a later one"
            problems.append((Finding.FUTURE, problem))
        target = expected.target if profile.names_item else -1
        user, seed = split_index.users.item(position), self.renderer.seed
        labels = (record.scenario, record.strategy, record.task)
        if (record.user, record.target_item, record.seed, *labels) != (
            *(user, target, seed),
            *profile.labels,
        ):
            problem = f"user {user}, item {target}, seed {seed} and {profile.labels} are expected"
            problems.append((Finding.LABEL, problem))
        return problems

    def _candidates(self, expected: Expectations) -> list[Problem]:
        profile, candidates = expected.profile, expected.record.candidates
        if not profile.size:
            return [(Finding.CANDIDATES, f"{candidates}: expected none")] if candidates else []
        problem = ""
        split_index, target = self.split_index, expected.target
        if len(candidates) != len(expected.candidates):
            problem = "not all are items"
        elif len(set(candidates)) < len(candidates):
            problem = "one occurs twice"
        elif profile.task.form is not TaskForm.POINTWISE and target not in candidates:
            problem = f"the target {target} is not among them"
        else:
            known = {target, *split_index.before(expected.position)}
            negatives = [item for item in candidates if item != target]
            if len(candidates) != profile.size and len(negatives) != self._available(known):
                problem = f"expected {profile.size}"
            for item in negatives:
                if item in known:
                    problem = f"item {item} is in the user's history"
                elif not split_index.warm.item(item):
                    problem = f"item {item} has no training event"
        return [(Finding.CANDIDATES, f"{candidates}: {problem}")] if problem else []

    def _available(self, known: set[int]) -> int:
        """Counts the items with a training event that are not in `known`."""
        warm = self.split_index.warm
        return int(warm.sum()) - sum(warm.item(item) for item in known)

    def _prompt(
        self, expected: Expectations, answer_texts: Mapping[Part, str]
    ) -> tuple[list[Problem], dict[str, str]]:
        """Checks a prompt; returns its problems and the texts of its written slots."""
        record = expected.record
        template = expected.profile.templates.get((record.language, record.template))
        problems: list[Problem] = []
        values: dict[str, str] = {}
        if template is None:
            problem = f"'{record.template}' is no template for {expected.profile.labels[2]}"
            problems.append((Finding.TEMPLATE, problem))
        else:
            values = {slot: self._slot_text(slot, expected) for slot in template.item_slots}
        found, texts = check_prompt(
            record.inputs,
            template,
            values,
            lambda: self._shown(expected, answer_texts),
            self.names,
        )
        return problems + found, texts

    def _count_draws(self, expected: Expectations, counts: CellCounts) -> None:
        """Counts the drawn language, and records with another language or template."""
        record = expected.record
        language, template = self.renderer.drawn(expected.number)
        counts[_LANGUAGES, "", f"{language}*1"] += 1
        if (record.language, record.template) != (language, template):
            counts[_TOTALS, "", FALLBACKS] += 1
            if record.language != language:
                counts[_TOTALS, "", LANGUAGE_FALLBACKS] += 1

    def _texts(
        self, expected: Expectations, query: str, preference: str, counts: CellCounts
    ) -> list[Problem]:
        """Searches the query and the preference for leaks, and counts the overlap of the query."""
        profile, position, problems = expected.profile, expected.position, []
        if query:
            words = words_of(query)
            title = self.text_leaks.title(expected.target).ngrams
            group = f"{profile.kind} {expected.record.language}"
            for measure, share in zip(_OVERLAPS, overlaps(words.content, title), strict=True):
                if share is not None:
                    counts[measure, group, share] += 1
            if profile.shows_query:
                is_typed = self.split_index.is_typed(position, query, profile.code, expected.pack)
                text = RequestText(query, words, position, True, is_typed)
                problems += self.text_leaks.read(text, counts)
        if preference and profile.shows_preference:
            text = RequestText(preference, words_of(preference), position, False, False)
            problems += self.text_leaks.read(text, counts)
        return problems

    def _count(self, expected: Expectations, counts: CellCounts) -> None:
        """Counts the values that are tested over many records."""
        profile, record, position = expected.profile, expected.record, expected.position
        if profile.task.form is TaskForm.POINTWISE:
            verdict = "yes" if record.targets == expected.pack.yes else "no"
            counts[_VERDICTS, profile.labels[2], verdict] += 1
        elif profile.size and expected.target in expected.candidates:
            size, place = len(expected.candidates), expected.candidates.index(expected.target)
            counts[_PLACES, f"{profile.labels[2]} ({size})", _place_cell(place, size)] += 1
        group, cells = profile.groups[record.language, self.has_context.item(position)]
        if record.template in cells:
            counts[_TEMPLATES, group, cells[record.template]] += 1
        if profile.task.needs_history:
            before = position - self.split_index.starts.item(position)
            if before > len(expected.history):
                counts[_TOTALS, "", CUT_HISTORIES] += 1
        count = self.count_tokens
        for text, content in (("prompt", record.inputs), ("answer", record.targets)):
            length = content.count(" ") + 1 if count is None else count(content)
            counts[_LENGTHS, text, length] += 1

    def group_counts(self, counts: CellCounts) -> dict[str, GroupCounts]:
        """Returns counts by measure and group, with 0 for outcomes that never occurred."""
        measures: dict[str, GroupCounts] = {}
        for (measure, group, cell), count in counts.items():
            cells = measures.setdefault(measure, {}).setdefault(group, {})
            names = _share_cells(cell) if isinstance(cell, float) else ((str(cell), 1),)
            for name, times in names:
                cells[name] = cells.get(name, 0) + times * count
        for profile in self.profiles:
            for group, outcomes in profile.groups.values():
                _add_zeros(measures.get(_TEMPLATES, {}).get(group), list(outcomes.values()))
        for group, cells in measures.get(_PLACES, {}).items():
            size = int(group.rpartition("(")[2].rstrip(")"))
            _add_zeros(cells, [_place_cell(place, size) for place in range(size)])
        languages = [f"{pack.language}*1" for pack in self.renderer.wording.packs]
        _add_zeros(measures.get(_LANGUAGES, {}).get(""), languages)
        return {
            measure: {group: dict(sorted(cells.items())) for group, cells in sorted(groups.items())}
            for measure, groups in sorted(measures.items())
        }


def _place_cell(place: int, size: int) -> str:
    """Names a place among candidates, in an order that sorts; all have the weight 1."""
    return f"{place + 1:0{len(str(size))}}*1"


def _share_cells(share: float) -> tuple[tuple[str, int], ...]:
    """Returns the cells that one share is added to, with the amounts."""
    tenth = f"{int(share * 10) / 10:.1f}"
    return (RECORDS, 1), (MILLIONTHS, round(share * MILLION)), (tenth, 1)


def _add_zeros(cells: dict[str, int] | None, outcomes: list[str]) -> None:
    if cells is not None:
        for outcome in outcomes:
            cells.setdefault(outcome, 0)
