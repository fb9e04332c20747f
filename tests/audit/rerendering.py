"""Second rendering of a record, from the split and the teacher, to compare letter by letter."""

import numpy as np

from irec_jax.instructions.context import RequestContext
from irec_jax.instructions.forms import ANSWER_MARK, Instruction, Part, Slot
from irec_jax.instructions.render import ANSWER_HISTORY, Renderer, preference_variant
from irec_jax.instructions.templates import TemplatePack
from irec_jax.log.split import Split


class Rerendering:
    """Renders the text of records again; candidates, language and template are the record's."""

    def __init__(self, renderer: Renderer, split: Split) -> None:
        self.renderer, self.split = renderer, split
        self.writer = renderer.prompt_writer
        self.context = RequestContext.build(split, self.writer.config.context)

    def differences(self, number: int, record: Instruction) -> set[str]:
        """Returns which of prompt, answer and language differ from those of the record number."""
        pack = self.writer.pack(record.language)
        texts = self.texts(number, pack)
        found = set()
        if self.prompt(number, record, pack, texts) != record.inputs:
            found.add("prompt")
        if self.answer(number, record, pack, texts) != record.targets:
            found.add("answer")
        drawn = self.writer.pack(self.renderer.drawn_template(self.renderer.origin(number))[0])
        if drawn is not pack and "" not in self.texts(number, drawn).values():
            found.add("language")
        return found

    def texts(self, number: int, pack: TemplatePack) -> dict[Part, str]:
        """Asks the teacher for the texts that the task of a record reads."""
        variant, position, _, draw = self.renderer.origin(number)
        teacher, texts = self.renderer.teacher, {}
        if variant.task.reads_query:
            texts[Part.QUERY] = teacher.query(position, variant.intention, pack.language)
        if variant.task.reads_preference:
            choice = preference_variant(draw, teacher.variants)
            texts[Part.PREFERENCE] = teacher.preference(position, choice, pack.language)
        if variant.task.reads_reason:
            texts[Part.REASON] = teacher.reason(position, pack.language)
        return texts

    def join(self, items: list[int]) -> str:
        return self.writer.separator.join(self.writer.names[item] for item in items)

    def history(self, position: int) -> list[int]:
        row = np.searchsorted(self.split.offsets, position, side="right") - 1
        start = max(int(self.split.offsets[row]), position - self.writer.config.max_history)
        return self.split.items[start:position].tolist()

    def prompt(
        self, number: int, record: Instruction, pack: TemplatePack, texts: dict[Part, str]
    ) -> str:
        position = self.renderer.origin(number).position
        popular = self.join(list(self.context.popular_at(position)))
        candidates = list(record.candidates)
        values = {
            Slot.HISTORY: self.join(self.history(position)),
            Slot.QUERY: texts.get(Part.QUERY, ""),
            Slot.PREFERENCE: texts.get(Part.PREFERENCE, ""),
            Slot.TARGET: self.join([self.split.items.item(position)]),
            Slot.CANDIDATE: self.join(candidates[:1]),
            Slot.FIRST: self.join(candidates[:1]),
            Slot.SECOND: self.join(candidates[1:2]),
            Slot.CANDIDATES: self.join(candidates),
            Slot.CONTEXT: self.context.phrase(position, pack, popular),
        }
        template = pack.named(record.template)
        text = template.literals[0]
        for slot, literal in zip(template.slots, template.literals[1:], strict=True):
            text += values[slot] + literal
        return text

    def answer(
        self, number: int, record: Instruction, pack: TemplatePack, texts: dict[Part, str]
    ) -> str:
        variant, position, *_ = self.renderer.origin(number)
        task, split = variant.task, self.split
        row = np.searchsorted(split.offsets, position, side="right") - 1
        has_several = task.is_ranked and not task.needs_query
        limit = self.writer.config.answer_items if has_several else 1
        items = []
        for place in range(position, min(position + limit, int(split.offsets[row + 1]))):
            if split.roles[place] != split.roles[position]:
                break
            items.append(split.items.item(place))
        is_target = record.candidates == (split.items.item(position),)
        parts = texts | {
            Part.ITEM: self.join(items),
            Part.VERDICT: pack.yes if is_target else pack.no,
            Part.HISTORY: self.join(self.history(position)[-ANSWER_HISTORY:]),
        }
        return ANSWER_MARK.join(parts[part] for part in task.answer_parts)
