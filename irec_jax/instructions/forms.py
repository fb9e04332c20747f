"""The terms of the instruction space: preference x intention x task form (paper, section 2.1)."""

import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

ANSWER_MARK = " => "
"""The separator in an answer between the leading text and the item that is graded."""


class Preference(enum.StrEnum):
    """The user's taste in an instruction: P0 (none), P1 (the history), P2 (a sentence)."""

    NONE = "none"
    IMPLICIT = "implicit"
    EXPLICIT = "explicit"


class Intention(enum.StrEnum):
    """The user's current wish: I0 (none), I1 (vague), I2 (specific)."""

    __hash__ = object.__hash__  # there is one of each; `Enum` hashes the name, in Python

    NONE = "none"
    VAGUE = "vague"
    SPECIFIC = "specific"


class TaskForm(enum.StrEnum):
    """How the answer is asked for: T0 to T3."""

    POINTWISE = "pointwise"
    PAIRWISE = "pairwise"
    MATCHING = "matching"
    RERANKING = "reranking"


class Strategy(enum.StrEnum):
    """How an instruction was made (paper, section 2.2.3)."""

    PLAIN = "plain"
    TURN_AROUND = "turn_around"
    RELATEDNESS = "relatedness"
    CHAIN_OF_THOUGHT = "chain_of_thought"


class Slot(enum.StrEnum):
    """A placeholder of a template; the value is its name in packs."""

    __hash__ = object.__hash__

    HISTORY = "history"
    PREFERENCE = "preference"
    QUERY = "query"
    CANDIDATE = "candidate"
    FIRST = "first"
    SECOND = "second"
    CANDIDATES = "candidates"
    TARGET = "target"
    CONTEXT = "context"


class Part(enum.StrEnum):
    """A part of an answer."""

    __hash__ = object.__hash__

    ITEM = "item"
    VERDICT = "verdict"
    PREFERENCE = "preference"
    QUERY = "query"
    REASON = "reason"
    HISTORY = "history"


class Group(enum.StrEnum):
    """The paper's groups of templates (appendix)."""

    PREFERENCE = "preference"
    INTENTION = "intention"
    COMBINED = "combined"


class TaskName(enum.StrEnum):
    """The tasks by name, as configs and reports write them."""

    SEQUENTIAL_RECOMMENDATION = "sequential_recommendation"
    SEQUENTIAL_POINTWISE = "sequential_pointwise"
    SEQUENTIAL_PAIRWISE = "sequential_pairwise"
    SEQUENTIAL_RERANKING = "sequential_reranking"
    PREFERENCE_RECOMMENDATION = "preference_recommendation"
    PREFERENCE_POINTWISE = "preference_pointwise"
    PREFERENCE_PAIRWISE = "preference_pairwise"
    PREFERENCE_RERANKING = "preference_reranking"
    CONTEXT_RECOMMENDATION = "context_recommendation"
    CONTEXT_POINTWISE = "context_pointwise"
    CONTEXT_PAIRWISE = "context_pairwise"
    CONTEXT_RERANKING = "context_reranking"
    PRODUCT_SEARCH = "product_search"
    PRODUCT_SEARCH_POINTWISE = "product_search_pointwise"
    PRODUCT_SEARCH_PAIRWISE = "product_search_pairwise"
    PRODUCT_SEARCH_RERANKING = "product_search_reranking"
    PERSONALIZED_SEARCH = "personalized_search"
    PERSONALIZED_SEARCH_POINTWISE = "personalized_search_pointwise"
    PERSONALIZED_SEARCH_PAIRWISE = "personalized_search_pairwise"
    PERSONALIZED_SEARCH_RERANKING = "personalized_search_reranking"
    PREFERENCE_SEARCH = "preference_search"
    PREFERENCE_SEARCH_POINTWISE = "preference_search_pointwise"
    PREFERENCE_SEARCH_PAIRWISE = "preference_search_pairwise"
    PREFERENCE_SEARCH_RERANKING = "preference_search_reranking"
    HISTORY_TO_PREFERENCE = "history_to_preference"
    ITEM_TO_QUERY = "item_to_query"
    HISTORY_ITEM_TO_QUERY = "history_item_to_query"
    HISTORY_ITEM_TO_REASON = "history_item_to_reason"
    QUERY_TO_ITEMS = "query_to_items"
    QUERY_ITEM_TO_HISTORY = "query_item_to_history"
    HISTORY_TO_QUERY_ITEM = "history_to_query_item"
    REASONED_RECOMMENDATION = "reasoned_recommendation"
    REASONED_SEARCH = "reasoned_search"


@dataclasses.dataclass(frozen=True)
class CustomTaskName:
    """The name of a task that is defined outside the package.

    Attributes:
        value: The name in configs, template packs and reports.
    """

    value: str


AnyTaskName = TaskName | CustomTaskName


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A combination <P, I, T>."""

    preference: Preference
    intention: Intention
    form: TaskForm

    @property
    def code(self) -> str:
        """A short name for files and tables, such as `implicit-none-matching`."""
        return f"{self.preference.value}-{self.intention.value}-{self.form.value}"


_WORDS = {
    "vague": "a vague query",
    "specific": "a specific query",
    "implicit": "a history",
    "explicit": "a stated preference",
    "pointwise": "yes or no",
    "pairwise": "one of two items",
    "matching": "over the whole catalog",
    "reranking": "over the listed items",
}


def scenario_words(code: str) -> str:
    """Writes a scenario for people.

    >>> scenario_words("implicit-none-matching"), scenario_words("none-vague-pointwise")
    ('a history, over the whole catalog', 'a vague query, yes or no')
    """
    preference, intention, form = code.split("-")
    parts = [_WORDS[each] for each in (preference, intention) if each != "none"]
    return ", ".join([*parts, _WORDS[form]])


def task_words(name: str) -> str:
    """Writes the name of a task or a strategy for people.

    >>> task_words("product_search")
    'product search'
    """
    return name.replace("_", " ")


@dataclasses.dataclass(frozen=True)
class Request:
    """One question to a ranker; it never holds the answer.

    Attributes:
        scenario: What is asked.
        history: Item numbers, oldest first, not yet cut to `max_history`.
        instruction: The user's own words now (a query), "" where there are none.
        user: The log's user number, -1 for somebody new.
        time: The moment of the request in the log's time, -1 for now.
        exclude: Item numbers that may not be returned (usually the history).
        preference: The user's taste in a sentence, "" where it is not given.
        candidates: The items of the prompt: one for pointwise, two for pairwise, any number for
            reranking, none for matching.
        context: Time, place, season or what is popular now, as a phrase; "" where it is not given.
        language: Of the prompt, BCP 47; "" for the first template pack.
        template: The template's name; "" for the one for serving.
    """

    scenario: Scenario
    history: tuple[int, ...]
    instruction: str = ""
    user: int = -1
    time: int = -1
    exclude: tuple[int, ...] = ()
    preference: str = ""
    candidates: tuple[int, ...] = ()
    context: str = ""
    language: str = ""
    template: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """The answer of a ranker to a list of requests.

    Attributes:
        scores: `[requests, items]` float32 over the whole catalog, higher is better; -inf for an
            item that the ranker will not return. Equal scores are ties and are counted half.
    """

    scores: Float[np.ndarray, "requests items"]


Ranker = Callable[[Sequence[Request]], Ranking]


class Instruction(NamedTuple):
    """One rendered example and what it was made from; the fields are the stored record's.

    Attributes:
        inputs: The prompt.
        targets: The answer.
        scenario: `Scenario.code`.
        strategy: A value of `Strategy`, `plain` for a direct question.
        task: The name of the task.
        template: The template's name in its pack.
        language: BCP 47, such as `en`.
        user: The log's user number; never part of `inputs`.
        target_item: The item number that the answer ends with, -1 where it ends with none.
        candidates: Item numbers in the prompt, empty for matching.
        split: `train`, `validation` or `test`.
        seed: The seed that it was rendered with.
    """

    inputs: str
    targets: str
    scenario: str
    strategy: str
    task: str
    template: str
    language: str
    user: int
    target_item: int
    candidates: tuple[int, ...]
    split: str
    seed: int


def graded_part(answer: str) -> str:
    """Returns what is graded of an answer: the item alone, without what was said before it.

    >>> graded_part("likes quiet films => Stalker"), graded_part("Stalker")
    ('Stalker', 'Stalker')
    """
    return answer.rpartition(ANSWER_MARK)[2]
