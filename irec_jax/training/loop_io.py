"""Input and output of the training loop: metrics, validation and checkpoints."""

import contextlib
import enum
import functools
from collections.abc import Iterator, Mapping
from typing import Any, cast

import jax

from irec_jax.batches.batch import Batch
from irec_jax.errors import InputError
from irec_jax.model.params import Params
from irec_jax.training.checkpoint import FOLDER, Checkpoints, TrainState, saved_steps
from irec_jax.training.consensus import StopRequest
from irec_jax.training.distributed import is_first
from irec_jax.training.flops import Work
from irec_jax.training.goodput import Cause, GoodputClock
from irec_jax.training.hardware import measure_peak
from irec_jax.training.inputs import TrainingInputs
from irec_jax.training.metrics_logger import Hardware, MetricsLogger, StepRange, open_metrics_logger
from irec_jax.training.preemption import StopSignal, stop_error
from irec_jax.training.profile import Profile
from irec_jax.training.step import Scalars
from irec_jax.training.validation import Validation
from irec_jax.training.watchdog import Watchdog


class Phase(enum.StrEnum):
    """The parts of the loop, as the watchdog names them."""

    COMPILE = "compiling"
    DATA = "reading data"
    COMPUTE = "computing"
    SYNC = "waiting for results"
    VALIDATE = "validating"
    SAVE = "saving"


_CAUSES = {
    Phase.COMPILE: Cause.COMPILING,
    Phase.COMPUTE: Cause.STEPS,
    Phase.SYNC: Cause.STEPS,
    Phase.VALIDATE: Cause.VALIDATING,
    Phase.SAVE: Cause.SAVING,
}


class SkippedStepsError(Exception):
    """Too many steps in a row had no finite loss and gradient.

    Attributes:
        step: The last of them.
        count: How many they are.
    """

    def __init__(self, step: int, count: int) -> None:
        super().__init__(step, count)
        self.step, self.count = step, count


class LoopMetrics:
    """Logs the scalars of each step and the time of each phase; open it with `open_loop_metrics`.

    Scalars are read one step late, so that the device always has a step to work on.

    Args:
        logger: Writes the files of the run.
        watchdog: Gets a heartbeat at the start of each phase.
        profile: Traces steps.
        max_skipped: Steps in a row without a finite loss and gradient that are tolerated.
    """

    def __init__(
        self, logger: MetricsLogger, watchdog: Watchdog, profile: Profile, max_skipped: int
    ) -> None:
        self._logger, self._watchdog, self._profile = logger, watchdog, profile
        self._max_skipped, self._skipped = max_skipped, 0
        self._pending: tuple[int, Scalars, Work] | None = None

    @contextlib.contextmanager
    def phase(self, step: int, phase: Phase) -> Iterator[None]:
        """Log a phase: a heartbeat on entry; on exit its time, unless it raised an error.

        `DATA` counts as steps if the device still had a step to work on, else as waiting.

        Args:
            step: Steps done.
            phase: The part of the loop.
        """
        self._watchdog.heartbeat(step, phase.value)
        yield
        if phase is Phase.DATA:
            self._logger.count(Cause.STEPS if self._is_device_busy() else Cause.WAITING)
        else:
            self._logger.count(_CAUSES[phase])

    def record(self, step: int, scalars: Scalars, work: Work) -> None:
        """Log the step before this one, and keep this one's scalars for the next call.

        Args:
            step: Steps done, this one included.
            scalars: The step's outputs, on the devices.
            work: The amount of work of its batch.

        Raises:
            SkippedStepsError: More than `max_skipped` steps in a row were skipped.
        """
        self.finish()
        self._pending = (step, scalars, work)
        self._profile.after(self.finish)

    def finish(self) -> None:
        """Wait for the newest step and log it; the wait counts as steps.

        Raises:
            SkippedStepsError: More than `max_skipped` steps in a row were skipped.
        """
        if self._pending is None:
            return
        step, scalars, work = self._pending
        self._pending = None
        values = {name: float(value) for name, value in jax.device_get(scalars).items()}
        self._logger.step(step, values, work)
        self._skipped = self._skipped + 1 if values["skipped"] else 0
        if self._skipped > self._max_skipped:
            raise SkippedStepsError(step, self._skipped)
        self._logger.count(Cause.STEPS)

    def trace(self, step: int) -> contextlib.AbstractContextManager[None]:
        """Annotate the dispatch of a step in the profiler's trace, if there is one."""
        return self._profile.step(step)

    def validated(self, step: int, loss: float) -> None:
        """Log the validation loss after a step."""
        self._logger.validated(step, loss)

    def report(self, message: str) -> None:
        """Write a message to `log.txt` and to standard error."""
        self._logger.report(message)

    def flush(self) -> None:
        """Write the losses to the disk, so that no checkpoint is newer than they are."""
        self._logger.flush()

    def _is_device_busy(self) -> bool:
        if self._pending is None:
            return False
        loss: Any = self._pending[1]["loss"]
        return not loss.is_ready()


@contextlib.contextmanager
def open_loop_metrics(
    inputs: TrainingInputs, step: int, start_time: float, watchdog: Watchdog
) -> Iterator[LoopMetrics]:
    """Open the metrics of an attempt; only process 0 writes files.

    Args:
        inputs: The run.
        step: Steps done before.
        start_time: When the attempt started, in seconds since 1970. The time since then counts
            as preparing.
        watchdog: Gets a heartbeat at the start of each phase.
    """
    profile = Profile(inputs.run, enabled=inputs.profile and is_first())
    with _open_logger(inputs, step, start_time) as logger, contextlib.closing(profile):
        logger.note(f"{'resumed' if step else 'started'} at step {step}")
        logger.count(Cause.PREPARING)
        yield LoopMetrics(logger, watchdog, profile, inputs.train.max_skipped)


def _open_logger(
    inputs: TrainingInputs, step: int, start_time: float
) -> contextlib.AbstractContextManager[MetricsLogger]:
    if not is_first():
        return contextlib.nullcontext(cast(MetricsLogger, NullMetricsLogger()))
    train, mesh = inputs.train, inputs.mesh
    clock = GoodputClock(inputs.run, step, mesh.devices.size, start_time)
    peak = measure_peak(mesh, inputs.model.compute)
    hardware = Hardware(peak, tuple(mesh.local_devices), train.device_price)
    steps = StepRange(step, train.steps, train.log_every)
    return open_metrics_logger(inputs.run, steps, hardware, clock, on_log=inputs.on_log)


class NullMetricsLogger:
    """The interface of `MetricsLogger` without effect, for all processes but the first."""

    def note(self, message: str) -> None:
        """Do nothing."""

    report = note

    def step(self, step: int, metrics: Mapping[str, float], work: Work) -> None:
        """Do nothing."""

    def count(self, cause: Cause) -> None:
        """Do nothing."""

    def validated(self, step: int, loss: float) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""


class Checkpointer:
    """Validates and saves between steps; open it with `open_checkpointer`.

    Args:
        inputs: The run.
        checkpoints: The checkpoints of the run.
        metrics: The metrics of the loop.
        step: Steps done before; validation losses of later ones are removed.
        frozen: The weights that are not trained: one tree with LoRA, else none.
    """

    def __init__(
        self,
        inputs: TrainingInputs,
        checkpoints: Checkpoints,
        metrics: LoopMetrics,
        step: int,
        frozen: tuple[Params, ...],
    ) -> None:
        self._inputs, self._checkpoints, self._metrics = inputs, checkpoints, metrics
        self._frozen, self._saved_step = frozen, step
        self._validation: Validation | None = None
        if inputs.validation and inputs.train.validate_every:
            self._validation = Validation(
                inputs.run,
                inputs.model,
                inputs.validation,
                inputs.mesh,
                inputs.train.batch_size,
                lora=inputs.lora,
            )
            self._validation.resume(step)

    def warm_up(self, state: TrainState) -> None:
        """Compile the validation step, so that nothing is compiled between steps."""
        if self._validation:
            self._validation.warm_up(state.params, *self._frozen)

    def after_step(self, step: int, state: TrainState, request: StopRequest) -> None:
        """Validate and save if it is due.

        A checkpoint is due when one is requested, every `train.checkpoint_every` steps and after
        the last step; a validation with every checkpoint and every `train.validate_every` steps.
        A checkpoint before a stop has no validation, because the time may be short.

        Args:
            step: Steps done.
            state: The state after them.
            request: The request that all processes agreed on.
        """
        train, metrics, stopping = self._inputs.train, self._metrics, request.signal is not None
        due = request.save or step % train.checkpoint_every == 0 or step == train.steps
        loss = None
        if self._validation and not stopping and (due or step % train.validate_every == 0):
            metrics.finish()
            with metrics.phase(step, Phase.VALIDATE):
                loss = self._validation.loss(step, state.params, *self._frozen)
                metrics.validated(step, loss)
        if due or stopping:
            metrics.finish()
            self._save(step, state, self._inputs.batches.get_state(), loss)

    def next_batch(self, step: int, state: TrainState, stop: StopSignal) -> Batch:
        """Return the next batch, or save and stop if a signal is received before it is there.

        Args:
            step: Steps done.
            state: The state after them.
            stop: The stop signal of the run.

        Raises:
            Interrupted: After SIGINT, when the state is saved.
            Terminated: After SIGTERM, when the state is saved.
        """
        batches = self._inputs.batches
        position = batches.get_state()
        batch = stop.wait_for(functools.partial(next, batches))
        if batch is not None:
            return batch
        self._metrics.finish()
        if step != self._saved_step:
            self._save(step, state, position, None)
        assert stop.signal is not None
        raise stop_error(stop.signal, step, self._inputs.train.steps, self._metrics.report)

    def _save(self, step: int, state: TrainState, position: Any, loss: float | None) -> None:
        with self._metrics.phase(step, Phase.SAVE):
            self._metrics.flush()
            self._checkpoints.save(step, state, position, validation_loss=loss)
        self._saved_step = step


@contextlib.contextmanager
def open_checkpointer(
    inputs: TrainingInputs,
    checkpoints: Checkpoints,
    metrics: LoopMetrics,
    step: int,
    frozen: tuple[Params, ...],
) -> Iterator[Checkpointer]:
    """Open a `Checkpointer`, and wait at the end until its last checkpoint is on the disk.

    Args:
        inputs: As for `Checkpointer`.
        checkpoints: As for `Checkpointer`.
        metrics: As for `Checkpointer`.
        step: As for `Checkpointer`.
        frozen: As for `Checkpointer`.

    Raises:
        InputError: Too many steps in a row had no finite loss and gradient.
    """
    try:
        with checkpoints.closing():
            yield Checkpointer(inputs, checkpoints, metrics, step, frozen)
    except SkippedStepsError as error:
        raise _not_finite(inputs, error) from None


def _not_finite(inputs: TrainingInputs, error: SkippedStepsError) -> InputError:
    saved = saved_steps(inputs.run / FOLDER)
    newest = f"the checkpoint of step {saved[0]} is good" if saved else "there is no checkpoint yet"
    return InputError(
        f"{error.count} steps in a row, up to step {error.step}, had no finite loss and gradient; "
        f"{newest}",
        where=str(inputs.run),
        hint="Lower optimizer.peak, raise optimizer.warmup, or set optimizer.clip.",
    )
