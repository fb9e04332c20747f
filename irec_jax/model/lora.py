"""Low-rank adapters (Hu et al. 2022) of frozen weights, as a separate parameter tree."""

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
    """Which weights get an adapter, and of which rank.

    Attributes:
        rank: Inner dimension of an adapter; 0 trains all weights and has no adapters.
        alpha: An adapter's product is scaled by `alpha / rank`.
        targets: A regular expression; every matrix whose path matches gets an adapter.
            Paths are such as `decoder/layers/attention/query` and `embedding`.
        whole: A regular expression of weights that are trained without adapters; "" for none.
            New item tokens need `^(embedding|head)$`.
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
                    f"'{getattr(self, key)}' is not a regular expression: {error}",
                    where=f"lora.{key}",
                ) from error


NO_LORA = LoraConfig()
"""Trains all weights."""


def abstract_adapters(params: Params, config: LoraConfig) -> Params:
    """Makes the tree of trained parameters, as shapes.

    Args:
        params: The weights, or their shapes.
        config: Which of them are trained.

    Returns:
        The nested dict of `params` reduced to the trained weights: an adapter is a dict with
        `down` `[layers, inward, rank]` and `up` `[layers, rank, outward]` (without the
        layer axis where the weight has none); a weight trained without adapter is unchanged.

    Raises:
        InputError: No weight matches, or one that matches is not a matrix.
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
                    f"{where} {shape} is not a matrix with sides above {config.rank}",
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
            f"'{config.targets}' matches no path of a weight",
            where="lora.targets",
            hint="Use parts of paths such as decoder/layers/attention/query.",
        )
    return chosen


def first_adapters(params: Params, config: LoraConfig, key: Key[Array, ""]) -> Params:
    """Initializes adapters whose product is zero: `down` is random, `up` is zero.

    Weights trained without adapter keep their value from `params`.
    """
    shapes = abstract_adapters(params, config)

    def initial(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        names = [str(part.key) for part in path]
        parent: Any = params
        for name in names[:-1]:
            parent = parent[name]
        if isinstance(parent, dict):  # a weight, whose name can also be "up" or "down"
            return jnp.asarray(parent[names[-1]])
        if names[-1] == "up":
            return jnp.zeros(leaf.shape, leaf.dtype)
        path_key = jax.random.fold_in(key, _path_number("/".join(names)))
        drawn = jax.random.normal(path_key, leaf.shape, jnp.float32)
        return (leaf.shape[-2] ** -0.5 * drawn).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(initial, shapes)


def merged(params: Params, adapters: Params, config: LoraConfig) -> Params:
    """Merges adapters into weights: `W + alpha / rank * down @ up`.

    Weights that are trained without adapter can be missing from `params` (`frozen_part`). Every
    step merges again, at the cost of `rank` more tokens, so an export holds the trained weights.
    """
    scale = config.alpha / max(config.rank, 1)

    def merge_leaf(weight: Any, adapter: Any) -> Any:
        if not isinstance(adapter, dict):
            return adapter
        if isinstance(weight, dict):
            return {
                name: merge_leaf(weight.get(name, {}), adapter[name])
                if name in adapter
                else weight[name]
                for name in sorted(weight.keys() | adapter.keys())
            }
        down, up = jnp.asarray(adapter["down"]), jnp.asarray(adapter["up"])
        return _add_product(jnp.asarray(weight), down, up, scale)

    return merge_leaf(params, adapters)


def frozen_part(params: Params, config: LoraConfig) -> Params:
    """Returns the weights, or their shapes, without those that are trained without adapter."""
    frozen: Params = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [str(part.key) for part in path]
        if not (config.whole and re.search(config.whole, "/".join(names))):
            _put(frozen, names, leaf)
    return frozen


def reached_part(params: Params, config: LoraConfig) -> Params:
    """Returns the weights that training changes, with an adapter or without.

    A step computes the gradients of these alone; without adapters, of all weights.
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
    """Computes the share of the weights' numbers that are trained, 0 to 1."""
    adapters = abstract_adapters(params, config)
    sizes = [
        sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)) for tree in (adapters, params)
    ]
    return sizes[0] / sizes[1]


def _add_product(
    weight: Float[Array, "*stack inward outward"],
    down: Float[Array, "*stack inward rank"],
    up: Float[Array, "*stack rank outward"],
    scale: float,
) -> Float[Array, "*stack inward outward"]:
    product = jnp.matmul(down, up, preferred_element_type=jnp.float32)
    return (weight + scale * product).astype(weight.dtype)


def _path_number(text: str) -> int:
    """Hashes a path to the same number in every process, which `hash` does not."""
    return zlib.crc32(text.encode())


def _put(tree: Params, names: list[str], leaf: object) -> None:
    for name in names[:-1]:
        tree = tree.setdefault(name, {})
    tree[names[-1]] = leaf
