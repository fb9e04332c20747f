"""Preferences, queries and reasons written from what a log says of its items."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int

from irec_jax.instructions.forms import Intention
from irec_jax.instructions.teacher import LogTeacher
from irec_jax.log.split import Split
from irec_jax.random_draws import DrawField, RandomStream, derive_key, draw_field, scramble
from irec_jax.teachers.item_attributes import LEVELS, ItemAttributes
from irec_jax.teachers.phrases import LANGUAGES, load_phrases
from irec_jax.teachers.synonyms import NONE, load_synonyms, synonyms_stated
from irec_jax.teachers.text_generator import TextGenerator

VARIANTS = 3
"""Preference texts a user, as in the paper (section 2.2)."""

WINDOW = 20
"""Events before the target that a preference is judged by."""

_ASPECTS = ("preference_kinds", "preference_value", "preference_turn")

_ENOUGH = 4  # events that show a habit
_FOCUSED, _VARIED = 0.6, 0.34  # shares of the favorite kind
_LOYAL = 0.25  # share of a brand that is worth a word
_ECHOED_BRANDS, _ECHOED_KINDS = 16, 2  # one query of so many says what the title says


@dataclasses.dataclass(frozen=True, eq=False)
class MetadataTeacher:
    """Writes from categories, brands, prices, titles and reviews; typed queries come first.

    What it writes of an event depends on the catalog, on the event and on its user's `WINDOW`
    events before it. Preferences do not depend on the event itself.

    Attributes:
        typed: The queries of the log.
        facts: What is said of the items.
        speeches: Language -> how it is said.
        items: `[events]` item numbers.
        starts: `[events]` the position of the user's first event.
        said: `[events]` int8 what the reviews tell of the need.
        seed: Of the draws.
    """

    typed: LogTeacher
    facts: ItemAttributes
    speeches: Mapping[str, TextGenerator]
    items: Int[np.ndarray, " events"]
    starts: Int[np.ndarray, " events"]
    said: Int[np.ndarray, " events"]
    seed: int

    @classmethod
    def build(cls, split: Split, domain: str, seed: int) -> "MetadataTeacher":
        """Reads the catalog and the reviews of a split.

        Args:
            split: The log.
            domain: Whose nouns and verbs are used.
            seed: Of the draws.
        """
        cues = load_synonyms(domain)
        facts, titles = ItemAttributes.build(split.catalog, cues)
        speeches = {
            language: TextGenerator.build(load_phrases(language, domain), cues, titles, facts.texts)
            for language in LANGUAGES
        }
        said = np.full(len(split.items), NONE, np.int8)
        if len(split.reviews):
            said = synonyms_stated(split.reviews, cues.said)
        starts = np.repeat(split.offsets[:-1], np.diff(split.offsets))
        return cls(LogTeacher.of(split), facts, speeches, split.items, starts, said, seed)

    @property
    def variants(self) -> int:
        """Three: on kinds of item, on names and prices, and on what has changed."""
        return VARIANTS

    def has_preference(self, language: str) -> Bool[np.ndarray, " events"]:
        """Says where one of the events before has an item with a category or brand."""
        told = (self.facts.special >= 0) | (self.facts.brand >= 0)
        counts = np.append(0, np.cumsum(told[self.items]))
        here = np.arange(len(self.items))
        first = np.maximum(self.starts, here - WINDOW)
        return (counts[here] > counts[first]) & (language in self.speeches)

    def has_query(self, intention: Intention, language: str) -> Bool[np.ndarray, " events"]:
        """Says where the user typed one, or the item or its review has something to say."""
        has = self.typed.has_query(intention, language)
        speech = self.speeches.get(language)
        if speech is None:
            return has
        facts = self.facts
        echo = (facts.special >= 0) & ~facts.bare
        if intention is Intention.SPECIFIC:
            made = (facts.brand >= 0) & ~(facts.bare & facts.named)
            told = echo | (facts.kind >= 0) | made | _spoken(speech, "trait", facts.trait)
            return has | told[self.items]
        if intention is Intention.VAGUE:
            told = echo | (facts.field >= 0) | _spoken(speech, "need", facts.need)
            return has | told[self.items] | _spoken(speech, "said", self.said)
        return has

    def has_reason(self, language: str) -> Bool[np.ndarray, " events"]:
        """Says where an item shares something with those before it, or its review tells."""
        speech = self.speeches.get(language)
        if speech is None:
            return np.zeros(len(self.items), bool)
        has = _spoken(speech, "said", self.said)
        here = np.arange(len(self.items))
        for fact in (self.facts.special, self.facts.broad, self.facts.brand):
            value = fact[self.items]
            for lag in range(1, min(WINDOW, len(value) - 1) + 1):
                same = (value[lag:] == value[:-lag]) & (value[lag:] >= 0)
                has[lag:] |= same & (here[lag:] - lag >= self.starts[lag:])
        return has

    def preference(self, position: int, variant: int, language: str) -> str:
        """What the user of an event likes, judged by the `WINDOW` events before it.

        Args:
            position: The event.
            variant: Which of the three aspects comes first; the others help where it is unknown.
            language: Of the text.
        """
        speech = self.speeches.get(language)
        window = self._window(position)
        if speech is None or not len(window):
            return ""
        variant %= VARIANTS
        specials = self.facts.special[window].tolist()
        draw = self._draw(RandomStream.METADATA_PREFERENCE, position, variant)
        kinds = _counts(specials)
        if not kinds:
            brands = _counts(self.facts.brand[window].tolist())
            if not brands:
                return ""
            values = {"brand": self.facts.texts[max(brands, key=brands.__getitem__)]}
        elif variant == 0:
            values = self._kinds(kinds, speech, draw)
        elif variant == 1:
            values = self._value(kinds, window, speech, draw)
        else:
            values = self._turn(kinds, specials, window, speech, draw)
        return speech.say(_ASPECTS[variant], values, draw)

    def query(self, position: int, intention: Intention, language: str) -> str:
        """What the user typed, or could have asked for before the event at `position`."""
        typed = self.typed.query(position, intention, language)
        speech = self.speeches.get(language)
        if typed or speech is None:
            return typed
        if intention is Intention.SPECIFIC:
            return self._specific(position, speech)
        return self._vague(position, speech) if intention is Intention.VAGUE else ""

    def reason(self, position: int, language: str) -> str:
        """What the item at `position` shares with the events before it, or its review tells."""
        speech = self.speeches.get(language)
        if speech is None:
            return ""
        facts, item, window = self.facts, self.items.item(position), self._window(position)
        draw = self._draw(RandomStream.METADATA_REASON, position)
        values: dict[str, str] = {}
        for slot, fact in (("same", facts.special), ("near", facts.broad), ("brand", facts.brand)):
            value = fact.item(item)
            if value >= 0 and not (slot == "near" and values) and value in fact[window].tolist():
                values[slot] = facts.texts[value]
        need = speech.cue("said", self.said.item(position), draw_field(draw, DrawField.NEED))
        if need:
            values["need"] = need
        level = facts.level.item(item)
        if values and level >= 0 and level == _level(facts.level[window].tolist()):
            price = speech.word("price", LEVELS[level], draw_field(draw, DrawField.REASON_PRICE))
            if price:
                values["price"] = price
        return speech.say("reason", values, draw) if values else ""

    def fingerprint(self) -> str:
        """The SHA-256 of what is said of items and events, of the wordings and the seed."""
        digest = hashlib.sha256()
        facts = [getattr(self.facts, field.name) for field in dataclasses.fields(self.facts)[1:]]
        for array in (*facts, self.items, self.starts, self.said, self.typed.kinds):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        speeches = [
            repr((language, speech.patterns, speech.values, speech.cues))
            for language, speech in self.speeches.items()
        ]
        for texts in (self.facts.texts, self.typed.queries, speeches, [str(self.seed)]):
            digest.update("\n".join(texts).encode("utf-8") + b"\0")
        return digest.hexdigest()

    def _draw(self, stream: int, position: int, variant: int = 0) -> int:
        return scramble(scramble(self._streams[stream] + position) + variant)

    @functools.cached_property
    def _streams(self) -> Mapping[int, int]:
        """The beginnings of the keys of `_draw`."""
        streams = (
            RandomStream.METADATA_PREFERENCE,
            RandomStream.METADATA_SPECIFIC_QUERY,
            RandomStream.METADATA_VAGUE_QUERY,
            RandomStream.METADATA_REASON,
        )
        return {stream: derive_key(self.seed, stream) for stream in streams}

    def _window(self, position: int) -> Int[np.ndarray, " window"]:
        return self.items[max(self.starts.item(position), position - WINDOW) : position]

    def _kinds(self, kinds: dict[int, int], speech: TextGenerator, draw: int) -> dict[str, str]:
        """The favorite kind, the next one, and how focused the choices are."""
        texts = self.facts.texts
        top = max(kinds, key=kinds.__getitem__)
        values = {"top": texts[top]}
        spread = _spread(kinds, kinds[top], speech, draw)
        if len(kinds) > 1:
            second = max((kind for kind in kinds if kind != top), key=kinds.__getitem__)
            values["second"] = texts[second]
        if spread:
            values["spread"] = spread
        return values

    def _value(
        self, kinds: dict[int, int], window: np.ndarray, speech: TextGenerator, draw: int
    ) -> dict[str, str]:
        """The favorite kind, a brand that comes back, and the price level."""
        texts = self.facts.texts
        values = {"top": texts[max(kinds, key=kinds.__getitem__)]}
        brands = _counts(self.facts.brand[window].tolist())
        if brands:
            brand = max(brands, key=brands.__getitem__)
            if brands[brand] >= max(2, _LOYAL * len(window)):
                values["brand"] = texts[brand]
        level = _level(self.facts.level[window].tolist())
        if level >= 0:
            price = speech.word(
                "price", LEVELS[level], draw_field(draw, DrawField.PREFERENCE_PRICE)
            )
            if price:
                values["price"] = price
        return values

    def _turn(
        self,
        kinds: dict[int, int],
        specials: list[int],
        window: np.ndarray,
        speech: TextGenerator,
        draw: int,
    ) -> dict[str, str]:
        """A kind that is new and the one that came before, or the field and its favorite."""
        texts = self.facts.texts
        known = [kind for kind in specials if kind >= 0]
        recent = known[-1]
        if len(known) >= _ENOUGH and known[-2] == recent and recent not in known[:-2]:
            before = _counts(known[:-2])
            return {
                "top": texts[max(before, key=before.__getitem__)],
                "recent": texts[recent],
            }
        top = max(kinds, key=kinds.__getitem__)
        values = {"top": texts[top]}
        broad = self.facts.broad.item(window.item(specials.index(top)))
        if broad != top:
            values["broad"] = texts[broad]
        spread = _spread(kinds, kinds[top], speech, draw)
        if spread:
            values["spread"] = spread
        return values

    def _specific(self, position: int, speech: TextGenerator) -> str:
        """A kind, what it has, and who makes it; echoes of the title where nothing else is left."""
        facts, item = self.facts, self.items.item(position)
        draw = self._draw(RandomStream.METADATA_SPECIFIC_QUERY, position)
        special, kind = facts.special.item(item), facts.kind.item(item)
        trait = speech.cue("trait", facts.trait.item(item), draw_field(draw, DrawField.TRAIT))
        brand, bare = facts.brand.item(item), facts.bare.item(item)
        if facts.named.item(item) and (
            bare or draw_field(draw, DrawField.ECHOED_BRAND) % _ECHOED_BRANDS
        ):
            brand = NONE if bare or special >= 0 or trait else brand
        echoes_kind = not draw_field(draw, DrawField.ECHOED_KIND) % _ECHOED_KINDS
        if special >= 0 and not bare and (echoes_kind or not (kind >= 0 or trait)):
            kind = special
        values: dict[str, str] = {}
        if kind >= 0:
            values["kind"] = facts.texts[kind]
        if trait:
            values["trait"] = trait
            more = speech.cue(
                "trait", facts.more.item(item), draw_field(draw, DrawField.SECOND_TRAIT)
            )
            if more:
                values["more"] = more
        area = facts.area.item(item)
        if values and area >= 0 and area != kind:
            values["area"] = facts.texts[area]
        if brand >= 0:
            values["brand"] = facts.texts[brand]
        level = facts.level.item(item)
        if values and level >= 0:
            price = speech.word("price", LEVELS[level], draw_field(draw, DrawField.QUERY_PRICE))
            if price:
                values["price"] = price
        return speech.say("query_specific", values, draw) if values else ""

    def _vague(self, position: int, speech: TextGenerator) -> str:
        facts, item = self.facts, self.items.item(position)
        draw = self._draw(RandomStream.METADATA_VAGUE_QUERY, position)
        values: dict[str, str] = {}
        field = facts.field.item(item)
        need = speech.cue("said", self.said.item(position), draw_field(draw, DrawField.NEED))
        need = need or speech.cue("need", facts.need.item(item), draw_field(draw, DrawField.NEED))
        if field < 0 and not need and not facts.bare.item(item):
            field = facts.broad.item(item)
        if field >= 0:
            values["area"] = facts.texts[field]
        if need:
            values["need"] = need
        if (
            values
            and position > self.starts.item(position)
            and draw_field(draw, DrawField.OTHER_AREA) & 1
        ):
            last = self.items.item(position - 1)
            bit, other = facts.bit.item(last), facts.broad.item(last)
            if bit >= 0 and other != field and not facts.crossed.item(item) >> bit & 1:
                values["other"] = facts.texts[other]
        return speech.say("query_vague", values, draw) if values else ""


def _counts(numbers: list[int]) -> dict[int, int]:
    """Counts what is known, the latest first, so that of equals it is found first."""
    counts: dict[int, int] = {}
    for number in reversed(numbers):
        if number >= 0:
            counts[number] = counts.get(number, 0) + 1
    return counts


def _level(levels: list[int]) -> int:
    """Gives the price level of at least half of the items of known price, -1 for none."""
    counts = _counts(levels)
    if not counts:
        return NONE
    level = max(counts, key=counts.__getitem__)
    known = sum(counts.values())
    return level if known >= 2 and counts[level] * 2 >= known else NONE


def _spread(kinds: dict[int, int], most: int, speech: TextGenerator, draw: int) -> str:
    known = sum(kinds.values())
    if known < _ENOUGH:
        return ""
    if most >= _FOCUSED * known:
        return speech.word("spread", "focused", draw_field(draw, DrawField.SPREAD))
    if most <= _VARIED * known:
        return speech.word("spread", "varied", draw_field(draw, DrawField.SPREAD))
    return ""


def _spoken(
    speech: TextGenerator, kind: str, numbers: Int[np.ndarray, " numbers"]
) -> Bool[np.ndarray, " numbers"]:
    """Says which cues a language has words for."""
    alive = np.array([bool(texts) for texts in speech.cues[kind]] + [False], bool)
    return alive[numbers]
