"""The training loop."""

import functools
import time

import jax

from irec_jax.training.checkpoint import Checkpoints, TrainState
from irec_jax.training.device_put import place_batch
from irec_jax.training.flops import batch_work
from irec_jax.training.initial_state import dropout_key, fingerprint_of, restore_or_initialize
from irec_jax.training.inputs import TrainingInputs
from irec_jax.training.loop_io import Phase, open_checkpointer, open_loop_metrics
from irec_jax.training.preemption import SignalCatcher, StopSignal, stop_error
from irec_jax.training.sharding import batch_sharding, check_batch
from irec_jax.training.step import compile_step
from irec_jax.training.watchdog import Watchdog


def train(inputs: TrainingInputs) -> TrainState:
    """Train, or resume training, until the last step.

    A run that is killed at any time and started again has the same losses to the last bit on the
    same devices; on another mesh they differ by the order of sums.

    Args:
        inputs: Model, data and settings of the run.

    Returns:
        The state after the last step, on the devices. With LoRA its parameters are the adapters.

    Raises:
        InputError: The settings do not fit each other or the run's checkpoints, or too many steps
            in a row had no finite loss and gradient.
        Interrupted: After SIGINT, when the state is saved.
        Terminated: After SIGTERM, when the state is saved.
    """
    start_time = inputs.start_time or time.time()
    config, mesh = inputs.train, inputs.mesh
    check_batch(mesh, config.batch_size, config.accumulate)
    train_step = compile_step(inputs.model, inputs.optimizer, config, mesh, inputs.lora)
    checkpoints = Checkpoints(
        inputs.run, fingerprint_of(inputs), keep=config.keep, keep_best=config.keep_best
    )
    with SignalCatcher() as signals, Watchdog(config.hang_seconds) as watchdog:
        start, state, frozen = restore_or_initialize(inputs, train_step, checkpoints)
        checkpoints.warm_up(state)
        put_batch = functools.partial(place_batch, batch_sharding(mesh), config.batch_size)
        key = dropout_key(inputs)
        stop = StopSignal(signals, mesh, config.checkpoint_minutes)
        with (
            open_loop_metrics(inputs, start, start_time, watchdog) as metrics,
            open_checkpointer(inputs, checkpoints, metrics, start, frozen) as checkpointer,
        ):
            if start >= config.steps:
                done = f"the run has {start:,} steps, and train.steps is {config.steps:,}"
                metrics.report(f"{done}: nothing is left to train. Raise train.steps for more.")
            with metrics.phase(start, Phase.COMPILE):
                checkpointer.warm_up(state)
            for step in range(start, config.steps):
                with metrics.phase(step, Phase.DATA):
                    batch = checkpointer.next_batch(step, state, stop)
                    rows = put_batch(batch)
                with (
                    metrics.phase(step, Phase.COMPILE if step == start else Phase.COMPUTE),
                    metrics.trace(step),
                    jax.set_mesh(mesh),
                    jax.transfer_guard("disallow"),
                ):
                    state, scalars = train_step.run(state, rows, key, *frozen)
                with metrics.phase(step, Phase.SYNC):
                    metrics.record(step + 1, scalars, batch_work(inputs.model, batch, inputs.lora))
                    request = stop.poll()
                checkpointer.after_step(step + 1, state, request)
                if request.signal is not None:
                    raise stop_error(request.signal, step + 1, config.steps, metrics.report)
    return state
