"""What is asked of a model that teaches: which texts, of whom, and in which words."""

import dataclasses
import functools
import hashlib
import importlib.resources
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from irec_jax.bounds import COUNT_OR_NONE, SEED, Range, check_settings
from irec_jax.errors import InputError, nearest
from irec_jax.instructions.forms import Intention, Slot, TaskName
from irec_jax.instructions.prompts import PromptWriter
from irec_jax.instructions.tasks import INTENTION_CODES
from irec_jax.instructions.templates import TemplatePack
from irec_jax.log.split import Role, Split
from irec_jax.random_draws import RandomStream, derive_key, permutation
from irec_jax.teachers.teacher_texts import QUERY_KINDS, TextKind
from irec_jax.teachers.text_checks import LENGTHS, Rejection
from irec_jax.text_cleaning import clean
from irec_jax.word_overlap import words_of

POINTS = 3
"""Preference texts a user, as in the paper (section 2.2)."""

PROMPT_LANGUAGES = ("en", "zh")
HISTORY = 20
"""Events that a preference or a reason is written from, the latest ones."""

_PACKAGE = "irec_jax.teachers"
_LONGEST_TITLE, _LONGEST_REVIEW, _LONGEST_EXTRACT = 200, 1_000, 240  # characters in a prompt
_MOST_LABELS = 5
_OPENING, _CLOSING = r"(\[\uff08\u3010", r")\]\uff09\u3011"
_BRACKETS = re.compile(rf"\s*[{_OPENING}][^{_OPENING}{_CLOSING}]*[{_CLOSING}]\s*\Z")
_ESCAPES = {"<": "\\u003c", ">": "\\u003e"}


@dataclasses.dataclass(frozen=True)
class Scope:
    """What is asked for.

    Attributes:
        languages: BCP 47; everything is asked in each of them.
        users: How many users, drawn by the seed: a larger number adds to a smaller one. None
            asks about all.
        events: For how many events of each user queries are asked: the newest of the test, the
            validation and the training events, then the next ones of each. 0 asks for none.
        reasons: Whether it is also asked why the items of these events suit their users.
        seed: Of the choice of users.
    """

    languages: tuple[str, ...]
    users: int | None = None
    events: int = 3
    reasons: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(
            self,
            "--",
            users=Range(1, 10**9, "Leave it out for all users."),
            events=COUNT_OR_NONE,
            seed=SEED,
        )


class WantedText(NamedTuple):
    """A text that is asked for.

    Attributes:
        row: Of the user in the split.
        place: As in `Note`.
        kind: What it is to say.
        variant: As in `Note`.
        language: BCP 47.
        angle: Which of the angles of its kind it is seen from.
    """

    row: int
    place: int
    kind: TextKind
    variant: int
    language: str
    angle: int = 0


@dataclasses.dataclass(frozen=True)
class TextRequest:
    """What is sent for a wanted text, and what is checked of the answer.

    Attributes:
        wanted: The text.
        user: The log's user number; never in `messages`.
        messages: Role and content.
        titles: What the answer may not name, in words.
    """

    wanted: WantedText
    user: int
    messages: tuple[tuple[str, str], ...]
    titles: tuple[tuple[str, ...], ...]

    @property
    def sha256(self) -> str:
        """Of the messages."""
        text = json.dumps(self.messages, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


TeacherPromptWriter = Callable[[WantedText], tuple[tuple[str, str], ...]]
"""Gives the messages that ask for a text, () where it cannot be asked for."""


def choose_users(split: Split, users: int | None, seed: int) -> list[int]:
    """Draws rows of users; more of them begin with the same ones."""
    return permutation(derive_key(seed, RandomStream.TEACHER_USERS), split.num_users)[
        :users
    ].tolist()


def preference_points(split: Split, row: int) -> list[tuple[int, int]]:
    """Says from which events of a user the three preference texts are written.

    From the first third, two thirds and all of the training events, rounded up: the last one
    serves validation and test, the others the training events behind them, and none is ever
    written from the event that it serves or a later one. Where the training events are fewer than
    three, a point gets two or three texts; a user with one event has nothing to be served.

    Returns:
        Place (the first event that is not read) and variant, in ascending order.
    """
    start, stop = split.offsets[row].item(), split.offsets[row + 1].item()
    if stop - start < 2:
        return []
    training = int((split.roles[start:stop] == Role.TRAIN).sum())
    last = min(max(training, 1), stop - start - 1)
    places = [-(-last * third // POINTS) for third in range(1, POINTS + 1)]
    return [(place, places[:number].count(place)) for number, place in enumerate(places)]


def queried_places(split: Split, row: int, events: int) -> list[int]:
    """Says which events of a user get queries, see `Scope.events`; places, ascending."""
    start, stop = split.offsets[row].item(), split.offsets[row + 1].item()
    taken: dict[int, int] = {}
    order = []
    for place in reversed(range(stop - start)):
        role = int(split.roles[start + place])
        taken[role] = taken.get(role, 0) + 1
        order.append((taken[role], -role, place))
    return sorted(place for _, _, place in sorted(order)[:events])


def wanted_texts(split: Split, scope: Scope) -> Iterator[WantedText]:
    """Yields all texts that are asked for, one user after the other.

    What a user typed is not asked for again.
    """
    for row in choose_users(split, scope.users, scope.seed):
        start = split.offsets[row].item()
        points = list(enumerate(preference_points(split, row)))
        places = queried_places(split, row, scope.events)
        for language in scope.languages:
            for angle, (place, variant) in points:
                yield WantedText(row, place, TextKind.PREFERENCE, variant, language, angle)
            for place in places:
                for intention, kind in QUERY_KINDS.items():
                    if not _is_typed(split, start + place, intention):
                        # Not the user's number: texts do not hang on it.
                        angle = (
                            derive_key(scope.seed, RandomStream.TEACHER_ANGLE, start + place) >> 32
                        )
                        yield WantedText(row, place, kind, 0, language, angle)
                if scope.reasons and place:
                    yield WantedText(row, place, TextKind.REASON, 0, language)


def make_requests(split: Split, scope: Scope, worder: TeacherPromptWriter) -> Iterator[TextRequest]:
    """Yields the questions in the order of `wanted_texts`; they are made as they are read."""
    row, titles = -1, ()
    for wanted in wanted_texts(split, scope):
        if wanted.row != row:
            row, titles = wanted.row, user_titles(split, wanted.row)
        messages = worder(wanted)
        if messages:
            yield TextRequest(wanted, int(split.users[row]), messages, titles)


def user_titles(split: Split, row: int) -> tuple[tuple[str, ...], ...]:
    """Returns the titles of all that a user had, in words, with and without a last bracket."""
    items = np.unique(split.items[split.offsets[row] : split.offsets[row + 1]])
    found: dict[tuple[str, ...], None] = {}
    for title in split.catalog["title"][items].to_list():
        found[words_of(title).run] = None
        found[words_of(_BRACKETS.sub("", title)).run] = None
    return tuple(words for words in found if words)


@dataclasses.dataclass(frozen=True)
class PromptTexts:
    """What a chat model is asked in one language.

    Attributes:
        system: What it is told first.
        questions: Kind -> the question, with `{data}` and other slots.
        angles: Kind -> what its texts look at, one after the other.
        where: Domain -> what the log is of.
        again: Said after an answer that was rejected.
    """

    system: str
    questions: Mapping[TextKind, str]
    angles: Mapping[TextKind, tuple[str, ...]]
    where: Mapping[str, str]
    again: Mapping[Rejection, str]


@functools.cache
def load_prompts(language: str) -> PromptTexts:
    """Reads `prompts/LANGUAGE.toml` of this package.

    Raises:
        InputError: There are no prompts in that language.
    """
    if language not in PROMPT_LANGUAGES:
        raise InputError(
            f"no prompts for chat models in '{language}'; {nearest(language, PROMPT_LANGUAGES)}",
            where="instructions.packs",
            hint="leave that pack out: its texts can be written by the teacher model.",
        )
    file = importlib.resources.files(_PACKAGE).joinpath("prompts", f"{language}.toml")
    raw: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
    return PromptTexts(
        system=raw["system"].strip(),
        questions={kind: raw[kind.value].strip() for kind in TextKind},
        angles={kind: tuple(raw["angles"][kind.value]) for kind in TextKind},
        where=raw["where"],
        again={rejection: raw["again"][rejection.value] for rejection in Rejection},
    )


@dataclasses.dataclass(frozen=True, eq=False)
class ChatPromptWriter:
    """Asks a chat model; what the log holds is written as JSON that cannot leave its place.

    Attributes:
        split: The log.
        domain: What it is of.
        columns: Column of the catalog -> `[items]` values, of those that tell something.
    """

    split: Split
    domain: str
    columns: Mapping[str, list]

    @classmethod
    def build(cls, split: Split, domain: str) -> "ChatPromptWriter":
        """Reads the catalog."""
        told = ("title", "categories", "brand", "price", "description")
        columns = {n: split.catalog[n].to_list() for n in told if n in split.catalog.columns}
        return cls(split, domain, columns)

    def __call__(self, wanted: WantedText) -> tuple[tuple[str, str], ...]:
        """Gives the messages of the system and of the user."""
        prompts = load_prompts(wanted.language)
        start = self.split.offsets[wanted.row].item()
        position = start + wanted.place
        earlier = range(max(start, position - HISTORY), position)
        if wanted.kind is TextKind.PREFERENCE:
            data: Any = [self._event(p, _LONGEST_EXTRACT) for p in earlier]
        elif wanted.kind is TextKind.REASON:
            before = [self._event(p, _LONGEST_EXTRACT) for p in earlier]
            data = {"earlier": before, "item": self._event(position, _LONGEST_REVIEW)}
        else:
            data = self._event(position, _LONGEST_REVIEW)
        angles = prompts.angles[wanted.kind]
        # Words in English, characters in Chinese: two for a word.
        longest = int(LENGTHS[wanted.kind][1] / 2) * (2 if wanted.language == "zh" else 1)
        slots = {
            "where": prompts.where[self.domain],
            "angle": angles[wanted.angle % len(angles)],
            "longest": str(longest),
            "data": _as_data(data),
        }
        question = re.sub(r"\{(\w+)\}", lambda m: slots[m[1]], prompts.questions[wanted.kind])
        return ("system", prompts.system), ("user", question)

    def _event(self, position: int, longest: int) -> dict[str, Any]:
        """What is known of an item and of what its user wrote of it."""
        item = int(self.split.items[position])
        told: dict[str, Any] = {}
        for name, values in self.columns.items():
            value = values[item]
            if not value:
                continue
            if name == "categories":
                told[name] = [_cut(str(label), _LONGEST_TITLE) for label in value[:_MOST_LABELS]]
            elif name == "description":
                told[name] = _cut(value, longest)
            else:
                told[name] = value if name == "price" else _cut(value, _LONGEST_TITLE)
        review = self.split.reviews[position] if len(self.split.reviews) else ""
        return told | ({"review": _cut(review, longest)} if review else {})


@dataclasses.dataclass(frozen=True, eq=False)
class RunPromptWriter:
    """Asks a tuned run by the wordings of its own turned-around tasks.

    Attributes:
        split: The log.
        wording: The run's packs, and how it writes the items of `split`.
    """

    split: Split
    wording: PromptWriter

    def __call__(self, wanted: WantedText) -> tuple[tuple[str, str], ...]:
        """Gives the prompt, () for what the run has not learned.

        A vague and a specific query that share their wording are one question: it is asked as
        the vague one, as a run does not tell which of the two it answers.
        """
        pack = self.wording.pack(wanted.language)
        start = self.split.offsets[wanted.row].item()
        earlier = self.split.items[start : start + wanted.place]
        intentions = {TextKind.VAGUE: Intention.VAGUE, TextKind.SPECIFIC: Intention.SPECIFIC}
        intention = intentions.get(wanted.kind, Intention.NONE)
        task = self._task(wanted, len(earlier) > 0)
        if task is None:
            return ()
        template = _serving(pack, task, intention)
        if intention is Intention.SPECIFIC and template == _serving(pack, task, Intention.VAGUE):
            return ()
        values = {Slot.HISTORY: self._written(earlier)}
        if Slot.TARGET in template.slots:
            item = int(self.split.items[start + wanted.place])
            values[Slot.TARGET] = self.wording.names[item]
        return (("user", template.fill(values)),)

    def _task(self, wanted: WantedText, has_history: bool) -> TaskName | None:
        """The task that the run has learned to answer with such a text."""
        choices = {
            TextKind.PREFERENCE: (TaskName.HISTORY_TO_PREFERENCE,),
            TextKind.REASON: (TaskName.HISTORY_ITEM_TO_REASON,),
        }.get(wanted.kind, (TaskName.HISTORY_ITEM_TO_QUERY, TaskName.ITEM_TO_QUERY))
        if not has_history:
            choices = choices[-1:]
        return next((name for name in choices if name in self.wording.config.tasks), None)

    def _written(self, items: Int[np.ndarray, " history"]) -> str:
        return self.wording.join_names(items[-self.wording.config.max_history :].tolist())


def _serving(pack: TemplatePack, task: TaskName, intention: Intention) -> Any:
    """The first wording for this intention alone, or the first of all."""
    templates = pack.of(task, intention)
    return min(templates, key=lambda template: len(template.intentions))


def _is_typed(split: Split, position: int, intention: Intention) -> bool:
    is_kind = split.intentions[position] == INTENTION_CODES[intention]
    return bool(is_kind and clean(split.queries[position]))


def _cut(text: str, longest: int) -> str:
    text = clean(text)
    return text if len(text) <= longest else text[:longest].rstrip() + "…"


def _as_data(value: Any) -> str:
    """Writes JSON without a letter that could end the data or open a tag of a chat template."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return re.sub("[<>]", lambda match: _ESCAPES[match[0]], text)
