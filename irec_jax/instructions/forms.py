"""The words of the instruction space: preference x intention x task form (paper, section 2.1)."""

import dataclasses
import enum
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float


class Preference(enum.Enum):
    """What the instruction says of the user's taste: P0, P1 (the history), P2 (a sentence)."""

    NONE = "none"
    IMPLICIT = "implicit"
    EXPLICIT = "explicit"


class Intention(enum.Enum):
    """What the user wants now: I0, I1, I2."""

    NONE = "none"
    VAGUE = "vague"
    SPECIFIC = "specific"


class TaskForm(enum.Enum):
    """How the answer is asked for: T0 to T3."""

    POINTWISE = "pointwise"
    PAIRWISE = "pairwise"
    MATCHING = "matching"
    RERANKING = "reranking"


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
    """

    scenario: Scenario
    history: tuple[int, ...]
    instruction: str = ""
    user: int = -1
    time: int = -1
    exclude: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """What a ranker answers for a list of requests.

    Attributes:
        scores: `[requests, items]` float32 over the whole catalog, higher is better; -inf for an
            item that the ranker will not return. Equal scores are ties and are counted half.
    """

    scores: Float[np.ndarray, "requests items"]


Ranker = Callable[[Sequence[Request]], Ranking]


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One rendered example and what it was made from; the fields are the stored record's.

    Attributes:
        inputs: The prompt.
        targets: The answer.
        scenario: `Scenario.code`.
        strategy: How it was made, `plain` for a direct question.
        template: The template's name in its pack.
        language: BCP 47, such as `en`.
        user: The log's user number; never part of `inputs`.
        target_item: The item number of the answer, -1 where the answer is no item.
        candidates: Item numbers in the prompt, empty for matching.
        split: `train`, `validation` or `test`.
        seed: The seed that it was rendered with.
    """

    inputs: str
    targets: str
    scenario: str
    strategy: str
    template: str
    language: str
    user: int
    target_item: int
    candidates: tuple[int, ...]
    split: str
    seed: int
