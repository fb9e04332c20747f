"""Teacher texts on disk, and the teacher that reads them."""

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

TEXTS_FILE = "texts.parquet"
MANIFEST_FILE = "manifest.json"
FORMAT = 2
_HINT = "Write the teacher texts again with `irec teach`."
_NONE = -1


class TextKind(enum.StrEnum):
    """Kind of a teacher text."""

    PREFERENCE = "preference"
    VAGUE = "vague"
    SPECIFIC = "specific"
    REASON = "reason"


QUERY_KINDS = {Intention.VAGUE: TextKind.VAGUE, Intention.SPECIFIC: TextKind.SPECIFIC}
"""Intention of a query -> kind of its text."""


@dataclasses.dataclass(frozen=True)
class TeacherText:
    """One teacher text.

    Attributes:
        user: The log's user number.
        event_index: Index among the user's events, oldest first, from 0. A query or reason is for
            that event; a preference is written from the events before it.
        kind: Kind of the text.
        variant: Number of the text, from 0, among those of one kind, event and language.
        language: BCP 47 code.
        text: One cleaned line.
        request_sha256: SHA-256 of the messages that requested it.
        writer: Teacher and model, such as `chat:MODEL`.
    """

    user: int
    event_index: int
    kind: TextKind
    variant: int
    language: str
    text: str
    request_sha256: str
    writer: str


_SCHEMA = {
    "user": pl.Int64,
    "event_index": pl.Int32,
    "kind": pl.String,
    "variant": pl.Int32,
    "language": pl.String,
    "text": pl.String,
    "request_sha256": pl.String,
    "writer": pl.String,
}
_KEY = ["user", "event_index", "kind", "variant", "language"]


@dataclasses.dataclass(frozen=True)
class TeacherTextsManifest:
    """Origin and cost of a folder of teacher texts.

    Attributes:
        teacher: `chat` or `model`.
        model: Name of the model or of the run.
        split_sha256: `split_sha256` of the split that the texts are for.
        seed: Seed of the draw of users and of the model's sampling.
        settings: The other fields of `RequestScope`.
        requested: Kind -> number of requests.
        written: Kind -> number of requests with a text that passed all checks.
        not_generated: Rejection of the last response -> number of requests without a text.
        rejected: Rejection -> number of responses, those of repeated requests included.
        responses: Responses to all requests; one shared by two equal requests counts twice.
        tokens_in: Tokens of the requests behind these responses, each paid response once.
        tokens_out: Tokens of these responses.
        money: Their price by the prices of the settings, 0 without prices.
        sha256: SHA-256 of the texts file.
        format: Version of the folder's format.
    """

    teacher: str
    model: str
    split_sha256: str
    seed: int
    settings: dict = dataclasses.field(default_factory=dict)
    requested: dict = dataclasses.field(default_factory=dict)
    written: dict = dataclasses.field(default_factory=dict)
    not_generated: dict = dataclasses.field(default_factory=dict)
    rejected: dict = dataclasses.field(default_factory=dict)
    responses: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0
    sha256: str = ""
    format: int = FORMAT


def split_sha256(split: Split) -> str:
    """Returns the SHA-256 of the users' item sequences and of the titles.

    It is independent of item numbers, so texts are valid for every seed that orders the events in
    the same way.
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
    folder: Path, texts: Iterable[TeacherText], manifest: TeacherTextsManifest
) -> TeacherTextsManifest:
    """Writes a folder of teacher texts atomically; equal texts give equal bytes.

    Args:
        folder: Replaced if it contains teacher texts.
        texts: The texts, in any order.
        manifest: Manifest without checksum.

    Returns:
        The manifest with checksum.

    Raises:
        InputError: The folder contains other files.
    """
    check_texts_folder(folder)
    rows = [(n.user, n.event_index, n.kind.value, *dataclasses.astuple(n)[3:]) for n in texts]
    table = pl.DataFrame(rows, schema=_SCHEMA, orient="row").sort(_KEY)
    with replaced_folder(folder) as temporary:
        table.write_parquet(temporary / TEXTS_FILE)
        manifest = dataclasses.replace(manifest, sha256=file_sha256(temporary / TEXTS_FILE))
        text = json.dumps(to_json(manifest), indent=2, ensure_ascii=False) + "\n"
        write_text(temporary / MANIFEST_FILE, text)
    return manifest


def check_texts_folder(folder: Path) -> None:
    """Refuses an output folder with other files than teacher texts.

    Raises:
        InputError: As `check_output_folder`.
    """
    check_output_folder(
        folder,
        "teacher texts",
        lambda folder: bool(_read_manifest(folder)),
        own_files=(TEXTS_FILE, MANIFEST_FILE),
    )


def read_teacher_texts(folder: Path) -> tuple[pl.DataFrame, TeacherTextsManifest]:
    """Reads a folder of `write_teacher_texts`; rows are sorted by user and event.

    Raises:
        InputError: A file is missing, changed or damaged.
    """
    if not folder.is_dir():
        hint = "Give the folder that `irec teach` wrote."
        raise InputError("no such folder of teacher texts", where=str(folder), hint=hint)
    for name in (MANIFEST_FILE, TEXTS_FILE):
        if not (folder / name).is_file():
            raise InputError(
                f"the teacher texts miss their file {name}", where=str(folder), hint=_HINT
            )
    manifest = _read_manifest(folder)
    if file_sha256(folder / TEXTS_FILE) != manifest.sha256:
        problem = f"damaged (sha256 differs from {MANIFEST_FILE})"
        raise InputError(problem, where=str(folder / TEXTS_FILE), hint=_HINT)
    return read_parquet(folder / TEXTS_FILE, _HINT), manifest


def _read_manifest(folder: Path) -> TeacherTextsManifest:
    path = folder / MANIFEST_FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not JSON: {error}", where=str(path), hint=_HINT) from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        problem = f"not a manifest of teacher texts of format {FORMAT}"
        raise InputError(problem, where=str(path), hint=_HINT)
    if missing := {field.name for field in dataclasses.fields(TeacherTextsManifest)} - set(fields):
        raise InputError(f"{min(missing)} is missing", where=str(path), hint=_HINT)
    return from_json(TeacherTextsManifest, fields, where=str(path))


@dataclasses.dataclass(frozen=True, eq=False)
class StoredPreferences:
    """The stored preferences in one language.

    Attributes:
        groups: Texts of one user and event index, in the order of their variants.
        group_of_event: `[events]` int64: the group with the largest event index that is not
            larger than the event's own, -1 for none.
    """

    groups: tuple[tuple[str, ...], ...]
    group_of_event: Int[np.ndarray, " events"]


@dataclasses.dataclass(frozen=True, eq=False)
class StoredTextsTeacher:
    """Returns stored texts; typed queries come first.

    The preference for an event is the latest one that was written from events before it.

    Attributes:
        typed: The queries of the log.
        preferences: Language -> preferences.
        texts: Kind and language -> position -> text, for queries and reasons.
        events: Number of events of the split.
        sha256: SHA-256 of the texts file.
    """

    typed: LogTeacher
    preferences: Mapping[str, StoredPreferences]
    texts: Mapping[tuple[TextKind, str], Mapping[int, str]]
    events: int
    sha256: str

    @classmethod
    def load(cls, folder: Path, split: Split) -> "StoredTextsTeacher":
        """Reads a folder of teacher texts.

        Args:
            folder: As from `write_teacher_texts`.
            split: The split that the texts are for.

        Raises:
            InputError: The texts are missing or damaged, or are for another split.
        """
        table, manifest = read_teacher_texts(folder)
        if manifest.split_sha256 != split_sha256(split):
            raise InputError(
                "the teacher texts were written for another log or another split of it",
                where=str(folder),
                hint="Use the log, data settings and seed of `irec teach`, or write the texts "
                "again.",
            )
        rows = np.searchsorted(split.users, table["user"].to_numpy())
        table = table.with_columns(position=split.offsets[rows] + table["event_index"].to_numpy())
        preferences, texts = {}, {}
        for (kind, language), part in table.group_by("kind", "language", maintain_order=True):
            if kind == TextKind.PREFERENCE.value:
                preferences[str(language)] = _group_preferences(part, split)
            else:
                pairs = zip(part["position"].to_list(), part["text"].to_list(), strict=True)
                texts[TextKind(kind), str(language)] = dict(pairs)
        return cls(LogTeacher.of(split), preferences, texts, len(split.items), manifest.sha256)

    @property
    def variants(self) -> int:
        """Largest number of preference texts for an event."""
        groups = [group for stored in self.preferences.values() for group in stored.groups]
        return max(map(len, groups), default=1)

    def has_preference(self, language: str) -> Bool[np.ndarray, " events"]:
        """Returns `[events]`: whether a preference was written from earlier events."""
        stored = self.preferences.get(language)
        return np.zeros(self.events, bool) if stored is None else stored.group_of_event != _NONE

    def has_query(self, intention: Intention, language: str) -> Bool[np.ndarray, " events"]:
        """Returns `[events]`: whether the user typed a query, or one is stored."""
        has = self.typed.has_query(intention, language)
        if intention in QUERY_KINDS:
            has = has | self._has(QUERY_KINDS[intention], language)
        return has

    def has_reason(self, language: str) -> Bool[np.ndarray, " events"]:
        """Returns `[events]`: whether a reason is stored."""
        return self._has(TextKind.REASON, language)

    def preference(self, position: int, variant: int, language: str) -> str:
        """Returns a stored preference; `variant` selects one of those for the event."""
        stored = self.preferences.get(language)
        group = _NONE if stored is None else stored.group_of_event.item(position)
        if stored is None or group == _NONE:
            return ""
        texts = stored.groups[group]
        return texts[variant % len(texts)]

    def query(self, position: int, intention: Intention, language: str) -> str:
        """Returns the query that the user typed, or the stored one."""
        typed = self.typed.query(position, intention, language)
        if typed or intention not in QUERY_KINDS:
            return typed
        return self.texts.get((QUERY_KINDS[intention], language), {}).get(position, "")

    def reason(self, position: int, language: str) -> str:
        """Returns the stored reason."""
        return self.texts.get((TextKind.REASON, language), {}).get(position, "")

    def fingerprint(self) -> str:
        """Returns a SHA-256 of the texts file's SHA-256."""
        return hashlib.sha256(f"teacher texts {self.sha256}".encode()).hexdigest()

    def _has(self, kind: TextKind, language: str) -> Bool[np.ndarray, " events"]:
        has = np.zeros(self.events, bool)
        has[list(self.texts.get((kind, language), ()))] = True
        return has


def _group_preferences(table: pl.DataFrame, split: Split) -> StoredPreferences:
    """Groups preferences by event; `table` has columns `position`, `variant` and `text`."""
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
    return StoredPreferences(groups, np.where(latest >= starts, numbers[latest], _NONE))
