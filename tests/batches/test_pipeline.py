import itertools
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irec_jax.batches.batch import Batch
from irec_jax.batches.pipeline import (
    WINDOW,
    Cuts,
    PackedWindow,
    encode_prompt,
    encode_record,
    training_batches,
)
from irec_jax.tokens.text import EOS, PAD

from .fakes import FakeRenderer, fake_writer

SHAPE = {"batch_size": 8, "source_length": 64, "target_length": 16}


def fill(batch: Batch) -> float:
    """Computes the share of encoder positions that are not padding, 0 to 1."""
    return float(np.mean(np.asarray(batch.input_segments) > 0))


def real_tokens(batch: Batch) -> int:
    """Counts the tokens of both sides without padding."""
    sides = (batch.input_segments, batch.target_segments)
    return int(sum(np.count_nonzero(np.asarray(side)) for side in sides))


def batches(renderer, writer, **settings):
    return iter(training_batches(renderer, writer, **(SHAPE | settings)))


def digest(batch):
    return [int(np.asarray(leaf).astype(np.int64).sum()) for leaf in jax.tree.leaves(batch)] + [
        int((np.asarray(leaf).ravel() * np.arange(leaf.size)).sum())
        for leaf in jax.tree.leaves(batch)
    ]


def same(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(left, right) for left, right in pairs)


def examples_of(tokens, segments):
    """Cuts a row into its examples, in the order of their segment numbers."""
    parts = []
    for number in range(1, segments.max() + 1):
        places = np.flatnonzero(segments == number)
        assert np.array_equal(places, np.arange(places[0], places[-1] + 1))  # in one piece
        parts.append(tuple(tokens[places].tolist()))
    assert not tokens[segments == 0].any()
    return parts


@settings(max_examples=40, deadline=None)
@given(
    mean=st.sampled_from([2.0, 10.0, 25.0]),
    answer=st.integers(1, 14),
    number=st.integers(0, 3),
    source_length=st.integers(16, 90),
)
def test_no_token_is_lost_or_doubled(writer, mean, answer, number, source_length):
    renderer = FakeRenderer(mean=mean, answer=answer)
    packed = PackedWindow(renderer, writer, source_length, 12, Cuts(), window=50)
    found = []
    for row in packed.flat_map(number):
        inputs = examples_of(row["inputs"], row["input_segments"])
        targets = examples_of(row["targets"], row["target_segments"])
        found += zip(inputs, targets, strict=True)
    wanted = [
        encode_record(renderer.record(record), writer, source_length, 12)
        for record in range(50 * number, 50 * (number + 1))
    ]
    assert sorted(found) == sorted(
        (tuple(one["inputs"].tolist()), tuple(one["targets"].tolist())) for one in wanted
    )


def test_a_batch_is_four_int32_arrays(renderer, writer):
    batch = next(batches(renderer, writer))
    assert isinstance(batch, Batch)
    assert batch.inputs.shape == batch.input_segments.shape == (8, 64)
    assert batch.targets.shape == batch.target_segments.shape == (8, 16)
    assert {leaf.dtype for leaf in jax.tree.leaves(batch)} == {np.dtype(np.int32)}


def test_a_record_is_written_with_its_end(renderer, writer):
    record = renderer.record(3)
    made = encode_record(record, writer, 256, 32)
    assert made["inputs"].tolist() == [*writer.encode(record.inputs), EOS]
    assert made["targets"].tolist() == [*writer.encode(record.targets), EOS]
    assert writer.decode(made["targets"]) == writer.index.names[record.target_item]
    assert made["inputs"].tolist() == encode_prompt(record.inputs, writer, 256)


def test_a_long_prompt_keeps_its_beginning_and_its_end(writer):
    text = "next after " + " ; ".join(f"<item_{number}>" for number in range(50))
    whole = [*writer.encode(text), EOS]
    cut = encode_prompt(text, writer, 40)
    assert cut == whole[:10] + whole[-30:]


def test_cuts_are_counted(writer):
    renderer = FakeRenderer(mean=20, answer=14)
    cuts = Cuts()
    PackedWindow(renderer, writer, 40, 12, cuts).flat_map(0)
    records = [renderer.record(number) for number in range(WINDOW)]
    inputs = sum(len(writer.encode(record.inputs)) + 1 > 40 for record in records)
    targets = sum(len(writer.encode(record.targets)) + 1 > 12 for record in records)
    assert 0 < inputs < WINDOW
    assert 0 < targets < WINDOW
    assert cuts == Cuts(records=WINDOW, inputs=inputs, targets=targets)


def test_a_cut_answer_still_ends(writer):
    made = encode_record(FakeRenderer(answer=14).record(5), writer, 64, 4)
    assert len(made["targets"]) <= 4
    assert made["targets"][-1] == EOS


def test_the_same_again(renderer, writer):
    one, other = batches(renderer, writer), batches(renderer, writer)
    assert all(same(next(one), next(other)) for _ in range(50))


@pytest.mark.parametrize("taken", [0, 1, 13, 60])
def test_resumed_batches_are_the_uninterrupted_ones(renderer, writer, taken):
    first = batches(renderer, writer)
    for _ in range(taken):
        next(first)
    state = json.loads(json.dumps(first.get_state()))
    wanted = list(itertools.islice(first, 30))
    again = batches(renderer, writer)
    if taken == 13:
        next(again)  # an iterator that was used already
    again.set_state(state)
    assert again.get_state() == state
    assert all(same(next(again), batch) for batch in wanted)


def test_resumed_in_another_process(renderer, writer):
    first = batches(renderer, writer)
    for _ in range(21):
        next(first)
    program = (
        "import sys, json; sys.path[:0] = sys.argv[1:3];"
        "from tests.batches.test_pipeline import *;"
        "resumed = batches(FakeRenderer(), fake_writer());"
        "resumed.set_state(json.loads(sys.argv[3]));"
        "print(json.dumps([digest(next(resumed)) for _ in range(12)]))"
    )
    root = str(Path(__file__).parents[2])
    state = json.dumps(first.get_state())
    completed = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, root, root, state],
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(completed.stdout) == [digest(next(first)) for _ in range(12)]
    assert completed.stderr == ""  # nothing is left running at exit


def test_rows_come_in_mixed_order(writer):
    """Packing begins with the longest; batches must not."""
    rows = PackedWindow(FakeRenderer(), writer, 64, 16, Cuts()).flat_map(0)
    counts = np.array([row["input_segments"].max() for row in rows])
    half = len(counts) // 2
    spread = counts.std() / np.sqrt(half)
    assert abs(counts[:half].mean() - counts[half:].mean()) < 4 * spread


def test_batches_are_nearly_full_and_counted(writer):
    taken = list(itertools.islice(batches(FakeRenderer(), writer, source_length=128), 20))
    assert np.mean([fill(batch) for batch in taken]) >= 0.95
    for batch in taken:
        assert fill(batch) == np.count_nonzero(batch.inputs) / batch.inputs.size
        counted = np.count_nonzero(batch.inputs != PAD) + np.count_nonzero(batch.targets != PAD)
        assert real_tokens(batch) == counted
        assert real_tokens(jax.tree.map(jax.numpy.asarray, batch)) == counted


def test_writer_of_another_process_writes_the_same(writer):
    assert fake_writer().encode("next after <item_3>") == writer.encode("next after <item_3>")
