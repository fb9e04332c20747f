"""Which instructions are made from a log."""

import dataclasses
import enum
from pathlib import Path
from typing import Literal

from irec_jax.bounds import LENGTH, SHARE, Range, check_settings
from irec_jax.errors import InputError, nearest
from irec_jax.instructions.forms import Preference, TaskName
from irec_jax.instructions.tasks import NAMED_TASKS, Task, task_named

Domain = Literal["shop", "content", "social", "finance"]
TeacherKind = Literal["log", "metadata", "notes"]

BUILT_IN_PACKS = ("en", "zh")
PACK_SUFFIX = ".toml"


class ContextPart(enum.Enum):
    """What a prompt can say of the moment of a request."""

    TIME = "time"
    SEASON = "season"
    PLACE = "place"
    POPULAR = "popular"


@dataclasses.dataclass(frozen=True)
class InstructionsConfig:
    """Which instructions are made from a log.

    Attributes:
        tasks: What is trained on; a task listed twice is sampled twice as often.
        packs: Template packs, one a language: `en` or `zh`, or the path of a TOML file of your
            own. Each instruction is written with one of them; the first is the one for serving.
        domain: The packs' nouns and verbs.
        max_history: How many of the last items of a history are written into a prompt.
        answer_items: How many of the next items a training answer of sequential recommendation
            lists. More than 1 teaches more from one reading of a prompt (the first is the answer,
            the others follow it, each given those before); needs the atomic index. Queries are
            always answered by one item.
        candidates: How many items a reranking prompt offers, the right one among them.
        context: What prompts say of the moment; templates without the slot leave it out.
        teacher: Who writes preferences and queries: `log` has only the queries that users typed,
            `metadata` also writes them from titles, categories, brands, prices and reviews, and
            `notes` reads what `irec teach` had a model write.
        notes: The folder that `irec teach` wrote; read by the teacher `notes` only.
        max_overlap: The audit refuses a set whose queries hold, on average, a larger share of
            words of the title that answers them, 0 to 1.
    """

    tasks: tuple[TaskName, ...] = NAMED_TASKS
    packs: tuple[str, ...] = ("en",)
    domain: Domain = "shop"
    max_history: int = 20
    answer_items: int = 1
    candidates: int = 10
    context: tuple[ContextPart, ...] = ()
    teacher: TeacherKind = "log"
    notes: str = ""
    max_overlap: float = 0.5

    def __post_init__(self) -> None:
        check_settings(
            self,
            "instructions.",
            max_history=LENGTH,
            answer_items=LENGTH,
            candidates=Range(2, 2**16),
            max_overlap=SHARE,
        )
        if not self.tasks:
            raise InputError(
                "no task is listed",
                where="instructions.tasks",
                hint=f"list one or more of: {', '.join(name.value for name in TaskName)}.",
            )
        self._check_packs()
        self._check_sources()

    def _check_packs(self) -> None:
        where = "instructions.packs"
        if not self.packs:
            raise InputError("no pack is listed", where=where, hint="list en, zh, or a TOML file.")
        for name in self.packs:
            if self.packs.count(name) > 1:
                raise InputError(f"'{name}' is listed twice", where=where, hint="list it once.")
            if name not in BUILT_IN_PACKS and not name.endswith(PACK_SUFFIX):
                allowed = [*BUILT_IN_PACKS, f"the path of a {PACK_SUFFIX} file"]
                raise InputError(f"'{name}'; {nearest(name, allowed)}", where=where)

    def _check_sources(self) -> None:
        """Refuses tasks that nothing in these settings can feed, and settings nothing reads."""
        tasks = [task_named(name) for name in dict.fromkeys(self.tasks)]
        if (self.teacher == "notes") != bool(self.notes):
            raise InputError(
                f"the teacher is '{self.teacher}', and the notes are '{self.notes}'",
                where="instructions.notes",
                hint="set instructions.teacher to notes and instructions.notes to the folder "
                "that `irec teach` wrote, or neither.",
            )
        if len(set(self.context)) < len(self.context):
            raise InputError("a part is listed twice", where="instructions.context")
        for task in tasks:
            self._check_task(task)

    def _check_task(self, task: Task) -> None:
        told = f"'{task.name.value}'"
        if self.teacher == "log" and (
            task.preference is Preference.EXPLICIT or task.reads_preference or task.reads_reason
        ):
            raise InputError(
                f"{told} needs somebody to write preferences, and a log has none",
                where="instructions.teacher",
                hint="use the teacher metadata or notes, or leave the task out.",
            )
        if task.needs_context and not self.context:
            raise InputError(
                f"{told} tells nothing but the context, and there is none",
                where="instructions.context",
                hint="list one or more of time, season, place, popular, or leave the task out.",
            )


def pack_path(name: str) -> Path | None:
    """Returns the file of a user's own pack, None for one that comes with the package."""
    return None if name in BUILT_IN_PACKS else Path(name)
