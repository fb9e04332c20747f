"""Schedules and optimizers, as optax chains over the parameter dict."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from irec_jax.bounds import BELOW_ONE, Range, check_settings
from irec_jax.errors import InputError

FACTOR_FROM = 128
"""Adafactor factors a matrix only if both sides are at least this long, as T5 does."""

MUON_SIZE = 0.2
"""Root mean square of an update of Muon at learning rate 1, as AdamW's (Liu et al. 2025)."""

STACKS = ("layers",)
"""Names of the subtrees whose arrays have a leading layer axis."""

TreePath = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How gradients become updates.

    Attributes:
        kind: `adafactor` as T5 uses it (steps relative to the size of each weight, factored
            second moments, no first moment); `adamw`; or `muon` (Jordan et al. 2024) for the
            products within layers, each matrix made orthogonal on its own, and Adam for the rest.
        peak: Highest learning rate. About 1e-2 to 1e-3 for Adafactor, where it is relative to the
            root mean square of each weight; about 1e-3 to 1e-4 for AdamW, and for Muon, whose
            updates are scaled to the size of AdamW's (Liu et al. 2025).
        schedule: What follows the warm-up: `constant`; `linear` or `cosine` down to zero at the
            last step; `inverse_sqrt` as T5's pre-training, `peak * sqrt(warmup / step)`.
        warmup: Steps of linear warm-up from zero.
        weight_decay: Decoupled decay, multiplied by the learning rate; never on norms and biases.
        clip: Largest global gradient norm; 0 does not clip.
        b1: AdamW's decay of the first moment.
        b2: AdamW's decay of the second moment.
        epsilon: AdamW's term in the denominator.
        average: Decay of a running average of the weights, which is what a run answers with
            then; 0 keeps none.
    """

    kind: Literal["adafactor", "adamw", "muon"] = "adafactor"
    peak: float = 1e-2
    schedule: Literal["constant", "linear", "cosine", "inverse_sqrt"] = "constant"
    warmup: int = 0
    weight_decay: float = 0.0
    clip: float = 1.0
    b1: float = 0.9
    b2: float = 0.98
    epsilon: float = 1e-8
    average: float = 0.0

    def __post_init__(self) -> None:
        off = "Set it to 0 to switch it off."
        check_settings(
            self,
            "optimizer.",
            peak=Range(0, 100, "Set it to about 0.01 for Adafactor, 0.001 for others.", above=True),
            warmup=Range(0, 10**9, off),
            weight_decay=Range(0, 1_000, off),
            clip=Range(0, 10**9, off),
            b1=BELOW_ONE,
            b2=BELOW_ONE,
            epsilon=Range(0, 1, above=True),
            average=BELOW_ONE,
        )


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Returns the learning rate of each step; step 0 is the first one.

    Args:
        config: The settings.
        steps: Steps of the whole run; `linear` and `cosine` reach zero there.

    Raises:
        InputError: When the warm-up is longer than the run.
    """
    if config.warmup > steps:
        hint = f"Give at most train.steps, which is {steps}."
        raise InputError(f"{config.warmup} is too long", where="optimizer.warmup", hint=hint)
    rest = max(steps - config.warmup, 1)

    def rate(count: Any) -> Any:
        # Counting from one: an update at rate zero would be a wasted step.
        step = jnp.asarray(count, jnp.float32) + 1.0
        left = jnp.clip((steps - step + 1) / rest, 0.0, 1.0)
        shape = {
            "constant": 1.0,
            "linear": left,
            "cosine": 0.5 - 0.5 * jnp.cos(jnp.pi * left),
            "inverse_sqrt": jnp.sqrt(max(config.warmup, 1) / jnp.maximum(step, 1)),
        }[config.schedule]
        warm = jnp.minimum(step / max(config.warmup, 1), 1.0)
        return config.peak * jnp.where(step <= config.warmup, warm, shape)

    return rate


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Builds the optax chain: clip, scale by the moments, decay, multiply by the rate.

    Args:
        config: The settings.
        steps: Steps of the whole run, for the schedule.
    """
    clip = optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()
    decay = optax.add_decayed_weights(config.weight_decay, mask=decayed)
    return optax.chain(
        clip,
        _scale(config),
        decay if config.weight_decay else optax.identity(),
        optax.scale_by_learning_rate(learning_rate(config, steps)),
        running_average(config.average) if config.average else optax.identity(),
    )


def _scale(config: OptimizerConfig) -> optax.GradientTransformation:
    if config.kind == "adafactor":
        return per_layer(
            optax.chain(
                optax.scale_by_factored_rms(min_dim_size_to_factor=FACTOR_FROM),
                optax.clip_by_block_rms(1.0),
                optax.scale_by_param_block_rms(),
            ),
            is_stacked,
        )
    adam = optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.epsilon)
    if config.kind == "adamw":
        return adam
    orthogonal = optax.chain(optax.contrib.scale_by_muon(), optax.stateless(_as_large_as_adam))
    return optax.partition({"muon": per_layer(orthogonal, is_stacked), "adam": adam}, _muon_labels)


def _as_large_as_adam(updates: Any, params: Any) -> Any:
    """Scales orthogonal updates to the root mean square that AdamW's usually have."""
    return jax.tree.map(lambda update: MUON_SIZE * max(update.shape) ** 0.5 * update, updates)


def _muon_labels(params: Any) -> Any:
    """Says which weights are the matrices of layers; position biases and norms are not."""

    def label(path: TreePath, leaf: Any) -> str:
        return "muon" if is_stacked(path) and len(leaf.shape) == 3 else "adam"

    return jax.tree_util.tree_map_with_path(label, params)


class Average(NamedTuple):
    """The state of `running_average`.

    Attributes:
        average: As the weights.
    """

    average: Any


def running_average(decay: float) -> optax.GradientTransformation:
    """Keeps `average = decay * average + (1 - decay) * weights` beside the weights.

    It starts at the first weights and is the last part of a chain, since it reads the weights as
    they will be. Updates go through unchanged.
    """

    def init(params: Any) -> Average:
        return Average(jax.tree.map(jnp.array, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def heartbeat(average: jax.Array, weight: jax.Array, change: jax.Array) -> jax.Array:
            return average + (1.0 - decay) * (weight + change - average)

        return updates, Average(jax.tree.map(heartbeat, state.average, params, updates))

    return optax.GradientTransformation(init, update)


def averaged(optimizer_state: Any) -> Any | None:
    """Finds the running average in an optimizer's state; None where it keeps none."""
    found = [
        leaf
        for leaf in jax.tree.leaves(optimizer_state, is_leaf=lambda node: isinstance(node, Average))
        if isinstance(leaf, Average)
    ]
    return found[0].average if found else None


def names(path: TreePath) -> list[str]:
    """The names along a tree path: keys, attributes and positions, as text."""
    return [
        str(getattr(part, "key", getattr(part, "name", getattr(part, "idx", part))))
        for part in path
    ]


def is_stacked(path: TreePath) -> bool:
    """Whether the parameter at `path` has a leading layer axis."""
    return any(name in STACKS for name in names(path))


def decayed(params: Any) -> Any:
    """A tree of booleans: which parameters weight decay pulls to zero (no norm, no bias)."""

    def is_matrix(path: TreePath, _: Any) -> bool:
        return not any("norm" in name or "bias" in name for name in names(path))

    return jax.tree_util.tree_map_with_path(is_matrix, params)


def per_layer(
    transform: optax.GradientTransformation, stacked: Callable[[TreePath], bool]
) -> optax.GradientTransformation:
    """Applies `transform` to each parameter alone, and to each layer of a stacked one alone.

    Adafactor takes means over a whole array: of the squared gradient over the axes that it
    factors, of the update for its clipping, of the weight for the size of the step. Over layers
    that are stacked into one array those means would mix the layers, which an unstacked model
    does not do; so each layer is a transformation of its own
    (docs/decisions/0051-adafactor-per-layer.md).
    """

    def init(params: Any) -> Any:
        def start(path: TreePath, value: jax.Array) -> Any:
            return jax.vmap(transform.init)(value) if stacked(path) else transform.init(value)

        return jax.tree_util.tree_map_with_path(start, params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        flat, tree = jax.tree_util.tree_flatten_with_path(updates)
        states = tree.flatten_up_to(state)
        values = tree.flatten_up_to(params)
        news, kept = [], []
        for (path, gradient), old, value in zip(flat, states, values, strict=True):
            apply = jax.vmap(transform.update) if stacked(path) else transform.update
            new, state_of_one = apply(gradient, old, value)
            news.append(new)
            kept.append(state_of_one)
        return tree.unflatten(news), tree.unflatten(kept)

    return optax.GradientTransformation(init, update)
