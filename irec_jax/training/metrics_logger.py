"""Metrics files of a run: the loss of every step, and speed, memory and cost at an interval."""

import contextlib
import datetime
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from irec_jax.files import write_text
from irec_jax.progress import Note, duration, print_status, track
from irec_jax.training.flops import Work
from irec_jax.training.goodput import Cause, GoodputClock
from irec_jax.training.hardware import memory_in_use
from irec_jax.training.json_lines import loss_of, read_json_lines, step_of

STEPS = Path("metrics/steps.jsonl")
INTERVALS = Path("metrics/intervals.jsonl")
LOG = Path("log.txt")

Metrics = dict[str, float]
OnLog = Callable[[int, Metrics], None]


class Hardware(NamedTuple):
    """The devices of a run.

    Attributes:
        peak: Peak floating point operations per second of all devices together.
        devices: The devices of this process, whose memory is measured.
        price: Dollars per device-hour; 0.0 if unknown.
    """

    peak: float
    devices: tuple[Any, ...]
    price: float = 0.0


class StepRange(NamedTuple):
    """The steps of an attempt.

    Attributes:
        start: Steps done before.
        steps: Steps of the whole run.
        every: Steps between two entries other than the loss.
    """

    start: int
    steps: int
    every: int


def report(run: Path, message: str) -> None:
    """Write a message to a run's `log.txt` and to standard error."""
    with (run / LOG).open("a", encoding="utf-8") as log:
        log.write(_stamped(message))
    print_status(message)


def _stamped(message: str) -> str:
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return f"{now} {message}\n"


class MetricsLogger:
    """Writes the metrics files of one run; open it with `open_metrics_logger`.

    Files in the run folder: `metrics/steps.jsonl` has the loss of every step to the last bit;
    `metrics/intervals.jsonl`, the TensorBoard events beside it and `log.txt` have everything else
    every `StepRange.every` steps, and the mean loss of these steps.

    Args:
        run: The run folder.
        span: The steps of this attempt; entries of steps after its start are removed first.
        hardware: The devices.
        clock: Counts the time by its causes.
        on_log: Called with the step and the metrics of each entry.
        advance: Called with 1 and a message after each step, to show progress.
    """

    def __init__(
        self,
        run: Path,
        span: StepRange,
        hardware: Hardware,
        clock: GoodputClock,
        *,
        on_log: OnLog | None,
        advance: Callable[[int, Note], None],
    ) -> None:
        self.run, self._span = run, span
        self._hardware, self._goodput = hardware, clock
        self._on_log, self._advance = on_log, advance
        self.count = clock.count
        self._losses = _reopen(run / STEPS, span.start, loss_of)
        self._intervals = _reopen(run / INTERVALS, span.start, step_of)
        self._log = (run / LOG).open("a", encoding="utf-8")
        # Imported late: it imports torch wherever torch is installed, which takes seconds.
        from tensorboardX import SummaryWriter

        self._events = SummaryWriter(str(run / "metrics"), purge_step=span.start + 1)
        self._entry, self._line = _Interval(), _Interval()
        self._step = span.start
        clock.write(span.start)  # an attempt without a step counts too

    def note(self, message: str) -> None:
        """Write a message to `log.txt`."""
        self._log.write(_stamped(message))
        self._log.flush()

    def report(self, message: str) -> None:
        """Write a message to `log.txt` and to standard error."""
        self.note(message)
        print_status(message)

    def step(self, step: int, metrics: Mapping[str, float], work: Work) -> None:
        """Log one finished step.

        Args:
            step: The number of steps done, this one included.
            metrics: `loss` and the other scalars of the step.
            work: The amount of work of its batch.
        """
        self._step, loss = step, metrics["loss"]
        # JSON's shortest decimal form of a float reads back as the same float; it has no NaN.
        entry = {"step": step, "loss": loss if math.isfinite(loss) else None}
        self._losses.write(json.dumps(entry) + "\n")
        if metrics.get("skipped"):
            self.report(f"step {step} was skipped: its loss is {loss}, or its gradient is infinite")
        is_first = step == self._span.start + 1
        if is_first:
            compiled = self._goodput.seconds(Cause.COMPILING)
            self.report(f"compiled the step in {duration(compiled)}")
            # The first step waited for the compiler, so the clock starts after it.
            self._entry.start = self._line.start = time.perf_counter()
        for interval in (self._entry, self._line):
            interval.add(loss, Work(0, 0, 0.0) if is_first else work)
        if step % self._span.every == 0 or step == self._span.steps:
            self._log_interval(step, metrics)
        self._advance(1, self._show_progress)

    def validated(self, step: int, loss: float) -> None:
        """Log the validation loss after a step."""
        self.note(f"step {step}: validation loss {loss:.6g}")
        self._events.add_scalar("validation/loss", loss, step)

    def flush(self) -> None:
        """Write the losses to the disk, so that no checkpoint is newer than they are."""
        self._goodput.write(self._step)
        for file in (self._losses, self._intervals):
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Log the goodput and close all files.

        Time that is not counted yet was spent waiting for the last checkpoint.
        """
        self.count(Cause.SAVING)
        self.note(self._goodput.write(self._step).summary(self._hardware.price))
        self.flush()
        for file in (self._losses, self._intervals, self._log, self._events):
            file.close()

    def _log_interval(self, step: int, metrics: Mapping[str, float]) -> None:
        goodput = self._goodput.write(step)
        entry = {**metrics, "loss": self._entry.loss, **self._entry.rates(self._hardware.peak)}
        entry |= memory_in_use(self._hardware.devices)
        entry |= {"goodput": goodput.share, "device_hours": goodput.device_hours}
        if self._hardware.price:
            entry["dollars"] = goodput.device_hours * self._hardware.price
        finite = {name: value if math.isfinite(value) else None for name, value in entry.items()}
        self._intervals.write(json.dumps({"step": step, **finite}) + "\n")
        for name, value in entry.items():
            self._events.add_scalar(f"train/{name}", value, step)
        self.note(f"step {step}/{self._span.steps} " + _format(entry))
        self.flush()
        if self._on_log is not None:
            self._on_log(step, entry)
        self._entry.restart()

    def _show_progress(self) -> str:
        """Says how the steps since the last call went."""
        text, rates = f"loss {self._line.loss:.4f}", self._line.rates(self._hardware.peak)
        if rates:
            text += f", {rates['tokens_per_s']:,.0f} tokens/s, MFU {rates['mfu']:.0%}"
        self._line.restart()
        return text


class _Interval:
    """Losses and work of the steps between two lines; the first step is not in the rates."""

    def __init__(self) -> None:
        self.start = 0.0
        self._losses: list[float] = []
        self._steps, self._work = 0, Work(0, 0, 0.0)

    @property
    def loss(self) -> float:
        """The mean loss of the steps; those without a finite loss count only if all are such."""
        finite = [loss for loss in self._losses if math.isfinite(loss)] or self._losses
        return math.fsum(finite) / len(finite)

    def add(self, loss: float, work: Work) -> None:
        """Count a step; one without work, the first, counts for the loss alone."""
        self._losses.append(loss)
        self._steps += work.slots > 0
        self._work = self._work.plus(work)

    def restart(self) -> None:
        """Forget all steps."""
        self.start = time.perf_counter()
        self._losses, self._steps, self._work = [], 0, Work(0, 0, 0.0)

    def rates(self, peak: float) -> Metrics:
        """Returns speeds of real tokens; nothing before the second step.

        Args:
            peak: As in `Hardware`.
        """
        if not self._steps:
            return {}
        seconds = time.perf_counter() - self.start
        return {
            "tokens_per_s": self._work.tokens / seconds,
            "step_s": seconds / self._steps,
            "fill": self._work.tokens / self._work.slots,
            "mfu": self._work.flops / seconds / peak,
        }


@contextlib.contextmanager
def open_metrics_logger(
    run: Path,
    span: StepRange,
    hardware: Hardware,
    clock: GoodputClock,
    *,
    on_log: OnLog | None = None,
) -> Iterator[MetricsLogger]:
    """Open the metrics files of a run and show its progress; see `MetricsLogger`."""
    with track("tune", span.steps - span.start, unit="steps", warm_up=True) as advance:
        logger = MetricsLogger(run, span, hardware, clock, on_log=on_log, advance=advance)
        with contextlib.closing(logger):
            yield logger


def read_losses(run: Path) -> dict[int, float]:
    """Return the loss of every step of a run; NaN where it was not finite."""
    return dict(read_json_lines(run / STEPS, loss_of))


def _reopen(path: Path, start: int, check: Callable[[dict[str, Any]], object]) -> TextIO:
    """Opens a JSON lines file for appending, without the lines of steps after `start`."""

    def parse(entry: dict[str, Any]) -> dict[str, Any]:
        check(entry)
        return entry

    entries = read_json_lines(path, parse)
    kept = [json.dumps(entry) for entry in entries if entry["step"] <= start]
    write_text(path, "".join(f"{line}\n" for line in kept))
    return path.open("a", encoding="utf-8", buffering=1)  # a line at a time, for readers


def _format(entry: Metrics) -> str:
    return " ".join(f"{name}={value:.6g}" for name, value in entry.items())
