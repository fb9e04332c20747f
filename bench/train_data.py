"""Model shapes, examples and batches of `bench/train.py`.

Imports only numpy (and our package for packing), so that a peer's interpreter can import it.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

BATCH, SOURCE, TARGET = 16, 256, 32
CHUNK = 50
"""Number of batches whose examples are sorted by length together, for `grouped`."""
GOLDEN = 0.6180339887498949
SHAPES = {
    "tiny": {
        "width": 128,
        "mlp_dim": 256,
        "layers": 4,
        "heads": 4,
        "size": 32,
        "vocabulary": 8_192,
    },
    "small": {
        "width": 512,
        "mlp_dim": 1_024,
        "layers": 8,
        "heads": 6,
        "size": 64,
        "vocabulary": 32_128,
    },
}

Shape = dict[str, int]
Example = tuple[np.ndarray, np.ndarray]


class Prepared(NamedTuple):
    """A side that is ready to train.

    Attributes:
        step: Trains on one batch (`Rows`) and returns its loss.
        parameters: Number of trained parameters.
        versions: Versions of its packages.
    """

    step: Callable[[Any], float]
    parameters: int
    versions: dict[str, str]


class Rows(NamedTuple):
    """One batch on the host: `[rows, columns]` token ids and segments (0 is padding)."""

    inputs: np.ndarray
    input_segments: np.ndarray
    targets: np.ndarray
    target_segments: np.ndarray

    def tokens(self) -> int:
        """Returns the number of real tokens of inputs and targets."""
        return int((self.input_segments > 0).sum() + (self.target_segments > 0).sum())

    def positions(self) -> int:
        """Returns the number of token positions of inputs and targets, padding included."""
        return self.inputs.size + self.targets.size


def examples(data: str, vocabulary: int, number: int) -> list[Example]:
    """Draws random inputs and targets; ragged lengths are lognormal, like those of instructions."""
    rng = np.random.default_rng(0)
    if data == "dense":
        source, target = np.full(number, SOURCE), np.full(number, TARGET)
    else:
        source = np.clip(_lognormal(rng, 110, 0.6, number), 16, SOURCE)
        target = np.clip(_lognormal(rng, 10, 0.4, number), 4, TARGET)
    return [
        (rng.integers(2, vocabulary, s), rng.integers(2, vocabulary, t))
        for s, t in zip(source, target, strict=True)
    ]


def batches(data: list[Example], layout: str) -> Iterator[Rows]:
    """Builds batches of `packed`, `fixed`, `grouped` or `stepped` layout; see `bench/train.py`."""
    if layout == "packed":
        return packed(data)
    return padded(data, layout)


def packed(data: list[Example]) -> Iterator[Rows]:
    """Yields batches with many examples per row, packed as in our pipeline."""
    from irec_jax.batches.packing import pack

    window = 1_024
    for start in range(0, len(data), window):
        part = data[start : start + window]
        source = np.array([len(example[0]) for example in part])
        target = np.array([len(example[1]) for example in part])
        rows = pack(source, target, SOURCE, TARGET)
        for first in range(0, len(rows) - BATCH + 1, BATCH):
            members = [[part[member] for member in row] for row in rows[first : first + BATCH]]
            yield _fill_rows(members, (SOURCE, TARGET))


def padded(data: list[Example], layout: str) -> Iterator[Rows]:
    """Yields batches with one example per row, sorted by length in chunks unless `fixed`.

    Batches of a chunk are ordered so that any few consecutive ones mix short and long examples
    like the whole chunk; each repeat of a measurement has the same work.
    """
    for start in range(0, len(data) - BATCH + 1, CHUNK * BATCH):
        part = data[start : start + CHUNK * BATCH]
        if layout != "fixed":
            part = sorted(part, key=lambda example: len(example[0]))
        starts = np.arange(0, len(part) - BATCH + 1, BATCH)
        for first in starts[np.argsort(np.argsort(np.arange(len(starts)) * GOLDEN % 1.0))]:
            members = [[example] for example in part[first : first + BATCH]]
            yield _fill_rows(members, columns_of(part[first : first + BATCH], layout))


def columns_of(batch: list[Example], layout: str) -> tuple[int, int]:
    """Returns the columns of a padded batch: fixed, the longest, or the longest rounded up.

    A program compiled per length would be compiled for most batches; `stepped` has sixteen
    combinations of lengths.
    """
    if layout == "fixed":
        return SOURCE, TARGET
    source, target = (max(len(example[side]) for example in batch) for side in (0, 1))
    if layout == "stepped":
        return -(-source // 32) * 32, -(-target // 16) * 16
    return source, target


def _lognormal(rng: np.random.Generator, mean: float, sigma: float, number: int) -> np.ndarray:
    return rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, number).round().astype(int)


def _fill_rows(members: list[list[Example]], columns: tuple[int, int]) -> Rows:
    arrays = [np.zeros((BATCH, length), np.int32) for length in np.repeat(columns, 2)]
    for row, row_examples in enumerate(members):
        filled = [0, 0]
        for segment, example in enumerate(row_examples, start=1):
            for side, tokens in enumerate(example):
                columns_used = slice(filled[side], filled[side] + len(tokens))
                arrays[2 * side][row, columns_used] = tokens
                arrays[2 * side + 1][row, columns_used] = segment
                filled[side] += len(tokens)
    return Rows(*arrays)
