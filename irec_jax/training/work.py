"""How much arithmetic a batch is, and how fast the devices could do it."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from irec_jax.batches.batch import Batch
from irec_jax.model.config import T5Config


class Work(NamedTuple):
    """What one batch holds; padding is not work.

    Attributes:
        tokens: Real tokens of both sides.
        slots: Room for tokens on both sides.
        flops: Floating point operations of forward and backward pass.
    """

    tokens: int
    slots: int
    flops: float

    def plus(self, other: "Work") -> "Work":
        """Both together."""
        return Work(self.tokens + other.tokens, self.slots + other.slots, self.flops + other.flops)


def batch_work(config: T5Config, batch: Batch) -> Work:
    """Counts a batch whose arrays are on the host."""
    segments = np.asarray(batch.input_segments), np.asarray(batch.target_segments)
    most = max(int(side.max(initial=0)) for side in segments)
    source, target = (_lengths(side, most) for side in segments)
    slots = sum(side.size for side in segments)
    return Work(int(source.sum() + target.sum()), slots, training_flops(config, source, target))


def training_flops(
    config: T5Config, source: Int[np.ndarray, "..."], target: Int[np.ndarray, "..."]
) -> float:
    """Analytic operations of a training step: two a multiply-add, backward twice forward.

    XLA's own cost analysis counts the body of a scanned layer once, so it cannot be used.

    Args:
        config: The model's shape.
        source: Source length of each example, in tokens.
        target: Target length of each example, in the same order.
    """
    inner = config.heads * config.head_dim
    feed_forward = (3 if config.gated else 2) * config.width * config.hidden
    tokens_in, tokens_out = float(source.sum()), float(target.sum())
    pairs_in, pairs_out = float((source**2).sum()), float((target**2).sum())
    pairs_across = float((source * target).sum())
    project = config.width * inner
    encoder = tokens_in * (4 * project + feed_forward)
    # The decoder's attention to the source projects the source's keys and values as well.
    decoder = tokens_out * (6 * project + feed_forward) + tokens_in * 2 * project
    products = config.encoder_layers * encoder + config.decoder_layers * decoder
    attended = config.encoder_layers * pairs_in + config.decoder_layers * (pairs_out + pairs_across)
    head = tokens_out * config.width * config.vocabulary
    return 6 * (products + head) + 12 * inner * attended


def measure_peak(mesh: Mesh, compute: str) -> float:
    """Floating point operations per second of a large matrix product on the whole mesh.

    One device is measured, for a fraction of a second. Simulated devices share one processor, so
    on a CPU they count as one.

    Args:
        mesh: The devices.
        compute: The dtype of the operands.
    """
    device = mesh.local_devices[0]  # of several processes each sees its own devices alone
    cpu = device.platform == "cpu"
    side = 1_024 if cpu else 8_192
    one = jax.device_put(np.ones((side, side), np.float32), device)
    operand = jax.block_until_ready(jax.jit(lambda values: values.astype(compute))(one))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(operand, operand))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(product(operand, operand))
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best * (1 if cpu else mesh.devices.size)


def _lengths(
    segments: Int[np.ndarray, "batch length"], most: int
) -> Int[np.ndarray, "batch segments"]:
    """The number of tokens of the segments 1 to `most` of each row."""
    rows = segments.shape[0]
    numbers = segments + (most + 1) * np.arange(rows)[:, None]
    counts = np.bincount(numbers.ravel(), minlength=rows * (most + 1))
    return counts.reshape(rows, most + 1)[:, 1:]
