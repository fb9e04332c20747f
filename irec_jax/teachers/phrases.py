"""What a teacher says: patterns of a language as data, checked when they are read."""

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
from irec_jax.teachers.title_words import tokens

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
"""What can be said: its slots, and those of them that have a wording of their own each."""

VALUES: Mapping[str, tuple[str, ...]] = {
    "price": ("low", "middle", "high", "top"),
    "spread": ("focused", "varied"),
}
"""Slots that are filled with the pack's own words, and the keys of these words."""

_KEYS = ("language", "words", "values", "patterns")
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_PIECE = re.compile(r"\{([^{}]*)\}")
_WORD = re.compile(r"<([^<>]*)>")
_MOST = 32  # wordings that one line may stand for


@dataclasses.dataclass(frozen=True)
class Pattern:
    """One wording.

    Attributes:
        text: With `{slot}` where text of the log stands, as `str.format` takes it.
        slots: In the order of the text.
        literals: The fixed text around the slots, one piece more than there are slots.
        seams: First and last word of each literal, () for one without words.
    """

    text: str
    slots: tuple[str, ...]
    literals: tuple[str, ...]
    seams: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Phrases:
    """The patterns of one language, worded for one domain.

    Attributes:
        language: BCP 47.
        patterns: Aspect -> its wordings.
        values: Slot -> key -> the words for it.
    """

    language: str
    patterns: Mapping[str, tuple[Pattern, ...]]
    values: Mapping[str, Mapping[str, tuple[str, ...]]]


@functools.cache
def load_phrases(language: str, domain: str) -> Phrases:
    """Reads `phrases/LANGUAGE.toml` of this package.

    Raises:
        InputError: The file does not keep to the rules that it states.
    """
    name = f"{language}.toml"
    text = (
        importlib.resources.files("irec_jax.teachers").joinpath("phrases", name).read_text("utf-8")
    )
    return parse_phrases(tomllib.loads(text), domain, where=f"phrases/{name}")


def parse_phrases(raw: Mapping[str, Any], domain: str, where: str) -> Phrases:
    """Checks a parsed file and puts the words of a domain in.

    Args:
        raw: The keys that the files in `phrases/` show.
        domain: Which table of words.
        where: The file, for messages.

    Raises:
        InputError: A key, a slot, a word or a wording is missing, unknown or there twice.
    """
    _same(raw, _KEYS, where)
    _same(raw["words"], get_args(Domain), f"{where}, words")
    words = raw["words"][domain]
    for other, table in raw["words"].items():
        _same(table, tuple(words), f"{where}, words.{other}")
    _same(raw["values"], tuple(VALUES), f"{where}, values")
    for slot, keys in VALUES.items():
        _same(raw["values"][slot], keys, f"{where}, values.{slot}")
        for key in keys:
            if not raw["values"][slot][key]:
                raise InputError("no word", where=f"{where}, values.{slot}.{key}", hint="add one.")
    _same(raw["patterns"], tuple(ASPECTS), f"{where}, patterns")
    patterns: dict[str, tuple[Pattern, ...]] = {}
    seen: set[str] = set()
    for aspect, lines in raw["patterns"].items():
        place = f"{where}, patterns.{aspect}"
        texts = [_worded(text, words, place) for line in lines for text in _expanded(line, place)]
        for text in texts:
            if text in seen:
                hint = "word it otherwise: preferences of one user should differ."
                raise InputError(f"'{text}' is there twice", where=place, hint=hint)
            seen.add(text)
        patterns[aspect] = tuple(_pattern(text, aspect, place) for text in texts)
        _check_alone(patterns[aspect], aspect, place)
    values = {slot: {k: tuple(v) for k, v in raw["values"][slot].items()} for slot in VALUES}
    return Phrases(raw["language"], patterns, values)


def _same(table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            raise InputError(f"unknown key '{key}'; {nearest(key, keys)}", where=where)
    missing = [key for key in keys if key not in table]
    if missing:
        raise InputError(f"misses {', '.join(missing)}", where=where, hint="add it.")


def _expanded(line: str, where: str) -> list[str]:
    """Writes `[a|b]` out: every wording that a line stands for."""
    parts = _CHOICE.split(line)
    if any("[" in part or "]" in part for part in parts):
        raise InputError(f"a bracket is open in '{line}'", where=where, hint="close it.")
    options = [part.split("|") if place % 2 else [part] for place, part in enumerate(parts)]
    texts = ["".join(chosen) for chosen in itertools.product(*options)]
    if len(texts) > _MOST:
        hint = f"make several lines of it: one may stand for {_MOST}."
        raise InputError(f"{len(texts)} wordings in '{line}'", where=where, hint=hint)
    return texts


def _worded(text: str, words: Mapping[str, str], where: str) -> str:
    for word in _WORD.findall(text):
        if word not in words:
            raise InputError(f"unknown word <{word}>; {nearest(word, words)}", where=where)
    return _WORD.sub(lambda found: words[found[1]], text)


def _pattern(text: str, aspect: str, where: str) -> Pattern:
    parts = _PIECE.split(text)
    slots, literals = tuple(parts[1::2]), tuple(parts[::2])
    allowed = ASPECTS[aspect][0]
    for slot in slots:
        if slot not in allowed:
            raise InputError(f"unknown slot {{{slot}}}; {nearest(slot, allowed)}", where=where)
        if slots.count(slot) > 1:
            hint = "use each slot once."
            raise InputError(f"{{{slot}}} twice in '{text}'", where=where, hint=hint)
    if not slots or any("{" in literal or "}" in literal for literal in literals):
        hint = "write slots as {name}, at least one."
        raise InputError(f"no slots to fill in '{text}'", where=where, hint=hint)
    # A word that runs into a slot would be another word than the one that was checked.
    if any(_is_latin(a[-1:]) for a in literals[:-1]) or any(_is_latin(a[:1]) for a in literals[1:]):
        raise InputError(f"a word touches a slot in '{text}'", where=where, hint="add a space.")
    return pattern_of(text, slots, literals)


def pattern_of(text: str, slots: tuple[str, ...], literals: tuple[str, ...]) -> Pattern:
    """Makes a pattern of its checked parts."""
    runs = [tokens(literal) for literal in literals]
    return Pattern(text, slots, literals, tuple((r[0], r[-1]) if r else () for r in runs))


def _is_latin(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()


def _check_alone(patterns: tuple[Pattern, ...], aspect: str, where: str) -> None:
    for slot in ASPECTS[aspect][1]:
        if not any(pattern.slots == (slot,) for pattern in patterns):
            hint = "add one: sometimes nothing else is known."
            raise InputError(f"no pattern has {{{slot}}} alone", where=where, hint=hint)
