"""Floating point operations of a batch."""

import functools
import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from irec_jax.batches.batch import Batch
from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig, reached_part
from irec_jax.model.params import Params, abstract
from irec_jax.training.optimizer import path_name
from irec_jax.training.step import NO_LORA


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


def batch_work(config: T5Config, batch: Batch, lora: LoraConfig = NO_LORA) -> Work:
    """Count the work of a batch whose arrays are on the host."""
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
    """Count the operations of a training step analytically.

    A multiply-add is two operations, the backward pass twice the forward pass. Frozen weights
    have no gradient. XLA's own cost analysis counts the body of a scanned layer only once.

    Args:
        config: The model's config.
        source: Source length of each example, in tokens.
        target: Target length of each example, in the same order.
        lora: The weights that are trained by adapters; rank 0 trains all weights.
    """
    inner = config.heads * config.head_dim
    feed_forward = (3 if config.gated else 2) * config.width * config.mlp_dim
    tokens_in, tokens_out = float(source.sum()), float(target.sum())
    pairs_in, pairs_out = float((source**2).sum()), float((target**2).sum())
    pairs_across = float((source * target).sum())
    project = config.width * inner
    encoder = tokens_in * (4 * project + feed_forward)
    # The cross-attention projects keys and values of the source.
    decoder = tokens_out * (6 * project + feed_forward) + tokens_in * 2 * project
    products = config.encoder_layers * encoder + config.decoder_layers * decoder
    attended = config.encoder_layers * pairs_in + config.decoder_layers * (pairs_out + pairs_across)
    head = tokens_out * config.width * config.vocabulary
    frozen_in, frozen_out = _frozen_sizes(config, lora)
    no_gradient = 2 * (tokens_in * frozen_in + tokens_out * frozen_out)
    return 6 * (products + head) + 12 * inner * attended - no_gradient


@functools.lru_cache(maxsize=64)
def _frozen_sizes(config: T5Config, lora: LoraConfig) -> tuple[int, int]:
    """Count the frozen weights that source tokens, and that target tokens are multiplied with."""
    if not lora.rank:
        return 0, 0
    weights = abstract(config)
    head = "head" if "head" in weights else "embedding"
    total, reached = (_product_sizes(tree, head) for tree in (weights, reached_part(weights, lora)))
    return total[0] - reached[0], total[1] - reached[1]


def _product_sizes(params: Params, head: str) -> tuple[int, int]:
    """Count the weights that source tokens, and that target tokens are multiplied with."""
    source = target = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = path_name(path).split("/")
        in_layer = "layers" in names and names[-1] not in ("scale", "bias")
        if not in_layer and names != [head]:
            continue
        # The cross-attention projects keys and values of the source.
        if names[0] == "encoder" or names[-2:] in (["across", "key"], ["across", "value"]):
            source += math.prod(leaf.shape)
        else:
            target += math.prod(leaf.shape)
    return source, target


def _lengths(
    segments: Int[np.ndarray, "batch length"], most: int
) -> Int[np.ndarray, "batch segments"]:
    """Return the number of tokens of the segments 1 to `most` of each row."""
    rows = segments.shape[0]
    numbers = segments + (most + 1) * np.arange(rows)[:, None]
    counts = np.bincount(numbers.ravel(), minlength=rows * (most + 1))
    return counts.reshape(rows, most + 1)[:, 1:]
