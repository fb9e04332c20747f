"""Floating point operations of a batch."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from irec_jax.batches.batch import Batch
from irec_jax.model.lora import NO_LORA, LoraConfig
from irec_jax.model.seq2seq import Seq2SeqConfig


class Work(NamedTuple):
    """The amount of work of a batch, without padding.

    Attributes:
        tokens: Real tokens of source and target.
        slots: Token positions of source and target, padding included.
        flops: Floating point operations of forward and backward pass.
    """

    tokens: int
    slots: int
    flops: float

    def plus(self, other: "Work") -> "Work":
        """Return the sum of both."""
        return Work(self.tokens + other.tokens, self.slots + other.slots, self.flops + other.flops)


def batch_work(config: Seq2SeqConfig, batch: Batch, lora: LoraConfig = NO_LORA) -> Work:
    """Count the work of a batch whose arrays are on the host."""
    segments = np.asarray(batch.input_segments), np.asarray(batch.target_segments)
    most = max(int(side.max(initial=0)) for side in segments)
    source, target = (_lengths(side, most) for side in segments)
    slots = sum(side.size for side in segments)
    flops = config.training_flops(source, target, lora)
    return Work(int(source.sum() + target.sum()), slots, flops)


def _lengths(
    segments: Int[np.ndarray, "batch length"], most: int
) -> Int[np.ndarray, "batch segments"]:
    """Return the number of tokens of the segments 1 to `most` of each row."""
    rows = segments.shape[0]
    numbers = segments + (most + 1) * np.arange(rows)[:, None]
    counts = np.bincount(numbers.ravel(), minlength=rows * (most + 1))
    return counts.reshape(rows, most + 1)[:, 1:]
