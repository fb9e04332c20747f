"""Prompts from requests: item names and templates, without a log, so that it can serve."""

import dataclasses
from collections.abc import Mapping, Sequence

from irec_jax.errors import InputError, nearest
from irec_jax.instructions.built_in_tasks import task_of
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import Request, TaskForm
from irec_jax.instructions.slots import SLOT_FILLERS, AnySlot, SlotInputs, slot_name
from irec_jax.instructions.tasks import Task
from irec_jax.instructions.templates import Template, TemplatePack, load_packs
from irec_jax.text_cleaning import clean

SEPARATOR = " ; "
"""Between two item names; names of one word each need only a space."""

_CANDIDATE_COUNTS = {TaskForm.MATCHING: 0, TaskForm.POINTWISE: 1, TaskForm.PAIRWISE: 2}


@dataclasses.dataclass(frozen=True)
class PromptWriter:
    """Writes requests as prompts.

    Attributes:
        config: Packs, domain and length of the history.
        names: `[items]` the cleaned name of each item.
        packs: The template packs; the first one is used for serving.
        separator: Between two item names.
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
            config: The packs.
            names: `[items]` the name of each item.
            packs: The packs, if they are already read.

        Raises:
            InputError: A name is empty after cleaning, or a pack cannot be read.
        """
        cleaned = tuple(map(clean, names))
        if "" in cleaned:
            raise InputError(
                f"item number {cleaned.index('')} has no name",
                where="items.title",
                hint="Give every item a title with letters or digits.",
            )
        if packs is None:
            packs = load_packs(config.packs, config.domain, config.own_tasks)
        return cls(config, cleaned, packs, SEPARATOR if _has_spaces(cleaned) else " ")

    def pack(self, language: str) -> TemplatePack:
        """Returns the pack of a language, the first pack for "".

        Raises:
            InputError: There is no pack of the language.
        """
        for pack in self.packs:
            if language in ("", pack.language):
                return pack
        languages = [pack.language for pack in self.packs]
        raise InputError(
            f"no pack is in the language '{language}'",
            where="instructions.packs",
            hint=nearest(language, languages),
        )

    def join_names(self, items: Sequence[int]) -> str:
        """Returns the names of item numbers with the separator between them."""
        return self.separator.join([self.names[item] for item in items])

    def prompt(self, request: Request) -> str:
        """Writes a request as the model's input.

        The user's words are cleaned and not changed otherwise. Unless the request names a
        template, the first of those with the most slots is used that the request can fill.

        Args:
            request: Its history is cut to the last `max_history` items.

        Raises:
            InputError: A slot cannot be filled, an item number is not in the catalog, or the
                template, language or scenario does not exist.
        """
        task = task_of(request.scenario)
        pack = self.pack(request.language)
        self._check(request, task)
        inputs = self._slot_inputs(request)
        filled = {slot: fill(inputs, self.join_names) for slot, fill in SLOT_FILLERS.items()}
        values: dict[AnySlot, str] = {slot: text for slot, text in filled.items() if text}
        return self._template(request, task, pack, values).fill(values)

    def _slot_inputs(self, request: Request) -> SlotInputs:
        return SlotInputs(
            history=request.history[-self.config.max_history :],
            candidates=request.candidates,
            query=clean(request.instruction),
            preference=clean(request.preference),
            context=clean(request.context),
        )

    def _template(
        self, request: Request, task: Task, pack: TemplatePack, values: Mapping[AnySlot, str]
    ) -> Template:
        if request.template:
            template = pack.named(request.template)
            if template.task != task.name or request.scenario.intention not in template.intentions:
                raise InputError(
                    f"the template '{template.name}' is for {template.task.value}, and the request "
                    f"is for {task.name.value} ({request.scenario.intention.value})",
                    where="request.template",
                )
            templates = (template,)
        else:
            templates = pack.of(task.name, request.scenario.intention)
        fillable = [t for t in templates if all(slot in values for slot in t.slots)]
        if not fillable:
            missing = next(slot for slot in templates[0].slots if slot not in values)
            raise InputError(
                f"the request has no text for the slot {{{slot_name(missing)}}} of the template "
                f"'{templates[0].name}'",
                where="request",
                hint="Give the request a history and an instruction where its scenario has them, "
                "or use another scenario.",
            )
        return max(fillable, key=lambda template: len(template.slots))

    def _check(self, request: Request, task: Task) -> None:
        required = _CANDIDATE_COUNTS.get(task.form)
        count = len(request.candidates)
        if count != required if required is not None else count < 2:
            expected = "two or more" if required is None else str(required)
            raise InputError(
                f"{count} candidates for the task {task.name.value}, which takes {expected}",
                where="request.candidates",
            )
        for where, items in (("history", request.history), ("candidates", request.candidates)):
            for item in items:
                if not 0 <= item < len(self.names):
                    raise InputError(
                        f"item number {item} is not in the catalog of {len(self.names)} items",
                        where=f"request.{where}",
                    )


def _has_spaces(names: tuple[str, ...]) -> bool:
    return any(" " in name for name in names)
