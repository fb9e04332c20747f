"""The settings of instructions."""

import dataclasses
import enum
from typing import Annotated, Literal

import tyro

from irec_jax.bounds import LENGTH, SHARE, Range, check_settings
from irec_jax.errors import InputError, nearest
from irec_jax.instructions.built_in_tasks import NAMED_TASKS, task_named
from irec_jax.instructions.forms import Preference, TaskName
from irec_jax.instructions.tasks import Task
from irec_jax.instructions.teacher import TeacherSettings
from irec_jax.settings import ImportedSettings, name_or_settings

Domain = Literal["shop", "content", "social", "finance"]
TeacherKind = Literal["log", "metadata", "texts"]

BUILT_IN_PACKS = ("en", "zh")
PACK_SUFFIX = ".toml"


class ContextPart(enum.StrEnum):
    """The parts of a request context."""

    TIME = "time"
    SEASON = "season"
    PLACE = "place"
    POPULAR = "popular"


@dataclasses.dataclass(frozen=True)
class InstructionsConfig:
    """The instructions that are made from a log.

    Attributes:
        tasks: The tasks that are trained on; a task listed twice is sampled twice as often.
        packs: Template packs, one per language: `en`, `zh`, or the path of your own TOML file.
            Each instruction uses one of them; the first is used for serving.
        domain: The packs' nouns and verbs.
        max_history: The number of last items of a history in a prompt.
        answer_items: The number of next items in a training answer of sequential recommendation.
            More than 1 gives more targets per encoded prompt and needs the atomic index. The
            answer of a query is always one item.
        candidates: The number of items in a reranking prompt, the target included.
        context: The parts of the request context; templates without the slot omit it.
        teacher: The source of preferences and queries: `log` has only the queries that users
            typed, `metadata` also writes them from titles, categories, brands, prices and
            reviews, and `texts` reads the texts that `irec teach` wrote. In a config file, also
            settings of your own with `build(split, seed)`.
        teacher_texts: The folder that `irec teach` wrote; read by the teacher `texts` only.
        max_overlap: The audit refuses a set if the mean share of query words that occur in the
            title of the answer is larger, 0 to 1.
        understanding: The share of the training examples that teach which words of a request are
            conditions (a category, a brand, an attribute, a price, a year; wanted or excluded),
            0 to 0.5. 0 for a run that does not read conditions in requests.
        own_tasks: Your own tasks, trained on beside `tasks`; set in a config file only.
    """

    tasks: tuple[TaskName, ...] = NAMED_TASKS
    packs: tuple[str, ...] = ("en",)
    domain: Domain = "shop"
    max_history: int = 20
    answer_items: int = 1
    candidates: int = 10
    context: tuple[ContextPart, ...] = ()
    teacher: Annotated[
        TeacherKind | TeacherSettings | ImportedSettings,
        name_or_settings("log", "metadata", "texts"),
    ] = "log"
    teacher_texts: str = ""
    max_overlap: float = 0.5
    understanding: float = 0.0
    own_tasks: tyro.conf.Suppress[tuple[Task, ...]] = ()

    def __post_init__(self) -> None:
        check_settings(
            self,
            "instructions.",
            max_history=LENGTH,
            answer_items=LENGTH,
            candidates=Range(2, 2**16),
            max_overlap=SHARE,
            understanding=Range(0, 0.5, "Set it to 0.2, or to 0 to leave it out."),
        )
        if not self.tasks and not self.own_tasks:
            raise InputError(
                "no task is listed",
                where="instructions.tasks",
                hint=f"List one or more of: {', '.join(name.value for name in TaskName)}.",
            )
        self._check_packs()
        self._check_sources()

    @property
    def listed_tasks(self) -> tuple[Task, ...]:
        """The tasks by name and the own tasks, in this order, with repetitions."""
        return (*map(task_named, self.tasks), *self.own_tasks)

    def _check_packs(self) -> None:
        where = "instructions.packs"
        if not self.packs:
            raise InputError("no pack is listed", where=where, hint="List en, zh, or a TOML file.")
        for name in self.packs:
            if self.packs.count(name) > 1:
                raise InputError(f"'{name}' is listed twice", where=where, hint="List it once.")
            if name not in BUILT_IN_PACKS and not name.endswith(PACK_SUFFIX):
                allowed = [*BUILT_IN_PACKS, f"the path of a {PACK_SUFFIX} file"]
                raise InputError(
                    f"'{name}' is not a pack", where=where, hint=nearest(name, allowed)
                )

    def _check_sources(self) -> None:
        """Refuses tasks without a source of their texts, and settings that no task reads."""
        if (self.teacher == "texts") != bool(self.teacher_texts):
            raise InputError(
                f"the teacher is '{self.teacher}', and the folder is '{self.teacher_texts}'",
                where="instructions.teacher_texts",
                hint="Set instructions.teacher to texts and instructions.teacher_texts to the "
                "folder that `irec teach` wrote, or neither.",
            )
        if len(set(self.context)) < len(self.context):
            raise InputError(
                "a part is listed twice", where="instructions.context", hint="List it once."
            )
        names = [task.name for task in self.own_tasks]
        for name in names:
            if isinstance(name, TaskName) or names.count(name) > 1:
                raise InputError(
                    f"the name '{name.value}' is in use",
                    where="instructions.own_tasks",
                    hint="Name each task of your own with another CustomTaskName.",
                )
        for task in dict.fromkeys(self.listed_tasks):
            self._check_task(task)

    def _check_task(self, task: Task) -> None:
        name = f"'{task.name.value}'"
        if self.teacher == "log" and (
            task.preference is Preference.EXPLICIT or task.reads_preference or task.reads_reason
        ):
            raise InputError(
                f"{name} needs a teacher that writes preferences and reasons, and a log has none",
                where="instructions.teacher",
                hint="Set it to metadata or texts, or leave the task out.",
            )
        if task.needs_context and not self.context:
            raise InputError(
                f"{name} needs a context, and no part is listed",
                where="instructions.context",
                hint="List one or more of time, season, place, popular, or leave the task out.",
            )
