"""Template packs: wordings as data, checked when they are read."""

import collections
import dataclasses
import enum
import functools
import importlib.resources
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from irec_jax.errors import InputError, nearest
from irec_jax.files import write_text
from irec_jax.instructions.config import (
    BUILT_IN_PACKS,
    PACK_SUFFIX,
    Domain,
    InstructionsConfig,
    pack_path,
)
from irec_jax.instructions.forms import Intention, Slot, TaskName
from irec_jax.instructions.tasks import Task, task_named
from irec_jax.text_cleaning import clean

CONTEXT_WORDS = (
    *("morning", "afternoon", "evening", "night", "weekday", "weekend"),
    *("spring", "summer", "autumn", "winter", "place", "popular"),
)
"""What `[context]` of a pack says; `place` and `popular` come before what they name."""

_PACK_KEYS = ("language", "answers", "words", "context", "template")
_ANSWER_KEYS = ("yes", "no")
_TEMPLATE_KEYS = ("id", "task", "text")
_OPTIONAL_KEYS = ("intentions", "held_out")
_PERSON = "person"
_SLOTS = {slot.value: slot for slot in Slot}
_OPENING = re.compile(r"\{([^{}\s]*)\}")
_Word = TypeVar("_Word", bound=enum.Enum)


@dataclasses.dataclass(frozen=True)
class Template:
    """One wording, its domain words in place.

    Attributes:
        name: Its id in the pack.
        task: The task that it words.
        intentions: The kinds of query that it fits.
        slots: The data slots in the order of the text.
        literals: The fixed text around the slots, one piece more than there are slots, spaces
            included.
        held_out: Whether it is kept from training, for the unseen-template test.
    """

    name: str
    task: TaskName
    intentions: tuple[Intention, ...]
    slots: tuple[Slot, ...]
    literals: tuple[str, ...]
    held_out: bool = False

    def fill(self, values: Mapping[Slot, str]) -> str:
        """Puts text into the slots; what the text holds (braces, say) never matters."""
        text = self.literals[0]
        for slot, literal in self._pieces:
            text += values[slot] + literal
        return text

    @functools.cached_property
    def _pieces(self) -> tuple[tuple[Slot, str], ...]:
        return tuple(zip(self.slots, self.literals[1:], strict=True))


@dataclasses.dataclass(frozen=True)
class TemplatePack:
    """The templates of one language, worded for one domain.

    Attributes:
        language: BCP 47, such as `en`.
        domain: Which table of words was put in.
        yes: The answer of a pointwise question.
        no: The other one.
        person: What the domain calls a user.
        context: `CONTEXT_WORDS` -> the phrase.
        templates: In the order of the file.
        file: Where it was read, for messages.
    """

    language: str
    domain: str
    yes: str
    no: str
    person: str
    context: Mapping[str, str]
    templates: tuple[Template, ...]
    file: str

    def of(
        self, task: TaskName, intention: Intention, *, held_out: bool = False
    ) -> tuple[Template, ...]:
        """Returns the templates of a task that are for training (or held out).

        The first one for training is the one for serving.

        Raises:
            InputError: The pack has none.
        """
        found = tuple(
            template
            for template in self.templates
            if template.task is task
            and intention in template.intentions
            and template.held_out == held_out
        )
        if not found:
            kind = "held-out " if held_out else ""
            worded = dict.fromkeys(t.task.value for t in self.templates)
            raise InputError(
                f"no {kind}template words the task {task.value} ({intention.value})",
                where=self.file,
                hint=f"write one, or ask for one of: {', '.join(worded)}.",
            )
        return found

    def named(self, name: str) -> Template:
        """Returns the template of a name.

        Raises:
            InputError: There is none.
        """
        for template in self.templates:
            if template.name == name:
                return template
        names = [template.name for template in self.templates]
        raise InputError(f"no template '{name}'; {nearest(name, names)}", where=self.file)


def load_packs(names: Iterable[str], domain: str) -> tuple[TemplatePack, ...]:
    """Reads packs by name (`en`, `zh`) or path.

    Raises:
        InputError: A file is missing or is no pack, or two packs are of one language.
    """
    packs = tuple(load_pack(name, domain) for name in names)
    for number, pack in enumerate(packs):
        for other in packs[:number]:
            if other.language == pack.language:
                raise InputError(
                    f"{other.file} and {pack.file} are both in the language '{pack.language}'",
                    where="instructions.packs",
                    hint="list one pack a language.",
                )
    return packs


def load_pack(name: str, domain: str) -> TemplatePack:
    """Reads a pack that comes with the package, or a user's own by its path."""
    return read_pack(pack_text(name), _file_of(name), domain)


def pack_text(name: str) -> str:
    """Returns the TOML text of a pack.

    Raises:
        InputError: There is no such file, or it is not UTF-8.
    """
    path = pack_path(name)
    if path is None:
        source = importlib.resources.files("irec_jax.instructions") / "packs" / f"{name}.toml"
        return source.read_text(encoding="utf-8")
    if not path.is_file():
        raise InputError(
            "there is no such template pack",
            where=f"instructions.packs: {path}",
            hint=f"give the path of a TOML file, or one of: {', '.join(BUILT_IN_PACKS)}.",
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8 ({error.reason} at byte {error.start})",
            where=str(path),
            hint="save it as UTF-8.",
        ) from error


def read_pack(text: str, file: str, domain: str) -> TemplatePack:
    """Reads and checks a pack, the words of all its domains included.

    Args:
        text: The TOML text: `language`, `[answers]`, `[context]`, `[words.DOMAIN]` tables and
            `[[template]]` tables.
        file: The name of the file, for messages.
        domain: Which table of words to put in.

    Raises:
        InputError: Naming the file and the key: bad TOML, an unknown or missing key or slot, an
            id used twice, a domain without words.
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
        raise InputError("no templates", where=f"{file}: template", hint="write [[template]].")
    templates = tuple(
        _template(table, words, f"{file}: template {number}")
        for number, table in enumerate(tables, start=1)
    )
    for name, times in collections.Counter(t.name for t in templates).items():
        if times > 1:
            raise InputError(
                f"the id '{name}' is used {times} times",
                where=f"{file}: template.id",
                hint="give every template an id of its own.",
            )
    return TemplatePack(language, domain, yes, no, words[_PERSON], context, templates, file)


def copy_packs(config: InstructionsConfig, folder: Path) -> None:
    """Copies the packs into a folder, so that a run keeps its wording; older copies stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(config.packs):
        copy = folder / f"{number}{PACK_SUFFIX}"
        if not copy.exists():
            write_text(copy, pack_text(name))


def with_copied_packs(config: InstructionsConfig, folder: Path) -> InstructionsConfig:
    """Returns the settings with the packs read from where `copy_packs` wrote them."""
    copies = [folder / f"{number}{PACK_SUFFIX}" for number in range(len(config.packs))]
    names = zip(config.packs, copies, strict=True)
    packs = tuple(str(copy) if copy.is_file() else name for name, copy in names)
    return dataclasses.replace(config, packs=packs)


def _file_of(name: str) -> str:
    return f"packs/{name}.toml" if pack_path(name) is None else name


def _words_of(tables: Any, domain: str, where: str) -> dict[str, str]:
    if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
        raise InputError("not a table of words for each domain", where=where)
    unknown = sorted(set(tables) - set(get_args(Domain)))
    if unknown:
        raise InputError(
            f"unknown domain '{unknown[0]}'; {nearest(unknown[0], get_args(Domain))}", where=where
        )
    if domain not in tables:
        raise InputError(
            f"no words for the domain '{domain}'; {nearest(domain, tables)}", where=where
        )
    known = set().union({_PERSON}, *tables.values())
    for name, words in tables.items():
        for word in sorted(known):
            _phrase(words, word, f"{where}.{name}")
            if word in _SLOTS:
                raise InputError("the name of a slot of data", where=f"{where}.{name}.{word}")
    return dict(tables[domain])


def _template(table: Any, words: Mapping[str, str], where: str) -> Template:
    _check_keys(table, _TEMPLATE_KEYS, where, optional=_OPTIONAL_KEYS)
    name = _text(table, "id", where)
    where = f"{where} ('{name}')"
    task = task_named(_member(TaskName, table["task"], f"{where}.task"))
    listed = table.get("intentions", [i.value for i in task.intentions])
    if not isinstance(listed, list):
        raise InputError(f"{listed!r} is not a list", where=f"{where}.intentions")
    intentions = tuple(_member(Intention, value, f"{where}.intentions") for value in listed)
    for intention in intentions:
        if intention not in task.intentions:
            raise InputError(
                f"the task {task.name.value} has no {intention.value} intention",
                where=f"{where}.intentions",
                hint=f"list some of: {', '.join(i.value for i in task.intentions)}.",
            )
    if not intentions:
        raise InputError("no intention is listed", where=f"{where}.intentions")
    held_out = table.get("held_out", False)
    if not isinstance(held_out, bool):
        raise InputError(f"{held_out!r} is not true or false", where=f"{where}.held_out")
    slots, literals = _parse(_text(table, "text", where), words, f"{where}.text")
    _check_slots(slots, task, f"{where}.text")
    return Template(name, task.name, intentions, slots, literals, held_out)


def _parse(
    text: str, words: Mapping[str, str], where: str
) -> tuple[tuple[Slot, ...], tuple[str, ...]]:
    """Puts the domain's words in and cuts the text at its data slots."""
    text = clean(text)
    slots: list[Slot] = []
    literals = [""]
    end = 0
    for match in _OPENING.finditer(text):
        literals[-1] += _plain(text[end : match.start()], where)
        end = match.end()
        slot = match[1]
        if slot in words:
            literals[-1] += words[slot]
            continue
        if slot not in _SLOTS:
            raise InputError(
                f"unknown slot {match[0]}; {nearest(slot, [*_SLOTS, *words])}", where=where
            )
        around = text[: match.start()][-1:] + text[end:][:1]
        if around.strip():
            raise InputError(
                f"the slot in '{match[0]}' does not stand alone",
                where=where,
                hint="put a space before and after it, such as '{history} .'.",
            )
        slots.append(_SLOTS[slot])
        literals.append("")
    literals[-1] += _plain(text[end:], where)
    return tuple(slots), tuple(literals)


def _plain(text: str, where: str) -> str:
    if "{" in text or "}" in text:
        raise InputError(
            f"a brace in '{text.strip()}' belongs to no slot",
            where=where,
            hint="write slots as {history}, without spaces in them, and no other braces.",
        )
    return text


def _check_slots(slots: tuple[Slot, ...], task: Task, where: str) -> None:
    for slot in Slot:
        times = slots.count(slot)
        if slot in task.shows:
            if times != 1:
                raise InputError(
                    f"the slot {{{slot.value}}} stands there {times} times, and must stand there "
                    f"once in the task {task.name.value}",
                    where=where,
                )
        elif times > int(slot in task.may_show):
            most = "at most once" if slot in task.may_show else "never"
            raise InputError(
                f"the slot {{{slot.value}}} stands there {times} times, and may stand there "
                f"{most} in the task {task.name.value}",
                where=where,
            )


def _check_keys(
    table: Any, keys: tuple[str, ...], where: str, *, optional: tuple[str, ...] = ()
) -> None:
    if not isinstance(table, dict):
        raise InputError("not a table", where=where)
    for key in table:
        if key not in (*keys, *optional):
            raise InputError(
                f"unknown key '{key}'; {nearest(key, (*keys, *optional))}", where=where
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
            hint="write one line with single spaces, and no braces.",
        )
    return value


def _member(kind: type[_Word], value: Any, where: str) -> _Word:
    allowed = [member.value for member in kind]
    if value not in allowed:
        raise InputError(f"'{value}'; {nearest(str(value), allowed)}", where=where)
    return kind(value)
