"""Notes: the texts that a model was asked for, stored, and the teacher that reads them."""

import dataclasses
import enum
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from irec_jax.errors import InputError
from irec_jax.files import check_output_folder, file_sha256, replaced_folder, write_text
from irec_jax.instructions.forms import Intention
from irec_jax.instructions.teacher import LogTeacher
from irec_jax.log.split import Split
from irec_jax.parquet import read_parquet
from irec_jax.settings import from_json, to_json

TEXTS_FILE = "notes.parquet"
MANIFEST_FILE = "manifest.json"
FORMAT = 1
_HINT = "write the notes again with `irec teach`."
_NONE = -1


class TextKind(enum.Enum):
    """What a note says."""

    PREFERENCE = "preference"
    VAGUE = "vague"
    SPECIFIC = "specific"
    REASON = "reason"


QUERY_KINDS = {Intention.VAGUE: TextKind.VAGUE, Intention.SPECIFIC: TextKind.SPECIFIC}
"""The notes that say what a user wants."""


@dataclasses.dataclass(frozen=True)
class TeacherText:
    """One text.

    Attributes:
        user: The log's user number.
        place: Of an event among the user's events, oldest first, from 0. A query or a reason is
            about that event, a preference tells of the events before it.
        kind: What it says.
        variant: Tells texts of one kind, place and language apart, from 0.
        language: BCP 47.
        text: One cleaned line.
        question: The SHA-256 of what was asked.
        writer: Who wrote it, such as `chat:NAME OF THE MODEL`.
    """

    user: int
    place: int
    kind: TextKind
    variant: int
    language: str
    text: str
    question: str
    writer: str


_SCHEMA = {
    "user": pl.Int64,
    "place": pl.Int32,
    "kind": pl.String,
    "variant": pl.Int32,
    "language": pl.String,
    "text": pl.String,
    "question": pl.String,
    "writer": pl.String,
}
_KEY = ["user", "place", "kind", "variant", "language"]


@dataclasses.dataclass(frozen=True)
class TeacherTextsManifest:
    """What notes were made from and what they cost.

    Attributes:
        teacher: `chat` or `model`.
        model: The name of the model or of the run.
        split_sha256: `split_sha256` of the split that they were written for.
        seed: Of the choice of users and of the model's draws.
        settings: What was asked for: users, events, languages and so on.
        asked: Kind -> questions.
        answered: Kind -> questions with a text that passed all checks.
        left_out: Reason -> questions without one, by why the last answer was rejected.
        rejected: Reason -> answers that did not pass, those that were asked again included.
        answers: Answers to all questions; one that answers two equal questions counts twice.
        tokens_in: Of what was sent for these answers, whenever they were paid, each once.
        tokens_out: Of the answers themselves.
        money: What they cost by the prices that were told, 0 where none were.
        sha256: Of the notes file.
        format: Of the folder.
    """

    teacher: str
    model: str
    split_sha256: str
    seed: int
    settings: dict = dataclasses.field(default_factory=dict)
    asked: dict = dataclasses.field(default_factory=dict)
    answered: dict = dataclasses.field(default_factory=dict)
    left_out: dict = dataclasses.field(default_factory=dict)
    rejected: dict = dataclasses.field(default_factory=dict)
    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0
    sha256: str = ""
    format: int = FORMAT


def split_sha256(split: Split) -> str:
    """Returns a SHA-256 of who had which item in which order, and of the titles.

    It does not depend on the random numbers of items: notes serve every seed that orders the
    events in the same way.
    """
    identifiers = split.catalog["item"]
    order = identifiers.arg_sort().to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    digest = hashlib.sha256()
    for array in (split.users, split.offsets, ranks[split.items]):
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes() + b"\0")
    for column in ("item", "title"):
        texts = split.catalog[column][order].to_list()
        digest.update(json.dumps(texts, ensure_ascii=False).encode("utf-8", "replace"))
    return digest.hexdigest()


def write_teacher_texts(
    folder: Path, notes: Iterable[TeacherText], manifest: TeacherTextsManifest
) -> TeacherTextsManifest:
    """Writes a folder of notes, all of it or nothing; the same notes give the same bytes.

    Args:
        folder: Replaced if it holds notes.
        notes: In any order.
        manifest: Its checksum is made here.

    Raises:
        InputError: The folder holds something else.
    """
    check_texts_folder(folder)
    rows = [(n.user, n.place, n.kind.value, *dataclasses.astuple(n)[3:]) for n in notes]
    table = pl.DataFrame(rows, schema=_SCHEMA, orient="row").sort(_KEY)
    with replaced_folder(folder) as temporary:
        table.write_parquet(temporary / TEXTS_FILE)
        manifest = dataclasses.replace(manifest, sha256=file_sha256(temporary / TEXTS_FILE))
        text = json.dumps(to_json(manifest), indent=2, ensure_ascii=False) + "\n"
        write_text(temporary / MANIFEST_FILE, text)
    return manifest


def check_texts_folder(folder: Path) -> None:
    """Makes sure that replacing `folder` loses nothing but older notes.

    Raises:
        InputError: As `check_output_folder`.
    """
    check_output_folder(
        folder,
        "notes",
        lambda folder: bool(_read_manifest(folder)),
        own_files=(TEXTS_FILE, MANIFEST_FILE),
    )


def read_teacher_texts(folder: Path) -> tuple[pl.DataFrame, TeacherTextsManifest]:
    """Reads what `write_teacher_texts` wrote, sorted by user and place.

    Raises:
        InputError: A file is missing, changed or damaged.
    """
    if not folder.is_dir():
        hint = "give the folder that `irec teach` wrote."
        raise InputError("there is no such folder of notes", where=str(folder), hint=hint)
    for name in (MANIFEST_FILE, TEXTS_FILE):
        if not (folder / name).is_file():
            raise InputError(f"the notes miss their file {name}", where=str(folder), hint=_HINT)
    manifest = _read_manifest(folder)
    if file_sha256(folder / TEXTS_FILE) != manifest.sha256:
        what = f"not what was written (sha256 differs from {MANIFEST_FILE})"
        raise InputError(what, where=str(folder / TEXTS_FILE), hint=_HINT)
    return read_parquet(folder / TEXTS_FILE, _HINT), manifest


def _read_manifest(folder: Path) -> TeacherTextsManifest:
    path = folder / MANIFEST_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"it is not JSON: {error}", where=str(path), hint=_HINT) from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        what = f"not a manifest of notes of format {FORMAT}"
        raise InputError(what, where=str(path), hint=_HINT)
    if missing := {field.name for field in dataclasses.fields(TeacherTextsManifest)} - set(fields):
        raise InputError(f"no {min(missing)} in it", where=str(path), hint=_HINT)
    return from_json(TeacherTextsManifest, fields, where=str(path))


@dataclasses.dataclass(frozen=True, eq=False)
class Preferences:
    """The preferences in one language.

    Attributes:
        groups: Texts of one user and place, in the order of their variants.
        of_event: `[events]` int64: the group of the latest place that is not behind the event,
            -1 for none.
    """

    groups: tuple[tuple[str, ...], ...]
    of_event: Int[np.ndarray, " events"]


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTextsTeacher:
    """Says what a model wrote; the queries that users typed come first.

    A preference for an event is one that was written from events before it: the one of the
    latest place that is not behind the event.

    Attributes:
        typed: The queries of the log.
        preferences: Language -> the preferences.
        texts: Kind and language -> position -> text, for queries and reasons.
        events: How many events the split has.
        sha256: Of the notes.
    """

    typed: LogTeacher
    preferences: Mapping[str, Preferences]
    texts: Mapping[tuple[TextKind, str], Mapping[int, str]]
    events: int
    sha256: str

    @classmethod
    def load(cls, folder: Path, split: Split) -> "StoredTextsTeacher":
        """Reads notes.

        Args:
            folder: As `write_teacher_texts` wrote it.
            split: What they are about.

        Raises:
            InputError: They are missing or damaged, or were written for another split.
        """
        table, manifest = read_teacher_texts(folder)
        if manifest.split_sha256 != split_sha256(split):
            raise InputError(
                "the notes were written for another log, or for one that is split otherwise",
                where=str(folder),
                hint="use the log, the data settings and the seed of `irec teach`, or write the "
                "notes again.",
            )
        rows = np.searchsorted(split.users, table["user"].to_numpy())
        table = table.with_columns(position=split.offsets[rows] + table["place"].to_numpy())
        preferences, texts = {}, {}
        for (kind, language), part in table.group_by("kind", "language", maintain_order=True):
            if kind == TextKind.PREFERENCE.value:
                preferences[str(language)] = _preferences(part, split)
            else:
                pairs = zip(part["position"].to_list(), part["text"].to_list(), strict=True)
                texts[TextKind(kind), str(language)] = dict(pairs)
        return cls(LogTeacher.of(split), preferences, texts, len(split.items), manifest.sha256)

    @property
    def variants(self) -> int:
        """The most texts that a place has."""
        return max((len(g) for told in self.preferences.values() for g in told.groups), default=1)

    def has_preference(self, language: str) -> Bool[np.ndarray, " events"]:
        """Says where a preference was written from events before."""
        told = self.preferences.get(language)
        return np.zeros(self.events, bool) if told is None else told.of_event != _NONE

    def has_query(self, intention: Intention, language: str) -> Bool[np.ndarray, " events"]:
        """Says where the user typed one, or a note holds one."""
        has = self.typed.has_query(intention, language)
        if intention in QUERY_KINDS:
            has = has | self._has(QUERY_KINDS[intention], language)
        return has

    def has_reason(self, language: str) -> Bool[np.ndarray, " events"]:
        """Says where a note holds one."""
        return self._has(TextKind.REASON, language)

    def preference(self, position: int, variant: int, language: str) -> str:
        """What was written from events before the one at `position`; `variant` picks one."""
        told = self.preferences.get(language)
        group = _NONE if told is None else told.of_event.item(position)
        if told is None or group == _NONE:
            return ""
        texts = told.groups[group]
        return texts[variant % len(texts)]

    def query(self, position: int, intention: Intention, language: str) -> str:
        """What the user typed, or what was written for the event."""
        typed = self.typed.query(position, intention, language)
        if typed or intention not in QUERY_KINDS:
            return typed
        return self.texts.get((QUERY_KINDS[intention], language), {}).get(position, "")

    def reason(self, position: int, language: str) -> str:
        """What was written for the event."""
        return self.texts.get((TextKind.REASON, language), {}).get(position, "")

    def fingerprint(self) -> str:
        """The SHA-256 of the notes."""
        return hashlib.sha256(f"notes {self.sha256}".encode()).hexdigest()

    def _has(self, kind: TextKind, language: str) -> Bool[np.ndarray, " events"]:
        has = np.zeros(self.events, bool)
        has[list(self.texts.get((kind, language), ()))] = True
        return has


def _preferences(table: pl.DataFrame, split: Split) -> Preferences:
    """Finds the group of each event; `table` has `position`, `variant` and `text`."""
    grouped = (
        table.sort("position", "variant")
        .group_by("position", maintain_order=True)
        .agg(pl.col("text"))
    )
    groups = tuple(map(tuple, grouped["text"].to_list()))
    numbers = np.full(len(split.items), _NONE, np.int64)
    numbers[grouped["position"].to_numpy()] = np.arange(len(groups))
    latest = np.where(numbers != _NONE, np.arange(len(numbers)), _NONE)
    latest = np.maximum.accumulate(latest)
    starts = np.repeat(split.offsets[:-1], np.diff(split.offsets))
    return Preferences(groups, np.where(latest >= starts, numbers[latest], _NONE))
