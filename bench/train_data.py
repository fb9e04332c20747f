"""What every side of `bench/train.py` trains: shapes, examples, and how they become batches.

Needs numpy alone (and our package for packing), so that a peer's interpreter can read it too.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

BATCH, SOURCE, TARGET = 16, 256, 32
CHUNK = 50
"""Batches whose examples are sorted by length together, for `grouped`."""
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
        step: Trains one batch (`Rows`) and returns its loss.
        parameters: How many numbers are trained.
        versions: Of the packages that do the work.
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
        """Real tokens of both sides."""
        return int((self.input_segments > 0).sum() + (self.target_segments > 0).sum())

    def places(self) -> int:
        """Places for tokens, of both sides, padding included."""
        return self.inputs.size + self.targets.size


def examples(data: str, vocabulary: int, number: int) -> list[Example]:
    """Random prompts and targets; ragged lengths are lognormal, as instructions have them."""
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


def batches(made: list[Example], layout: str) -> Iterator[Rows]:
    """Batches of `packed`, `fixed`, `grouped` or `stepped` layout; see `bench/train.py`."""
    if layout == "packed":
        return packed(made)
    return padded(made, layout)


def packed(made: list[Example]) -> Iterator[Rows]:
    """Many examples a row, as our pipeline packs them."""
    from irec_jax.batches.packing import pack

    window = 1_024
    for start in range(0, len(made), window):
        part = made[start : start + window]
        source = np.array([len(example[0]) for example in part])
        target = np.array([len(example[1]) for example in part])
        rows = pack(source, target, SOURCE, TARGET)
        for at in range(0, len(rows) - BATCH + 1, BATCH):
            members = [[part[member] for member in row] for row in rows[at : at + BATCH]]
            yield _filled(members, (SOURCE, TARGET))


def padded(made: list[Example], layout: str) -> Iterator[Rows]:
    """One example a row; all but `fixed` are sorted by length, in chunks of `CHUNK` batches.

    Batches of a chunk come in an order in which any few in a row hold short and long ones as the
    chunk does, so that each repeat of a measurement has the same work.
    """
    for start in range(0, len(made) - BATCH + 1, CHUNK * BATCH):
        part = made[start : start + CHUNK * BATCH]
        if layout != "fixed":
            part = sorted(part, key=lambda example: len(example[0]))
        starts = np.arange(0, len(part) - BATCH + 1, BATCH)
        for at in starts[np.argsort(np.argsort(np.arange(len(starts)) * GOLDEN % 1.0))]:
            members = [[example] for example in part[at : at + BATCH]]
            yield _filled(members, columns_of(part[at : at + BATCH], layout))


def columns_of(batch: list[Example], layout: str) -> tuple[int, int]:
    """Columns of a padded batch: `fixed`; the longest (`grouped`); or rounded up (`stepped`).

    A program compiled for each length would be compiled all the time: `stepped` leaves sixteen
    lengths of both sides together.
    """
    if layout == "fixed":
        return SOURCE, TARGET
    source, target = (max(len(example[side]) for example in batch) for side in (0, 1))
    if layout == "stepped":
        return -(-source // 32) * 32, -(-target // 16) * 16
    return source, target


def _lognormal(rng: np.random.Generator, mean: float, sigma: float, number: int) -> np.ndarray:
    return rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, number).round().astype(int)


def _filled(members: list[list[Example]], columns: tuple[int, int]) -> Rows:
    arrays = [np.zeros((BATCH, length), np.int32) for length in np.repeat(columns, 2)]
    for row, fellows in enumerate(members):
        filled = [0, 0]
        for segment, example in enumerate(fellows, start=1):
            for side, tokens in enumerate(example):
                here = slice(filled[side], filled[side] + len(tokens))
                arrays[2 * side][row, here] = tokens
                arrays[2 * side + 1][row, here] = segment
                filled[side] += len(tokens)
    return Rows(*arrays)
