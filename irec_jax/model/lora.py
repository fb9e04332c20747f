"""Low-rank adapters (Hu et al. 2022): a small change of frozen weights, as a tree beside theirs."""

import dataclasses
import math
import re
import zlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from irec_jax.bounds import Range, check_settings
from irec_jax.errors import InputError
from irec_jax.model.params import Params

STACKED = 3
"""Axes of a weight with a layer axis; each layer has an adapter of its own."""


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Which weights get an adapter, and how large it is.

    Attributes:
        rank: Inner dimension of an adapter; 0 trains all weights and has no adapters.
        alpha: An adapter's product is scaled by `alpha / rank`.
        targets: A regular expression; every matrix whose path it is found in gets an adapter.
            Paths are such as `decoder/layers/attention/query` and `embedding`.
        whole: A regular expression of weights that are trained whole beside the adapters; "" for
            none. New item tokens need `^(embedding|head)$`.
    """

    rank: int = 0
    alpha: float = 16.0
    targets: str = r"/(query|value)$"
    whole: str = ""

    def __post_init__(self) -> None:
        check_settings(
            self,
            "lora.",
            rank=Range(0, 2**16, "Set it to 0 to train all weights."),
            alpha=Range(0, 10**6, above=True),
        )
        for key in ("targets", "whole"):
            try:
                re.compile(getattr(self, key))
            except re.error as error:
                raise InputError(
                    f"'{getattr(self, key)}' is no regular expression: {error}",
                    where=f"lora.{key}",
                ) from error


NO_LORA = LoraConfig()
"""Trains all weights."""


def abstract_adapters(params: Params, config: LoraConfig) -> Params:
    """The tree of what is trained, as shapes.

    Args:
        params: The weights, or their shapes.
        config: Which of them.

    Returns:
        The nested dict of `params` cut down to what is trained: an adapter is a dict with
        `down` `[layers, inward, rank]` and `up` `[layers, rank, outward]` (no layer axis where
        the weight has none), a weight that is trained whole is itself.

    Raises:
        InputError: No weight matches, or one that matches is no matrix.
    """
    chosen: Params = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [str(part.key) for part in path]
        where = "/".join(names)
        shape = tuple(leaf.shape)
        if config.whole and re.search(config.whole, where):
            _put(chosen, names, jax.ShapeDtypeStruct(shape, leaf.dtype))
        elif re.search(config.targets, where):
            *stack, inward, outward = shape if len(shape) >= 2 else (0, 0)
            if len(shape) not in (2, STACKED) or min(inward, outward) <= config.rank:
                raise InputError(
                    f"{where} {shape} is no matrix that rank {config.rank} is small for",
                    where="lora.targets",
                    hint="Match only products of layers, such as query, value, gate.",
                )
            adapter = {
                "down": jax.ShapeDtypeStruct((*stack, inward, config.rank), leaf.dtype),
                "up": jax.ShapeDtypeStruct((*stack, config.rank, outward), leaf.dtype),
            }
            _put(chosen, names, adapter)
    if not chosen:
        raise InputError(
            f"no weight's path holds '{config.targets}'",
            where="lora.targets",
            hint="Paths are such as decoder/layers/attention/query.",
        )
    return chosen


def first_adapters(params: Params, config: LoraConfig, key: Key[Array, ""]) -> Params:
    """Adapters that change nothing yet: `down` is drawn, `up` is zero.

    Weights that are trained whole start as they are in `params`.
    """
    shapes = abstract_adapters(params, config)

    def begin(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        names = [str(part.key) for part in path]
        found: Any = params
        for name in names[:-1]:
            found = found[name]
        if isinstance(found, dict):  # a weight, which may itself be called "up" or "down"
            return jnp.asarray(found[names[-1]])
        if names[-1] == "up":
            return jnp.zeros(leaf.shape, leaf.dtype)
        place = jax.random.fold_in(key, _number("/".join(names)))
        drawn = jax.random.normal(place, leaf.shape, jnp.float32)
        return (leaf.shape[-2] ** -0.5 * drawn).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(begin, shapes)


def merged(params: Params, adapters: Params, config: LoraConfig) -> Params:
    """The weights with the adapters in them: `W + alpha / rank * down @ up`.

    Weights that were trained whole may be missing from `params` (`frozen_part`).

    Computed anew in every step: that costs as much as `rank` more tokens, and gives the very
    weights that an export holds.
    """
    scale = config.alpha / max(config.rank, 1)

    def joined(weight: Any, adapter: Any) -> Any:
        if not isinstance(adapter, dict):
            return adapter
        if isinstance(weight, dict):
            return {
                name: joined(weight.get(name, {}), adapter[name])
                if name in adapter
                else weight[name]
                for name in sorted(weight.keys() | adapter.keys())
            }
        down, up = jnp.asarray(adapter["down"]), jnp.asarray(adapter["up"])
        return _changed(jnp.asarray(weight), down, up, scale)

    return joined(params, adapters)


def frozen_part(params: Params, config: LoraConfig) -> Params:
    """The nested dict of weights, or of their shapes, without those that are trained whole."""
    frozen: Params = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [str(part.key) for part in path]
        if not (config.whole and re.search(config.whole, "/".join(names))):
            _put(frozen, names, leaf)
    return frozen


def reached_part(params: Params, config: LoraConfig) -> Params:
    """The nested dict of weights that change: those with an adapter, those that are trained whole.

    A step computes the gradients of these alone; without adapters, of all.
    """
    if not config.rank:
        return params
    chosen = f"{config.targets}|{config.whole}" if config.whole else config.targets
    reached: Params = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [str(part.key) for part in path]
        if re.search(chosen, "/".join(names)):
            _put(reached, names, leaf)
    return reached


def trained_share(params: Params, config: LoraConfig) -> float:
    """The share of numbers that are trained, 0 to 1."""
    adapters = abstract_adapters(params, config)
    sizes = [
        sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)) for tree in (adapters, params)
    ]
    return sizes[0] / sizes[1]


def _changed(
    weight: Float[Array, "*stack inward outward"],
    down: Float[Array, "*stack inward rank"],
    up: Float[Array, "*stack rank outward"],
    scale: float,
) -> Float[Array, "*stack inward outward"]:
    product = jnp.matmul(down, up, preferred_element_type=jnp.float32)
    return (weight + scale * product).astype(weight.dtype)


def _number(text: str) -> int:
    """A number for a path that is the same in every process; hash() is not."""
    return zlib.crc32(text.encode())


def _put(tree: Params, names: list[str], leaf: object) -> None:
    for name in names[:-1]:
        tree = tree.setdefault(name, {})
    tree[names[-1]] = leaf
