"""The texts that a tokenizer is trained on."""

from collections.abc import Sequence

from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import ANSWER_MARK, Part
from irec_jax.instructions.prompts import SEPARATOR
from irec_jax.instructions.tasks import INTENTION_CODES
from irec_jax.instructions.teacher import Teacher
from irec_jax.instructions.templates import TemplatePack, load_packs
from irec_jax.log.split import Role, Split
from irec_jax.understanding.request_records import RequestRecords

TEMPLATE_WEIGHT = 20
REQUEST_SAMPLE = 5_000  # records of understanding that a tokenizer learns from
TAUGHT_SAMPLE = 5_000  # events whose teacher's texts a tokenizer learns from


def training_texts(
    split: Split,
    config: InstructionsConfig,
    teacher: Teacher,
    requests: RequestRecords | None = None,
) -> list[str]:
    """Returns the texts to train on: titles, queries before training events, and templates.

    Each template counts `TEMPLATE_WEIGHT` times, so that its words become pieces of their own:
    a prompt of 20 atomic items then has 33 tokens, 68 without. Held-out templates are not read.
    A teacher's texts and the records of understanding are sampled.
    """
    queries = [
        query
        for query, role in zip(split.queries, split.roles, strict=True)
        if query and role == Role.TRAIN
    ]
    packs = load_packs(config.packs, config.domain, config.own_tasks)
    names = {task.name for task in config.listed_tasks}
    templates = [
        template.fill(dict.fromkeys(template.slots, SEPARATOR))
        for pack in packs
        for template in pack.templates
        if template.task in names and not template.held_out
    ]
    templates += [text for pack in packs for text in _fixed_words(pack, config)]
    taught = _taught_texts(split, config, teacher, [pack.language for pack in packs])
    if requests is not None:
        records = map(requests.record, range(REQUEST_SAMPLE))
        taught += [text for record in records for text in (record.inputs, record.targets)]
    return split.catalog["title"].to_list() + queries + taught + TEMPLATE_WEIGHT * templates


def _fixed_words(pack: TemplatePack, config: InstructionsConfig) -> list[str]:
    """Returns the fixed words of answers and contexts, without names and teacher texts."""
    tasks = config.listed_tasks
    words = [pack.yes, pack.no] if any(Part.VERDICT in task.answer_parts for task in tasks) else []
    if any(len(task.answer_parts) > 1 for task in tasks):
        words.append(ANSWER_MARK)
    return words + (list(pack.context.values()) if config.context else [])


def _taught_texts(
    split: Split, config: InstructionsConfig, teacher: Teacher, languages: Sequence[str]
) -> list[str]:
    """A sample of what the teacher writes before training events."""
    if config.teacher == "log":
        return []
    tasks = config.listed_tasks
    kinds = {i for task in tasks if task.reads_query for i in task.intentions}
    positions = split.targets(Role.TRAIN)
    texts: list[str] = []
    for position in positions[:: max(1, len(positions) // TAUGHT_SAMPLE)].tolist():
        for language in languages:
            texts += [
                teacher.query(position, kind, language) for kind in INTENTION_CODES if kind in kinds
            ]
            if any(task.reads_preference for task in tasks):
                texts.append(teacher.preference(position, position % teacher.variants, language))
            if any(task.reads_reason for task in tasks):
                texts.append(teacher.reason(position, language))
    return [text for text in texts if text]
