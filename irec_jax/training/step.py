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
from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig, abstract_adapters, frozen_part, merged
from irec_jax.model.params import Params, Structure, abstract, structure
from irec_jax.training.checkpoint import TrainState, with_shardings
from irec_jax.training.config import TrainConfig
from irec_jax.training.loss import NO_PENALTIES, Penalties, token_loss
from irec_jax.training.optimizer import OptimizerConfig, learning_rate, make_optimizer
from irec_jax.training.sharding import BATCH_AXES, batch_sharding, state_shardings

Scalars = dict[str, jax.Array]
PartLoss = Callable[[Params, Batch, Key[Array, ""]], jax.Array]

NO_LORA = LoraConfig()


class Step(NamedTuple):
    """A prepared step.

    Attributes:
        run: `(state, batch, key) -> (state, scalars)`, jitted, to be called under
            `jax.set_mesh`; the state is donated, so the one that goes in cannot be used
            afterwards. With adapters, the frozen weights are a fourth argument.
        target: The abstract state, which says where its arrays live.
        frozen: The abstract weights that are not trained; None where all are.
    """

    run: Any
    target: TrainState
    frozen: Params | None = None


class Recipe(NamedTuple):
    """What a step is made of besides its data.

    Attributes:
        structure: The model without its weights.
        optimizer: Makes updates of gradients.
        rate: The learning rate by step, to be written down.
        penalties: What the loss adds to the cross-entropy.
        accumulate: Parts that the rows are computed in, one after the other.
        lora: How what is trained changes what is frozen; only read where something is.
    """

    structure: Structure
    optimizer: optax.GradientTransformation
    rate: optax.Schedule
    penalties: Penalties = NO_PENALTIES
    accumulate: int = 1
    lora: LoraConfig = NO_LORA

    def weights(self, trained: Params, frozen: Params | None) -> Params:
        """The model's weights, of what is trained and what is not."""
        return trained if frozen is None else merged(frozen, trained, self.lora)


def compile_step(
    model: T5Config,
    optimizer: OptimizerConfig,
    train: TrainConfig,
    mesh: Mesh,
    lora: LoraConfig = NO_LORA,
) -> Step:
    """Prepares the step of a run; nothing is compiled before it is first called or lowered.

    Args:
        model: The shape of the model.
        optimizer: How gradients become updates.
        train: Steps (for the schedule), parts of a step, and what the loss adds.
        mesh: The devices.
        lora: Which weights are trained through adapters; rank 0 trains all.
    """
    transform = make_optimizer(optimizer, train.steps)
    whole = abstract(model)
    trained = abstract_adapters(whole, lora) if lora.rank else whole

    def begin(params: Params) -> TrainState:
        return TrainState(jnp.zeros((), jnp.int32), params, transform.init(params))

    shapes = jax.eval_shape(begin, trained)
    shardings = state_shardings(mesh, shapes, shapes.params)
    recipe = Recipe(
        structure(model),
        transform,
        learning_rate(optimizer, train.steps),
        Penalties(train.z_loss, train.label_smoothing),
        train.accumulate,
        lora,
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    inputs: tuple[Any, ...] = (shardings, batch_sharding(mesh), everywhere)
    frozen = None
    if lora.rank:
        kept = frozen_part(whole, lora)
        inputs += (state_shardings(mesh, kept),)
        frozen = with_shardings(kept, inputs[-1])
    jitted = jax.jit(
        functools.partial(train_step, recipe),
        in_shardings=inputs,
        out_shardings=(shardings, everywhere),
        donate_argnums=0,
    )
    return Step(jitted, with_shardings(shapes, shardings), frozen)


def abstract_batch(mesh: Mesh, batch_size: int, source_length: int, target_length: int) -> Batch:
    """The shapes and shardings of a batch, to lower a step without data.

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
    recipe: Recipe,
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
    frozen: Params | None = None,
) -> tuple[TrainState, Scalars]:
    """One step: gradient of the mean loss over the whole batch, clipped, applied.

    A step whose loss or gradient is not finite leaves weights and optimizer as they were; only
    the step's number goes on.

    Args:
        recipe: Model, loss and optimizer.
        state: Before.
        batch: Packed examples.
        key: Of the run's dropout; the step's number is folded in, so a resumed run repeats it.
        frozen: The weights that are not trained, where what is trained are adapters of them.

    Returns:
        The next state, and scalars measured at the weights before the update.
    """
    key = jax.random.fold_in(key, state.step)
    # Divided once, over the whole batch: a mean of the devices' (or parts') means would weigh
    # their tokens differently.
    tokens = jnp.sum((jnp.asarray(batch.target_segments) > 0).astype(jnp.float32))

    def part_loss(trained: Params, part: Batch, key: Key[Array, ""]) -> jax.Array:
        weights = recipe.weights(trained, frozen)
        total, _ = token_loss(recipe.structure, weights, part, key, recipe.penalties)
        return total / jnp.maximum(tokens, 1.0)

    loss, gradient = loss_and_gradient(part_loss, state.params, batch, key, recipe.accumulate)
    norm = optax.tree.norm(gradient)
    good = jnp.isfinite(loss) & jnp.isfinite(norm)
    updates, optimizer_state = recipe.optimizer.update(
        gradient, state.optimizer_state, state.params
    )
    params = cast(Params, optax.apply_updates(state.params, updates))
    scalars = {
        "loss": loss,
        "target_tokens": tokens,
        "gradient_norm": norm,
        "parameter_norm": optax.tree.norm(state.params),
        "learning_rate": jnp.asarray(recipe.rate(state.step)),
        "skipped": 1.0 - good.astype(jnp.float32),
    }

    def kept(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(good, new, old)

    params = jax.tree.map(kept, params, state.params)
    optimizer_state = jax.tree.map(kept, optimizer_state, state.optimizer_state)
    return TrainState(state.step + 1, params, optimizer_state), scalars


def loss_and_gradient(
    part_loss: PartLoss, params: Params, batch: Batch, key: Key[Array, ""], accumulate: int
) -> tuple[jax.Array, Params]:
    """Sums a loss and its gradient over the parts of a batch, computed one after the other.

    Args:
        part_loss: `(params, part of the batch, key) -> loss`, already divided by the tokens of
            the whole batch.
        params: What the gradient is of.
        batch: All rows.
        key: Of dropout; each of several parts folds its number in.
        accumulate: How many parts.
    """
    gradient_of = jax.value_and_grad(part_loss)
    if accumulate == 1:
        return gradient_of(params, batch, key)

    def add(total: tuple, part: tuple) -> tuple[tuple, None]:
        rows, number = part
        more = gradient_of(params, rows, jax.random.fold_in(key, number))
        return jax.tree.map(jnp.add, total, more), None

    nothing = jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params)
    parts = jax.tree.map(functools.partial(_parts, count=accumulate), batch)
    total, _ = jax.lax.scan(add, nothing, (parts, jnp.arange(accumulate)))
    return total


def _parts(rows: jax.Array, count: int) -> jax.Array:
    """Deals rows `[batch, length]` out to `[count, batch / count, length]`.

    Each device deals its own rows to all parts, so that none has to move.
    """
    dealt = rows.reshape(rows.shape[0] // count, count, rows.shape[1]).swapaxes(0, 1)
    if jax.sharding.get_abstract_mesh().empty:
        return dealt
    return jax.lax.with_sharding_constraint(dealt, PartitionSpec(None, BATCH_AXES))
