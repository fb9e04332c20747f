"""The training loop: `train` is the whole story, the rest are its words."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from irec_jax.batches.batch import Batch
from irec_jax.errors import InputError
from irec_jax.model.config import T5Config
from irec_jax.model.params import Params, Structure, abstract, structure
from irec_jax.training.checkpoint import (
    Checkpoints,
    TrainState,
    model_fingerprint,
    with_shardings,
)
from irec_jax.training.interrupt import Interruption
from irec_jax.training.ledger import Ledger, OnLog, Span, open_ledger
from irec_jax.training.loss import token_loss
from irec_jax.training.optimizer import OptimizerConfig, learning_rate, make_optimizer
from irec_jax.training.sharding import batch_sharding, check_batch, state_shardings
from irec_jax.training.work import Work, batch_work, measure_peak

DROPOUT = 1
"""Folded into the seed's key, so that dropout and the first weights draw different numbers."""

Scalars = dict[str, jax.Array]


@runtime_checkable
class Batches(Protocol):
    """An endless iterator of batches on the host whose position can be saved, as grain's are."""

    def __next__(self) -> Batch:
        """The next batch, numpy arrays."""
        ...

    def get_state(self) -> Any:
        """The position, as something JSON can hold."""
        ...

    def set_state(self, state: Any) -> None:
        """Goes to a position."""
        ...


Start = Callable[[Any], Params]
"""Makes the first weights, placed by a tree of shardings; `irec_jax.training.start` has some."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How long, how large and how often.

    Attributes:
        steps: Optimizer steps of the whole run.
        batch_size: Packed rows of a batch, on all devices together.
        log_every: Steps between two log lines; losses are kept of every step.
        checkpoint_every: Steps between two checkpoints; the last step always has one.
        keep: How many of the newest checkpoints stay.
        pretrained: A Hugging Face folder of T5 weights to start from; "" starts at random.
        title_share: Part of the variance of an atomic item's first embedding that comes from its
            title, 0 to 1.
    """

    steps: int = 1_000
    batch_size: int = 32
    log_every: int = 50
    checkpoint_every: int = 500
    keep: int = 2
    pretrained: str = ""
    title_share: float = 1.0

    def __post_init__(self) -> None:
        for key in ("steps", "batch_size", "log_every", "checkpoint_every", "keep"):
            value = getattr(self, key)
            if value < 1:
                mend = "Give a whole number from 1 on."
                raise InputError(f"{value} is below 1", where=f"train.{key}", mend=mend)
        if not 0.0 <= self.title_share <= 1.0:
            what = f"{self.title_share} is not between 0 and 1"
            raise InputError(what, where="train.title_share")


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """Everything one run is trained from.

    Attributes:
        run: The run folder; checkpoints and logs go there, and are resumed from there.
        model: The shape of the model.
        start: Makes the first weights; not called when the run is resumed.
        batches: The data; its position is saved with the weights.
        mesh: The devices, from `irec_jax.training.sharding.make_mesh`.
        optimizer: How gradients become updates.
        train: How long, how large and how often.
        seed: Decides dropout; with the data's own seed it decides every loss.
        fingerprint: Other settings that a checkpoint must share to be resumed from, such as the
            item index; nested names to plain values.
        on_log: Called with the step and the metrics of each log line.
    """

    run: Path
    model: T5Config
    start: Start
    batches: Batches
    mesh: Mesh
    optimizer: OptimizerConfig
    train: TrainConfig
    seed: int = 0
    fingerprint: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    on_log: OnLog | None = None


def train(job: Training) -> TrainState:
    """Trains, or goes on training, until the last step.

    A run that was killed anywhere and is started again gives the same losses, to the last bit
    (same devices; on another mesh up to the order of sums).

    Args:
        job: What to train, on what, from what.

    Returns:
        The state after the last step, on the devices.

    Raises:
        InputError: When the settings do not fit each other or the run's checkpoints, or when the
            loss is no longer a number.
        Interrupted: After SIGINT, when the state is saved.
        Terminated: After SIGTERM, when the state is saved.
    """
    check_batch(job.mesh, job.train.batch_size)
    step_fn, target = compile_step(job)
    checkpoints = Checkpoints(job.run, _fingerprint(job), keep=job.train.keep)
    with Interruption() as interruption:
        # In this order: the newest good checkpoint of this run; else what `start` gives, which is
        # a folder of pretrained weights or random ones.
        restored = checkpoints.restore(target)
        if restored is None:
            done, state = 0, first_state(job, target)
        else:
            done, state = restored.step, restored.state
            job.batches.set_state(restored.data)
        checkpoints.warm_up(state)
        place = functools.partial(_to_mesh, batch_sharding(job.mesh))
        key = dropout_key(job)
        peak = measure_peak(job.mesh, job.model.compute)
        span = Span(done, job.train.steps, job.train.log_every)
        with open_ledger(job.run, span, peak=peak, on_log=job.on_log) as ledger:
            ledger.note(f"{'resumed' if done else 'started'} at step {done}")
            pending: tuple[int, Scalars, Work] | None = None
            try:
                while done < job.train.steps:
                    batch = next(job.batches)
                    with jax.set_mesh(job.mesh), jax.transfer_guard("disallow"):
                        state, scalars = step_fn(state, place(batch), key)
                    done += 1
                    # Read one step late, so that the device always has a step to work on.
                    _take_in(ledger, pending)
                    pending = (done, scalars, batch_work(job.model, batch))
                    stop = interruption.signal is not None
                    if stop or done % job.train.checkpoint_every == 0 or done == job.train.steps:
                        _take_in(ledger, pending)
                        pending = None
                        ledger.flush()
                        checkpoints.save(done, state, job.batches.get_state())
                    if stop:
                        raise interruption.error(done, job.train.steps, ledger.tell)
            finally:
                checkpoints.close()
    return state


def compile_step(
    job: Training,
) -> tuple[Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, Scalars]], TrainState]:
    """Prepares the jitted step, and the abstract state that says where its arrays live.

    The state is donated: the one that goes in cannot be used afterwards.
    """
    optimizer = make_optimizer(job.optimizer, job.train.steps)
    rate = learning_rate(job.optimizer, job.train.steps)

    def begin(params: Params) -> TrainState:
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    shapes = jax.eval_shape(begin, abstract(job.model))
    shardings = state_shardings(job.mesh, shapes)
    step = functools.partial(train_step, structure(job.model), optimizer, rate)
    everywhere = NamedSharding(job.mesh, PartitionSpec())
    step_fn = jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(job.mesh), everywhere),
        out_shardings=(shardings, everywhere),
        donate_argnums=0,
    )
    return step_fn, with_shardings(shapes, shardings)


def train_step(
    structure: Structure,
    optimizer: optax.GradientTransformation,
    rate: optax.Schedule,
    state: TrainState,
    batch: Batch,
    key: Key[Array, ""],
) -> tuple[TrainState, Scalars]:
    """One step: gradient of the mean loss over the whole batch, clipped, applied.

    Args:
        structure: The model without its weights.
        optimizer: Makes updates of gradients.
        rate: The learning rate by step, to be written down.
        state: Before.
        batch: Packed examples.
        key: Of the run's dropout; the step's number is folded in, so a resumed run repeats it.

    Returns:
        The next state, and scalars measured at the weights before the update.
    """
    key = jax.random.fold_in(key, state.step)

    def mean_loss(params: Params) -> tuple[jax.Array, jax.Array]:
        total, weight = token_loss(structure, params, batch, key)
        # Divided once, over the whole batch: a mean of the devices' means would weigh their
        # tokens differently.
        return total / jnp.maximum(weight, 1.0), weight

    (loss, weight), gradient = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
    scalars = {
        "loss": loss,
        "target_tokens": weight,
        "gradient_norm": optax.tree.norm(gradient),
        "learning_rate": jnp.asarray(rate(state.step)),
    }
    params = cast(Params, optax.apply_updates(state.params, updates))
    return TrainState(state.step + 1, params, optimizer_state), scalars


def first_state(job: Training, target: TrainState) -> TrainState:
    """The state before the first step.

    Raises:
        InputError: When the weights that `start` gives do not fit the model.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    params = job.start(shardings.params)
    _check_shapes(params, target.params)
    optimizer = make_optimizer(job.optimizer, job.train.steps)
    optimizer_state = jax.jit(optimizer.init, out_shardings=shardings.optimizer_state)(params)
    return TrainState(
        jax.device_put(jnp.zeros((), jnp.int32), shardings.step), params, optimizer_state
    )


def dropout_key(job: Training) -> Key[Array, ""]:
    """The key of a run's dropout, on every device.

    It is an argument of the step, so that runs that differ in their seed share one program.
    """
    key = jax.random.fold_in(jax.random.key(job.seed), DROPOUT)
    return jax.device_put(key, NamedSharding(job.mesh, PartitionSpec()))


def params_on_host(state: TrainState) -> Params:
    """The weights as numpy arrays."""
    return jax.device_get(state.params)


def _fingerprint(job: Training) -> dict[str, Any]:
    return {
        "model": model_fingerprint(job.model),
        "optimizer": {"kind": job.optimizer.kind},
        "train": {"batch_size": job.train.batch_size},
        "seed": job.seed,
        **job.fingerprint,
    }


def _to_mesh(sharding: NamedSharding, batch: Batch) -> Batch:
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch)


def _take_in(ledger: Ledger, pending: tuple[int, Scalars, Work] | None) -> None:
    """Waits for a step's scalars and writes them down."""
    if pending is not None:
        step, scalars, work = pending
        ledger.step(
            step, {name: float(value) for name, value in jax.device_get(scalars).items()}, work
        )


def _check_shapes(params: Params, target: Params) -> None:
    have, want = (
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (params, target)
    )
    for name in sorted(have.keys() | want.keys()):
        if have.get(name) != want.get(name):
            what = f"the weights have {name} {have.get(name)}, the model needs {want.get(name)}"
            raise InputError(
                what, where="model", mend="Give the config the weights were made with."
            )
