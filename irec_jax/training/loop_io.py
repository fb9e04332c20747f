"""What is done between steps: scalars are read, losses measured, checkpoints written."""

import contextlib
import functools
from collections.abc import Mapping
from typing import Any, cast

import jax

from irec_jax.batches.batch import Batch
from irec_jax.errors import InputError
from irec_jax.model.params import Params
from irec_jax.training.checkpoint import FOLDER, Checkpoints, TrainState, saved_steps
from irec_jax.training.consensus import StopRequest
from irec_jax.training.distributed import is_first
from irec_jax.training.flops import Work, measure_peak
from irec_jax.training.goodput import Cause, GoodputClock
from irec_jax.training.inputs import TrainingInputs
from irec_jax.training.metrics_logger import Hardware, MetricsLogger, StepRange, open_metrics_logger
from irec_jax.training.preemption import StopSignal, stop_error
from irec_jax.training.step import Scalars
from irec_jax.training.validation import Validation
from irec_jax.training.watchdog import Watchdog


def open_metrics(
    job: TrainingInputs, done: int, start_time: float
) -> contextlib.AbstractContextManager[MetricsLogger]:
    """The ledger of process 0; the others write nothing.

    Args:
        job: The run.
        done: Steps done before.
        start_time: When this start of it began, in seconds since 1970.
    """
    span = StepRange(done, job.train.steps, job.train.log_every)
    if not is_first():
        return contextlib.nullcontext(cast(MetricsLogger, NullMetricsLogger()))
    clock = GoodputClock(job.run, done, job.mesh.devices.size, start_time)
    peak = measure_peak(job.mesh, job.model.compute)
    machine = Hardware(peak, tuple(job.mesh.local_devices), job.train.device_price)
    return open_metrics_logger(job.run, span, machine, clock, on_log=job.on_log)


class NullMetricsLogger:
    """Takes in what a `MetricsLogger` does, and keeps none of it."""

    def note(self, message: str) -> None:
        """Nothing."""

    report = note

    def step(self, step: int, metrics: Mapping[str, float], work: Work) -> None:
        """Nothing."""

    def count(self, cause: Cause) -> None:
        """Nothing."""

    def validated(self, step: int, loss: float) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""


class MetricsReader:
    """Reads each step's scalars one step late, so that the device always has a step to work on."""

    def __init__(
        self, ledger: MetricsLogger, job: TrainingInputs, checkpoints: Checkpoints
    ) -> None:
        self.ledger, self._job, self._checkpoints = ledger, job, checkpoints
        self._waiting: tuple[int, Scalars, Work] | None = None
        self._skipped = 0

    def record(self, step: int, scalars: Scalars, work: Work) -> None:
        """Writes down the step before this one."""
        self.finish()
        self._waiting = (step, scalars, work)

    def is_ahead(self) -> bool:
        """Whether the device still has a step to work on."""
        if self._waiting is None:
            return False
        loss: Any = self._waiting[1]["loss"]
        return not loss.is_ready()

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


class Checkpointer:
    """Measures and saves when it is time."""

    def __init__(
        self,
        job: TrainingInputs,
        reading: MetricsReader,
        checkpoints: Checkpoints,
        watch: Watchdog,
        done: int,
        *,
        frozen: tuple[Params, ...],
    ) -> None:
        self._frozen, self._saved = frozen, done
        self._job, self._reading, self._checkpoints, self._watch = job, reading, checkpoints, watch
        self._validation: Validation | None = None
        if job.validation and job.train.validate_every:
            self._validation = Validation(
                job.run, job.model, job.validation, job.mesh, job.train.batch_size, lora=job.lora
            )
            self._validation.resume(done)

    def warm_up(self, state: TrainState) -> None:
        """Compiles what measuring needs, so that nothing is compiled between steps."""
        if self._validation:
            self._validation.warm_up(state.params, *self._frozen)

    def after(self, done: int, state: TrainState, wanted: StopRequest) -> None:
        """Does what is due after a step.

        Args:
            done: Steps done, this one included.
            state: The state after it.
            wanted: What all the processes agreed on.
        """
        train, stop = self._job.train, wanted.signal is not None
        ledger = self._reading.ledger
        due = wanted.save or done % train.checkpoint_every == 0 or done == train.steps
        loss = None
        # Who was told to leave has little time: that checkpoint is not graded.
        if self._validation and not stop and (due or done % train.validate_every == 0):
            self._reading.finish()
            ledger.count(Cause.STEPS)
            self._watch.heartbeat(done, "validating")
            loss = self._validation.loss(done, state.params, *self._frozen)
            ledger.validated(done, loss)
            ledger.count(Cause.VALIDATING)
        if due or stop:
            self._reading.finish()
            ledger.count(Cause.STEPS)
            ledger.flush()
            self._watch.heartbeat(done, "saving")
            position = self._job.batches.get_state()
            self._checkpoints.save(done, state, position, validation_loss=loss)
            self._saved = done
            ledger.count(Cause.SAVING)

    def next_batch(self, done: int, state: TrainState, interruption: StopSignal) -> Batch:
        """The next batch of the data.

        Args:
            done: Steps done.
            state: The state after them, saved if a signal comes before the batch does.
            interruption: Notes the signals.

        Raises:
            Interrupted: After SIGINT, when the state is saved.
            Terminated: After SIGTERM, when the state is saved.
        """
        self._watch.heartbeat(done, "reading data")
        batches = self._job.batches
        position = batches.get_state()
        batch = interruption.wait_for(functools.partial(next, batches))
        if batch is not None:
            return batch
        ledger = self._reading.ledger
        self._reading.finish()
        ledger.flush()
        if done != self._saved:
            self._watch.heartbeat(done, "saving")
            self._checkpoints.save(done, state, position)
            ledger.count(Cause.SAVING)
        assert interruption.signal is not None
        raise stop_error(interruption.signal, done, self._job.train.steps, ledger.report)


def _never_finite(job: TrainingInputs, step: int, skipped: int) -> InputError:
    saved = saved_steps(job.run / FOLDER)
    good = f"the checkpoint of step {saved[0]} is good" if saved else "there is no checkpoint yet"
    return InputError(
        f"{skipped} steps in a row, up to step {step}, had no finite loss and gradient; {good}",
        where=str(job.run),
        hint="Lower optimizer.peak, lengthen optimizer.warmup, or set optimizer.clip.",
    )
