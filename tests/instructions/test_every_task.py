"""Every task rendered, with a teacher whose texts say what they were made from."""

import hashlib
import importlib.resources
import re
import tomllib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.instructions.built_in_tasks import TASKS, task_named
from irec_jax.instructions.config import ContextPart, InstructionsConfig
from irec_jax.instructions.forms import (
    ANSWER_MARK,
    Instruction,
    Intention,
    Part,
    Slot,
    TaskForm,
    TaskName,
    graded_part,
)
from irec_jax.instructions.render import ANSWER_HISTORY, Renderer
from irec_jax.instructions.teacher import LogTeacher
from irec_jax.log.split import Role, Split

PACKS = {
    language: tomllib.loads(
        (
            importlib.resources.files("irec_jax.instructions") / "packs" / f"{language}.toml"
        ).read_text("utf-8")
    )
    for language in ("en", "zh")
}
TITLES = [f"Thing #{number}#" for number in range(12)]
HISTORIES = [[0, 1, 2, 3, 4, 5], [5, 6, 7, 8, 9, 2], [1, 3, 5, 11, 10], [10, 11, 4, 0], [2]]


class MarkingTeacher:
    """Writes the source of each text; in other languages than English, skips every third event."""

    def __init__(self, split: Split) -> None:
        self.events = len(split.items)
        self.first = set(split.offsets[:-1].tolist())

    variants = 3

    def _has_text(self, position: int, language: str) -> bool:
        return language == "en" or position % 3 != 0

    def _where(self, language: str, late: bool) -> np.ndarray:
        spoken = [self._has_text(position, language) for position in range(self.events)]
        return np.array(
            [has and not (late and p in self.first) for p, has in enumerate(spoken)], dtype=bool
        )

    def has_preference(self, language: str) -> np.ndarray:
        return self._where(language, late=True)

    def has_query(self, intention: Intention, language: str) -> np.ndarray:
        return self._where(language, late=False)

    def has_reason(self, language: str) -> np.ndarray:
        return self._where(language, late=True)

    def preference(self, position: int, variant: int, language: str) -> str:
        return (
            f"taste<{position}.{variant}.{language}>" if self._has_text(position, language) else ""
        )

    def query(self, position: int, intention: Intention, language: str) -> str:
        text = f"wish<{position}.{intention.value}.{language}>"
        return text if self._has_text(position, language) else ""

    def reason(self, position: int, language: str) -> str:
        return f"why<{position}.{language}>" if self._has_text(position, language) else ""

    def fingerprint(self) -> str:
        return hashlib.sha256(b"marks").hexdigest()


def build(make: Callable[..., Split], tasks: tuple[TaskName, ...], **changes: object) -> Renderer:
    split = make(HISTORIES, TITLES)
    seed = int(changes.pop("seed", 0))
    config = InstructionsConfig(
        tasks=tasks,
        packs=("en", "zh"),
        teacher="metadata",
        context=(ContextPart.TIME, ContextPart.POPULAR),
        **changes,
    )
    return Renderer.build(split, config, TITLES, seed, teacher=MarkingTeacher(split))


def items_in(text: str) -> list[int]:
    return [int(mark) for mark in re.findall(r"#(\d+)#", text)]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name.value)
def test_what_every_task_shows_hides_and_answers(make: Callable[..., Split], task):
    renderer = build(make, (task.name,), max_history=3, candidates=4)
    languages, templates = set(), set()
    for number in range(6 * len(renderer)):
        record, position = renderer.record(number), renderer.origin(number).position
        assert (record.task, record.strategy) == (task.name.value, task.strategy.value)
        check_prompt(renderer, record, position)
        check_answer(renderer, record, position)
        languages.add(record.language)
        templates.add((record.language, record.template))
    assert languages == {"en", "zh"}
    for language in languages:
        written = [t for t in PACKS[language]["template"] if t["task"] == task.name.value]
        names = {t["id"] for t in written if not t.get("held_out", False)}
        assert {name for spoken, name in templates if spoken == language} <= names


def check_prompt(renderer: Renderer, record: Instruction, position: int) -> None:
    task = task_named(TaskName(record.task))
    table = next(t for t in PACKS[record.language]["template"] if t["id"] == record.template)
    target, history = renderer.items.item(position), renderer.history(position)
    slots = re.findall(r"\{(\w+)\}", table["text"])
    expected: list[int] = []
    for slot in slots:
        expected += {
            "history": history,
            "candidate": list(record.candidates),
            "candidates": list(record.candidates),
            "first": list(record.candidates[:1]),
            "second": list(record.candidates[1:]),
            "target": [target],
            "context": list(renderer.request_context.popular_at(position)),
        }.get(slot, [])
    assert items_in(record.inputs) == expected, "these items and no other, in this order"
    if target not in (*history, *renderer.request_context.popular_at(position), *record.candidates):
        assert (target in items_in(record.inputs)) == (Slot.TARGET in task.required_slots)
    said = re.findall(r"\b(taste|wish|why)<(\d+)\.", record.inputs)
    assert said == [
        ({"preference": "taste", "query": "wish"}[slot], str(position))
        for slot in slots
        if slot in ("preference", "query")
    ]
    assert "{" not in record.inputs
    assert "  " not in record.inputs
    assert str(record.user) not in record.inputs


def check_answer(renderer: Renderer, record: Instruction, position: int) -> None:
    task = task_named(TaskName(record.task))
    pack, target = PACKS[record.language], renderer.items.item(position)
    spoken = {
        Part.ITEM: TITLES[target],
        Part.VERDICT: pack["answers"]["yes" if record.candidates == (target,) else "no"],
        Part.REASON: f"why<{position}.{record.language}>",
        Part.HISTORY: " ; ".join(TITLES[i] for i in renderer.history(position)[-ANSWER_HISTORY:]),
    }
    kind = record.scenario.split("-")[1]
    spoken[Part.QUERY] = f"wish<{position}.{kind}.{record.language}>"
    parts = record.targets.split(ANSWER_MARK)
    assert len(parts) == len(task.answer_parts)
    for part, text in zip(task.answer_parts, parts, strict=True):
        if part is Part.PREFERENCE:
            assert re.fullmatch(rf"taste<{position}\.[012]\.{record.language}>", text)
        else:
            assert text == spoken[part]
    if task.answer_parts[-1] is Part.ITEM:
        assert TITLES.index(graded_part(record.targets)) == record.target_item == target
    assert record.target_item == (-1 if task.answer_parts == (Part.PREFERENCE,) else target)


@given(seed=st.integers(0, 2**40), number=st.integers(0, 10**6), candidates=st.integers(2, 9))
@settings(max_examples=80, deadline=None)
def test_candidates_are_new_to_the_user_and_their_order_changes_nothing_else(
    make: Callable[..., Split], seed: int, number: int, candidates: int
):
    asked = tuple(task.name for task in TASKS if task.form is not TaskForm.MATCHING)
    renderer = build(make, asked, seed=seed, candidates=candidates)
    record = renderer.record(number)
    task, position = renderer.origin(number).variant.task, renderer.origin(number).position
    target = renderer.items.item(position)
    had = set(renderer.items[renderer.starts.item(position) : position].tolist())
    others = [item for item in record.candidates if item != target]
    assert not had & set(others)
    assert len(set(record.candidates)) == len(record.candidates)
    assert set(others) <= set(renderer.negatives.pool)
    if task.form is TaskForm.POINTWISE:
        assert len(record.candidates) == 1
        return
    wanted = 2 if task.form is TaskForm.PAIRWISE else candidates
    left = len(set(renderer.negatives.pool) - had - {target})
    assert len(record.candidates) == min(wanted, 1 + left)
    assert target in record.candidates
    shuffled = renderer.record(number, shuffle=1 + seed % 5)
    assert sorted(shuffled.candidates) == sorted(record.candidates)
    same = {**record._asdict(), "inputs": "", "candidates": ()}
    assert {**shuffled._asdict(), "inputs": "", "candidates": ()} == same
    blank = re.compile(r"#\d+#")
    assert blank.sub("#", shuffled.inputs) == blank.sub("#", record.inputs)


def test_the_right_candidate_occurs_at_every_place_and_is_right_half_of_the_time(
    make: Callable[..., Split],
):
    renderer = build(make, (TaskName.SEQUENTIAL_RERANKING,), candidates=4)
    places = [r.candidates.index(r.target_item) for r in map(renderer.record, range(4_000))]
    counts = np.bincount(places, minlength=4)
    # Chi-square with 3 degrees of freedom: above 16.3 one time in a thousand.
    assert ((counts - 1_000) ** 2 / 1_000).sum() < 16.3
    renderer = build(make, (TaskName.CONTEXT_POINTWISE,))
    rights = sum(r.candidates == (r.target_item,) for r in map(renderer.record, range(4_000)))
    assert abs(rights - 2_000) < 3.3 * (4_000 / 4) ** 0.5


def test_popular_items_are_counted_before_the_day_and_in_training_only(make):
    split = make([[0, 1, 2, 3], [4, 1, 0, 5], [1, 6, 7, 8]], TITLES)
    day = 86_400
    split.times[:] = np.array([0, 1, 2, 3, 0, 2, 3, 4, 1, 2, 8, 30]) * day
    config = InstructionsConfig(
        tasks=(TaskName.CONTEXT_RECOMMENDATION,), context=(ContextPart.POPULAR,)
    )
    renderer = Renderer.build(split, config, TITLES, 0, Role.TEST, teacher=LogTeacher.of(split))
    moments = renderer.request_context
    # Training events: items 0, 1 on days 0, 1; 4, 1 on 0, 2; 1, 6 on 1, 2.
    assert moments.popular_at(0) == ()
    assert moments.popular_at(1) == (0, 4)
    assert moments.popular_at(2) == (1, 0, 4)
    assert moments.popular_at(3) == (1, 0, 4)
    assert moments.popular_at(10) == (1, 6), "days 1 to 7 only"
    assert moments.popular_at(11) == (), "a month later nothing is popular now"
    assert {renderer.origin(n).position for n in range(len(renderer))} == {3, 7}


def test_the_moment_in_words(make):
    split = make([[0, 1, 2, 3]], TITLES)
    split.times[:] = [0, 1_700_000_000, 1_721_500_000, 1_721_563_200]
    config = InstructionsConfig(
        tasks=(TaskName.CONTEXT_RECOMMENDATION,), context=(ContextPart.TIME, ContextPart.SEASON)
    )
    moments = Renderer.build(split, config, TITLES, 0, teacher=LogTeacher.of(split)).request_context
    pack = Renderer.build(
        split, config, TITLES, 0, teacher=LogTeacher.of(split)
    ).prompt_writer.packs[0]
    said = [moments.phrase(position, pack, "") for position in range(4)]
    words = PACKS["en"]["context"]

    def phrase(*keys: str) -> str:
        return " , ".join(words[key] for key in keys)

    assert said == [
        phrase("night", "weekday", "winter"),  # Thursday 1 January 1970, 00:00
        phrase("evening", "weekday", "autumn"),  # Tuesday 14 November 2023, 22:13
        phrase("evening", "weekend", "summer"),  # Saturday 20 July 2024, 18:26
        phrase("afternoon", "weekend", "summer"),  # Sunday 21 July 2024, 12:00
    ]
