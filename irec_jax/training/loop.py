"""The training loop: `train` is the whole story, the rest are its words."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from irec_jax.batches.batch import Batch
from irec_jax.errors import InputError
from irec_jax.model.config import T5Config
from irec_jax.model.lora import LoraConfig
from irec_jax.model.params import Params, abstract
from irec_jax.settings import to_json
from irec_jax.training.checkpoint import (
    FOLDER,
    Checkpoints,
    TrainState,
    model_fingerprint,
    saved_steps,
)
from irec_jax.training.config import TrainConfig
from irec_jax.training.feed import place_batch
from irec_jax.training.frozen import begin_adapters, load_frozen, save_frozen
from irec_jax.training.interrupt import Interruption, stopped
from irec_jax.training.ledger import Ledger, OnLog, Span, open_ledger
from irec_jax.training.optimizer import OptimizerConfig, make_optimizer
from irec_jax.training.processes import is_first, on_host
from irec_jax.training.sharding import batch_sharding, check_batch, state_shardings
from irec_jax.training.step import NO_LORA, Scalars, Step, compile_step
from irec_jax.training.validation import Validation
from irec_jax.training.watch import Watch
from irec_jax.training.wishes import Agreement, Timer, Wishes
from irec_jax.training.work import Work, batch_work, measure_peak

DROPOUT = 1
"""Folded into the seed's key, so that dropout and the first weights draw different numbers."""


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
        lora: Which weights are trained through adapters; rank 0 trains all. The others are
            written into the run once, before the first step.
        seed: Decides dropout and adapters; with the data's own seed it decides every loss.
        fingerprint: Other settings that a checkpoint must share to be resumed from, such as the
            item index; nested names to plain values.
        validation: Batches whose loss is measured, as `TrainConfig.validate_every` says.
        on_log: Called with the step and the metrics of each log line.

    Where a run has several processes, all are given the same; only `on_log` is called in
    process 0 alone.
    """

    run: Path
    model: T5Config
    start: Start
    batches: Batches
    mesh: Mesh
    optimizer: OptimizerConfig
    train: TrainConfig
    lora: LoraConfig = NO_LORA
    seed: int = 0
    fingerprint: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    validation: Sequence[Batch] = ()
    on_log: OnLog | None = None


def train(job: Training) -> TrainState:
    """Trains, or goes on training, until the last step.

    A run that was killed anywhere and is started again gives the same losses, to the last bit
    (same devices; on another mesh up to the order of sums).

    Args:
        job: What to train, on what, from what.

    Returns:
        The state after the last step, on the devices; of adapters, where those are trained.

    Raises:
        InputError: When the settings do not fit each other or the run's checkpoints, or when the
            loss is no longer a number.
        Interrupted: After SIGINT, when the state is saved.
        Terminated: After SIGTERM, when the state is saved.
    """
    check_batch(job.mesh, job.train.batch_size, job.train.accumulate)
    step = compile_step(job.model, job.optimizer, job.train, job.mesh, job.lora)
    keep, keep_best = job.train.keep, job.train.keep_best
    checkpoints = Checkpoints(job.run, fingerprint_of(job), keep=keep, keep_best=keep_best)
    with Interruption() as interruption, Watch(job.train.hang_seconds) as watch:
        done, state, frozen = _begin(job, step, checkpoints)
        checkpoints.warm_up(state)
        place = functools.partial(place_batch, batch_sharding(job.mesh), job.train.batch_size)
        key = dropout_key(job)
        agreement, timer = Agreement(job.mesh), Timer(job.train.checkpoint_minutes)
        with _books(job, done) as ledger, checkpoints.closed_in_the_end():
            ledger.note(f"{'resumed' if done else 'started'} at step {done}")
            reading = _Reading(ledger, job, checkpoints)
            saving = _Saving(job, reading, checkpoints, watch, done, frozen=frozen)
            while done < job.train.steps:
                watch.moved(done, "reading data")
                batch = next(job.batches)
                rows = place(batch)
                watch.moved(done, "computing")
                with jax.set_mesh(job.mesh), jax.transfer_guard("disallow"):
                    state, scalars = step.run(state, rows, key, *frozen)
                done += 1
                reading.take_in(done, scalars, batch_work(job.model, batch, job.lora))
                wanted = agreement.exchange(interruption.wishes(save=timer.is_due()))
                saving.after(done, state, wanted)
                if wanted.signal is not None:
                    raise stopped(wanted.signal, done, job.train.steps, ledger.tell)
    return state


def _begin(
    job: Training, step: Step, checkpoints: Checkpoints
) -> tuple[int, TrainState, tuple[Params, ...]]:
    """Where a run starts or goes on: steps done, the state, and the frozen weights if it has some.

    In this order: the newest good checkpoint of this run; else what `start` gives, which is a
    folder of pretrained weights or random ones.
    """
    restored = checkpoints.restore(step.target)
    if restored is not None:
        job.batches.set_state(restored.data)
        frozen = () if step.frozen is None else (load_frozen(job.run, step.frozen),)
        return restored.step, restored.state, frozen
    if step.frozen is None:
        return 0, first_state(job, step.target), ()
    whole = abstract(job.model)
    base = job.start(state_shardings(job.mesh, whole))
    _check_shapes(base, whole)
    frozen = (save_frozen(job.run, base, job.lora),)
    adapters = functools.partial(begin_adapters, base, job.lora, job.seed)
    return 0, first_state(dataclasses.replace(job, start=adapters), step.target), frozen


def first_state(job: Training, target: TrainState) -> TrainState:
    """The state before the first step.

    Args:
        job: Whose `start` makes what is trained.
        target: The abstract state.

    Raises:
        InputError: When the weights that `start` gives do not fit the model.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, target)
    params = job.start(shardings.params)
    _check_shapes(params, target.params)
    optimizer = make_optimizer(job.optimizer, job.train.steps)
    optimizer_state = jax.jit(optimizer.init, out_shardings=shardings.optimizer_state)(params)
    step = jax.device_put(np.int32(0), shardings.step)
    return TrainState(step, params, optimizer_state)


def dropout_key(job: Training) -> Key[Array, ""]:
    """The key of a run's dropout, on every device.

    It is an argument of the step, so that runs that differ in their seed share one program.
    """
    key = jax.random.fold_in(jax.random.key(job.seed), DROPOUT)
    everywhere = NamedSharding(job.mesh, PartitionSpec())
    # By way of the host: devices of other processes take nothing from a device of this one.
    return jax.random.wrap_key_data(
        jax.device_put(jax.device_get(jax.random.key_data(key)), everywhere)
    )


def params_on_host(state: TrainState) -> Params:
    """What was trained, as numpy arrays, in every process."""
    return jax.tree.map(on_host, state.params)


def fingerprint_of(job: Training) -> dict[str, Any]:
    """What a checkpoint must agree on with a run to be resumed from."""
    told = {
        "model": model_fingerprint(job.model),
        "optimizer": {"kind": job.optimizer.kind},
        "train": {"batch_size": job.train.batch_size},
        "seed": job.seed,
        **job.fingerprint,
    }
    # Without adapters nothing is said of them, as in checkpoints from before there were any.
    return told | ({"lora": to_json(job.lora)} if job.lora.rank else {})


def _books(job: Training, done: int) -> contextlib.AbstractContextManager[Ledger]:
    """The ledger of process 0; the others write nothing."""
    span = Span(done, job.train.steps, job.train.log_every)
    if not is_first():
        return contextlib.nullcontext(cast(Ledger, _NoLedger()))
    peak = measure_peak(job.mesh, job.model.compute)
    return open_ledger(job.run, span, peak=peak, on_log=job.on_log)


class _NoLedger:
    """Takes in what a `Ledger` does, and keeps none of it."""

    def note(self, message: str) -> None:
        """Nothing."""

    tell = note

    def step(self, step: int, metrics: Mapping[str, float], work: Work) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""


class _Reading:
    """Reads each step's scalars one step late, so that the device always has a step to work on."""

    def __init__(self, ledger: Ledger, job: Training, checkpoints: Checkpoints) -> None:
        self.ledger, self._job, self._checkpoints = ledger, job, checkpoints
        self._waiting: tuple[int, Scalars, Work] | None = None
        self._skipped = 0

    def take_in(self, step: int, scalars: Scalars, work: Work) -> None:
        """Writes down the step before this one."""
        self.finish()
        self._waiting = (step, scalars, work)

    def finish(self) -> None:
        """Waits for the last step's scalars and writes them down.

        Raises:
            InputError: After too many steps in a row without a finite loss and gradient.
        """
        if self._waiting is None:
            return
        step, scalars, work = self._waiting
        self._waiting = None
        values = {name: float(value) for name, value in jax.device_get(scalars).items()}
        self.ledger.step(step, values, work)
        self._skipped = self._skipped + 1 if values["skipped"] else 0
        if self._skipped > self._job.train.max_skipped:
            self._checkpoints.close()  # the newest may still be on its way to the disk
            raise _never_finite(self._job, step, self._skipped)


class _Saving:
    """Measures and saves when it is time."""

    def __init__(
        self,
        job: Training,
        reading: _Reading,
        checkpoints: Checkpoints,
        watch: Watch,
        done: int,
        *,
        frozen: tuple[Params, ...],
    ) -> None:
        self._frozen = frozen
        self._job, self._reading, self._checkpoints, self._watch = job, reading, checkpoints, watch
        self._validation: Validation | None = None
        if job.validation and job.train.validate_every:
            self._validation = Validation(
                job.run, job.model, job.validation, job.mesh, job.train.batch_size, lora=job.lora
            )
            self._validation.resume(done)

    def after(self, done: int, state: TrainState, wanted: Wishes) -> None:
        """Does what is due after a step.

        Args:
            done: Steps done, this one included.
            state: The state after it.
            wanted: What all the processes agreed on.
        """
        train, stop = self._job.train, wanted.signal is not None
        due = wanted.save or done % train.checkpoint_every == 0 or done == train.steps
        loss = None
        # Who was told to leave has little time: that checkpoint is not graded.
        if self._validation and not stop and (due or done % train.validate_every == 0):
            self._reading.finish()
            self._watch.moved(done, "validating")
            loss = self._validation.loss(done, state.params, *self._frozen)
            self._reading.ledger.note(f"step {done}: validation loss {loss:.6g}")
        if due or stop:
            self._reading.finish()
            self._reading.ledger.flush()
            self._watch.moved(done, "saving")
            position = self._job.batches.get_state()
            self._checkpoints.save(done, state, position, validation_loss=loss)


def _never_finite(job: Training, step: int, skipped: int) -> InputError:
    saved = saved_steps(job.run / FOLDER)
    good = f"the checkpoint of step {saved[0]} is good" if saved else "there is no checkpoint yet"
    return InputError(
        f"{skipped} steps in a row, up to step {step}, had no finite loss and gradient; {good}",
        where=str(job.run),
        mend="Lower optimizer.peak, lengthen optimizer.warmup, or set optimizer.clip.",
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
