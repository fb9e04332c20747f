"""Template packs: templates as data, checked when they are read."""

import collections
import dataclasses
import enum
import functools
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from irec_jax.errors import InputError, nearest
from irec_jax.instructions.built_in_tasks import TASKS
from irec_jax.instructions.config import Domain
from irec_jax.instructions.forms import AnyTaskName, Intention, Slot
from irec_jax.instructions.pack_files import pack_label, pack_text
from irec_jax.instructions.slots import (
    AnySlot,
    SlotFiller,
    SlotInputs,
    WriteItems,
    is_custom,
    slot_filler,
    slot_name,
)
from irec_jax.instructions.tasks import Task
from irec_jax.text_cleaning import clean

CONTEXT_WORDS = (
    *("morning", "afternoon", "evening", "night", "weekday", "weekend"),
    *("spring", "summer", "autumn", "winter", "place", "popular"),
)
"""The keys of `[context]`; the phrases of `place` and `popular` precede names."""

_PACK_KEYS = ("language", "answers", "words", "context", "template")
_ANSWER_KEYS = ("yes", "no")
_TEMPLATE_KEYS = ("id", "task", "text")
_OPTIONAL_KEYS = ("intentions", "held_out")
_SLOTS = {slot.value: slot for slot in Slot}
_OPENING = re.compile(r"\{([^{}\s]*)\}")
_Member = TypeVar("_Member", bound=enum.Enum)


@dataclasses.dataclass(frozen=True)
class Template:
    """A prompt with slots; the words of the domain are inserted.

    Attributes:
        name: Its id in the pack.
        task: Its task.
        intentions: The kinds of query that it fits.
        slots: The data slots in the order of the text.
        literals: The fixed text around the slots, spaces included; one piece more than slots.
        held_out: Whether it is excluded from training, to measure unseen templates.
    """

    name: str
    task: AnyTaskName
    intentions: tuple[Intention, ...]
    slots: tuple[AnySlot, ...]
    literals: tuple[str, ...]
    held_out: bool = False

    def fill(self, values: Mapping[AnySlot, str]) -> str:
        """Inserts text into the slots; braces in the text have no meaning."""
        text = self.literals[0]
        for slot, literal in self._pieces:
            text += values[slot] + literal
        return text

    def render(self, inputs: SlotInputs, write: WriteItems) -> str:
        """Fills the slots; see `irec_jax.instructions.slots.slot_filler`."""
        text = self.literals[0]
        for filler, literal in self._fillers:
            text += filler(inputs, write) + literal
        return text

    @functools.cached_property
    def _fillers(self) -> tuple[tuple[SlotFiller, str], ...]:
        fillers = map(slot_filler, self.slots)
        return tuple(zip(fillers, self.literals[1:], strict=True))

    @functools.cached_property
    def reads_history(self) -> bool:
        """Whether a slot may be made from the history."""
        return any(slot is Slot.HISTORY or is_custom(slot) for slot in self.slots)

    @functools.cached_property
    def _pieces(self) -> tuple[tuple[AnySlot, str], ...]:
        return tuple(zip(self.slots, self.literals[1:], strict=True))


@dataclasses.dataclass(frozen=True)
class TemplatePack:
    """The templates of one language for one domain.

    Attributes:
        language: BCP 47, such as `en`.
        domain: The table of words that is inserted.
        yes: The answer of a pointwise question.
        no: The other answer.
        context: `CONTEXT_WORDS` -> the phrase.
        templates: In the order of the file.
        file: The file that it was read from, for messages.
    """

    language: str
    domain: str
    yes: str
    no: str
    context: Mapping[str, str]
    templates: tuple[Template, ...]
    file: str

    def of(
        self, task: AnyTaskName, intention: Intention, *, held_out: bool = False
    ) -> tuple[Template, ...]:
        """Returns the training templates (or the held-out ones) of a task.

        The first training template is used for serving.

        Raises:
            InputError: The pack has none.
        """
        found = tuple(
            template
            for template in self.templates
            if template.task == task
            and intention in template.intentions
            and template.held_out == held_out
        )
        if not found:
            kind = "held-out " if held_out else ""
            tasks = dict.fromkeys(t.task.value for t in self.templates)
            raise InputError(
                f"there is no {kind}template of the task {task.value} ({intention.value})",
                where=self.file,
                hint=f"Write one, or use a task with templates: {', '.join(tasks)}.",
            )
        return found

    def named(self, name: str) -> Template:
        """Returns the template with an id.

        Raises:
            InputError: The pack has no such template.
        """
        for template in self.templates:
            if template.name == name:
                return template
        names = [template.name for template in self.templates]
        raise InputError(f"no template '{name}'", where=self.file, hint=nearest(name, names))


def load_packs(
    names: Iterable[str], domain: str, own_tasks: tuple[Task, ...] = ()
) -> tuple[TemplatePack, ...]:
    """Reads packs by name (`en`, `zh`) or path.

    Args:
        names: `InstructionsConfig.packs`.
        domain: The table of words to insert.
        own_tasks: The user's tasks, which templates may name.

    Raises:
        InputError: A file is missing or not a pack, or two packs are in one language.
    """
    packs = tuple(load_pack(name, domain, own_tasks) for name in names)
    for number, pack in enumerate(packs):
        for other in packs[:number]:
            if other.language == pack.language:
                raise InputError(
                    f"{other.file} and {pack.file} are both in the language '{pack.language}'",
                    where="instructions.packs",
                    hint="List one pack per language.",
                )
    return packs


def load_pack(name: str, domain: str, own_tasks: tuple[Task, ...] = ()) -> TemplatePack:
    """Reads a pack of the package by name or a user's own by path; see `load_packs`."""
    return read_pack(pack_text(name), pack_label(name), domain, own_tasks)


def read_pack(text: str, file: str, domain: str, own_tasks: tuple[Task, ...] = ()) -> TemplatePack:
    """Reads and checks a pack, the words of all its domains included.

    Args:
        text: The TOML text: `language`, `[answers]`, `[context]`, `[words.DOMAIN]` tables and
            `[[template]]` tables.
        file: The name of the file, for messages.
        domain: The table of words to insert.
        own_tasks: The user's tasks, which templates may name.

    Raises:
        InputError: The text is not TOML, a key or slot is unknown or missing, an id is used
            twice, or the domain has no words; file and key are named.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not valid TOML: {error}", where=file) from error
    _check_keys(content, _PACK_KEYS, file)
    language = _phrase(content, "language", file)
    _check_keys(content["answers"], _ANSWER_KEYS, f"{file}: answers")
    yes, no = (_phrase(content["answers"], key, f"{file}: answers") for key in _ANSWER_KEYS)
    if yes == no:
        raise InputError("yes and no are the same word", where=f"{file}: answers")
    _check_keys(content["context"], CONTEXT_WORDS, f"{file}: context")
    context = {w: _phrase(content["context"], w, f"{file}: context") for w in CONTEXT_WORDS}
    words = _words_of(content["words"], domain, f"{file}: words")
    tables = content["template"]
    if not isinstance(tables, list) or not tables:
        raise InputError(
            "no templates", where=f"{file}: template", hint="Write one or more [[template]] tables."
        )
    tasks = {task.name.value: task for task in (*TASKS, *own_tasks)}
    templates = tuple(
        _template(table, tasks, words, f"{file}: template {number}")
        for number, table in enumerate(tables, start=1)
    )
    for name, times in collections.Counter(t.name for t in templates).items():
        if times > 1:
            raise InputError(
                f"the id '{name}' is used {times} times",
                where=f"{file}: template.id",
                hint="Give every template its own id.",
            )
    return TemplatePack(language, domain, yes, no, context, templates, file)


def _words_of(tables: Any, domain: str, where: str) -> dict[str, str]:
    if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
        raise InputError("not a table of words for each domain", where=where)
    unknown = sorted(set(tables) - set(get_args(Domain)))
    if unknown:
        raise InputError(
            f"unknown domain '{unknown[0]}'",
            where=where,
            hint=nearest(unknown[0], get_args(Domain)),
        )
    if domain not in tables:
        raise InputError(
            f"no words for the domain '{domain}'", where=where, hint=nearest(domain, tables)
        )
    known = set().union(*tables.values())
    for name, words in tables.items():
        for word in sorted(known):
            _phrase(words, word, f"{where}.{name}")
            if word in _SLOTS:
                raise InputError(
                    f"'{word}' is the name of a data slot",
                    where=f"{where}.{name}.{word}",
                    hint="Choose another name for the word.",
                )
    return dict(tables[domain])


def _template(
    table: Any, tasks: Mapping[str, Task], words: Mapping[str, str], where: str
) -> Template:
    _check_keys(table, _TEMPLATE_KEYS, where, optional=_OPTIONAL_KEYS)
    name = _text(table, "id", where)
    where = f"{where} ('{name}')"
    task = tasks.get(table["task"]) if isinstance(table["task"], str) else None
    if task is None:
        raise InputError(
            f"unknown task '{table['task']}'",
            where=f"{where}.task",
            hint=nearest(str(table["task"]), tasks),
        )
    listed = table.get("intentions", [i.value for i in task.intentions])
    if not isinstance(listed, list):
        raise InputError(f"{listed!r} is not a list", where=f"{where}.intentions")
    intentions = tuple(_member(Intention, value, f"{where}.intentions") for value in listed)
    for intention in intentions:
        if intention not in task.intentions:
            raise InputError(
                f"the task {task.name.value} has no {intention.value} intention",
                where=f"{where}.intentions",
                hint=f"List one or more of: {', '.join(i.value for i in task.intentions)}.",
            )
    if not intentions:
        raise InputError("no intention is listed", where=f"{where}.intentions")
    held_out = table.get("held_out", False)
    if not isinstance(held_out, bool):
        raise InputError(f"{held_out!r} is not true or false", where=f"{where}.held_out")
    slot_of = {**_SLOTS, **{slot_name(slot): slot for slot in task.slots}}
    slots, literals = _parse(_text(table, "text", where), slot_of, words, f"{where}.text")
    _check_slots(slots, task, f"{where}.text")
    return Template(name, task.name, intentions, slots, literals, held_out)


def _parse(
    text: str, slot_of: Mapping[str, AnySlot], words: Mapping[str, str], where: str
) -> tuple[tuple[AnySlot, ...], tuple[str, ...]]:
    """Inserts the domain's words and splits the text at its data slots."""
    text = clean(text)
    slots: list[AnySlot] = []
    literals = [""]
    end = 0
    for match in _OPENING.finditer(text):
        literals[-1] += _plain(text[end : match.start()], where)
        end = match.end()
        slot = match[1]
        if slot in words:
            literals[-1] += words[slot]
            continue
        if slot not in slot_of:
            raise InputError(
                f"unknown slot {match[0]}", where=where, hint=nearest(slot, [*slot_of, *words])
            )
        around = text[: match.start()][-1:] + text[end:][:1]
        if around.strip():
            raise InputError(
                f"the slot '{match[0]}' has no spaces around it",
                where=where,
                hint="Put a space before and after it, such as '{history} .'.",
            )
        slots.append(slot_of[slot])
        literals.append("")
    literals[-1] += _plain(text[end:], where)
    return tuple(slots), tuple(literals)


def _plain(text: str, where: str) -> str:
    if "{" in text or "}" in text:
        raise InputError(
            f"a brace in '{text.strip()}' belongs to no slot",
            where=where,
            hint="Write slots as {history}, without spaces in them, and no other braces.",
        )
    return text


def _check_slots(slots: tuple[AnySlot, ...], task: Task, where: str) -> None:
    for slot in dict.fromkeys((*Slot, *task.required_slots, *task.optional_slots)):
        times, name = slots.count(slot), slot_name(slot)
        if slot in task.required_slots:
            if times != 1:
                raise InputError(
                    f"the slot {{{name}}} occurs {times} times, and must occur once in the "
                    f"task {task.name.value}",
                    where=where,
                    hint="Write each required slot once.",
                )
        elif times > int(slot in task.optional_slots):
            most = "at most once" if slot in task.optional_slots else "never"
            raise InputError(
                f"the slot {{{name}}} occurs {times} times, and may occur {most} in the "
                f"task {task.name.value}",
                where=where,
                hint="Remove the slot, or choose another task.",
            )


def _check_keys(
    table: Any, keys: tuple[str, ...], where: str, *, optional: tuple[str, ...] = ()
) -> None:
    if not isinstance(table, dict):
        raise InputError("not a table", where=where)
    for key in table:
        if key not in (*keys, *optional):
            raise InputError(
                f"unknown key '{key}'", where=where, hint=nearest(key, (*keys, *optional))
            )
    for key in keys:
        if key not in table:
            raise InputError(f"the key '{key}' is missing", where=where)


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{value!r} is not a text", where=f"{where}.{key}")
    return value


def _phrase(table: Mapping[str, Any], key: str, where: str) -> str:
    value = _text(table, key, where)
    if value != clean(value) or set("{}") & set(value):
        raise InputError(
            f"{value!r} is not a plain phrase",
            where=f"{where}.{key}",
            hint="Write one line with single spaces, and no braces.",
        )
    return value


def _member(kind: type[_Member], value: Any, where: str) -> _Member:
    allowed = [member.value for member in kind]
    if value not in allowed:
        raise InputError(f"unknown value '{value}'", where=where, hint=nearest(str(value), allowed))
    return kind(value)
