"""Requests drawn from a grammar of a language, with the role of every span."""

import dataclasses
import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, NamedTuple

from irec_jax.random_draws import scramble
from irec_jax.understanding.lexicon import Phrase
from irec_jax.understanding.roles import Kind, RequestRole
from irec_jax.understanding.spans import OTHER, PriceLevel, RequestWords
from irec_jax.understanding.words import split_request

LANGUAGES = ("en", "zh")
"""The languages that have a grammar."""

_PART = re.compile(r"<([a-z][a-z0-9-]*)(?: ([a-z]+))?>")
_SLOT = re.compile(r"\{([a-z]+)(?: ([a-z]+))?\}")
_TOKEN = re.compile(r"<[a-z][^<>]*>|\{[^{}]*\}|OTHER|<=?|(?:(?!OTHER)[^\s{}<])+")
_OTHER = "OTHER"
_ANY = (Kind.CATEGORY, Kind.BRAND, Kind.ATTRIBUTE)


class DrawnRequest(NamedTuple):
    """A request of the grammar.

    Attributes:
        words: Plain words, `OTHER`, or the kind of a span.
        roles: Index of a span's word -> its role.
    """

    words: tuple[str, ...]
    roles: Mapping[int, RequestRole]


@dataclasses.dataclass(frozen=True, eq=False)
class RequestGrammar:
    """The grammar of a language.

    Attributes:
        language: BCP 47, such as `en`.
        prompt: What precedes a request in a prompt.
        words: The words that mean the same for every catalog.
        parts: Name -> its alternatives, each as words, `<part>` and `{slot}`.
    """

    language: str
    prompt: str
    words: RequestWords
    parts: Mapping[str, tuple[tuple[str, ...], ...]]

    def draw(self, key: int, kinds: frozenset[Kind]) -> DrawnRequest:
        """Draws a request whose spans have some of `kinds`, and at least one span.

        Args:
            key: 64 random bits; the same bits give the same request.
            kinds: The kinds that the catalog has values of.
        """
        while True:
            words: list[str] = []
            roles: dict[int, RequestRole] = {}
            state = _Draws(key)
            self._expand("request", RequestRole.WANTED, state, (words, roles))
            if roles and {Kind(words[place]) for place in roles} <= kinds:
                return self._merged(words, roles)
            key = scramble(key)

    def _merged(self, words: list[str], roles: dict[int, RequestRole]) -> DrawnRequest:
        """Joins compounds between the spans, as prompts show them."""
        made: list[str] = []
        places: dict[int, RequestRole] = {}
        start = 0
        for place in [*sorted(roles), len(words)]:
            made += self.words.merged(words[start:place])
            if place in roles:
                places[len(made)] = roles[place]
                made.append(words[place])
            start = place + 1
        return DrawnRequest(tuple(made), places)

    def _expand(
        self,
        part: str,
        role: RequestRole,
        state: "_Draws",
        made: tuple[list[str], dict[int, RequestRole]],
    ) -> None:
        words, roles = made
        alternatives = self.parts[part]
        for token in alternatives[state.below(len(alternatives))]:
            if match := _PART.fullmatch(token):
                self._expand(match[1], RequestRole(match[2]) if match[2] else role, state, made)
            elif match := _SLOT.fullmatch(token):
                kind = _ANY[state.below(len(_ANY))] if match[1] == "any" else Kind(f"<{match[1]}>")
                roles[len(words)] = RequestRole(match[2]) if match[2] else role
                words.append(kind.value)
            elif token != _OTHER:
                words.append(token)
            elif words[-1:] != [OTHER]:
                words.append(OTHER)


class _Draws:
    """A sequence of random numbers from a key."""

    def __init__(self, key: int) -> None:
        self._key = key

    def below(self, count: int) -> int:
        self._key = scramble(self._key)
        return (self._key >> 16) % count


@functools.cache
def load_grammar(language: str) -> RequestGrammar:
    """Reads the grammar of one of `LANGUAGES`."""
    path = resources.files("irec_jax.understanding").joinpath("grammars", f"{language}.toml")
    return parse_grammar(tomllib.loads(path.read_text("utf-8")))


def parse_grammar(raw: Mapping[str, Any]) -> RequestGrammar:
    """Makes a grammar from a parsed TOML file.

    Raises:
        ValueError: A part is not defined, or a slot has no such kind or role.
    """
    parts = {
        name: tuple(tuple(_tokens(text)) for text in texts) for name, texts in raw["parts"].items()
    }
    levels = {
        split_request(phrase): PriceLevel(name == "low")
        for name in ("low", "high")
        for phrase in raw["levels"].get(name, ())
    }
    plain = frozenset(map(split_request, raw["levels"].get("plain", ())))
    numbers, decades = (
        {split_request(phrase): number for phrase, number in raw[name].items()}
        for name in ("numbers", "decades")
    )
    names: dict[Phrase, tuple[str, ...]] = {}
    for value, texts in raw.get("names", {}).items():
        for name in map(split_request, texts):
            names[name] = (*names.get(name, ()), value)
    known = frozenset(
        word
        for alternatives in parts.values()
        for alternative in alternatives
        for word in _checked(alternative, parts)
    )
    compounds = frozenset(map(split_request, raw.get("compounds", ())))
    known |= {"".join(compound) for compound in compounds}
    words = RequestWords(levels, numbers, decades, names, known, plain, compounds)
    return RequestGrammar(raw["language"], raw["prompt"], words, parts)


def _checked(alternative: tuple[str, ...], parts: Mapping[str, Any]) -> Iterator[str]:
    """Yields the plain words of an alternative."""
    for token in alternative:
        if match := _PART.fullmatch(token):
            if match[1] not in parts:
                raise ValueError(f"the part <{match[1]}> is not defined")
            RequestRole(match[2] or RequestRole.WANTED)
        elif match := _SLOT.fullmatch(token):
            if match[1] != "any":
                Kind(f"<{match[1]}>")
            RequestRole(match[2] or RequestRole.WANTED)
        elif token != _OTHER:
            yield token


def _tokens(text: str) -> Iterator[str]:
    """Yields the parts, slots and words of an alternative."""
    for token in _TOKEN.findall(text):
        if token == _OTHER or _PART.fullmatch(token) or _SLOT.fullmatch(token):
            yield token
        elif "{" in token or "}" in token or re.match("<[a-z]", token):
            raise ValueError(f"{token} is neither a part nor a slot")
        else:
            yield from split_request(token)
