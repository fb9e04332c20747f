"""Phrases of the metadata teacher: sentence patterns of a language, read from TOML files."""

import dataclasses
import functools
import importlib.resources
import itertools
import re
import tomllib
from collections.abc import Mapping
from typing import Any, get_args

from irec_jax.errors import InputError, nearest
from irec_jax.instructions.config import Domain
from irec_jax.teachers.title_words import split_words

LANGUAGES = ("en", "zh")

ASPECTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "preference_kinds": (("top", "second", "spread", "brand"), ("top", "brand")),
    "preference_value": (("top", "brand", "price"), ("top", "brand")),
    "preference_turn": (("top", "recent", "broad", "spread", "brand"), ("top", "brand")),
    "query_specific": (
        ("kind", "area", "brand", "price", "trait", "more"),
        ("kind", "trait", "brand"),
    ),
    "query_vague": (("area", "need", "other"), ("area", "need")),
    "reason": (("same", "near", "brand", "price", "need"), ("same", "near", "brand", "need")),
}
"""Aspect of a text -> its slots, and the slots that have a pattern of their own each."""

VALUES: Mapping[str, tuple[str, ...]] = {
    "price": ("low", "middle", "high", "top"),
    "spread": ("focused", "varied"),
}
"""Slots that are filled with words of the phrases file -> the keys of these words."""

_KEYS = ("language", "words", "values", "patterns")
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{([^{}]*)\}")
_DOMAIN_WORD = re.compile(r"<([^<>]*)>")
_MAX_VARIANTS = 32  # patterns that one template may expand to


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A sentence pattern.

    Attributes:
        text: A format string with `{slot}` for each slot.
        slots: The slots in the order of the text.
        literals: The fixed text before, between and after the slots; one more than slots.
        seams: First and last word of each literal, () for one without words.
    """

    text: str
    slots: tuple[str, ...]
    literals: tuple[str, ...]
    seams: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Phrases:
    """The patterns of one language with the words of one domain.

    Attributes:
        language: BCP 47 code.
        patterns: Aspect -> its patterns.
        values: Slot -> key -> texts for it.
    """

    language: str
    patterns: Mapping[str, tuple[Pattern, ...]]
    values: Mapping[str, Mapping[str, tuple[str, ...]]]


@functools.cache
def load_phrases(language: str, domain: str) -> Phrases:
    """Reads `phrases/LANGUAGE.toml` of this package.

    Raises:
        InputError: As `parse_phrases`.
    """
    name = f"{language}.toml"
    text = (
        importlib.resources.files("irec_jax.teachers").joinpath("phrases", name).read_text("utf-8")
    )
    return parse_phrases(tomllib.loads(text), domain, where=f"phrases/{name}")


def parse_phrases(raw: Mapping[str, Any], domain: str, where: str) -> Phrases:
    """Checks the content of a phrases file and inserts the words of a domain.

    Args:
        raw: The tables of a file in `phrases/`.
        domain: The table of `words` to use.
        where: The file, for messages.

    Raises:
        InputError: A key, slot, word or pattern is missing, unknown or duplicated.
    """
    _check_keys(raw, _KEYS, where)
    _check_keys(raw["words"], get_args(Domain), f"{where}, words")
    words = raw["words"][domain]
    for other, table in raw["words"].items():
        _check_keys(table, tuple(words), f"{where}, words.{other}")
    _check_keys(raw["values"], tuple(VALUES), f"{where}, values")
    for slot, keys in VALUES.items():
        _check_keys(raw["values"][slot], keys, f"{where}, values.{slot}")
        for key in keys:
            if not raw["values"][slot][key]:
                place = f"{where}, values.{slot}.{key}"
                raise InputError("the list is empty", where=place, hint="Add a text.")
    _check_keys(raw["patterns"], tuple(ASPECTS), f"{where}, patterns")
    patterns: dict[str, tuple[Pattern, ...]] = {}
    seen: set[str] = set()
    for aspect, templates in raw["patterns"].items():
        place = f"{where}, patterns.{aspect}"
        texts = [
            _fill_domain_words(text, words, place)
            for template in templates
            for text in _expand_choices(template, place)
        ]
        for text in texts:
            if text in seen:
                hint = "Change one of them: the preferences of one user must differ."
                raise InputError(f"'{text}' is duplicated", where=place, hint=hint)
            seen.add(text)
        patterns[aspect] = tuple(_parse_pattern(text, aspect, place) for text in texts)
        _check_single_slot_patterns(patterns[aspect], aspect, place)
    values = {slot: {k: tuple(v) for k, v in raw["values"][slot].items()} for slot in VALUES}
    return Phrases(raw["language"], patterns, values)


def _check_keys(table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            raise InputError(f"unknown key '{key}'", where=where, hint=nearest(key, keys))
    missing = [key for key in keys if key not in table]
    if missing:
        raise InputError(f"{', '.join(missing)} missing", where=where, hint="Add the key.")


def _expand_choices(template: str, where: str) -> list[str]:
    """Expands `[a|b]` to every combination of its options."""
    parts = _CHOICE.split(template)
    if any("[" in part or "]" in part for part in parts):
        hint = "Close every bracket that you open."
        raise InputError(f"unmatched bracket in '{template}'", where=where, hint=hint)
    options = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    texts = ["".join(chosen) for chosen in itertools.product(*options)]
    if len(texts) > _MAX_VARIANTS:
        hint = f"Split it: one template must expand to at most {_MAX_VARIANTS} patterns."
        raise InputError(f"'{template}' has {len(texts)} variants", where=where, hint=hint)
    return texts


def _fill_domain_words(text: str, words: Mapping[str, str], where: str) -> str:
    for word in _DOMAIN_WORD.findall(text):
        if word not in words:
            raise InputError(f"unknown word <{word}>", where=where, hint=nearest(word, words))
    return _DOMAIN_WORD.sub(lambda match: words[match[1]], text)


def _parse_pattern(text: str, aspect: str, where: str) -> Pattern:
    parts = _SLOT.split(text)
    slots, literals = tuple(parts[1::2]), tuple(parts[::2])
    allowed = ASPECTS[aspect][0]
    for slot in slots:
        if slot not in allowed:
            hint = nearest(slot, allowed)
            raise InputError(f"unknown slot {{{slot}}}", where=where, hint=hint)
        if slots.count(slot) > 1:
            hint = "Use each slot once."
            raise InputError(f"{{{slot}}} is repeated in '{text}'", where=where, hint=hint)
    if not slots or any("{" in literal or "}" in literal for literal in literals):
        hint = "Write at least one slot, as {name}, and no other brace."
        raise InputError(f"no valid slot in '{text}'", where=where, hint=hint)
    # A word joined to a value would be another word than the one checked against titles.
    if any(_is_latin(a[-1:]) for a in literals[:-1]) or any(_is_latin(a[:1]) for a in literals[1:]):
        hint = "Put a space between them."
        raise InputError(f"a word touches a slot in '{text}'", where=where, hint=hint)
    return make_pattern(text, slots, literals)


def make_pattern(text: str, slots: tuple[str, ...], literals: tuple[str, ...]) -> Pattern:
    """Makes a pattern of its parts, which are not checked."""
    words = [split_words(literal) for literal in literals]
    return Pattern(text, slots, literals, tuple((w[0], w[-1]) if w else () for w in words))


def _is_latin(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()


def _check_single_slot_patterns(patterns: tuple[Pattern, ...], aspect: str, where: str) -> None:
    for slot in ASPECTS[aspect][1]:
        if not any(pattern.slots == (slot,) for pattern in patterns):
            hint = "Add one: some items have nothing else."
            raise InputError(f"no pattern has only {{{slot}}}", where=where, hint=hint)
