"""The protocol of a teacher, and the teacher that adds nothing to a log."""

import dataclasses
import hashlib
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from irec_jax.instructions.forms import Intention
from irec_jax.instructions.tasks import INTENTION_CODES
from irec_jax.log.split import Role, Split
from irec_jax.random_draws import DrawField, RandomStream, derive_key, draw_field
from irec_jax.text_cleaning import clean


@runtime_checkable
class Teacher(Protocol):
    """Writes what a log does not say; a pure function of the position and what it was made of.

    A *position* is the number of an event in the split that it was made for. All text is in the
    asked language (but for names of items, brands and categories, which stay as they are), one
    line, cleaned. "" means that it has nothing to say there. A preference is written from events
    before the position alone, and queries and reasons from the event at it. A
    teacher never reads later events, or events of another user.
    """

    @property
    def variants(self) -> int:
        """How many different preference texts a position may have."""
        ...

    def has_preference(self, language: str) -> Bool[np.ndarray, " events"]:
        """Says where `preference` has something to say."""
        ...

    def has_query(self, intention: Intention, language: str) -> Bool[np.ndarray, " events"]:
        """Says where `query` has something to say."""
        ...

    def has_reason(self, language: str) -> Bool[np.ndarray, " events"]:
        """Says where `reason` has something to say."""
        ...

    def preference(self, position: int, variant: int, language: str) -> str:
        """Returns the taste of the user of an event, judged by the events before it."""
        ...

    def query(self, position: int, intention: Intention, language: str) -> str:
        """Returns a query that the user could have sent before the event at `position`."""
        ...

    def reason(self, position: int, language: str) -> str:
        """Why the item at `position` suits its user, judged by the events before it too."""
        ...

    def fingerprint(self) -> str:
        """The SHA-256 of all that its texts are made from, the split apart."""
        ...


@runtime_checkable
class TeacherSettings(Protocol):
    """A frozen dataclass of the user that builds a teacher."""

    def build(self, split: Split, seed: int) -> Teacher:
        """Builds the teacher of a split; `seed` is of its draws."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class LogTeacher:
    """Adds nothing: the queries are those that users typed, in the language they typed in.

    Attributes:
        queries: `[events]` cleaned, "" where nothing was typed.
        kinds: `[events]` int8, as `Split.intentions`; 0 where the query is "".
    """

    queries: tuple[str, ...]
    kinds: np.ndarray

    @classmethod
    def of(cls, split: Split) -> "LogTeacher":
        """Reads the queries of a log."""
        queries = tuple(clean(query) if query else "" for query in split.queries)
        typed = np.array([bool(query) for query in queries], dtype=bool)
        return cls(queries, np.where(typed, split.intentions, 0).astype(np.int8))

    @property
    def variants(self) -> int:
        """One, which is never there."""
        return 1

    def has_preference(self, language: str) -> Bool[np.ndarray, " events"]:
        """Nowhere."""
        return np.zeros(len(self.queries), dtype=bool)

    def has_query(self, intention: Intention, language: str) -> Bool[np.ndarray, " events"]:
        """Where a user typed a query of this kind."""
        return self.kinds == INTENTION_CODES.get(intention, -1)

    def has_reason(self, language: str) -> Bool[np.ndarray, " events"]:
        """Nowhere."""
        return np.zeros(len(self.queries), dtype=bool)

    def preference(self, position: int, variant: int, language: str) -> str:
        """Never there."""
        return ""

    def query(self, position: int, intention: Intention, language: str) -> str:
        """Returns the query that the user typed."""
        matches = self.kinds.item(position) == INTENTION_CODES.get(intention, -1)
        return self.queries[position] if matches else ""

    def reason(self, position: int, language: str) -> str:
        """Never there."""
        return ""

    def fingerprint(self) -> str:
        """Nothing besides the split."""
        return hashlib.sha256(b"log").hexdigest()


def add_teacher_texts(
    split: Split, teacher: Teacher, language: str, seed: int, role: Role
) -> Split:
    """Returns the split with what a teacher says of the events of a role.

    So that search and explicit preferences can be evaluated where no user said anything. An event
    without a query gets one: a specific or a vague one by a draw from its position, or the kind
    that the teacher has. What users typed stays.
    """
    has = {kind: teacher.has_query(kind, language) for kind in INTENTION_CODES}
    liked = teacher.has_preference(language)
    queries, intentions = list(split.queries), split.intentions.copy()
    preferences = [""] * len(queries)
    for position in split.targets(role).tolist():
        draw = derive_key(seed, RandomStream.EVALUATION_INTENTION, position)
        kinds = [kind for kind in INTENTION_CODES if has[kind][position]]
        if kinds and not queries[position]:
            kind = kinds[draw % len(kinds)]
            queries[position] = teacher.query(position, kind, language)
            intentions[position] = INTENTION_CODES[kind]
        if liked[position]:
            variant = draw_field(draw, DrawField.PREFERENCE_VARIANT) % teacher.variants
            preferences[position] = teacher.preference(position, variant, language)
    return dataclasses.replace(
        split,
        queries=queries,
        intentions=intentions,
        preferences=preferences if liked.any() else (),
    )
