"""Packed batches from numbered records, with a position that can be saved and restored."""

import dataclasses
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import grain
import numpy as np
from jaxtyping import Int

from irec_jax.batches.batch import Batch
from irec_jax.batches.packing import pack
from irec_jax.instructions.forms import Instruction
from irec_jax.random_draws import derive_key, permutation
from irec_jax.tokens.items import TokenWriter
from irec_jax.tokens.text import EOS

# Examples packed together: enough for full rows, few enough to make again on resume.
WINDOW = 1_024
_NUM_WINDOWS = 2**40
BATCHES_AHEAD = 4

Example = dict[str, Int[np.ndarray, " _"]]


@runtime_checkable
class RecordSource(Protocol):
    """Training records: a pure function of the record's number."""

    def record(self, number: int) -> Instruction:
        """Returns the record with this number, at least 0."""
        ...


@dataclasses.dataclass
class Cuts:
    """Counts of shortened texts so far, with those of batches made ahead.

    Attributes:
        records: Number of rendered records.
        inputs: Number of prompts longer than an encoder row.
        targets: Number of answers longer than a decoder row.
    """

    records: int = 0
    inputs: int = 0
    targets: int = 0


def encode_prompt(text: str, writer: TokenWriter, source_length: int) -> list[int]:
    """Encodes a prompt with `EOS` in at most `source_length` ids.

    Training, scoring and serving all use this function. A prompt that is too long keeps its first
    quarter, which holds the task, and its end, which holds the newest events and the user's
    query; the oldest part of the history is dropped.
    """
    return _shorten([*writer.encode(text), EOS], source_length)


def _shorten(ids: list[int], length: int) -> list[int]:
    if len(ids) <= length:
        return ids
    head = length // 4
    return ids[:head] + ids[len(ids) - (length - head) :]


def encode_record(
    instruction: Instruction,
    writer: TokenWriter,
    source_length: int,
    target_length: int,
    cuts: Cuts | None = None,
) -> Example:
    """Encodes one example: `inputs` and `targets`, both int32 and ending with `EOS`.

    An answer that is too long is cut at its end; items always fit (`TokensConfig` checks it).

    Args:
        instruction: The record.
        writer: Encodes the texts.
        source_length: Maximum number of tokens of `inputs`.
        target_length: Maximum number of tokens of `targets`.
        cuts: Incremented by the record and its shortened texts.
    """
    inputs = [*writer.encode(instruction.inputs), EOS]
    targets = [*writer.encode(instruction.targets), EOS]
    if cuts is not None:
        cuts.records += 1
        cuts.inputs += len(inputs) > source_length
        cuts.targets += len(targets) > target_length
    if len(targets) > target_length:
        targets = [*targets[: target_length - 1], EOS]
    return {
        "inputs": np.array(_shorten(inputs, source_length), np.int32),
        "targets": np.array(targets, np.int32),
    }


@dataclasses.dataclass(frozen=True)
class PackedWindow(grain.experimental.FlatMapTransform):
    """Window number -> packed rows of the records `window * number` to `window * (number + 1)`.

    It is pure, so a position in the data is a window number and a row number. The order of the
    rows is drawn from the window's number, because packing puts the longest examples first.
    """

    renderer: RecordSource
    writer: TokenWriter
    source_length: int
    target_length: int
    cuts: Cuts
    window: int = WINDOW
    stopping: threading.Event | None = None

    max_fan_out = WINDOW

    def flat_map(self, element: int) -> list[Example]:
        """Returns the rows of window `element`; raises RuntimeError once its reader is closed."""
        if self.stopping is not None and self.stopping.is_set():
            raise RuntimeError("the reader was closed")
        examples = [
            encode_record(
                self.renderer.record(number),
                self.writer,
                self.source_length,
                self.target_length,
                self.cuts,
            )
            for number in range(self.window * element, self.window * (element + 1))
        ]
        rows = pack(
            np.array([len(example["inputs"]) for example in examples]),
            np.array([len(example["targets"]) for example in examples]),
            self.source_length,
            self.target_length,
        )
        order = permutation(derive_key(element), len(rows))
        return [self._row([examples[number] for number in rows[row]]) for row in order]

    def _row(self, examples: list[Example]) -> Example:
        inputs, input_segments = _side([e["inputs"] for e in examples], self.source_length)
        targets, target_segments = _side([e["targets"] for e in examples], self.target_length)
        return {
            "inputs": inputs,
            "input_segments": input_segments,
            "targets": targets,
            "target_segments": target_segments,
        }


def _side(parts: list[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    tokens, segments = np.zeros((2, length), np.int32)
    end = 0
    for number, part in enumerate(parts, start=1):
        tokens[end : end + len(part)] = part
        segments[end : end + len(part)] = number
        end += len(part)
    return tokens, segments


def training_batches(
    renderer: RecordSource,
    writer: TokenWriter,
    *,
    batch_size: int,
    source_length: int,
    target_length: int,
    cuts: Cuts | None = None,
) -> grain.IterDataset[Batch]:
    """Makes an unlimited iterator of packed batches of int32 arrays.

    A background thread makes a few batches ahead. The iterator's `get_state()` is a small dict
    of plain numbers that JSON can store; `set_state` in any process continues with the same
    batches.

    Args:
        renderer: The source of the records; its seed decides their order.
        writer: Encodes the records.
        batch_size: Rows of a batch.
        source_length: Encoder columns.
        target_length: Decoder columns.
        cuts: Counts shortened texts; it starts at 0 when a run is resumed.
    """
    window = PackedWindow(renderer, writer, source_length, target_length, cuts or Cuts())

    def batches(stopping: threading.Event) -> grain.IterDataset:
        # No read threads: rendering holds the GIL, and one thread ahead of the step is enough.
        numbers = grain.MapDataset.range(_NUM_WINDOWS).to_iter_dataset(
            grain.ReadOptions(num_threads=0)
        )
        stoppable = dataclasses.replace(window, stopping=stopping)
        rows = grain.experimental.FlatMapIterDataset(numbers, stoppable)
        return rows.batch(batch_size).map(_to_batch)

    return PrefetchDataset(batches)


class PrefetchDataset(grain.IterDataset):
    """Prefetches a few batches in a thread of grain that ends before the interpreter.

    At exit Python aborts the process if a daemon thread is inside a library's native code, and
    grain 0.2.18 closes an open iterator only after its own modules are gone.

    Args:
        make: Makes the batches of an iterator; the event is set when the iterator is closed, to
            stop the work on batches that will not be read.
    """

    def __init__(self, make: Callable[[threading.Event], grain.IterDataset]) -> None:
        super().__init__()
        self._make = make

    def __iter__(self) -> grain.DatasetIterator:
        stopping = threading.Event()
        ahead = grain.experimental.ThreadPrefetchIterDataset(
            self._make(stopping), prefetch_buffer_size=BATCHES_AHEAD
        )
        iterator = _PrefetchIterator(ahead.__iter__(), stopping)
        weakref.finalize(iterator, _close_at_exit, weakref.ref(iterator))
        return iterator


class _PrefetchIterator(grain.DatasetIterator):
    def __init__(self, inner: grain.DatasetIterator, stopping: threading.Event) -> None:
        super().__init__(inner)
        self.inner, self._stopping = inner, stopping

    def __next__(self) -> Any:
        return next(self.inner)

    def get_state(self) -> dict[str, Any]:
        return self.inner.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        self.inner.set_state(state)

    def close(self) -> None:
        self._stopping.set()  # before waiting for the thread
        super().close()


def _close_at_exit(reference: Callable[[], Any]) -> None:
    iterator = reference()
    if iterator is not None:
        iterator.close()
        iterator.inner.close = lambda: None  # `__del__` calls it again, after grain is gone


def _to_batch(row: dict[str, Any]) -> Batch:
    return Batch(**row)
