"""Preferences, queries and reasons written from what a log says of its items."""

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Bool, Int

from irec_jax.instructions.cleaning import clean
from irec_jax.instructions.forms import Intention
from irec_jax.instructions.hashing import derive_key
from irec_jax.instructions.teachers.teacher import LogTeacher
from irec_jax.log.split import Split

LANGUAGES = ("en", "zh")
VARIANTS = 3
_WORDINGS = {
    "en": (
        ("likes {} above all other kinds of thing here", "comes back to {} again and again here"),
        "something of the kind {}",
        "it is another one of the kind {} seen before",
    ),
    "zh": (("最喜欢{}这一类", "常常回到{}这一类"), "想要{}", "这也是以前选过的{}"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class MetadataTeacher:
    """Writes from categories, brands, prices and reviews; a log's own queries come first.

    Attributes:
        typed: The queries of the log.
        labels: `[items]` the most special category, "" for none.
        items: `[events]` item numbers.
        starts: `[events]` the position of the user's first event.
        seed: Of the draws.
    """

    typed: LogTeacher
    labels: tuple[str, ...]
    items: Int[np.ndarray, " events"]
    starts: Int[np.ndarray, " events"]
    seed: int

    @classmethod
    def build(cls, split: Split, domain: str, seed: int) -> "MetadataTeacher":
        """Reads the catalog of a split.

        Args:
            split: The log.
            domain: Whose nouns and verbs are used.
            seed: Of the draws.
        """
        lists = split.catalog["categories"].to_list()
        labels = tuple(clean(names[-1]) if names else "" for names in lists)
        starts = np.repeat(split.offsets[:-1], np.diff(split.offsets))
        return cls(LogTeacher.of(split), labels, split.items, starts, seed)

    @property
    def variants(self) -> int:
        """Three, as in the paper (section 2.2)."""
        return VARIANTS

    def _told(self) -> Bool[np.ndarray, " events"]:
        return np.array([bool(label) for label in self.labels], bool)[self.items]

    def _after_first(self) -> Bool[np.ndarray, " events"]:
        return np.arange(len(self.items)) > self.starts

    def has_preference(self, language: str) -> Bool[np.ndarray, " events"]:
        """Says where the event before has a category."""
        told = np.append(False, self._told()[:-1]) if len(self.items) else self._told()
        return told & self._after_first() & (language in LANGUAGES)

    def has_query(self, intention: Intention, language: str) -> Bool[np.ndarray, " events"]:
        """Says where the user typed one, or the item has a category."""
        written = self._told() & (language in LANGUAGES) & (intention is not Intention.NONE)
        return written | self.typed.has_query(intention, language)

    def has_reason(self, language: str) -> Bool[np.ndarray, " events"]:
        """Says where the item has a category and something came before it."""
        return self._told() & self._after_first() & (language in LANGUAGES)

    def preference(self, position: int, variant: int, language: str) -> str:
        """What the user likes, judged by the events before `position`."""
        if language not in LANGUAGES or position <= self.starts.item(position):
            return ""
        label = self.labels[self.items.item(position - 1)]
        wordings = _WORDINGS[language][0]
        draw = derive_key(self.seed, position, variant)
        return wordings[draw % len(wordings)].format(label) if label else ""

    def query(self, position: int, intention: Intention, language: str) -> str:
        """What the user typed or could have asked for."""
        typed = self.typed.query(position, intention, language)
        label = self.labels[self.items.item(position)]
        if typed or not label or language not in LANGUAGES or intention is Intention.NONE:
            return typed
        return _WORDINGS[language][1].format(label)

    def reason(self, position: int, language: str) -> str:
        """Why the item suits the user."""
        label = self.labels[self.items.item(position)]
        if language not in LANGUAGES or not label or position <= self.starts.item(position):
            return ""
        return _WORDINGS[language][2].format(label)

    def fingerprint(self) -> str:
        """The SHA-256 of labels, wordings and seed."""
        made_of = repr((self.labels, _WORDINGS, self.seed))
        return hashlib.sha256(made_of.encode("utf-8")).hexdigest()
