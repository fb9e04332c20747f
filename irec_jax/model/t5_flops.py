"""Floating point operations of T5, counted analytically."""

import functools
import math

import jax
import numpy as np
from jaxtyping import Int

from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig, reached_part
from irec_jax.model.params import Params, abstract


def training_flops(
    config: T5Config,
    source: Int[np.ndarray, "..."],
    target: Int[np.ndarray, "..."],
    lora: LoraConfig,
) -> float:
    """Counts the operations of a training step: two per multiply-add, backward twice forward.

    Frozen weights have no gradient. XLA's own cost analysis counts the body of a scanned layer
    once, so it cannot be used.

    Args:
        config: The sizes of the model.
        source: Source length of each example, in tokens.
        target: Target length of each example, in the same order.
        lora: The weights that are trained.
    """
    inner = config.heads * config.head_dim
    feed_forward = (3 if config.is_gated else 2) * config.width * config.mlp_dim
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
    """Sizes of frozen matrices that source tokens, and that target tokens are multiplied with."""
    if not lora.rank:
        return 0, 0
    whole = abstract(config)
    head = "head" if "head" in whole else "embedding"
    everything, reached = (
        _product_sizes(tree, head) for tree in (whole, reached_part(whole, lora))
    )
    return everything[0] - reached[0], everything[1] - reached[1]


def _product_sizes(params: Params, head: str) -> tuple[int, int]:
    """Sizes of the matrices that source tokens, and that target tokens are multiplied with."""
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
