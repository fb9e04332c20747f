"""Requests for teacher texts: their users and events, and the prompts for them."""

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

PREFERENCES_PER_USER = 3
"""Preference texts per user, as in the paper (section 2.2)."""

PROMPT_LANGUAGES = ("en", "zh")
HISTORY = 20
"""Largest number of latest events in a prompt for a preference or a reason."""

_PACKAGE = "irec_jax.teachers"
_MAX_TITLE, _MAX_REVIEW, _MAX_EXTRACT = 200, 1_000, 240  # characters in a prompt
_MAX_CATEGORIES = 5
_OPENING, _CLOSING = r"(\[\uff08\u3010", r")\]\uff09\u3011"
_BRACKETS = re.compile(rf"\s*[{_OPENING}][^{_OPENING}{_CLOSING}]*[{_CLOSING}]\s*\Z")
_ESCAPES = {"<": "\\u003c", ">": "\\u003e"}


@dataclasses.dataclass(frozen=True)
class RequestScope:
    """The texts to request.

    Attributes:
        languages: BCP 47 codes; every text is requested in each of them.
        users: Number of users, drawn by the seed; a larger number adds users to those of a
            smaller one. None for all.
        events: Number of events per user with queries: the newest test, validation and training
            event, then the next one of each. 0 for no queries.
        reasons: Whether reasons are requested for these events.
        seed: Seed of the draw of users.
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
    """A text to request.

    Attributes:
        row: Row of the user in the split.
        event_index: As in `TeacherText`.
        kind: Kind of the text.
        variant: As in `TeacherText`.
        language: BCP 47 code.
        focus: A number that selects one of `PromptTexts.focuses`.
    """

    row: int
    event_index: int
    kind: TextKind
    variant: int
    language: str
    focus: int = 0


@dataclasses.dataclass(frozen=True)
class TextRequest:
    """The messages that request a text, and the data to check the response.

    Attributes:
        wanted: The text to request.
        user: The log's user number; not in `messages`.
        messages: Pairs of role and content.
        titles: Titles that the response must not name, split into words.
    """

    wanted: WantedText
    user: int
    messages: tuple[tuple[str, str], ...]
    titles: tuple[tuple[str, ...], ...]

    @property
    def sha256(self) -> str:
        """SHA-256 of the messages."""
        text = json.dumps(self.messages, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


TeacherPromptWriter = Callable[[WantedText], tuple[tuple[str, str], ...]]
"""Returns the messages that request a text, () if it cannot be requested."""


def draw_users(split: Split, users: int | None, seed: int) -> list[int]:
    """Draws rows of users; a larger number begins with the rows of a smaller one."""
    return permutation(derive_key(seed, RandomStream.TEACHER_USERS), split.num_users)[
        :users
    ].tolist()


def preference_cutoffs(split: Split, row: int) -> list[tuple[int, int]]:
    """Returns the events up to which the three preference texts of a user are written.

    With n training events, the cutoffs are ceil(n / 3), ceil(2 n / 3) and n. A text is used for
    the events from its cutoff on, so it is never written from the event that it is used for. A
    user with fewer than three training events has several texts at one cutoff, and a user with
    one event has none.

    Returns:
        Pairs of cutoff (the first event index that is not read) and variant, ascending.
    """
    start, stop = split.offsets[row].item(), split.offsets[row + 1].item()
    if stop - start < 2:
        return []
    training = int((split.roles[start:stop] == Role.TRAIN).sum())
    last = min(max(training, 1), stop - start - 1)
    parts = range(1, PREFERENCES_PER_USER + 1)
    cutoffs = [-(-last * part // PREFERENCES_PER_USER) for part in parts]
    return [(cutoff, cutoffs[:index].count(cutoff)) for index, cutoff in enumerate(cutoffs)]


def query_events(split: Split, row: int, events: int) -> list[int]:
    """Returns the indices of a user's events with queries, ascending; see `RequestScope.events`."""
    start, stop = split.offsets[row].item(), split.offsets[row + 1].item()
    counts: dict[int, int] = {}
    order = []
    for event_index in reversed(range(stop - start)):
        role = int(split.roles[start + event_index])
        counts[role] = counts.get(role, 0) + 1
        order.append((counts[role], -role, event_index))
    return sorted(event_index for _, _, event_index in sorted(order)[:events])


def wanted_texts(split: Split, scope: RequestScope) -> Iterator[WantedText]:
    """Yields the texts to request, user by user.

    A query that the user typed is not requested.
    """
    for row in draw_users(split, scope.users, scope.seed):
        start = split.offsets[row].item()
        cutoffs = list(enumerate(preference_cutoffs(split, row)))
        event_indices = query_events(split, row, scope.events)
        for language in scope.languages:
            for focus, (event_index, variant) in cutoffs:
                yield WantedText(row, event_index, TextKind.PREFERENCE, variant, language, focus)
            for event_index in event_indices:
                for intention, kind in QUERY_KINDS.items():
                    if not _is_typed(split, start + event_index, intention):
                        # By position: the texts do not depend on the user's number.
                        focus = (
                            derive_key(scope.seed, RandomStream.TEACHER_ANGLE, start + event_index)
                            >> 32
                        )
                        yield WantedText(row, event_index, kind, 0, language, focus)
                if scope.reasons and event_index:
                    yield WantedText(row, event_index, TextKind.REASON, 0, language)


def make_requests(
    split: Split, scope: RequestScope, write_prompt: TeacherPromptWriter
) -> Iterator[TextRequest]:
    """Yields the requests in the order of `wanted_texts`, each made when it is read."""
    row, titles = -1, ()
    for wanted in wanted_texts(split, scope):
        if wanted.row != row:
            row, titles = wanted.row, user_titles(split, wanted.row)
        messages = write_prompt(wanted)
        if messages:
            yield TextRequest(wanted, int(split.users[row]), messages, titles)


def user_titles(split: Split, row: int) -> tuple[tuple[str, ...], ...]:
    """Returns the titles of a user's items as words, with and without a final bracket."""
    items = np.unique(split.items[split.offsets[row] : split.offsets[row + 1]])
    titles: dict[tuple[str, ...], None] = {}
    for title in split.catalog["title"][items].to_list():
        titles[words_of(title).run] = None
        titles[words_of(_BRACKETS.sub("", title)).run] = None
    return tuple(words for words in titles if words)


@dataclasses.dataclass(frozen=True)
class PromptTexts:
    """The prompts for chat models in one language.

    Attributes:
        system: The system message.
        templates: Kind -> the user message, with `{data}` and other slots.
        focuses: Kind -> sentences that say what the text is about; a request has one of them.
        domains: Domain -> a description of the log's source.
        corrections: Rejection -> sentence that is added to the next request for the text.
    """

    system: str
    templates: Mapping[TextKind, str]
    focuses: Mapping[TextKind, tuple[str, ...]]
    domains: Mapping[str, str]
    corrections: Mapping[Rejection, str]


@functools.cache
def load_prompts(language: str) -> PromptTexts:
    """Reads `prompts/LANGUAGE.toml` of this package.

    Raises:
        InputError: The language has no prompts.
    """
    if language not in PROMPT_LANGUAGES:
        raise InputError(
            f"no prompts for chat models in '{language}'; {nearest(language, PROMPT_LANGUAGES)}",
            where="instructions.packs",
            hint="Leave that pack out, or write its texts with --by model.",
        )
    file = importlib.resources.files(_PACKAGE).joinpath("prompts", f"{language}.toml")
    raw: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
    return PromptTexts(
        system=raw["system"].strip(),
        templates={kind: raw[kind.value].strip() for kind in TextKind},
        focuses={kind: tuple(raw["focuses"][kind.value]) for kind in TextKind},
        domains=raw["domains"],
        corrections={rejection: raw["corrections"][rejection.value] for rejection in Rejection},
    )


@dataclasses.dataclass(frozen=True, eq=False)
class ChatPromptWriter:
    """Writes prompts for chat models; data of the log is escaped JSON on a line of its own.

    Attributes:
        split: The split that texts are requested for.
        domain: A key of `PromptTexts.domains`.
        columns: Column of the catalog -> `[items]` values.
    """

    split: Split
    domain: str
    columns: Mapping[str, list]

    @classmethod
    def build(cls, split: Split, domain: str) -> "ChatPromptWriter":
        """Reads the catalog."""
        names = ("title", "categories", "brand", "price", "description")
        columns = {n: split.catalog[n].to_list() for n in names if n in split.catalog.columns}
        return cls(split, domain, columns)

    def __call__(self, wanted: WantedText) -> tuple[tuple[str, str], ...]:
        """Returns the system and the user message."""
        prompts = load_prompts(wanted.language)
        start = self.split.offsets[wanted.row].item()
        position = start + wanted.event_index
        earlier = range(max(start, position - HISTORY), position)
        if wanted.kind is TextKind.PREFERENCE:
            data: Any = [self._event_data(p, _MAX_EXTRACT) for p in earlier]
        elif wanted.kind is TextKind.REASON:
            before = [self._event_data(p, _MAX_EXTRACT) for p in earlier]
            data = {"earlier": before, "item": self._event_data(position, _MAX_REVIEW)}
        else:
            data = self._event_data(position, _MAX_REVIEW)
        focuses = prompts.focuses[wanted.kind]
        # Half of the limit of the check, in words or in Chinese characters (two per word).
        max_length = int(LENGTHS[wanted.kind][1] / 2) * (2 if wanted.language == "zh" else 1)
        slots = {
            "domain": prompts.domains[self.domain],
            "focus": focuses[wanted.focus % len(focuses)],
            "max_length": str(max_length),
            "data": _escaped_json(data),
        }
        prompt = re.sub(r"\{(\w+)\}", lambda m: slots[m[1]], prompts.templates[wanted.kind])
        return ("system", prompts.system), ("user", prompt)

    def _event_data(self, position: int, max_length: int) -> dict[str, Any]:
        """Returns the metadata of the event's item and the user's review of it."""
        item = int(self.split.items[position])
        fields: dict[str, Any] = {}
        for name, values in self.columns.items():
            value = values[item]
            if not value:
                continue
            if name == "categories":
                fields[name] = [
                    _truncate(str(label), _MAX_TITLE) for label in value[:_MAX_CATEGORIES]
                ]
            elif name == "description":
                fields[name] = _truncate(value, max_length)
            else:
                fields[name] = value if name == "price" else _truncate(value, _MAX_TITLE)
        review = self.split.reviews[position] if len(self.split.reviews) else ""
        return fields | ({"review": _truncate(review, max_length)} if review else {})


@dataclasses.dataclass(frozen=True, eq=False)
class RunPromptWriter:
    """Writes prompts for a tuned run, by the templates of its own turned-around tasks.

    Attributes:
        split: The split that texts are requested for.
        prompt_writer: The run's template packs and its names of the items of `split`.
    """

    split: Split
    prompt_writer: PromptWriter

    def __call__(self, wanted: WantedText) -> tuple[tuple[str, str], ...]:
        """Returns the prompt, () if the run was not tuned on a task with such an answer.

        If the templates of vague and specific queries are equal, only the vague query is
        requested.
        """
        pack = self.prompt_writer.pack(wanted.language)
        start = self.split.offsets[wanted.row].item()
        earlier = self.split.items[start : start + wanted.event_index]
        intentions = {TextKind.VAGUE: Intention.VAGUE, TextKind.SPECIFIC: Intention.SPECIFIC}
        intention = intentions.get(wanted.kind, Intention.NONE)
        task = self._task(wanted, len(earlier) > 0)
        if task is None:
            return ()
        template = _serving_template(pack, task, intention)
        if intention is Intention.SPECIFIC and template == _serving_template(
            pack, task, Intention.VAGUE
        ):
            return ()
        values = {Slot.HISTORY: self._item_names(earlier)}
        if Slot.TARGET in template.slots:
            item = int(self.split.items[start + wanted.event_index])
            values[Slot.TARGET] = self.prompt_writer.names[item]
        return (("user", template.fill(values)),)

    def _task(self, wanted: WantedText, has_history: bool) -> TaskName | None:
        """Returns the task whose answer is such a text, if the run was tuned on it."""
        choices = {
            TextKind.PREFERENCE: (TaskName.HISTORY_TO_PREFERENCE,),
            TextKind.REASON: (TaskName.HISTORY_ITEM_TO_REASON,),
        }.get(wanted.kind, (TaskName.HISTORY_ITEM_TO_QUERY, TaskName.ITEM_TO_QUERY))
        if not has_history:
            choices = choices[-1:]
        return next((name for name in choices if name in self.prompt_writer.config.tasks), None)

    def _item_names(self, items: Int[np.ndarray, " history"]) -> str:
        return self.prompt_writer.join_names(
            items[-self.prompt_writer.config.max_history :].tolist()
        )


def _serving_template(pack: TemplatePack, task: TaskName, intention: Intention) -> Any:
    """Returns the first template for this intention alone, or the first of all."""
    templates = pack.of(task, intention)
    return min(templates, key=lambda template: len(template.intentions))


def _is_typed(split: Split, position: int, intention: Intention) -> bool:
    is_kind = split.intentions[position] == INTENTION_CODES[intention]
    return bool(is_kind and clean(split.queries[position]))


def _truncate(text: str, max_length: int) -> str:
    text = clean(text)
    return text if len(text) <= max_length else text[:max_length].rstrip() + "…"


def _escaped_json(value: Any) -> str:
    """Writes JSON on one line; `<` and `>` are escaped, as chat templates use them for tags."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return re.sub("[<>]", lambda match: _ESCAPES[match[0]], text)
