"""Every example occurs once in a pass, for any reader and in any order."""

import concurrent.futures
import pickle
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irec_jax.instructions.built_in_tasks import task_named
from irec_jax.instructions.examples import Examples, TaskVariant, narrow
from irec_jax.instructions.forms import Intention, TaskName
from irec_jax.instructions.passes import RecordOrder, RecordOrigin
from irec_jax.random_draws import derive_key, permutation, scramble

pytestmark = pytest.mark.fast

ASKED = (
    TaskVariant(task_named(TaskName.SEQUENTIAL_RECOMMENDATION), Intention.NONE),
    TaskVariant(task_named(TaskName.PRODUCT_SEARCH), Intention.VAGUE),
)


def passes_of(count: int, seed: int) -> RecordOrder:
    numbers = np.arange(count) % len(ASKED)
    return RecordOrder(
        Examples(ASKED, numbers.astype(np.int16), narrow(np.arange(count) + 7)), seed
    )


def slow_source(passes: RecordOrder, number: int) -> RecordOrigin:
    """Works a source out from the seed alone, as the decision on record numbers tells it."""
    examples, (turn, place) = passes.examples, divmod(number, len(passes))
    example = int(permutation(derive_key(passes.seed, 0, turn), len(passes))[place])
    kind = int(examples.numbers[example])
    draw = derive_key(passes.seed, 1, number)
    return RecordOrigin(examples.variants[kind], int(examples.positions[example]), kind, draw)


@given(count=st.integers(1, 40), seed=st.integers(0, 2**32), numbers=st.data())
def test_a_source_depends_on_the_seed_and_the_number_alone(count, seed, numbers):
    passes = passes_of(count, seed)
    asked = numbers.draw(st.lists(st.integers(0, 5 * count), max_size=20))
    expected = [slow_source(passes, number) for number in asked]
    assert [passes.origin(number) for number in asked] == expected
    sent = pickle.loads(pickle.dumps(passes))
    assert [sent.origin(number) for number in reversed(asked)] == expected[::-1]


@pytest.mark.parametrize("turn", [0, 1, 5])
def test_a_pass_has_every_example_once(turn: int):
    passes = passes_of(97, seed=3)
    places = [passes.origin(number).position for number in range(97 * turn, 97 * turn + 97)]
    assert sorted(places) == list(range(7, 104)) != places


def test_many_threads_may_ask_at_once():
    passes = passes_of(50, seed=9)
    expected = [slow_source(passes, number) for number in range(200)]
    numbers = random.Random(0).choices(range(200), k=20_000)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        found = threads.map(passes.origin, numbers, chunksize=1)
        assert all(source == expected[n] for n, source in zip(numbers, found, strict=True))


def test_who_gets_the_passes_need_not_sort_again(monkeypatch: pytest.MonkeyPatch):
    passes = passes_of(40, seed=1)
    first = [passes.origin(number) for number in range(40)]
    sent = pickle.loads(pickle.dumps(passes))

    def refuse(key: int, length: int) -> np.ndarray:
        raise AssertionError("the order is sorted again")

    monkeypatch.setattr("irec_jax.instructions.passes.permutation", refuse)
    assert [sent.origin(number) for number in range(40)] == first


def test_places_are_kept_in_half_the_memory_where_they_fit():
    assert narrow(np.array([0, 2**31 - 1])).dtype == np.int32
    assert narrow(np.array([0, 2**31])).dtype == np.int64
    assert narrow(np.array([2**31])).tolist() == [2**31]
    assert len(narrow(np.zeros(0, np.int64))) == 0


@given(seed=st.integers(0, 2**64 - 1), words=st.lists(st.integers(0, 2**40), min_size=1))
def test_a_key_follows_from_the_beginning_of_its_name(seed: int, words: list[int]):
    assert derive_key(seed, *words) == scramble(derive_key(seed, *words[:-1]) + words[-1])
