"""How requests are written: item names and templates, without a log, so that it can serve."""

import dataclasses
from collections.abc import Mapping, Sequence

from irec_jax.errors import InputError, nearest
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import Request, Slot, TaskForm
from irec_jax.instructions.tasks import Task, task_of
from irec_jax.instructions.templates import Template, TemplatePack, load_packs
from irec_jax.instructions.third_person import to_third_person
from irec_jax.text_cleaning import clean

SEPARATOR = " ; "
"""Between two item names; names that are one word each need only a space."""

_CANDIDATES = {TaskForm.MATCHING: 0, TaskForm.POINTWISE: 1, TaskForm.PAIRWISE: 2}


@dataclasses.dataclass(frozen=True)
class PromptWriter:
    """How requests are written: item names and templates.

    Attributes:
        config: Packs, domain and length of the history.
        names: `[items]` how each item number is written, cleaned.
        packs: The template packs, the one for serving first.
        separator: What stands between two item names.
    """

    config: InstructionsConfig
    names: tuple[str, ...]
    packs: tuple[TemplatePack, ...]
    separator: str = SEPARATOR

    @classmethod
    def build(
        cls,
        config: InstructionsConfig,
        names: Sequence[str],
        packs: tuple[TemplatePack, ...] | None = None,
    ) -> "PromptWriter":
        """Reads the packs and cleans the names.

        Args:
            config: Says which packs.
            names: `[items]` how each item number is written.
            packs: The packs, where they have been read already.

        Raises:
            InputError: A name has nothing to read in it, or a pack cannot be read.
        """
        cleaned = tuple(map(clean, names))
        if "" in cleaned:
            raise InputError(
                f"item number {cleaned.index('')} has no name",
                where="items.title",
                hint="give every item a title that can be read.",
            )
        if packs is None:
            packs = load_packs(config.packs, config.domain)
        return cls(config, cleaned, packs, SEPARATOR if _any_phrase(cleaned) else " ")

    def pack(self, language: str) -> TemplatePack:
        """Returns the pack of a language, "" for the first.

        Raises:
            InputError: There is none.
        """
        for pack in self.packs:
            if language in ("", pack.language):
                return pack
        languages = [pack.language for pack in self.packs]
        raise InputError(
            f"no pack is in the language '{language}'; {nearest(language, languages)}",
            where="instructions.packs",
        )

    def written(self, items: Sequence[int]) -> str:
        """Writes item numbers one after the other."""
        return self.separator.join([self.names[item] for item in items])

    def prompt(self, request: Request) -> str:
        """Writes a request as the model's input.

        The user's own words become the model's: on one line, and in the third person. Unless the
        request names a template, it is the first one that shows the most of what the request
        holds.

        Args:
            request: Its history is cut to the last `max_history` items.

        Raises:
            InputError: A slot has nothing to fill it, an item number is not in the catalog, or
                there is no such template, language, or scenario.
        """
        task = task_of(request.scenario)
        pack = self.pack(request.language)
        self._check(request, task)
        values = self._values(request, pack)
        return self._template(request, task, pack, values).fill(values)

    def _values(self, request: Request, pack: TemplatePack) -> dict[Slot, str]:
        history = request.history[-self.config.max_history :]
        names = [self.names[item] for item in request.candidates]
        values = {
            Slot.HISTORY: self.written(history),
            Slot.PREFERENCE: to_third_person(clean(request.preference), pack.language, pack.person),
            Slot.QUERY: to_third_person(clean(request.instruction), pack.language, pack.person),
            Slot.CONTEXT: clean(request.context),
            Slot.CANDIDATES: self.separator.join(names),
        }
        if request.scenario.form is TaskForm.POINTWISE:
            values[Slot.CANDIDATE] = names[0]
        if request.scenario.form is TaskForm.PAIRWISE:
            values |= {Slot.FIRST: names[0], Slot.SECOND: names[1]}
        return {slot: value for slot, value in values.items() if value}

    def _template(
        self, request: Request, task: Task, pack: TemplatePack, values: Mapping[Slot, str]
    ) -> Template:
        if request.template:
            template = pack.named(request.template)
            if (
                template.task is not task.name
                or request.scenario.intention not in template.intentions
            ):
                raise InputError(
                    f"the template '{template.name}' words {template.task.value}, and the request "
                    f"is one of {task.name.value} ({request.scenario.intention.value})",
                    where="request.template",
                )
            templates = (template,)
        else:
            templates = pack.of(task.name, request.scenario.intention)
        fillable = [t for t in templates if all(slot in values for slot in t.slots)]
        if not fillable:
            missing = next(slot for slot in templates[0].slots if slot not in values)
            raise InputError(
                f"nothing to write in the slot {{{missing.value}}} of the template "
                f"'{templates[0].name}'",
                where="request",
                hint="give the request a history and an instruction where its scenario has them, "
                "or ask in another scenario.",
            )
        return max(fillable, key=lambda template: len(template.slots))

    def _check(self, request: Request, task: Task) -> None:
        wanted = _CANDIDATES.get(task.form)
        count = len(request.candidates)
        if count != wanted if wanted is not None else count < 2:
            told = "two or more" if wanted is None else str(wanted)
            raise InputError(
                f"{count} candidates for the task {task.name.value}, which takes {told}",
                where="request.candidates",
            )
        for where, items in (("history", request.history), ("candidates", request.candidates)):
            for item in items:
                if not 0 <= item < len(self.names):
                    raise InputError(
                        f"item number {item} is not in the catalog of {len(self.names)} items",
                        where=f"request.{where}",
                    )


def _any_phrase(names: tuple[str, ...]) -> bool:
    return any(" " in name for name in names)
