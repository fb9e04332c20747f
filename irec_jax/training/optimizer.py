"""Learning-rate schedules and optimizers, as Optax chains over the parameter dict."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from irec_jax.bounds import BELOW_ONE, Range, check_settings
from irec_jax.errors import InputError

MIN_DIM_TO_FACTOR = 128
"""Adafactor factors a matrix only if both dimensions are at least this long, as T5 does."""

MUON_UPDATE_RMS = 0.2
"""Root mean square of a Muon update at learning rate 1, as of AdamW (Liu et al. 2025)."""

STACK = "layers"
"""Name of the subtrees whose arrays have a leading layer axis."""

TreePath = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer, schedule and running average.

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
        b2: AdamW's decay of the second moment.
        average: Decay of a running average of the weights, which then evaluates and serves in
            place of the weights; 0 for none.
    """

    kind: Literal["adafactor", "adamw", "muon"] = "adafactor"
    peak: float = 1e-2
    schedule: Literal["constant", "linear", "cosine", "inverse_sqrt"] = "constant"
    warmup: int = 0
    weight_decay: float = 0.0
    clip: float = 1.0
    b2: float = 0.98
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
            b2=BELOW_ONE,
            average=BELOW_ONE,
        )


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Return the learning rate as a function of the step; the first step is 0.

    Not built of Optax schedules: their rounding differs
    (docs/decisions/0189-optimizer-state-and-schedules.md).

    Args:
        config: The settings.
        steps: Steps of the whole run; `linear` and `cosine` reach zero there.

    Raises:
        InputError: The warm-up is longer than the run.
    """
    if config.warmup > steps:
        problem = f"must be at most train.steps, {steps}, got {config.warmup}"
        hint = "Shorten the warm-up or raise train.steps."
        raise InputError(problem, where="optimizer.warmup", hint=hint)
    decay_steps = max(steps - config.warmup, 1)

    def rate(count: Any) -> Any:
        # Counted from one: an update at rate zero would be a wasted step.
        step = jnp.asarray(count, jnp.float32) + 1.0
        remaining = jnp.clip((steps - step + 1) / decay_steps, 0.0, 1.0)
        shape = {
            "constant": 1.0,
            "linear": remaining,
            "cosine": 0.5 - 0.5 * jnp.cos(jnp.pi * remaining),
            "inverse_sqrt": jnp.sqrt(max(config.warmup, 1) / jnp.maximum(step, 1)),
        }[config.schedule]
        warm = jnp.minimum(step / max(config.warmup, 1), 1.0)
        return config.peak * jnp.where(step <= config.warmup, warm, shape)

    return rate


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Build the Optax chain: clip, scale by the moments, decay, multiply by the learning rate.

    Args:
        config: The settings.
        steps: Steps of the whole run, for the schedule.
    """
    clip = optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()
    decay = optax.add_decayed_weights(config.weight_decay, mask=decay_mask)
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
                optax.scale_by_factored_rms(min_dim_size_to_factor=MIN_DIM_TO_FACTOR),
                optax.clip_by_block_rms(1.0),
                optax.scale_by_param_block_rms(),
            ),
            is_stacked,
        )
    adam = optax.scale_by_adam(b2=config.b2)
    if config.kind == "adamw":
        return adam
    orthogonal = optax.chain(optax.contrib.scale_by_muon(), optax.stateless(_scale_to_adamw))
    return optax.partition({"muon": per_layer(orthogonal, is_stacked), "adam": adam}, _muon_labels)


def _scale_to_adamw(updates: Any, params: Any) -> Any:
    """Scale orthogonal updates to the usual root mean square of AdamW's (Liu et al. 2025)."""
    return jax.tree.map(lambda update: MUON_UPDATE_RMS * max(update.shape) ** 0.5 * update, updates)


def _muon_labels(params: Any) -> Any:
    """Label matrices within layers `muon`, all other weights `adam`."""

    def label(path: TreePath, leaf: Any) -> str:
        return "muon" if is_stacked(path) and len(leaf.shape) == 3 else "adam"

    return jax.tree_util.tree_map_with_path(label, params)


class RunningAverageState(NamedTuple):
    """The state of `running_average`.

    Attributes:
        average: A tree like the weights.
    """

    average: Any


def running_average(decay: float) -> optax.GradientTransformation:
    """Keep `average = decay * average + (1 - decay) * weights` in the state.

    The average starts at the first weights. Updates pass through unchanged; the transform must be
    the last of a chain, because it applies them to the weights that it averages.
    """

    def init(params: Any) -> RunningAverageState:
        return RunningAverageState(jax.tree.map(jnp.array, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def next_average(average: jax.Array, weight: jax.Array, change: jax.Array) -> jax.Array:
            return average + (1.0 - decay) * (weight + change - average)

        average = jax.tree.map(next_average, state.average, params, updates)
        return updates, RunningAverageState(average)

    return optax.GradientTransformation(init, update)


def find_average(optimizer_state: Any) -> Any | None:
    """Return the running average in an optimizer's state; None without one."""

    def is_average(node: Any) -> bool:
        return isinstance(node, RunningAverageState)

    leaves = jax.tree.leaves(optimizer_state, is_leaf=is_average)
    return next((leaf.average for leaf in leaves if is_average(leaf)), None)


def path_name(path: TreePath) -> str:
    """Return a tree path as text, such as `encoder/layers/attention/query`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def is_stacked(path: TreePath) -> bool:
    """Return whether the parameter at `path` has a leading layer axis."""
    return STACK in path_name(path).split("/")


def decay_mask(params: Any) -> Any:
    """Return a tree of booleans: whether weight decay applies (not to norms and biases)."""

    def is_matrix(path: TreePath, _: Any) -> bool:
        return not re.search("norm|bias", path_name(path))

    return jax.tree_util.tree_map_with_path(is_matrix, params)


def per_layer(
    transform: optax.GradientTransformation, stacked: Callable[[TreePath], bool]
) -> optax.GradientTransformation:
    """Apply `transform` to each parameter alone, and to each layer of a stacked one alone.

    Adafactor takes means over a whole array: of the squared gradient over the axes that it
    factors, of the update for its clipping, of the weight for the size of the step. In arrays of
    stacked layers those means would mix the layers
    (docs/decisions/0051-adafactor-per-layer.md).

    Args:
        transform: A transformation of one array.
        stacked: Whether the parameter at a path has a leading layer axis.

    Returns:
        A transformation of trees. Its state has the state of `transform` at each parameter, with
        a leading layer axis for stacked ones.
    """

    def init(params: Any) -> Any:
        def init_one(path: TreePath, value: jax.Array) -> Any:
            return jax.vmap(transform.init)(value) if stacked(path) else transform.init(value)

        return jax.tree_util.tree_map_with_path(init_one, params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        flat, tree = jax.tree_util.tree_flatten_with_path(updates)
        states = tree.flatten_up_to(state)
        values = tree.flatten_up_to(params)
        new_updates, new_states = [], []
        for (path, gradient), old, value in zip(flat, states, values, strict=True):
            apply = jax.vmap(transform.update) if stacked(path) else transform.update
            new_update, new_state = apply(gradient, old, value)
            new_updates.append(new_update)
            new_states.append(new_state)
        return tree.unflatten(new_updates), tree.unflatten(new_states)

    return optax.GradientTransformation(init, update)
