"""The audit: honest sets pass, and each planted leak or bias is found as what it is."""

import collections
import dataclasses
import json
import pickle
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool

from irec_jax.audit.audit import Audit, Auditor, FindingExample
from irec_jax.audit.bias_tests import Measure
from irec_jax.audit.split_index import SplitIndex
from irec_jax.audit.text_leaks import cut_text
from irec_jax.errors import InputError
from irec_jax.instructions.built_in_tasks import TASKS, task_named
from irec_jax.instructions.config import ContextPart, InstructionsConfig
from irec_jax.instructions.context import DAY, POPULAR_DAYS, RequestContext
from irec_jax.instructions.forms import Instruction, Intention, Slot, TaskForm, TaskName
from irec_jax.instructions.passes import RecordOrder
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.teacher import LogTeacher
from irec_jax.log.split import Role, Split
from irec_jax.settings import from_json, to_json
from irec_jax.terminal import printable
from irec_jax.word_overlap import words_of

from .rerendering import Rerendering

Change = Callable[[Instruction], Instruction]
TITLES = [
    *("Red lamp of stone", "Red lamp of stone , large", "salt ; pepper", "{history} case", "Glow"),
    *("蓝色 台灯", "Her", "A => B mirror", "שלום soap", "🛋"),
    *(f"Maker{n} thing number{n}" for n in range(10, 60)),
]
ATOMIC = [f"<item_{n}>" for n in range(len(TITLES))]
SEQUENTIAL = TaskName.SEQUENTIAL_RECOMMENDATION
COLD = 59


class WishTeacher:
    """Says of every event what belongs to it and to nothing else; a preference from the second."""

    variants = 3

    def __init__(self, split: Split) -> None:
        self.split = split
        self.first = np.zeros(len(split.items), bool)
        self.first[split.offsets[:-1]] = True

    def has_preference(self, language: str) -> Bool[np.ndarray, " events"]:
        return ~self.first

    def has_query(self, intention: Intention, language: str) -> Bool[np.ndarray, " events"]:
        return np.full(len(self.first), intention is not Intention.NONE)

    def has_reason(self, language: str) -> Bool[np.ndarray, " events"]:
        return ~self.first

    def preference(self, position: int, variant: int, language: str) -> str:
        before = self.split.catalog["title"][self.split.items.item(position - 1)]
        return f"likes sort{variant}x{position} {language} , as {' '.join(before.split())}"

    def query(self, position: int, intention: Intention, language: str) -> str:
        return f"some {intention.value} wish{position}x {language}"

    def reason(self, position: int, language: str) -> str:
        return f"for cause{position}x {language}"

    def fingerprint(self) -> str:
        return "0"


@pytest.fixture(scope="module")
def world(make: Callable[..., Split]) -> Split:
    """30 users of 5 to 9 events over 30 days; the item `COLD` has no event but a test one."""
    draw = random.Random(3)
    histories = [draw.sample(range(COLD), draw.randint(5, 9)) for _ in range(30)]
    histories[0][-1] = COLD
    split = make(histories, TITLES)
    times = np.concatenate([np.sort([draw.randrange(30 * DAY) for _ in h]) for h in histories])
    return dataclasses.replace(split, times=times.astype(np.int64))


@pytest.fixture
def rendered(world: Split) -> Callable[..., Renderer]:
    """Builds a renderer of one task, with texts for all that it reads."""

    def build(
        *tasks: TaskName,
        names: Sequence[str] = TITLES,
        split: Split = world,
        role: Role = Role.TRAIN,
        teacher: Callable[[Split], Any] = WishTeacher,
        **config: Any,
    ) -> Renderer:
        given_config = {"context": (ContextPart.SEASON, ContextPart.POPULAR), "max_history": 4}
        settings = InstructionsConfig(tasks, teacher="metadata", **(given_config | config))
        return Renderer.build(split, settings, names, seed=11, role=role, teacher=teacher(split))

    return build


def audited(renderer: Renderer, split: Split, passes: int = 1) -> Audit:
    numbers = range(passes * len(renderer))
    return Auditor.build(renderer, split).audit((n, renderer.record(n)) for n in numbers)


def found_after(renderer: Renderer, split: Split, number: int, change: Change) -> Audit:
    """Audits all records, one of them changed, and checks that only that one is complained of."""
    records = [(n, renderer.record(n)) for n in range(len(renderer))]
    changed = change(records[number][1])
    assert changed != records[number][1], "nothing was planted"
    records[number] = (number, changed)
    audit = Auditor.build(renderer, split).audit(records)
    assert {e.number for first in audit.examples.values() for e in first} == {number}
    with pytest.raises(InputError, match=f"record {number}: "):
        audit.refuse(renderer.prompt_writer.config)
    return audit


def put(old: str, new: str) -> Change:
    return lambda record: record._replace(inputs=record.inputs.replace(old, new, 1))


def first_number(renderer: Renderer, fits: Callable[[int, Instruction], bool]) -> int:
    numbers = range(len(renderer))
    return next(n for n in numbers if fits(renderer.origin(n).position, renderer.record(n)))


def usual(*positions: int, split: Split) -> bool:
    """Whether events are about items whose titles are not odd."""
    return all(split.items.item(position) >= 10 for position in positions)


@pytest.mark.parametrize("names", [TITLES, ATOMIC], ids=["titles", "atomic"])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name.value)
def test_honest_records_of_every_task_pass(world: Split, rendered, task, names: list[str]):
    is_odd = "A => B mirror" if names is TITLES else ""
    renderer = rendered(task.name, names=names, packs=("en", "zh"))
    audit = audited(renderer, world)
    wrong = [kind for kind in audit.found if kind != "answer"]
    assert (wrong, audit.records) == ([], len(renderer))
    second = Rerendering(renderer, world)
    for number in range(len(renderer)):
        assert second.differences(number, renderer.record(number)) == set()
    # The one answer that cannot be read back is of the title that holds the answer's own mark.
    assert all(is_odd and is_odd in e.problem for e in audit.examples.get("answer", ()))
    honest = dataclasses.replace(audit, found={}, examples={})
    assert honest.problems(renderer.prompt_writer.config) == []
    honest.refuse(renderer.prompt_writer.config)


@pytest.mark.parametrize("role", [Role.VALIDATION, Role.TEST])
def test_honest_records_of_other_roles_pass(world: Split, rendered, role: Role):
    tasks = (SEQUENTIAL, TaskName.CONTEXT_RERANKING, TaskName.PREFERENCE_SEARCH_PAIRWISE)
    audit = audited(rendered(*tasks, names=ATOMIC, role=role), world)
    assert audit.problems(InstructionsConfig()) == []


def test_a_title_with_the_mark_of_answers_cannot_be_read_back(world: Split, rendered):
    audit = audited(rendered(SEQUENTIAL), world)
    times = int((world.items[world.roles == Role.TRAIN] == TITLES.index("A => B mirror")).sum())
    assert 0 < audit.found["answer"] <= times
    assert "cannot be read back" in audit.examples["answer"][0].problem


MILD = [title.replace(" => ", " to ") for title in TITLES]
NAMES = [pytest.param(MILD, id="titles"), pytest.param(ATOMIC, id="atomic")]
CASES = [str, str.upper, str.lower]


@pytest.mark.parametrize("case", CASES, ids=["as it is", "upper", "lower"])
@pytest.mark.parametrize("names", NAMES)
def test_the_target_in_the_place_of_an_item_of_the_history(world, rendered, names, case):
    renderer = rendered(SEQUENTIAL, names=names, context=())
    number = first_number(renderer, lambda p, _: usual(p, p - 1, split=world))
    position = renderer.origin(number).position
    old, new = names[world.items[position - 1]], case(names[world.items[position]])
    assert found_after(renderer, world, number, put(old, new)).found == {"target": 1}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("names", NAMES)
def test_the_target_behind_the_prompt(world, rendered, names, case):
    renderer = rendered(TaskName.PRODUCT_SEARCH, names=names)
    number = first_number(renderer, lambda p, _: usual(p, split=world))
    title = case(names[world.items[renderer.origin(number).position]])
    audit = found_after(
        renderer,
        world,
        number,
        lambda r: r._replace(inputs=f"{r.inputs} It is {title} ."),
    )
    assert audit.found == {"target": 1}


def test_the_title_of_the_target_where_prompts_hold_tokens(world, rendered):
    renderer = rendered(SEQUENTIAL, names=ATOMIC)
    number = first_number(renderer, lambda p, _: usual(p, split=world))
    title = TITLES[world.items[renderer.origin(number).position]]
    audit = found_after(renderer, world, number, lambda r: r._replace(inputs=f"{title} {r.inputs}"))
    assert audit.found == {"target": 1}


@pytest.mark.parametrize("names", NAMES)
def test_a_later_item_in_the_history(world, rendered, names):
    renderer = rendered(SEQUENTIAL, names=names, context=())
    number = first_number(renderer, lambda p, _: usual(p - 1, p + 1, split=world))
    position = renderer.origin(number).position
    old, new = names[world.items[position - 1]], names[world.items[position + 1]]
    assert found_after(renderer, world, number, put(old, new)).found == {"future": 1}


@pytest.mark.parametrize("names", NAMES)
def test_an_item_that_nothing_explains(world, rendered, names):
    renderer = rendered(SEQUENTIAL, names=names, context=())
    number = first_number(renderer, lambda p, _: usual(p - 1, split=world))
    position = renderer.origin(number).position
    old, new = names[world.items[position - 1]], names[COLD]
    assert found_after(renderer, world, number, put(old, new)).found == {"stranger": 1}


def test_an_old_item_that_the_history_is_too_long_for(world, rendered):
    renderer = rendered(SEQUENTIAL, names=MILD, context=(), max_history=2)
    starts = np.repeat(world.offsets[:-1], np.diff(world.offsets))
    number = first_number(
        renderer, lambda p, _: p - starts[p] >= 3 and usual(p - 3, p - 2, split=world)
    )
    position = renderer.origin(number).position
    old, new = (TITLES[world.items[p]] for p in (position - 2, position - 3))
    assert found_after(renderer, world, number, put(old, new)).found == {"stranger": 1}


def test_a_history_in_another_order(world, rendered):
    renderer = rendered(SEQUENTIAL, names=ATOMIC, context=())
    number = first_number(renderer, lambda p, _: p - 2 not in world.offsets[:-1] - 1)
    position = renderer.origin(number).position
    first, second = (ATOMIC[world.items[p]] for p in (position - 2, position - 1))
    change = put(f"{first} {second}", f"{second} {first}")
    assert found_after(renderer, world, number, change).found == {"prompt": 1}


@pytest.mark.parametrize(
    ("task", "kind", "change"),
    [
        (SEQUENTIAL, "user", lambda r: {"inputs": f"{r.inputs} For user {r.user} ."}),
        (SEQUENTIAL, "spaces", lambda r: {"inputs": r.inputs.replace(" ", "  ", 1)}),
        (SEQUENTIAL, "spaces", lambda r: {"inputs": f"{r.inputs} "}),
        (SEQUENTIAL, "prompt", lambda r: {"inputs": f"{r.inputs} Quick !"}),
        (SEQUENTIAL, "empty", lambda r: {"inputs": ""}),
        (SEQUENTIAL, "empty", lambda r: {"targets": ""}),
        (SEQUENTIAL, "answer", lambda r: {"targets": "no such thing"}),
        (SEQUENTIAL, "answer", lambda r: {"targets": f"{r.targets} !"}),
        (SEQUENTIAL, "label", lambda r: {"user": r.user + 1}),
        (SEQUENTIAL, "label", lambda r: {"target_item": (r.target_item + 1) % 50}),
        (SEQUENTIAL, "label", lambda r: {"seed": 12}),
        (SEQUENTIAL, "label", lambda r: {"scenario": "none-none-matching"}),
        (SEQUENTIAL, "label", lambda r: {"strategy": "turn_around"}),
        (SEQUENTIAL, "role", lambda r: {"split": "test"}),
        (SEQUENTIAL, "template", lambda r: {"template": "no-such"}),
        (SEQUENTIAL, "template", lambda r: {"language": "fr"}),
        (SEQUENTIAL, "candidates", lambda r: {"candidates": (1, 2)}),
        (
            TaskName.HISTORY_TO_QUERY_ITEM,
            "hidden",
            lambda r: {"inputs": f"{r.inputs} Wish : {r.targets.split(' => ')[0]}"},
        ),
        (
            TaskName.HISTORY_TO_PREFERENCE,
            "hidden",
            lambda r: {"inputs": f"{r.inputs} It {r.targets} ."},
        ),
        (
            TaskName.QUERY_ITEM_TO_HISTORY,
            "hidden",
            lambda r: {"inputs": f"{r.inputs} Before : {r.targets.split()[0]} ."},
        ),
        (
            TaskName.SEQUENTIAL_POINTWISE,
            "answer",
            lambda r: {"targets": "no" if r.targets == "yes" else "yes"},
        ),
    ],
)
def test_a_changed_record(world, rendered, task, kind, change):
    renderer = rendered(task, names=ATOMIC, context=())
    audit = found_after(renderer, world, 17, lambda r: r._replace(**change(r)))
    assert audit.found == {kind: 1}


@pytest.mark.parametrize(
    ("task", "part", "change"),
    [
        (TaskName.PRODUCT_SEARCH, "prompt", lambda r: {"inputs": r.inputs.replace("x en", "y en")}),
        (
            TaskName.PREFERENCE_RECOMMENDATION,
            "prompt",
            lambda r: {"inputs": r.inputs.replace("sort", "kind")},
        ),
        (TaskName.HISTORY_TO_PREFERENCE, "answer", lambda r: {"targets": "likes nothing"}),
        (TaskName.HISTORY_ITEM_TO_REASON, "answer", lambda r: {"targets": "for no cause"}),
    ],
)
def test_a_changed_text_of_the_teacher_differs_from_a_second_rendering(
    world, rendered, task, part, change
):
    renderer = rendered(task, names=ATOMIC, context=())
    record = renderer.record(17)
    changed = record._replace(**change(record))
    assert changed != record, "nothing was planted"
    assert Rerendering(renderer, world).differences(17, changed) == {part}


def test_a_slot_that_is_not_filled(world, rendered):
    renderer = rendered(SEQUENTIAL, names=ATOMIC, context=())
    number = first_number(renderer, lambda p, r: r.inputs.count("<item_") == 1)
    history = ATOMIC[world.items[renderer.origin(number).position - 1]]
    assert found_after(renderer, world, number, put(history, "{history}")).found == {"slot": 1}


def test_a_template_that_is_kept_from_training(world, rendered):
    renderer = rendered(SEQUENTIAL, names=ATOMIC, context=())
    pack = renderer.prompt_writer.packs[0]
    held_out = pack.of(SEQUENTIAL, Intention.NONE, held_out=True)[0]
    audit = found_after(renderer, world, 5, lambda r: r._replace(template=held_out.name))
    assert audit.found == {"template": 1}


@pytest.mark.parametrize("form", [f for f in TaskForm if f is not TaskForm.MATCHING])
@pytest.mark.parametrize("wrong", ["had", "cold", "unknown", "others"])
@pytest.mark.parametrize("names", NAMES)
def test_candidates_from_nowhere(world, rendered, form, wrong, names):
    task = TaskName(f"product_search_{form.value}")
    renderer = rendered(task, names=names, candidates=5)
    number = first_number(
        renderer, lambda p, r: usual(p, p - 1, split=world) and r.candidates[-1] != r.target_item
    )
    before = world.items.item(renderer.origin(number).position - 1)
    item = {"had": before, "cold": COLD, "unknown": 999, "others": 33}[wrong]

    def change(record: Instruction) -> Instruction:
        old = record.candidates[-1]
        replacement = names[item] if item in range(len(names)) else "nothing"
        changed = put(names[old], replacement)(record)
        if wrong == "others":
            return changed
        return changed._replace(candidates=(*record.candidates[:-1], item))

    assert found_after(renderer, world, number, change).found == {"candidates": 1}


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: (*c[:-1], c[0]), lambda c: c[1:]])
def test_candidates_of_a_wrong_number(world, rendered, change):
    renderer = rendered(TaskName.SEQUENTIAL_RERANKING, names=ATOMIC, candidates=5)
    number = first_number(renderer, lambda p, r: r.candidates[0] == r.target_item)

    def written(record: Instruction) -> Instruction:
        offered = change(record.candidates)
        old, new = (" ".join(ATOMIC[c] for c in some) for some in (record.candidates, offered))
        return put(old, new)(record)._replace(candidates=offered)

    assert found_after(renderer, world, number, written).found == {"candidates": 1}


def about(renderer: Renderer, positions: np.ndarray) -> Renderer:
    """Has the records of a pass be about other events."""
    examples = dataclasses.replace(renderer.record_order.examples, positions=positions)
    return dataclasses.replace(renderer, record_order=RecordOrder(examples, renderer.seed))


def test_an_event_of_the_test_part_as_target(world, rendered):
    renderer = rendered(SEQUENTIAL, names=ATOMIC, context=())
    positions = renderer.record_order.examples.positions.copy()
    positions[3] = world.offsets[1] - 1
    audit = audited(about(renderer, positions), world)
    assert audit.found == {"role": 1}


def test_a_test_event_before_a_training_event(world, rendered):
    renderer = rendered(SEQUENTIAL, names=ATOMIC, context=())
    roles = world.roles.copy()
    roles[world.offsets[4] + 1] = Role.TEST
    later = int((roles[world.offsets[4] + 2 : world.offsets[5]] == Role.TRAIN).sum())
    audit = audited(renderer, dataclasses.replace(world, roles=roles))
    assert audit.found == {"future": later, "role": 1}


def test_events_that_are_not_in_the_order_of_time(world, rendered):
    times = world.times.copy()
    times[world.offsets[4]] = times.max() + 1
    split = dataclasses.replace(world, times=times)
    renderer = rendered(SEQUENTIAL, names=ATOMIC, split=split, context=())
    later = int((world.roles[world.offsets[4] + 1 : world.offsets[5]] == Role.TRAIN).sum())
    assert audited(renderer, split).found == {"future": later}


def test_an_answer_that_goes_on_into_the_test_part(world, rendered):
    renderer = rendered(SEQUENTIAL, names=ATOMIC, answer_items=3, context=())
    assert audited(renderer, world).found == {}
    ends = np.repeat(world.offsets[1:], np.diff(world.offsets))
    audit = audited(dataclasses.replace(renderer, ends=ends), world)
    assert set(audit.found) == {"future"}


def test_the_item_of_a_test_event_as_popular(world, rendered):
    """Counted over all events, as a careless renderer would, or over those of the same day."""
    careless = dataclasses.replace(world, roles=np.zeros_like(world.roles))
    renderer = rendered(TaskName.CONTEXT_RECOMMENDATION, names=ATOMIC)
    assert audited(renderer, world).found == {}
    moments = RequestContext.build(careless, renderer.prompt_writer.config.context)
    audit = audited(dataclasses.replace(renderer, request_context=moments), world)
    assert audit.found["popular"] > 10
    assert set(audit.found) <= {"popular", "target", "future", "prompt"}
    moments = renderer.request_context
    shifted = {day: moments.popular.get(day + 3, items) for day, items in moments.popular.items()}
    moved = dataclasses.replace(
        renderer, request_context=dataclasses.replace(moments, popular=shifted)
    )
    assert audited(moved, world).found["popular"] > 10


def test_popular_items_are_counted_again(world: Split):
    evidence = SplitIndex.build(world)
    moments = RequestContext.build(world, (ContextPart.POPULAR,))
    for position in range(len(world.items)):
        day = world.times[position] // DAY
        counts = collections.Counter(
            world.items.item(p)
            for p in np.flatnonzero(world.roles == Role.TRAIN)
            if day - POPULAR_DAYS <= world.times[p] // DAY < day
        )
        best = sorted(counts, key=lambda item: (-counts[item], item))[:3]
        assert evidence.popular(position) == tuple(best) == moments.popular_at(position)


class TellingTeacher(WishTeacher):
    """Writes queries and preferences that give something away."""

    def __init__(self, split: Split, leaked: Callable[[Split, int], str]) -> None:
        super().__init__(split)
        self.leaked = leaked
        self.users = np.repeat(split.users, np.diff(split.offsets))

    def query(self, position: int, intention: Intention, language: str) -> str:
        return f"some wish {self.leaked(self.split, position)}"

    def preference(self, position: int, variant: int, language: str) -> str:
        return f"likes {self.leaked(self.split, position)}"


def user_of(split: Split, position: int) -> int:
    return split.users.item(np.searchsorted(split.offsets, position, side="right") - 1)


def title_at(split: Split, position: int) -> str:
    return TITLES[split.items[min(position, len(split.items) - 1)]]


@pytest.mark.parametrize("task", [TaskName.PRODUCT_SEARCH, TaskName.PREFERENCE_RECOMMENDATION])
@pytest.mark.parametrize(
    ("kind", "leaked"),
    [
        ("target", lambda split, position: f"of {title_at(split, position).upper()} , maybe"),
        ("target", lambda split, position: ATOMIC[split.items[position]]),
        ("stranger", lambda split, position: ATOMIC[COLD]),
        ("user", lambda split, position: f"of number {user_of(split, position)} here"),
        ("slot", lambda split, position: "of {query}"),
    ],
)
def test_a_teacher_that_tells(world, rendered, task, kind, leaked):
    renderer = rendered(task, names=ATOMIC, teacher=lambda split: TellingTeacher(split, leaked))
    audit = audited(renderer, world)
    assert set(audit.found) == {kind}
    assert audit.found[kind] > 0.8 * len(renderer) - 20


def test_a_teacher_that_reads_what_comes_next(world, rendered):
    def leaked(split: Split, position: int) -> str:
        return title_at(split, position + 1)

    renderer = rendered(
        TaskName.PRODUCT_SEARCH, names=ATOMIC, teacher=lambda split: TellingTeacher(split, leaked)
    )
    audit = audited(renderer, world)
    # One of the titles holds what looks like a slot.
    assert set(audit.found) == {"future", "slot"}
    assert audit.found["future"] > len(renderer) / 2


def test_what_explains_a_title(make, rendered):
    """Titles in the history that hold the target's, its own category, and what users type."""
    titles = ["Red lamp of stone", "Red lamp of stone , large", "Night cream", *TITLES[10:20]]
    split = make([[1, 0, 4, 5, 6], [3, 2, 7, 8, 9]], titles, {(0, 0): ("red lamp of stone", 2)})
    categories = [["Beauty", "Face", "Night Cream"] if n == 2 else [] for n in range(len(titles))]
    split = dataclasses.replace(split, catalog=split.catalog.with_columns(categories=categories))

    def leaked(split: Split, position: int) -> str:
        return {1: titles[1], 6: "a night cream"}.get(position, "this")

    renderer = rendered(
        TaskName.PREFERENCE_RECOMMENDATION,
        names=[f"<item_{n}>" for n in range(len(titles))],
        split=split,
        teacher=lambda split: TellingTeacher(split, leaked),
        context=(),
    )
    assert audited(renderer, split).found == {}


def test_a_title_that_a_user_typed_is_counted_and_no_leak(world, rendered):
    queries = [f"the {TITLES[item]}" for item in world.items]
    typed = dataclasses.replace(world, queries=queries, intentions=np.full_like(world.roles, 2))
    renderer = rendered(TaskName.PRODUCT_SEARCH, names=ATOMIC, split=typed, teacher=LogTeacher.of)
    audit = audited(renderer, typed)
    assert audit.found == {}
    # A title of stop words alone says nothing, and one of signs has no words.
    words = [TITLES[item] not in ("Her", "🛋") for item in typed.items]
    assert audit.counted("typed titles") == int(np.array(words)[typed.roles == Role.TRAIN].sum())
    assert audit.overlap() == {"specific en": pytest.approx(1.0, abs=0.1)}
    assert len(audit.problems(InstructionsConfig())) == 1
    with pytest.raises(InputError, match=r"specific en queries .*\.max_overlap allows 50.0%"):
        audit.refuse(InstructionsConfig())


def test_a_token_that_a_user_typed_would_be_an_item(world, rendered):
    queries = ["like <ITEM_7>"] * len(world.items)
    typed = dataclasses.replace(world, queries=queries, intentions=np.full_like(world.roles, 2))
    tasks = {"split": typed, "teacher": LogTeacher.of}
    renderer = rendered(TaskName.PRODUCT_SEARCH, names=ATOMIC, **tasks)
    audit = audited(renderer, typed)
    of_item = int(((typed.items == 7) & (typed.roles == Role.TRAIN)).sum())
    assert audit.found == {"stranger": len(renderer) - of_item, "target": of_item}
    assert audited(rendered(TaskName.PRODUCT_SEARCH, names=MILD, **tasks), typed).found == {}


ONE_WORD = [f"Glow{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(60)]


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("what", ["user numbers", "titles of one word"])
def test_short_names_are_distinguished_from_chance(make, rendered, tells: bool, what: str):
    """A word or a number that occurs in a text of its own event, or in one drawn at random."""
    draw = random.Random(5)
    histories = [draw.sample(range(60), 8) for _ in range(60)]
    split = make(histories, ONE_WORD)
    split = dataclasses.replace(split, users=np.arange(60) + 10)
    shuffled = draw.sample(range(len(split.items)), len(split.items))

    def leaked(split: Split, position: int) -> str:
        place = position if tells else shuffled[position]
        user = user_of(split, place)
        return str(user) if what == "user numbers" else ONE_WORD[split.items[place]]

    renderer = rendered(
        TaskName.PRODUCT_SEARCH,
        names=ATOMIC,
        split=split,
        teacher=lambda split: TellingTeacher(split, leaked),
        context=(),
        max_overlap=1.0,
    )
    audit = audited(renderer, split)
    assert audit.found == {}
    problems = audit.problems(renderer.prompt_writer.config)
    assert [what in problem for problem in problems] == [True] * tells


def biased(renderer: Renderer, split: Split, change: Change) -> list[str]:
    records = [(n, change(renderer.record(n))) for n in range(4 * len(renderer))]
    audit = Auditor.build(renderer, split).audit(records)
    assert audit.found == {}
    return audit.problems(renderer.prompt_writer.config)


@pytest.mark.parametrize("name", ["sequential_reranking", "sequential_pairwise"])
def test_the_right_one_always_first(world, rendered, name: str):
    renderer = rendered(TaskName(name), names=ATOMIC, context=(), candidates=5)

    def first(record: Instruction) -> Instruction:
        offered = record.candidates
        others = [item for item in offered if item != record.target_item]
        moved = (record.target_item, *others)
        inputs = record.inputs
        for place, item in enumerate(offered):
            inputs = inputs.replace(ATOMIC[item], f"@{place}@")
        for place, item in enumerate(moved):
            inputs = inputs.replace(f"@{place}@", ATOMIC[item])
        return record._replace(inputs=inputs, candidates=moved)

    problems = biased(renderer, world, first)
    assert len(problems) == 1
    assert f"places among the candidates of {name}" in problems[0]
    assert biased(renderer, world, lambda record: record) == []


def test_always_yes(world, rendered):
    renderer = rendered(TaskName.SEQUENTIAL_POINTWISE, names=ATOMIC, context=())

    def yes(record: Instruction) -> Instruction:
        old, new = ATOMIC[record.candidates[0]], ATOMIC[record.target_item]
        offered = put(old, new)(record)
        return offered._replace(candidates=(record.target_item,), targets="yes")

    problems = biased(renderer, world, yes)
    assert len(problems) == 1
    assert "answers of sequential_pointwise are not as drawn" in problems[0]


@pytest.mark.parametrize("context", [(), (ContextPart.POPULAR,)])
def test_one_template_only(world, rendered, context: tuple):
    renderer = rendered(SEQUENTIAL, names=ATOMIC, context=context)
    pack = renderer.prompt_writer.packs[0]
    template = pack.of(SEQUENTIAL, Intention.NONE)[0]
    start = {n: renderer.history(n) for n in range(len(world.items))}

    records = []
    for number in range(4 * len(renderer)):
        history = " ".join(ATOMIC[item] for item in start[renderer.origin(number).position])
        record = renderer.record(number)
        inputs = f"{template.literals[0]}{history}{template.literals[1]}"
        records.append((number, record._replace(inputs=inputs, template=template.name)))
    audit = Auditor.build(renderer, world).audit(records)
    assert audit.found == {}
    problems = audit.problems(renderer.prompt_writer.config)
    assert problems
    assert all("the templates of sequential_recommendation" in problem for problem in problems)
    assert audit.counted("fallbacks") > len(records) / 2


def test_one_language_only(world, rendered, monkeypatch):
    renderer = rendered(SEQUENTIAL, names=ATOMIC, context=(), packs=("en", "zh"))
    both = audited(renderer, world, passes=2)
    monkeypatch.setattr(Renderer, "_first_pack", lambda self, draw: 1)
    one = audited(renderer, world, passes=2)
    assert (both.problems(InstructionsConfig()), one.found) == ([], {})
    assert [p for p in one.problems(InstructionsConfig()) if "languages that are drawn" in p]


def test_a_language_that_was_not_drawn(world, rendered):
    renderer = rendered(TaskName.PRODUCT_SEARCH, names=ATOMIC, context=(), packs=("en", "zh"))
    chinese = next(
        n for n in range(len(renderer)) if renderer.drawn_template(renderer.origin(n))[0] == "zh"
    )
    position = renderer.origin(chinese).position
    pack = renderer.prompt_writer.packs[0]
    intention = renderer.origin(chinese).variant.intention
    template = pack.of(TaskName.PRODUCT_SEARCH, intention)[0]
    query = renderer.teacher.query(position, intention, "en")
    english = renderer.record(chinese)._replace(
        inputs=f"{template.literals[0]}{query}{template.literals[1]}",
        template=template.name,
        language="en",
    )
    assert Rerendering(renderer, world).differences(chinese, english) == {"language"}


class EnglishTeacher(WishTeacher):
    def has_query(self, intention: Intention, language: str) -> Bool[np.ndarray, " events"]:
        return super().has_query(intention, language) & (language == "en")

    def query(self, position: int, intention: Intention, language: str) -> str:
        return super().query(position, intention, language) if language == "en" else ""


def test_fallbacks_are_counted(world, rendered):
    renderer = rendered(
        TaskName.PRODUCT_SEARCH, names=ATOMIC, packs=("en", "zh"), teacher=EnglishTeacher
    )
    audit = audited(renderer, world, passes=2)
    numbers = range(2 * len(renderer))
    records = [renderer.record(n) for n in numbers]
    drawn = [renderer.drawn_template(renderer.origin(n)) for n in numbers]
    differs = [(r.language, r.template) != d for r, d in zip(records, drawn, strict=True)]
    assert audit.problems(InstructionsConfig()) == []
    assert audit.counted("fallbacks") == sum(differs)
    assert audit.counted("language fallbacks") == sum(language == "zh" for language, _ in drawn)


def test_a_template_whose_slot_would_stay_empty_gives_way_and_is_counted(world, rendered):
    places = tuple("Oslo" if position % 3 else "" for position in range(len(world.items)))
    split = dataclasses.replace(world, places=places)
    renderer = rendered(SEQUENTIAL, names=ATOMIC, split=split, context=(ContextPart.PLACE,))
    templates = renderer.prompt_writer.packs[0].of(SEQUENTIAL, Intention.NONE)
    telling = {template.name for template in templates if Slot.CONTEXT in template.slots}
    given_way = 0
    for number in range(3 * len(renderer)):
        record, (_, drawn) = (
            renderer.record(number),
            renderer.drawn_template(renderer.origin(number)),
        )
        gives_way = drawn in telling and not places[renderer.origin(number).position]
        given_way += gives_way
        assert record.template not in telling if gives_way else record.template == drawn
        assert ("Oslo" in record.inputs) == (record.template in telling)
    audit = audited(renderer, split, passes=3)
    assert audit.problems(InstructionsConfig()) == []
    assert audit.counted("fallbacks") == given_way > 0


def test_lengths_and_cut_histories(world, rendered):
    renderer = rendered(SEQUENTIAL, TaskName.ITEM_TO_QUERY, context=())
    records = [renderer.record(n) for n in range(len(renderer))]
    auditor = Auditor.build(renderer, world, count_tokens=len)
    audit = auditor.audit(enumerate(records))
    lengths = sorted(len(record.inputs) for record in records)
    expected = {s: lengths[-(-len(lengths) * round(s * 100) // 100) - 1] for s in (0.5, 0.9, 0.99)}
    assert audit.lengths("prompt") == {**expected, 1.0: lengths[-1]}
    assert audit.cut_prompts(90) == sum(length > 90 for length in lengths)
    assert audit.counted("cut histories") == renderer.cut_histories > 0
    words = Auditor.build(renderer, world).audit(enumerate(records))
    assert words.lengths("answer")[1.0] == max(len(r.targets.split(" ")) for r in records)
    assert ("prompts longer than 90", f"{audit.cut_prompts(90):,}") in audit.summary(90)


def test_parts_add_up_in_any_order_and_in_other_processes(world, rendered):
    renderer = rendered(*(task.name for task in TASKS), packs=("en", "zh"), max_history=3)
    auditor = Auditor.build(renderer, world)
    records = [(n, renderer.record(n)) for n in range(0, len(renderer), 5)]
    records[7] = (records[7][0], records[7][1]._replace(targets=""))
    whole = auditor.audit(records)
    assert whole.found["empty"] == 1
    copy = pickle.loads(pickle.dumps(auditor.split_index))
    assert copy.popular(9) == auditor.split_index.popular(9)
    random.Random(1).shuffle(records)
    parts = [auditor.audit(records[n::3]) for n in range(3)]
    assert parts[2] + parts[0] + parts[1] == whole
    assert auditor.audit([]) + whole == whole
    assert json.dumps(to_json(parts[1] + parts[2] + parts[0])) == json.dumps(to_json(whole))


def test_an_auditor_can_be_pickled(split: Split, titles: list[str]):
    renderer = Renderer.build(
        split, InstructionsConfig(), titles, seed=5, teacher=LogTeacher.of(split)
    )
    auditor = Auditor.build(renderer, split, count_tokens=len)
    records = [(n, renderer.record(n)) for n in range(len(renderer))]
    copied = pickle.loads(pickle.dumps(auditor))
    assert copied.audit(records) == auditor.audit(records)


WORDS = st.sampled_from(["a", "b c", "*1", ""])
COUNTS = st.dictionaries(WORDS, st.integers(0, 2**60), max_size=3)
EXAMPLE = st.builds(
    FindingExample,
    number=st.integers(0, 99),
    problem=st.text(st.characters(min_codepoint=32), max_size=3).map(printable),
)
PARTS = st.fixed_dictionaries(
    {
        "records": st.integers(0, 2**60),
        "found": COUNTS,
        "examples": st.dictionaries(WORDS, st.lists(EXAMPLE, min_size=1, max_size=5)),
        "tallies": st.dictionaries(WORDS, st.dictionaries(WORDS, COUNTS, max_size=2), max_size=2),
    }
)


@given(st.lists(PARTS, min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_audits_add_up_and_survive_json(parts: list):
    for part in parts:
        part["examples"] = {kind: tuple(sorted(e)) for kind, e in part["examples"].items()}
    first, second, third = (Audit(**part) for part in parts)
    assert (first + second) + third == first + (second + third)
    assert first + second == second + first
    empty = Audit.empty()
    assert first + empty == first
    text = json.dumps(to_json(first + empty))
    assert from_json(Audit, json.loads(text)) == first
    assert json.dumps(to_json(empty + first)) == text


@pytest.mark.parametrize(
    "change", [{"records": "x"}, {"found": None}, {"examples": {"user": [[1, "x"]]}}, {"more": 1}]
)
def test_a_damaged_audit_is_refused(change: dict):
    data = to_json(Audit.empty()) | change
    for damaged in (data, {key: data[key] for key in ("records", "found")}, None, []):
        with pytest.raises(InputError):
            from_json(Audit, damaged, where="audit")


def test_an_audit_shows_the_lowest_records_and_not_all_problems(world, rendered):
    renderer = rendered(SEQUENTIAL, names=ATOMIC, context=())
    records = [(n, renderer.record(n)) for n in range(len(renderer))]
    wrong = [(n, r._replace(seed=0, targets="")) for n, r in records]
    audit = Auditor.build(renderer, world).audit(reversed(wrong))
    assert audit.found == {"empty": len(wrong), "label": len(wrong)}
    assert [e.number for e in audit.examples["empty"]] == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match=r"record 0: .*record 4: ") as error:
        audit.refuse(renderer.prompt_writer.config, where="sets/x")
    assert error.value.where == "sets/x"
    assert "record 5" not in str(error.value)


def test_overlap_is_counted_by_intention(world, rendered):
    def leaked(split: Split, position: int) -> str:
        return (*words_of(title_at(split, position)).run, "picture")[0]

    renderer = rendered(
        TaskName.PRODUCT_SEARCH,
        names=ATOMIC,
        teacher=lambda split: TellingTeacher(split, leaked),
        max_overlap=0.6,
    )
    audit = audited(renderer, world)
    shares = collections.defaultdict(list)
    for number in range(len(renderer)):
        asked, position, *_ = renderer.origin(number)
        query, title = f"some wish {leaked(world, position)}", title_at(world, position)
        mine, theirs = (set(words_of(text).content) for text in (query, title))
        share = len(mine & theirs) / len(mine)
        shares[f"{asked.intention.value} en"].append(share)
    assert audit.overlap() == {
        group: pytest.approx(np.mean(some), abs=1e-6) for group, some in sorted(shares.items())
    }
    records = {group: c["records"] for group, c in audit.tally(Measure.OVERLAP).items()}
    assert records == {group: len(some) for group, some in shares.items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A x . B my words . C other words !", {"mine": "my words", "more": "other words"}),
        ("A x . B a . C b . C c !", {"mine": "a", "more": "b . C c"}),
        ("A y . B my words . C other words !", None),
        ("A x . B my words other words !", None),
        ("A x . B my words . C other words ! And", None),
        ("A x . B !", None),
    ],
)
def test_slots_that_the_audit_does_not_know_hold_any_text(text: str, expected: dict | None):
    literals, slots = ("A ", " . B ", " . C ", " !"), ("history", "mine", "more")
    assert cut_text(text, literals, slots, {"history": "x"}) == expected


def test_every_kind_of_task_is_tried():
    assert {task_named(name) for name in TaskName} == set(TASKS)
