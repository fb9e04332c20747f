"""The renderer: (split, config, names, seed, record number) -> `Instruction`, and nothing else."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from irec_jax.errors import InputError
from irec_jax.instructions.cleaning import clean
from irec_jax.instructions.forms import Instruction, Request, Scenario
from irec_jax.instructions.hashing import derive_key, permutation
from irec_jax.instructions.tasks import InstructionsConfig, Task, task_named
from irec_jax.instructions.templates import HISTORY_SLOT, QUERY_SLOT, Template, load_pack
from irec_jax.log.split import Role, Split

SEPARATOR = " ; "
"""Between two item names; names that are one word each need only a space."""

_ORDER_STREAM, _TEMPLATE_STREAM = 0, 1
_KEPT_ORDERS = 2


@dataclasses.dataclass(frozen=True)
class Wording:
    """How requests are written: item names and templates. It needs no log, so it can serve.

    Attributes:
        config: Language, domain and length of the history.
        names: `[items]` how each item number is written, cleaned.
        templates: The templates of every scenario that the pack words.
        separator: What stands between two item names.
    """

    config: InstructionsConfig
    names: tuple[str, ...]
    templates: dict[Scenario, tuple[Template, ...]]
    separator: str = SEPARATOR

    @classmethod
    def build(cls, config: InstructionsConfig, names: Sequence[str]) -> "Wording":
        """Reads the templates and cleans the names.

        Raises:
            InputError: A name has nothing to read in it.
        """
        cleaned = tuple(map(clean, names))
        if "" in cleaned:
            raise InputError(
                f"item number {cleaned.index('')} has no name",
                where="items.title",
                mend="give every item a title that can be read.",
            )
        pack = load_pack(config.language, config.domain)
        scenarios = dict.fromkeys(s for t in pack.templates for s in t.scenarios)
        templates = {scenario: pack.of(scenario) for scenario in scenarios}
        return cls(config, cleaned, templates, SEPARATOR if _any_phrase(cleaned) else " ")

    def templates_of(self, scenario: Scenario) -> tuple[Template, ...]:
        """Returns the templates of a scenario, the one for serving first.

        Raises:
            InputError: There is none.
        """
        if scenario not in self.templates:
            worded = ", ".join(known.code for known in self.templates)
            raise InputError(
                f"no template words the scenario {scenario.code}",
                where=f"template pack '{self.config.language}'",
                mend=f"ask for one of: {worded}.",
            )
        return self.templates[scenario]

    def prompt(self, request: Request, template: int | None = None) -> str:
        """Writes a request as the model's input.

        Args:
            request: Its history is cut to the last `max_history` items; its instruction may be
                any text.
            template: Which of the scenario's templates; the first unless told.

        Raises:
            InputError: A slot has nothing to fill it, an item number is not in the catalog, or
                there is no such template.
        """
        templates = self.templates_of(request.scenario)
        number = template or 0
        if not 0 <= number < len(templates):
            raise InputError(
                f"there is no template {number}",
                where=f"request in the scenario {request.scenario.code}",
                mend=f"choose one of 0 to {len(templates) - 1}.",
            )
        history = request.history[-self.config.max_history :]
        query = clean(request.instruction)
        self._check(templates[number], history, query)
        return templates[number].fill(self.separator.join([self.names[i] for i in history]), query)

    def _check(self, template: Template, history: tuple[int, ...], query: str) -> None:
        for slot, value in ((HISTORY_SLOT, history), (QUERY_SLOT, query)):
            if slot in template.slots and not value:
                raise InputError(
                    f"nothing to write in the slot {{{slot}}} of the template '{template.name}'",
                    where="request",
                    mend="give the request a history and an instruction where its scenario has "
                    "them, or ask in another scenario.",
                )
        for item in history:
            if not 0 <= item < len(self.names):
                raise InputError(
                    f"item number {item} is not in the catalog of {len(self.names)} items",
                    where="request.history",
                )


@dataclasses.dataclass(frozen=True, eq=False)
class Renderer:
    """Renders the instruction of any record number, again and again to the byte.

    One pass over the data is `len(renderer)` records: every listed task at every position that
    can be its target, once. Each pass is in another order. It can be pickled, and called from
    several threads.

    Attributes:
        wording: Names and templates.
        role: Which events are targets.
        seed: Of the order and of the choice of templates.
        scenarios: The scenarios that occur.
        example_scenario: `[examples]` int8, a number in `scenarios`.
        example_position: `[examples]` int64, the position of the target.
        starts: `[events]` int64, the first position of the same user.
        ends: `[events]` int64, behind the last position that an answer may reach.
        users: `[events]` int64, the log's user number.
        items: `[events]` int32 item numbers.
        queries: `[events]` cleaned, "" where no listed task reads one.
    """

    wording: Wording
    role: Role
    seed: int
    scenarios: tuple[Scenario, ...]
    example_scenario: Int[np.ndarray, " examples"]
    example_position: Int[np.ndarray, " examples"]
    starts: Int[np.ndarray, " events"]
    ends: Int[np.ndarray, " events"]
    users: Int[np.ndarray, " events"]
    items: Int[np.ndarray, " events"]
    queries: list[str]
    _orders: dict[int, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def build(
        cls,
        split: Split,
        config: InstructionsConfig,
        names: Sequence[str],
        seed: int,
        role: Role = Role.TRAIN,
    ) -> "Renderer":
        """Lists the examples of one pass.

        Args:
            split: Targets are its events with the role `role`.
            config: Tasks, templates and length of the history.
            names: `[items]` how each item number is written.
            seed: Of the order and of the choice of templates.
            role: Which events are targets.

        Raises:
            InputError: A listed task has no example in this split, a name is empty, or there are
                not as many names as items.
        """
        if len(names) != len(split.catalog):
            raise InputError(
                f"{len(names)} names for {len(split.catalog)} items", where="item index"
            )
        wording = Wording.build(config, names)
        if config.answer_items > 1 and wording.separator == SEPARATOR:
            raise InputError(
                f"an answer of {config.answer_items} items needs items that are one token each",
                where="instructions.answer_items",
                mend="set it to 1, or tokens.index to atomic.",
            )
        scenarios: list[Scenario] = []
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for name in config.tasks:
            task = task_named(name)
            positions = task.eligible(split, role)
            if not len(positions):
                raise _no_example(task, role)
            parts.append((_scenario_numbers(task, split, positions, scenarios), positions))
        needs_query = any(task_named(name).needs_query for name in config.tasks)
        events = np.diff(split.offsets)
        return cls(
            wording=wording,
            role=role,
            seed=seed,
            scenarios=tuple(scenarios),
            example_scenario=np.concatenate([numbers for numbers, _ in parts]),
            example_position=np.concatenate([positions for _, positions in parts]),
            starts=np.repeat(split.offsets[:-1], events),
            ends=_ends(split, role),
            users=np.repeat(split.users, events),
            items=split.items,
            queries=[clean(q) if needs_query else "" for q in split.queries],
        )

    def __len__(self) -> int:
        """Returns the number of records of one pass."""
        return len(self.example_position)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_orders": {}}

    @property
    def cut_histories(self) -> int:
        """How many records of a pass show only the end of a history."""
        with_history = np.array([self._shows_history(s) for s in self.scenarios])
        lengths = self.example_position - self.starts[self.example_position]
        cut = with_history[self.example_scenario] & (lengths > self.wording.config.max_history)
        return int(cut.sum())

    def fingerprint(self) -> str:
        """Returns the SHA-256 of all that the records are made from, the settings apart."""
        digest = hashlib.sha256()
        numbers = (self.example_scenario, self.example_position, self.starts, self.ends, self.users)
        for array in numbers:
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(self.items, dtype="<i8").tobytes())
        for texts in (self.wording.names, self.queries, [s.code for s in self.scenarios]):
            digest.update("\n".join(texts).encode("utf-8") + b"\0")
        return digest.hexdigest()

    def record(self, number: int) -> Instruction:
        """Renders one record.

        Args:
            number: 0 or more; pass `number // len(self)`.
        """
        turn, place = divmod(number, len(self.example_position))
        example = self._order(turn).item(place)
        scenario = self.scenarios[self.example_scenario.item(example)]
        position = self.example_position.item(example)
        templates = self.wording.templates[scenario]
        draw = derive_key(self.seed, _TEMPLATE_STREAM, number)
        template = templates[draw % len(templates)]
        history = ""
        if HISTORY_SLOT in template.slots:
            start = max(self.starts.item(position), position - self.wording.config.max_history)
            history = self._written(start, position)
        answers = 1 if QUERY_SLOT in template.slots else self.wording.config.answer_items
        return Instruction(
            inputs=template.fill(history, self.queries[position]),
            targets=self._written(position, min(position + answers, self.ends.item(position))),
            scenario=scenario.code,
            strategy="plain",
            template=template.name,
            language=self.wording.config.language,
            user=self.users.item(position),
            target_item=self.items.item(position),
            candidates=(),
            split=self.role.name.lower(),
            seed=self.seed,
        )

    def prompt(self, request: Request, template: int | None = None) -> str:
        """Writes a request as the model's input: see `Wording.prompt`."""
        return self.wording.prompt(request, template)

    def _written(self, start: int, end: int) -> str:
        names = self.wording.names
        return self.wording.separator.join([names[i] for i in self.items[start:end].tolist()])

    def _shows_history(self, scenario: Scenario) -> bool:
        return HISTORY_SLOT in self.wording.templates_of(scenario)[0].slots

    def _order(self, turn: int) -> np.ndarray:
        """Returns the order of the examples in a pass; two passes are kept for the next call."""
        order = self._orders.get(turn)
        if order is None:
            order = permutation(derive_key(self.seed, _ORDER_STREAM, turn), len(self))
            while len(self._orders) >= _KEPT_ORDERS:
                self._orders.pop(next(iter(self._orders)), None)
            self._orders[turn] = order
        return order


def _any_phrase(names: tuple[str, ...]) -> bool:
    return any(" " in name for name in names)


def _ends(split: Split, role: Role) -> Int[np.ndarray, " events"]:
    """Returns, for each event, the position behind the run of its user's events with `role`."""
    stops = np.zeros(len(split.items) + 1, dtype=bool)
    stops[split.offsets] = True
    stops[:-1] |= split.roles != role.value
    places = np.where(stops, np.arange(len(stops)), len(stops))
    return np.minimum.accumulate(places[::-1])[::-1][1:]


def _scenario_numbers(
    task: Task,
    split: Split,
    positions: Int[np.ndarray, " positions"],
    scenarios: list[Scenario],
) -> Int[np.ndarray, " positions"]:
    """Numbers the scenario of each position, adding to `scenarios` those that are new."""
    numbers = np.zeros(len(positions), dtype=np.int8)
    codes = split.intentions[positions] if task.needs_query else np.zeros_like(positions)
    for code in np.unique(codes):
        same = codes == code
        scenario = task.scenario_at(split, int(positions[same][0]))
        if scenario not in scenarios:
            scenarios.append(scenario)
        numbers[same] = scenarios.index(scenario)
    return numbers


def _no_example(task: Task, role: Role) -> InputError:
    needs = " and ".join(
        what
        for what, is_needed in (
            ("an event before it", task.needs_history),
            ("a query", task.needs_query),
        )
        if is_needed
    )
    return InputError(
        f"no {role.name.lower()} event of this log can be the target of "
        f"'{task.name.value}': each needs {needs}",
        where="instructions.tasks",
        mend=f"leave out {task.name.value}, or use a log that has queries.",
    )
