"""Checks of one record against the split."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

from irec_jax.audit.bias_tests import (
    CUT_HISTORIES,
    FALLBACKS,
    LANGUAGE_FALLBACKS,
    MILLION,
    MILLIONTHS,
    RECORDS,
    Counts,
    Measure,
)
from irec_jax.audit.expectations import Expectations, TaskProfile
from irec_jax.audit.split_index import SplitIndex
from irec_jax.audit.text_leaks import Finding, ItemNames, Problem, cut_text, search_prompt
from irec_jax.audit.title_leaks import RequestText, TextLeaks
from irec_jax.instructions.config import ContextPart
from irec_jax.instructions.context import RequestContext
from irec_jax.instructions.forms import Instruction, Part, Slot, TaskForm, graded_part
from irec_jax.instructions.passes import RecordOrigin
from irec_jax.instructions.render import ANSWER_HISTORY, Renderer
from irec_jax.instructions.slots import AnySlot
from irec_jax.instructions.templates import TemplatePack
from irec_jax.text_cleaning import clean
from irec_jax.word_overlap import Words, shared_share, words_of


@dataclasses.dataclass(frozen=True, eq=False)
class RecordChecker:
    """Checks single records against the split that they were made from; it can be pickled.

    Attributes:
        renderer: Gives the event, task, drawn language and drawn template of a record number,
            the names of items and the template packs; it renders nothing here.
        split_index: The split.
        names: Names of items.
        text_leaks: Searches texts that a user or a teacher wrote.
        context: Times and places of the split.
        profiles: One for each of `renderer.variants`.
        count_tokens: Counts the tokens of a text; None counts words.
    """

    renderer: Renderer
    split_index: SplitIndex
    names: ItemNames
    text_leaks: TextLeaks
    context: RequestContext
    profiles: tuple[TaskProfile, ...]
    count_tokens: Callable[[str], int] | None

    def check(self, number: int, record: Instruction, counts: Counts) -> list[Problem]:
        """Returns the problems of a record.

        Args:
            number: Record number.
            record: Its content.
            counts: Incremented by the counts of this record.
        """
        origin = self.renderer.origin(number)
        if not 0 <= origin.position < len(self.split_index.users):
            return [(Finding.ROLE, f"there is no event {origin.position}")]
        for pack in self.renderer.prompt_writer.packs:
            if pack.language == record.language:
                break
        else:
            return [(Finding.TEMPLATE, f"no pack is in the language '{record.language}'")]
        expected = self._expect(origin, record, pack)
        found = [*self._labels(expected), *self._candidates(expected)]
        problems, answer_texts = self._answer(expected)
        found += problems
        problems, prompt_texts = self._prompt(expected, answer_texts)
        found += problems
        if prompt_texts is None and not found:
            found.append((Finding.PROMPT, f"'{record.inputs}'"))
        for slot, text in (prompt_texts or {}).items():
            words, is_query = words_of(text), slot is Slot.QUERY
            if is_query:
                self._count_overlap(expected, words, counts)
            is_typed = is_query and self._is_typed(expected, text)
            found += self.text_leaks.read(
                RequestText(expected, text, words, is_query, is_typed), counts
            )
            for part in answer_texts.values():
                if part.casefold() in text.casefold():
                    found.append((Finding.HIDDEN, f"'{part}' in '{text}'"))
        if Part.QUERY in answer_texts:
            self._count_overlap(expected, words_of(answer_texts[Part.QUERY]), counts)
        self._count(expected, counts)
        return found

    def _expect(
        self, origin: RecordOrigin, record: Instruction, pack: TemplatePack
    ) -> Expectations:
        profile, position = self.profiles[origin.variant_number], origin.position
        split_index, config = self.split_index, self.renderer.prompt_writer.config
        start = max(split_index.starts.item(position), position - config.max_history)
        target = split_index.split.items.item(position)
        items: dict[AnySlot, Sequence[int]] = {
            Slot.HISTORY: split_index.split.items[start:position].tolist(),
            Slot.TARGET: (target,),
            Slot.CONTEXT: (),
        }
        if profile.candidates:
            candidates = [c for c in record.candidates if 0 <= c < len(self.names.written)]
            items[Slot.CANDIDATES], items[Slot.SECOND] = candidates, candidates[1:2]
            items[Slot.CANDIDATE] = items[Slot.FIRST] = candidates[:1]
        context = ""
        if config.context and Slot.CONTEXT in profile.task.slots:
            if ContextPart.POPULAR in config.context:
                items[Slot.CONTEXT] = split_index.popular(position)
            context = self.context.phrase(position, pack, self.names.join(items[Slot.CONTEXT]))
        return Expectations(origin, record, profile, position, pack, target, items, context)

    def _labels(self, expected: Expectations) -> list[Problem]:
        record, profile, index = expected.record, expected.profile, self.split_index
        found, position = [], expected.position
        if index.split.roles.item(position) != self.renderer.role:
            found.append((Finding.ROLE, f"event {position} is not of {self.renderer.role.name}"))
        if index.follows_later.item(position):
            problem = f"the events before event {position} include a later one"
            found.append((Finding.FUTURE, problem))
        owner = (index.users.item(position), expected.target if profile.names_item else -1)
        labels = (record.scenario, record.strategy, record.task, record.split, record.seed)
        if labels != profile.labels or (record.user, record.target_item) != owner:
            kind = Finding.LABEL if record.split == profile.labels[3] else Finding.ROLE
            found.append((kind, f"not the user and item {owner}, and labels {profile.labels}"))
        return found

    def _candidates(self, expected: Expectations) -> list[Problem]:
        profile, candidates = expected.profile, expected.record.candidates
        if not profile.candidates:
            return [(Finding.CANDIDATES, f"{candidates}: expected none")] if candidates else []
        problem, target = "", expected.target
        if len(candidates) != len(expected.items[Slot.CANDIDATES]):
            problem = "not all are items"
        elif len(set(candidates)) < len(candidates):
            problem = "one occurs twice"
        elif profile.task.form is not TaskForm.POINTWISE and target not in candidates:
            problem = f"the target {target} is not among them"
        else:
            known = {target, *self.split_index.before(expected.position)}
            negatives, warm = [c for c in candidates if c != target], self.split_index.warm
            if len(candidates) != profile.candidates:
                available = int(warm.sum()) - sum(warm.item(item) for item in known)
                problem = "" if len(negatives) == available else f"not {profile.candidates}"
            for item in negatives:
                if item in known:
                    problem = f"item {item} is in the user's history"
                elif not warm.item(item):
                    problem = f"item {item} has no training event"
        return [(Finding.CANDIDATES, f"{candidates}: {problem}")] if problem else []

    def _answer(self, expected: Expectations) -> tuple[list[Problem], dict[Part, str]]:
        """Checks an answer; returns its problems and the texts of its written parts."""
        profile, answer, target = expected.profile, expected.record.targets, expected.target
        parts, values = profile.task.answer_parts, {}
        for part in parts:
            if part is Part.ITEM:
                count, position = profile.answer_items, expected.position
                items = (target,) if count == 1 else self.split_index.run(position, count)
                values[part] = self.names.join(items)
            elif part is Part.VERDICT:
                is_target = expected.record.candidates == (target,)
                values[part] = expected.pack.yes if is_target else expected.pack.no
            elif part is Part.HISTORY:
                values[part] = self.names.join(expected.items[Slot.HISTORY][-ANSWER_HISTORY:])
        texts = cut_text(answer, profile.answer_literals, parts, values)
        if not answer.strip() or "" in values.values() or (texts and "" in texts.values()):
            return [(Finding.EMPTY, f"a part of the answer '{answer}' is empty")], {}
        if texts is None:
            finding = Finding.FUTURE if self._lists_later(expected, values) else Finding.ANSWER
            return [(finding, f"the answer '{answer}' lacks {list(values.values())}")], {}
        if parts[-1] is Part.ITEM:
            name = self.names.written[target]
            if graded_part(answer) != values[Part.ITEM] or name in self.names.shared:
                return [(Finding.ANSWER, f"'{answer}' cannot be read back to '{name}'")], texts
        return [], texts

    def _lists_later(self, expected: Expectations, values: Mapping[Part, str]) -> bool:
        """Returns whether an answer lists a later item that does not belong there."""
        later = {self.names.written[item] for item in self.split_index.later(expected.position)}
        listed = set(graded_part(expected.record.targets).split(self.names.separator))
        return bool(later & listed - set(values.get(Part.ITEM, "").split(self.names.separator)))

    def _prompt(
        self, expected: Expectations, answer_texts: Mapping[Part, str]
    ) -> tuple[list[Problem], dict[AnySlot, str] | None]:
        """Checks a prompt; returns its problems, and the texts of its written slots if it fits."""
        record, task = expected.record, expected.profile.task
        template = expected.profile.templates.get((record.language, record.template))
        slots = tuple(task.slots) if template is None else template.slots
        join, items = self.names.join, expected.items
        values = {slot: join(items[slot]) for slot in slots if slot in items}
        if Slot.CONTEXT in values:
            values[Slot.CONTEXT] = expected.context
        literals, texts, found = (), None, []
        if template is None:
            found.append((Finding.TEMPLATE, f"'{record.template}' is not for {record.task}"))
        else:
            literals = template.literals
            texts = cut_text(record.inputs, literals, slots, values)
        stripped = record.inputs.strip()
        if not stripped or (texts and "" in texts.values()):
            return [*found, (Finding.EMPTY, f"the prompt '{record.inputs}'")], None
        if "  " in record.inputs or record.inputs != stripped:
            found.append((Finding.SPACES, f"'{record.inputs}'"))
        if texts is not None:
            return found, texts
        index, position = self.split_index, expected.position
        hidden = {text.casefold(): Finding.HIDDEN for text in answer_texts.values()}
        for finding, some in (
            (Finding.TARGET, (expected.target,) if task.hides_target else ()),
            (Finding.HIDDEN, items[Slot.HISTORY] if Part.HISTORY in task.answer_parts else ()),
            (Finding.FUTURE, index.later(position)),
        ):
            for name in (name for item in some for name in self.names.of(item)):
                hidden.setdefault(name, finding)
        hidden.setdefault(str(index.users.item(position)), Finding.USER)
        values = {slot: values.get(slot, "") for slot in slots}
        items = {**items, Slot.PREFERENCE: index.before(position)}
        found += search_prompt(record.inputs, literals, values, items, hidden, self.names)
        return found, None

    def _is_typed(self, expected: Expectations, query: str) -> bool:
        """Returns whether the user typed a query."""
        split, position = self.split_index.split, expected.position
        if split.intentions.item(position) != expected.profile.code:
            return False
        return query == clean(split.queries[position])

    def _count_overlap(self, expected: Expectations, words: Words, counts: Counts) -> None:
        """Counts the share of the content words of a query that occur in the target's title."""
        title = self.text_leaks.titles[expected.target].content
        share = shared_share(words.content, title)
        if share is not None:
            group = f"{expected.profile.kind} {expected.record.language}"
            counts[Measure.OVERLAP, group, RECORDS] += 1
            counts[Measure.OVERLAP, group, MILLIONTHS] += round(share * MILLION)

    def _count(self, expected: Expectations, counts: Counts) -> None:
        """Counts the draws and lengths that are judged over many records."""
        profile, record, position = expected.profile, expected.record, expected.position
        language, template = self.renderer.drawn_template(expected.origin)
        counts[Measure.LANGUAGES, "", f"{language}*1"] += 1
        if (record.language, record.template) != (language, template):
            counts[Measure.COUNTED, "", FALLBACKS] += 1
            if record.language != language:
                counts[Measure.COUNTED, "", LANGUAGE_FALLBACKS] += 1
        candidates = record.candidates
        if profile.task.form is TaskForm.POINTWISE:
            verdict = "yes" if record.targets == expected.pack.yes else "no"
            counts[Measure.VERDICTS, profile.labels[2], verdict] += 1
        elif profile.candidates and expected.target in candidates:
            place = _place(candidates.index(expected.target), len(candidates))
            counts[Measure.PLACES, f"{profile.labels[2]} ({len(candidates)})", place] += 1
        cells = profile.cells[record.language, bool(expected.context)]
        if record.template in cells:
            counts[cells[record.template]] += 1
        before = position - self.split_index.starts.item(position)
        if profile.task.needs_history and before > len(expected.items[Slot.HISTORY]):
            counts[Measure.COUNTED, "", CUT_HISTORIES] += 1
        count = self.count_tokens
        for text, content in (("prompt", record.inputs), ("answer", record.targets)):
            length = content.count(" ") + 1 if count is None else count(content)
            counts[Measure.LENGTHS, text, length] += 1

    def outcomes(self) -> Counts:
        """Returns a count of 0 for every outcome that can be drawn."""
        keys: list[tuple[str, str, str]] = [
            (Measure.LANGUAGES, "", f"{p.language}*1") for p in self.renderer.prompt_writer.packs
        ]
        for profile in self.profiles:
            for cells in profile.cells.values():
                keys += cells.values()
            if profile.task.form is TaskForm.POINTWISE:
                keys += [(Measure.VERDICTS, profile.labels[2], cell) for cell in ("yes", "no")]
            for size in range(2, profile.candidates + 1):
                group = f"{profile.labels[2]} ({size})"
                keys += [(Measure.PLACES, group, _place(place, size)) for place in range(size)]
        return collections.Counter(dict.fromkeys(keys, 0))


@functools.cache
def _place(place: int, size: int) -> str:
    """Names a place among candidates, in an order that sorts."""
    return f"{place + 1:0{len(str(size))}}*1"
