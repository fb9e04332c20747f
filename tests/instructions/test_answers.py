"""Answers of several items: where they end, and what they never reach."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import TaskName
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.teacher import LogTeacher
from irec_jax.log.split import Role

WORDS = [f"<item_{number}>" for number in range(12)]
TITLES = ["Lamp A", "Lamp B"] * 6
SEQUENTIAL = (TaskName.SEQUENTIAL_RECOMMENDATION,)


@given(st.integers(1, 6), st.integers(0, 40))
def test_an_answer_is_the_next_training_events_and_no_other(make, answer_items: int, number: int):
    split = make([[0, 1, 2, 3, 4, 5], [5, 6, 7, 8, 9], [1, 3, 5, 7]], TITLES)
    config = InstructionsConfig(tasks=SEQUENTIAL, answer_items=answer_items)
    record = Renderer.build(split, config, WORDS, seed=3, teacher=LogTeacher.of(split)).record(
        number
    )
    row = int(np.flatnonzero(split.users == record.user)[0])
    events = split.items[split.offsets[row] : split.offsets[row + 1]].tolist()
    trainable = events[:-2]
    place = events.index(record.target_item)
    expected = trainable[place : place + answer_items]
    assert record.targets == " ".join(WORDS[item] for item in expected)
    assert record.inputs.count("<item_") == place


def test_a_query_is_answered_by_one_item(split):
    config = InstructionsConfig(tasks=(TaskName.PRODUCT_SEARCH,), answer_items=4)
    renderer = Renderer.build(split, config, WORDS, seed=0, teacher=LogTeacher.of(split))
    for number in range(len(renderer)):
        record = renderer.record(number)
        assert record.targets == WORDS[record.target_item]


def test_targets_of_test_reach_no_other_role(split):
    config = InstructionsConfig(tasks=SEQUENTIAL, answer_items=5)
    renderer = Renderer.build(
        split, config, WORDS, seed=0, role=Role.VALIDATION, teacher=LogTeacher.of(split)
    )
    for number in range(len(renderer)):
        record = renderer.record(number)
        assert record.targets == WORDS[record.target_item]


def test_titles_of_several_words_are_refused(split):
    config = InstructionsConfig(tasks=SEQUENTIAL, answer_items=2)
    with pytest.raises(InputError, match=r"instructions\.answer_items"):
        Renderer.build(split, config, TITLES, seed=0, teacher=LogTeacher.of(split))
