"""The training loop: `train` is the whole story, the rest are its words."""

import contextlib
import dataclasses
import functools
import time
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from irec_jax.errors import InputError
from irec_jax.model.params import Params, abstract
from irec_jax.settings import to_json
from irec_jax.training.checkpoint import (
    Checkpoints,
    TrainState,
    model_fingerprint,
)
from irec_jax.training.consensus import CheckpointTimer, StepConsensus
from irec_jax.training.device_put import place_batch
from irec_jax.training.distributed import is_first, on_host
from irec_jax.training.flops import batch_work
from irec_jax.training.frozen import begin_adapters, load_frozen, save_frozen
from irec_jax.training.goodput import Cause
from irec_jax.training.inputs import TrainingInputs
from irec_jax.training.loop_io import Checkpointer, MetricsReader, open_metrics
from irec_jax.training.optimizer import make_optimizer
from irec_jax.training.preemption import StopSignal, stop_error
from irec_jax.training.profile import Profile
from irec_jax.training.sharding import batch_sharding, check_batch, state_shardings
from irec_jax.training.step import Step, compile_step
from irec_jax.training.watchdog import Watchdog

DROPOUT = 1
"""Folded into the seed's key, so that dropout and the first weights draw different numbers."""


def train(job: TrainingInputs) -> TrainState:
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
    start_time = job.start_time or time.time()
    check_batch(job.mesh, job.train.batch_size, job.train.accumulate)
    step = compile_step(job.model, job.optimizer, job.train, job.mesh, job.lora)
    keep, keep_best = job.train.keep, job.train.keep_best
    checkpoints = Checkpoints(job.run, fingerprint_of(job), keep=keep, keep_best=keep_best)
    with StopSignal() as interruption, Watchdog(job.train.hang_seconds) as watch:
        done, state, frozen = _begin(job, step, checkpoints)
        checkpoints.warm_up(state)
        place = functools.partial(place_batch, batch_sharding(job.mesh), job.train.batch_size)
        key = dropout_key(job)
        agreement, timer = StepConsensus(job.mesh), CheckpointTimer(job.train.checkpoint_minutes)
        profile = Profile(job.run, wanted=job.profile and is_first())
        books, trace = open_metrics(job, done, start_time), contextlib.closing(profile)
        with books as ledger, trace, checkpoints.closed_in_the_end():
            ledger.note(f"{'resumed' if done else 'started'} at step {done}")
            ledger.count(Cause.PREPARING)
            reading = MetricsReader(ledger, job, checkpoints)
            saving = Checkpointer(job, reading, checkpoints, watch, done, frozen=frozen)
            watch.heartbeat(done, "compiling")
            saving.warm_up(state)
            ledger.count(Cause.COMPILING)
            calling = Cause.COMPILING  # what the call of the first step is
            while done < job.train.steps:
                batch = saving.next_batch(done, state, interruption)
                rows = place(batch)
                ledger.count(Cause.STEPS if reading.is_ahead() else Cause.WAITING)
                watch.heartbeat(done, "computing")
                with profile.step(done), jax.set_mesh(job.mesh), jax.transfer_guard("disallow"):
                    state, scalars = step.run(state, rows, key, *frozen)
                ledger.count(calling)
                calling, done = Cause.STEPS, done + 1
                reading.record(done, scalars, batch_work(job.model, batch, job.lora))
                profile.after(reading.finish)
                wanted = agreement.exchange(interruption.wishes(save=timer.is_due()))
                ledger.count(Cause.STEPS)
                saving.after(done, state, wanted)
                if wanted.signal is not None:
                    raise stop_error(wanted.signal, done, job.train.steps, ledger.report)
    return state


def _begin(
    job: TrainingInputs, step: Step, checkpoints: Checkpoints
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


def first_state(job: TrainingInputs, target: TrainState) -> TrainState:
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


def dropout_key(job: TrainingInputs) -> Key[Array, ""]:
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


def fingerprint_of(job: TrainingInputs) -> dict[str, Any]:
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


def _check_shapes(params: Params, target: Params) -> None:
    have, want = (
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (params, target)
    )
    for name in sorted(have.keys() | want.keys()):
        if have.get(name) != want.get(name):
            what = f"the weights have {name} {have.get(name)}, the model needs {want.get(name)}"
            raise InputError(
                what, where="model", hint="Give the config the weights were made with."
            )
