"""How much arithmetic a batch is, and how fast the devices could do it."""

import functools
import math
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from irec_jax.batches.batch import Batch
from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig, reached_part
from irec_jax.model.params import Params, abstract
from irec_jax.training.step import NO_LORA


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


def batch_work(config: T5Config, batch: Batch, lora: LoraConfig = NO_LORA) -> Work:
    """Counts a batch whose arrays are on the host."""
    segments = np.asarray(batch.input_segments), np.asarray(batch.target_segments)
    most = max(int(side.max(initial=0)) for side in segments)
    source, target = (_lengths(side, most) for side in segments)
    slots = sum(side.size for side in segments)
    flops = training_flops(config, source, target, lora)
    return Work(int(source.sum() + target.sum()), slots, flops)


def training_flops(
    config: T5Config,
    source: Int[np.ndarray, "..."],
    target: Int[np.ndarray, "..."],
    lora: LoraConfig = NO_LORA,
) -> float:
    """Analytic operations of a training step: two a multiply-add, backward twice forward.

    Of weights that do not change no gradient is computed.

    XLA's own cost analysis counts the body of a scanned layer once, so it cannot be used.

    Args:
        config: The model's shape.
        source: Source length of each example, in tokens.
        target: Target length of each example, in the same order.
        lora: Which weights change.
    """
    inner = config.heads * config.head_dim
    feed_forward = (3 if config.gated else 2) * config.width * config.mlp_dim
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
    spared_in, spared_out = _without_gradient(config, lora)
    spared = 2 * (tokens_in * spared_in + tokens_out * spared_out)
    return 6 * (products + head) + 12 * inner * attended - spared


@functools.lru_cache(maxsize=64)
def _without_gradient(config: T5Config, lora: LoraConfig) -> tuple[int, int]:
    """Numbers in products that do not change: those of source tokens, those of target tokens."""
    if not lora.rank:
        return 0, 0
    whole = abstract(config)
    head = "head" if "head" in whole else "embedding"
    everything, reached = (
        _product_sizes(tree, head) for tree in (whole, reached_part(whole, lora))
    )
    return everything[0] - reached[0], everything[1] - reached[1]


def _product_sizes(params: Params, head: str) -> tuple[int, int]:
    """Numbers of the weights that source tokens, and that target tokens are multiplied with."""
    source = target = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = tuple(str(part.key) for part in path)
        in_layer = "layers" in names and names[-1] not in ("scale", "bias")
        if not in_layer and names != (head,):
            continue
        # The decoder's attention to the source projects the source's keys and values.
        if names[0] == "encoder" or names[-2:] in (("across", "key"), ("across", "value")):
            source += math.prod(leaf.shape)
        else:
            target += math.prod(leaf.shape)
    return source, target


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


def memory_in_use(devices: Sequence[Any]) -> dict[str, float]:
    """The most memory that was in use so far, in GiB: `host_gib`, `device_gib` of the fullest.

    Simulated devices live in the host's memory, and have no figure of their own.
    """
    # Kibibytes, but bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1_024
    told = {"host_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in devices]
    if any(peaks):
        told["device_gib"] = max(peaks) / 2**30
    return told


def _lengths(
    segments: Int[np.ndarray, "batch length"], most: int
) -> Int[np.ndarray, "batch segments"]:
    """The number of tokens of the segments 1 to `most` of each row."""
    rows = segments.shape[0]
    numbers = segments + (most + 1) * np.arange(rows)[:, None]
    counts = np.bincount(numbers.ravel(), minlength=rows * (most + 1))
    return counts.reshape(rows, most + 1)[:, 1:]
