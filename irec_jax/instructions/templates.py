"""Template packs: wordings as data, checked when they are read."""

import collections
import dataclasses
import enum
import importlib.resources
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

from irec_jax.errors import InputError, nearest
from irec_jax.instructions.forms import Intention, Preference, Scenario, TaskForm

HISTORY_SLOT = "history"
QUERY_SLOT = "query"
DATA_SLOTS = (HISTORY_SLOT, QUERY_SLOT)

_TEMPLATE_KEYS = ("id", "preference", "intentions", "form", "text")
_Word = TypeVar("_Word", bound=enum.Enum)


@dataclasses.dataclass(frozen=True)
class Template:
    """One wording, its domain words in place.

    Attributes:
        name: Its id in the pack.
        scenarios: The scenarios that it words.
        slots: The data slots in the order of the text.
        literals: The fixed text around the slots, one piece more than there are slots, spaces
            included.
    """

    name: str
    scenarios: tuple[Scenario, ...]
    slots: tuple[str, ...]
    literals: tuple[str, ...]

    def fill(self, history: str, query: str) -> str:
        """Puts text into the slots; what the text holds (braces, say) never matters."""
        text = self.literals[0]
        for slot, literal in zip(self.slots, self.literals[1:], strict=True):
            text += (history if slot == HISTORY_SLOT else query) + literal
        return text


@dataclasses.dataclass(frozen=True)
class TemplatePack:
    """The templates of one language, worded for one domain.

    Attributes:
        language: BCP 47, such as `en`.
        domain: Which table of words was put in.
        templates: In the order of the file.
    """

    language: str
    domain: str
    templates: tuple[Template, ...]

    def of(self, scenario: Scenario) -> tuple[Template, ...]:
        """Returns the templates of a scenario; the first is the one for serving.

        Raises:
            InputError: The pack has no template for it.
        """
        found = tuple(t for t in self.templates if scenario in t.scenarios)
        if not found:
            worded = dict.fromkeys(s.code for t in self.templates for s in t.scenarios)
            raise InputError(
                f"no template words the scenario {scenario.code}",
                where=f"template pack '{self.language}'",
                mend=f"ask for one of: {', '.join(worded)}.",
            )
        return found


def load_pack(language: str, domain: str) -> TemplatePack:
    """Reads the pack of a language that comes with the package."""
    name = f"{language}.toml"
    source = importlib.resources.files("irec_jax.instructions") / "packs" / name
    return read_pack(source.read_text(encoding="utf-8"), f"packs/{name}", domain)


def read_pack(text: str, file: str, domain: str) -> TemplatePack:
    """Reads and checks a pack.

    Args:
        text: The TOML text: `language`, `[words.DOMAIN]` tables, `[[template]]` tables.
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
    _check_keys(content, ("language", "words", "template"), file)
    language = _text(content, "language", file)
    words = _words_of(content["words"], domain, f"{file}: words")
    tables = content["template"]
    if not isinstance(tables, list) or not tables:
        raise InputError("no templates", where=f"{file}: template", mend="write [[template]].")
    templates = tuple(
        _template(table, words, f"{file}: template {number}")
        for number, table in enumerate(tables, start=1)
    )
    for name, times in collections.Counter(t.name for t in templates).items():
        if times > 1:
            raise InputError(
                f"the id '{name}' is used {times} times",
                where=f"{file}: template.id",
                mend="give every template an id of its own.",
            )
    return TemplatePack(language, domain, templates)


def _words_of(tables: Any, domain: str, where: str) -> dict[str, str]:
    if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
        raise InputError("not a table of words for each domain", where=where)
    if domain not in tables:
        raise InputError(
            f"no words for the domain '{domain}'; {nearest(domain, tables)}", where=where
        )
    known = set().union(*tables.values())
    for name, words in tables.items():
        for word in sorted(known):
            if not _text(words, word, f"{where}.{name}").isprintable() or word in DATA_SLOTS:
                raise InputError("not a plain word", where=f"{where}.{name}.{word}")
    return dict(tables[domain])


def _template(table: Any, words: Mapping[str, str], where: str) -> Template:
    _check_keys(table, _TEMPLATE_KEYS, where)
    name = _text(table, "id", where)
    where = f"{where} ('{name}')"
    intentions = table["intentions"]
    if not isinstance(intentions, list) or not intentions:
        raise InputError("not a list of intentions", where=f"{where}.intentions")
    preference = _member(Preference, table["preference"], f"{where}.preference")
    form = _member(TaskForm, table["form"], f"{where}.form")
    scenarios = tuple(
        Scenario(preference, _member(Intention, intention, f"{where}.intentions"), form)
        for intention in intentions
    )
    slots, literals = _parse(_text(table, "text", where), words, f"{where}.text")
    for scenario in scenarios:
        _check_slots(slots, scenario, f"{where}.text")
    return Template(name, scenarios, slots, literals)


def _parse(
    text: str, words: Mapping[str, str], where: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    slots: list[str] = []
    pieces: list[list[str]] = [[]]
    for word in text.split():
        if "{" not in word and "}" not in word:
            pieces[-1].append(word)
            continue
        slot = word[1:-1]
        if word != f"{{{slot}}}" or "{" in slot or "}" in slot:
            raise InputError(
                f"the slot in '{word}' does not stand alone",
                where=where,
                mend="put a space before and after each slot, such as '{history} .'.",
            )
        if slot in DATA_SLOTS:
            slots.append(slot)
            pieces.append([])
        elif slot in words:
            pieces[-1].append(words[slot])
        else:
            raise InputError(
                f"unknown slot {word}; {nearest(slot, [*DATA_SLOTS, *words])}", where=where
            )
    return tuple(slots), _literals(pieces)


def _literals(pieces: list[list[str]]) -> tuple[str, ...]:
    """Joins the words of each piece, with a space towards every slot beside it."""
    literals = []
    for number, piece in enumerate(pieces):
        text = " ".join(piece)
        if number > 0:
            text = f" {text}" if text else " "
        if number < len(pieces) - 1 and text.strip():
            text += " "
        literals.append(text)
    if len(pieces) > 1 and not pieces[-1]:
        literals[-1] = ""
    return tuple(literals)


def _check_slots(slots: tuple[str, ...], scenario: Scenario, where: str) -> None:
    needed = {
        HISTORY_SLOT: scenario.preference is Preference.IMPLICIT,
        QUERY_SLOT: scenario.intention is not Intention.NONE,
    }
    for slot, is_needed in needed.items():
        if slots.count(slot) != int(is_needed):
            times = "once" if is_needed else "never"
            raise InputError(
                f"the slot {{{slot}}} stands there {slots.count(slot)} times, and must stand "
                f"there {times} in the scenario {scenario.code}",
                where=where,
            )


def _check_keys(table: Any, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(table, dict):
        raise InputError("not a table", where=where)
    for key in table:
        if key not in keys:
            raise InputError(f"unknown key '{key}'; {nearest(key, keys)}", where=where)
    for key in keys:
        if key not in table:
            raise InputError(f"the key '{key}' is missing", where=where)


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{value!r} is not a text", where=f"{where}.{key}")
    return value


def _member(kind: type[_Word], value: Any, where: str) -> _Word:
    allowed = [member.value for member in kind]
    if value not in allowed:
        raise InputError(f"'{value}'; {nearest(str(value), allowed)}", where=where)
    return kind(value)
