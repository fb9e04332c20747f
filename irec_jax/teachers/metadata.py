"""Preferences, queries and reasons, generated from the metadata of items."""

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
from irec_jax.teachers.habits import (
    MIN_EVENTS,
    count_known,
    describe_spread,
    usual_price_level,
)
from irec_jax.teachers.item_attributes import PRICE_LEVELS, ItemAttributes
from irec_jax.teachers.phrases import LANGUAGES, load_phrases
from irec_jax.teachers.synonyms import MISSING, find_stated_needs, load_synonyms
from irec_jax.teachers.text_generator import TextGenerator

VARIANTS = 3
"""Preference texts per user, as in the paper (section 2.2)."""

WINDOW = 20
"""Events before the target that a preference is computed from."""

_ASPECTS = ("preference_kinds", "preference_value", "preference_turn")

_LOYAL_SHARE = 0.25  # share of a brand that is mentioned
_BRAND_ECHO, _CATEGORY_ECHO = 16, 2  # one query in this many may repeat a word of the title


@dataclasses.dataclass(frozen=True, eq=False)
class MetadataTeacher:
    """Writes from categories, brands, prices, titles and reviews; typed queries come first.

    A query or reason for an event depends on the catalog, on the event and on the `WINDOW`
    events of the same user before it. A preference does not depend on the event itself.

    Attributes:
        typed: The queries of the log.
        attributes: The attributes of the items.
        generators: Language -> text generator.
        items: `[events]` item numbers.
        starts: `[events]` the position of the user's first event.
        stated_needs: `[events]` int8 index of the need that the review states, or `MISSING`.
        seed: Seed of the random choices.
    """

    typed: LogTeacher
    attributes: ItemAttributes
    generators: Mapping[str, TextGenerator]
    items: Int[np.ndarray, " events"]
    starts: Int[np.ndarray, " events"]
    stated_needs: Int[np.ndarray, " events"]
    seed: int

    @classmethod
    def build(cls, split: Split, domain: str, seed: int) -> "MetadataTeacher":
        """Reads the catalog and the reviews of a split.

        Args:
            split: The split to write texts for.
            domain: The domain whose nouns, verbs and synonyms are used.
            seed: Seed of the random choices.
        """
        synonyms = load_synonyms(domain)
        attributes, titles = ItemAttributes.build(split.catalog, synonyms)
        generators = {
            language: TextGenerator.build(
                load_phrases(language, domain), synonyms, titles, attributes.texts
            )
            for language in LANGUAGES
        }
        stated_needs = np.full(len(split.items), MISSING, np.int8)
        if len(split.reviews):
            stated_needs = find_stated_needs(split.reviews, synonyms.said)
        starts = np.repeat(split.offsets[:-1], np.diff(split.offsets))
        typed = LogTeacher.of(split)
        return cls(typed, attributes, generators, split.items, starts, stated_needs, seed)

    @property
    def variants(self) -> int:
        """Three: categories, brand and price, and recent changes."""
        return VARIANTS

    def has_preference(self, language: str) -> Bool[np.ndarray, " events"]:
        """Returns `[events]`: whether an item in the window has a category or brand."""
        described = (self.attributes.rarest_category >= 0) | (self.attributes.brand >= 0)
        counts = np.append(0, np.cumsum(described[self.items]))
        positions = np.arange(len(self.items))
        first = np.maximum(self.starts, positions - WINDOW)
        return (counts[positions] > counts[first]) & (language in self.generators)

    def has_query(self, intention: Intention, language: str) -> Bool[np.ndarray, " events"]:
        """Returns `[events]`: whether `query` returns a text."""
        has = self.typed.has_query(intention, language)
        generator = self.generators.get(language)
        if generator is None:
            return has
        attributes = self.attributes
        may_echo = (attributes.rarest_category >= 0) & ~attributes.title_is_label
        if intention is Intention.SPECIFIC:
            has_brand = (attributes.brand >= 0) & ~(
                attributes.title_is_label & attributes.brand_in_title
            )
            has_trait = _has_text(generator, "trait", attributes.trait)
            of_item = may_echo | (attributes.query_category >= 0) | has_brand | has_trait
            return has | of_item[self.items]
        if intention is Intention.VAGUE:
            has_need = _has_text(generator, "need", attributes.need)
            of_item = may_echo | (attributes.broad_query_category >= 0) | has_need
            return has | of_item[self.items] | _has_text(generator, "said", self.stated_needs)
        return has

    def has_reason(self, language: str) -> Bool[np.ndarray, " events"]:
        """Returns `[events]`: whether `reason` returns a text."""
        generator = self.generators.get(language)
        if generator is None:
            return np.zeros(len(self.items), bool)
        has = _has_text(generator, "said", self.stated_needs)
        positions = np.arange(len(self.items))
        attributes = self.attributes
        for values in (
            attributes.rarest_category,
            attributes.commonest_category,
            attributes.brand,
        ):
            value = values[self.items]
            for lag in range(1, min(WINDOW, len(value) - 1) + 1):
                is_same = (value[lag:] == value[:-lag]) & (value[lag:] >= 0)
                has[lag:] |= is_same & (positions[lag:] - lag >= self.starts[lag:])
        return has

    def preference(self, position: int, variant: int, language: str) -> str:
        """Returns a text about the user's taste, "" if the window has no category or brand.

        Args:
            position: The event; only the `WINDOW` events before it are read.
            variant: The aspect of the text.
            language: BCP 47 code.
        """
        generator = self.generators.get(language)
        window = self._window(position)
        if generator is None or not len(window):
            return ""
        variant %= VARIANTS
        categories = self.attributes.rarest_category[window].tolist()
        draw = self._draw(RandomStream.METADATA_PREFERENCE, position, variant)
        counts = count_known(categories)
        if not counts:
            brands = count_known(self.attributes.brand[window].tolist())
            if not brands:
                return ""
            values = {"brand": self.attributes.texts[max(brands, key=brands.__getitem__)]}
        elif variant == 0:
            values = self._favorite_categories(counts, generator, draw)
        elif variant == 1:
            values = self._brand_and_price(counts, window, generator, draw)
        else:
            values = self._recent_change(counts, categories, window, generator, draw)
        return generator.generate(_ASPECTS[variant], values, draw)

    def query(self, position: int, intention: Intention, language: str) -> str:
        """Returns the query that the user typed, or a generated one for the item."""
        typed = self.typed.query(position, intention, language)
        generator = self.generators.get(language)
        if typed or generator is None:
            return typed
        if intention is Intention.SPECIFIC:
            return self._specific_query(position, generator)
        return self._vague_query(position, generator) if intention is Intention.VAGUE else ""

    def reason(self, position: int, language: str) -> str:
        """Returns the attributes that the item shares with the window, and the stated need."""
        generator = self.generators.get(language)
        if generator is None:
            return ""
        attributes, item = self.attributes, self.items.item(position)
        window = self._window(position)
        draw = self._draw(RandomStream.METADATA_REASON, position)
        values: dict[str, str] = {}
        for slot, attribute in (
            ("same", attributes.rarest_category),
            ("near", attributes.commonest_category),
            ("brand", attributes.brand),
        ):
            value = attribute.item(item)
            is_redundant = slot == "near" and values
            if value >= 0 and not is_redundant and value in attribute[window].tolist():
                values[slot] = attributes.texts[value]
        need = generator.synonym(
            "said", self.stated_needs.item(position), draw_field(draw, DrawField.NEED)
        )
        if need:
            values["need"] = need
        level = attributes.price_level.item(item)
        if (
            values
            and level >= 0
            and level == usual_price_level(attributes.price_level[window].tolist())
        ):
            price = generator.value(
                "price", PRICE_LEVELS[level], draw_field(draw, DrawField.REASON_PRICE)
            )
            if price:
                values["price"] = price
        return generator.generate("reason", values, draw) if values else ""

    def fingerprint(self) -> str:
        """Returns the SHA-256 of attributes, events, phrases and seed."""
        digest = hashlib.sha256()
        names = [field.name for field in dataclasses.fields(self.attributes)[1:]]
        arrays = [getattr(self.attributes, name) for name in names]
        for array in (*arrays, self.items, self.starts, self.stated_needs, self.typed.kinds):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        phrases = [
            repr((language, generator.patterns, generator.values, generator.synonyms))
            for language, generator in self.generators.items()
        ]
        for texts in (self.attributes.texts, self.typed.queries, phrases, [str(self.seed)]):
            digest.update("\n".join(texts).encode("utf-8") + b"\0")
        return digest.hexdigest()

    def _draw(self, stream: int, position: int, variant: int = 0) -> int:
        return scramble(scramble(self._stream_keys[stream] + position) + variant)

    @functools.cached_property
    def _stream_keys(self) -> Mapping[int, int]:
        """Stream -> the key that `_draw` adds positions to."""
        streams = (
            RandomStream.METADATA_PREFERENCE,
            RandomStream.METADATA_SPECIFIC_QUERY,
            RandomStream.METADATA_VAGUE_QUERY,
            RandomStream.METADATA_REASON,
        )
        return {stream: derive_key(self.seed, stream) for stream in streams}

    def _window(self, position: int) -> Int[np.ndarray, " window"]:
        return self.items[max(self.starts.item(position), position - WINDOW) : position]

    def _favorite_categories(
        self, counts: dict[int, int], generator: TextGenerator, draw: int
    ) -> dict[str, str]:
        """Returns the two most frequent categories and how focused the choices are."""
        texts = self.attributes.texts
        top = max(counts, key=counts.__getitem__)
        values = {"top": texts[top]}
        spread = describe_spread(counts, counts[top], generator, draw)
        if len(counts) > 1:
            others = (category for category in counts if category != top)
            values["second"] = texts[max(others, key=counts.__getitem__)]
        if spread:
            values["spread"] = spread
        return values

    def _brand_and_price(
        self, counts: dict[int, int], window: np.ndarray, generator: TextGenerator, draw: int
    ) -> dict[str, str]:
        """Returns the favorite category, a repeated brand and the usual price level."""
        texts = self.attributes.texts
        values = {"top": texts[max(counts, key=counts.__getitem__)]}
        brands = count_known(self.attributes.brand[window].tolist())
        if brands:
            brand = max(brands, key=brands.__getitem__)
            if brands[brand] >= max(2, _LOYAL_SHARE * len(window)):
                values["brand"] = texts[brand]
        level = usual_price_level(self.attributes.price_level[window].tolist())
        if level >= 0:
            price = generator.value(
                "price", PRICE_LEVELS[level], draw_field(draw, DrawField.PREFERENCE_PRICE)
            )
            if price:
                values["price"] = price
        return values

    def _recent_change(
        self,
        counts: dict[int, int],
        categories: list[int],
        window: np.ndarray,
        generator: TextGenerator,
        draw: int,
    ) -> dict[str, str]:
        """Returns the earlier and the new favorite, or the favorite and its broad category."""
        texts = self.attributes.texts
        known = [category for category in categories if category >= 0]
        recent = known[-1]
        if len(known) >= MIN_EVENTS and known[-2] == recent and recent not in known[:-2]:
            earlier = count_known(known[:-2])
            return {
                "top": texts[max(earlier, key=earlier.__getitem__)],
                "recent": texts[recent],
            }
        top = max(counts, key=counts.__getitem__)
        values = {"top": texts[top]}
        broad = self.attributes.commonest_category.item(window.item(categories.index(top)))
        if broad != top:
            values["broad"] = texts[broad]
        spread = describe_spread(counts, counts[top], generator, draw)
        if spread:
            values["spread"] = spread
        return values

    def _specific_query(self, position: int, generator: TextGenerator) -> str:
        """Writes category, traits, brand and price; repeats title words if nothing else is left."""
        attributes, item = self.attributes, self.items.item(position)
        draw = self._draw(RandomStream.METADATA_SPECIFIC_QUERY, position)
        rarest = attributes.rarest_category.item(item)
        category = attributes.query_category.item(item)
        trait = generator.synonym(
            "trait", attributes.trait.item(item), draw_field(draw, DrawField.TRAIT)
        )
        brand, is_label = attributes.brand.item(item), attributes.title_is_label.item(item)
        if attributes.brand_in_title.item(item) and (
            is_label or draw_field(draw, DrawField.ECHOED_BRAND) % _BRAND_ECHO
        ):
            brand = MISSING if is_label or rarest >= 0 or trait else brand
        has_other = category >= 0 or trait
        if (
            rarest >= 0
            and not is_label
            and not (draw_field(draw, DrawField.ECHOED_KIND) % _CATEGORY_ECHO and has_other)
        ):
            category = rarest
        values: dict[str, str] = {}
        if category >= 0:
            values["kind"] = attributes.texts[category]
        if trait:
            values["trait"] = trait
            second = generator.synonym(
                "trait",
                attributes.second_trait.item(item),
                draw_field(draw, DrawField.SECOND_TRAIT),
            )
            if second:
                values["more"] = second
        area = attributes.second_query_category.item(item)
        if values and area >= 0 and area != category:
            values["area"] = attributes.texts[area]
        if brand >= 0:
            values["brand"] = attributes.texts[brand]
        level = attributes.price_level.item(item)
        if values and level >= 0:
            price = generator.value(
                "price", PRICE_LEVELS[level], draw_field(draw, DrawField.QUERY_PRICE)
            )
            if price:
                values["price"] = price
        return generator.generate("query_specific", values, draw) if values else ""

    def _vague_query(self, position: int, generator: TextGenerator) -> str:
        """Writes a broad category, a need, and the user's previous choice."""
        attributes, item = self.attributes, self.items.item(position)
        draw = self._draw(RandomStream.METADATA_VAGUE_QUERY, position)
        values: dict[str, str] = {}
        area = attributes.broad_query_category.item(item)
        need = generator.synonym(
            "said", self.stated_needs.item(position), draw_field(draw, DrawField.NEED)
        )
        need = need or generator.synonym(
            "need", attributes.need.item(item), draw_field(draw, DrawField.NEED)
        )
        if area < 0 and not need and not attributes.title_is_label.item(item):
            area = attributes.commonest_category.item(item)
        if area >= 0:
            values["area"] = attributes.texts[area]
        if need:
            values["need"] = need
        if (
            values
            and position > self.starts.item(position)
            and draw_field(draw, DrawField.OTHER_AREA) & 1
        ):
            previous = self.items.item(position - 1)
            other = attributes.commonest_category.item(previous)
            bit = attributes.category_bit.item(previous)
            title_bits = attributes.title_category_bits.item(item)
            if bit >= 0 and other != area and not title_bits >> bit & 1:
                values["other"] = attributes.texts[other]
        return generator.generate("query_vague", values, draw) if values else ""


def _has_text(
    generator: TextGenerator, table: str, indices: Int[np.ndarray, " indices"]
) -> Bool[np.ndarray, " indices"]:
    """Returns which synonyms have a text; False for `MISSING`."""
    has_text = np.array([bool(texts) for texts in generator.synonyms[table]] + [False], bool)
    return has_text[indices]
