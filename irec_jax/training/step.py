"""One optimizer step as a jitted function of the whole mesh."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from irec_jax.batches.batch import Batch
from irec_jax.model.lora import NO_LORA, LoraConfig, abstract_adapters, frozen_part, merged
from irec_jax.model.params import Params, Structure, abstract, structure
from irec_jax.model.seq2seq import Seq2SeqConfig
from irec_jax.training.checkpoint import TrainState, with_shardings
from irec_jax.training.config import TrainConfig
from irec_jax.training.loss import NO_PENALTIES, Penalties, token_loss
from irec_jax.training.optimizer import OptimizerConfig, learning_rate, make_optimizer
from irec_jax.training.sharding import BATCH_AXES, batch_sharding, state_shardings

Scalars = dict[str, jax.Array]
PartLoss = Callable[[Params, Batch, Key[Array, ""]], jax.Array]


class TrainStep(NamedTuple):
    """A jitted step and the shapes that it works on.

    Attributes:
        run: `(state, batch, key) -> (state, scalars)`, jitted, to be called under
            `jax.set_mesh`; the state is donated. With LoRA, the frozen weights are a fourth
            argument.
        target: The state as `jax.ShapeDtypeStruct` leaves with shardings.
        frozen: The frozen weights, likewise; None without LoRA.
    """

    run: Any
    target: TrainState
    frozen: Params | None = None


class StepDefinition(NamedTuple):
    """The static parts of a step.

    Attributes:
        structure: The model without its weights.
        optimizer: The Optax transformation.
        learning_rate: The learning rate by step, to be logged.
        penalties: The terms that the loss adds to the cross-entropy.
        accumulate: Microbatches, computed one after the other.
        lora: The adapters; used only if weights are frozen.
    """

    structure: Structure
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    penalties: Penalties = NO_PENALTIES
    accumulate: int = 1
    lora: LoraConfig = NO_LORA

    def weights(self, trained: Params, frozen: Params | None) -> Params:
        """Return the model's weights, with the adapters merged if there are some."""
        return trained if frozen is None else merged(frozen, trained, self.lora)


def compile_step(
    model: Seq2SeqConfig,
    optimizer: OptimizerConfig,
    train: TrainConfig,
    mesh: Mesh,
    lora: LoraConfig = NO_LORA,
) -> TrainStep:
    """Build the step of a run; it is compiled when it is first called or lowered.

    Args:
        model: The model's config.
        optimizer: Optimizer and schedule.
        train: Steps (for the schedule), microbatches, and the penalties of the loss.
        mesh: The devices.
        lora: The weights that are trained by adapters; rank 0 trains all weights.
    """
    transform = make_optimizer(optimizer, train.steps)
    weights = abstract(model)
    trained = abstract_adapters(weights, lora) if lora.rank else weights

    def init(params: Params) -> TrainState:
        return TrainState(jnp.zeros((), jnp.int32), params, transform.init(params))

    shapes = jax.eval_shape(init, trained)
    shardings = state_shardings(mesh, shapes, shapes.params)
    definition = StepDefinition(
        structure(model),
        transform,
        learning_rate(optimizer, train.steps),
        Penalties(train.z_loss, train.label_smoothing),
        train.accumulate,
        lora,
    )
    replicated = NamedSharding(mesh, PartitionSpec())
    in_shardings: tuple[Any, ...] = (shardings, batch_sharding(mesh), replicated)
    frozen = None
    if lora.rank:
        frozen_shapes = frozen_part(weights, lora)
        in_shardings += (state_shardings(mesh, frozen_shapes),)
        frozen = with_shardings(frozen_shapes, in_shardings[-1])
    jitted = jax.jit(
        functools.partial(train_step, definition),
        in_shardings=in_shardings,
        out_shardings=(shardings, replicated),
        donate_argnums=0,
    )
    return TrainStep(jitted, with_shardings(shapes, shardings), frozen)


def abstract_batch(mesh: Mesh, batch_size: int, source_length: int, target_length: int) -> Batch:
    """Return the shapes and shardings of a batch, to lower a step without data.

    Args:
        mesh: The devices.
        batch_size: Rows on all devices together.
        source_length: Encoder columns.
        target_length: Decoder columns.
    """
    sharding = batch_sharding(mesh)
    source, target = (
        np.broadcast_to(np.int32(0), (batch_size, length))
        for length in (source_length, target_length)
    )

    def shape_of(rows: np.ndarray) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(rows.shape, rows.dtype, sharding=sharding)

    return jax.tree.map(shape_of, Batch(source, source, target, target))


def train_step(
    definition: StepDefinition,
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
    frozen: Params | None = None,
) -> tuple[TrainState, Scalars]:
    """Apply the gradient of the mean loss per target token of the whole batch.

    A step whose loss or gradient is not finite is skipped: weights and optimizer state are
    unchanged, only the step number increases.

    Args:
        definition: Model, loss and optimizer.
        state: The state before the step.
        batch: Packed examples.
        key: The run's dropout key; the step number is folded in.
        frozen: The frozen weights with LoRA, else None.

    Returns:
        The next state, and scalars of the weights before the update: `loss` (nats per token),
        `target_tokens`, `gradient_norm`, `parameter_norm`, `learning_rate`, `skipped` (0 or 1).
    """
    key = jax.random.fold_in(key, state.step)
    # Divided once, over the whole batch: a mean of the means of devices or microbatches would
    # weigh their tokens differently.
    tokens = jnp.sum((jnp.asarray(batch.target_segments) > 0).astype(jnp.float32))

    def part_loss(trained: Params, part: Batch, key: Key[Array, ""]) -> jax.Array:
        weights = definition.weights(trained, frozen)
        total, _ = token_loss(definition.structure, weights, part, key, definition.penalties)
        return total / jnp.maximum(tokens, 1.0)

    loss, gradient = loss_and_gradient(part_loss, state.params, batch, key, definition.accumulate)
    norm = optax.tree.norm(gradient)
    is_finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    updates, optimizer_state = definition.optimizer.update(
        gradient, state.optimizer_state, state.params
    )
    params = cast(Params, optax.apply_updates(state.params, updates))
    scalars = {
        "loss": loss,
        "target_tokens": tokens,
        "gradient_norm": norm,
        "parameter_norm": optax.tree.norm(state.params),
        "learning_rate": jnp.asarray(definition.learning_rate(state.step)),
        "skipped": 1.0 - is_finite.astype(jnp.float32),
    }

    def select(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(is_finite, new, old)

    params = jax.tree.map(select, params, state.params)
    optimizer_state = jax.tree.map(select, optimizer_state, state.optimizer_state)
    return TrainState(state.step + 1, params, optimizer_state), scalars


def loss_and_gradient(
    part_loss: PartLoss, params: Params, batch: Batch, key: Key[Array, ""], accumulate: int
) -> tuple[jax.Array, Params]:
    """Sum a loss and its gradient over the microbatches of a batch, one after the other.

    Args:
        part_loss: `(params, microbatch, key) -> loss`, already divided by the tokens of the
            whole batch.
        params: The trained parameters.
        batch: All rows.
        key: The dropout key; the number of each of several microbatches is folded in.
        accumulate: The number of microbatches.

    Returns:
        The loss and its gradient with respect to `params`.
    """
    gradient_of = jax.value_and_grad(part_loss)
    if accumulate == 1:
        return gradient_of(params, batch, key)

    def add(total: tuple, part: tuple) -> tuple[tuple, None]:
        rows, number = part
        loss_and_grad = gradient_of(params, rows, jax.random.fold_in(key, number))
        return jax.tree.map(jnp.add, total, loss_and_grad), None

    zeros = jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params)
    parts = jax.tree.map(functools.partial(_split_rows, count=accumulate), batch)
    total, _ = jax.lax.scan(add, zeros, (parts, jnp.arange(accumulate)))
    return total


def _split_rows(rows: jax.Array, count: int) -> jax.Array:
    """Split rows `[batch, length]` into microbatches `[count, batch / count, length]`.

    Each device has rows of all microbatches, so that none moves between devices.
    """
    parts = rows.reshape(rows.shape[0] // count, count, rows.shape[1]).swapaxes(0, 1)
    if jax.sharding.get_abstract_mesh().empty:
        return parts
    return jax.lax.with_sharding_constraint(parts, PartitionSpec(None, BATCH_AXES))
