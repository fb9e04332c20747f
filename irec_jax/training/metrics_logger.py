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
from irec_jax.progress import print_status, track
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
    every `StepRange.every` steps.

    Args:
        run: The run folder.
        span: The steps of this attempt; entries of steps after its start are removed first.
        hardware: The devices.
        clock: Counts the time by its causes.
        on_log: Called with the step and the metrics of each entry.
        advance: Called with 1 and a short message after each step, to show progress.
    """

    def __init__(
        self,
        run: Path,
        span: StepRange,
        hardware: Hardware,
        clock: GoodputClock,
        *,
        on_log: OnLog | None,
        advance: Callable[[int, str], None],
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
        self._progress = ""
        self._interval_start: float | None = None
        self._work_since = Work(0, 0, 0.0)
        self._steps_since, self._step = 0, span.start
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
        if self._interval_start is None:
            # The first step waited for the compiler, so the clock starts after it.
            self._restart_interval()
        else:
            self._steps_since += 1
            self._work_since = self._work_since.plus(work)
        if step % self._span.every == 0 or step == self._span.steps:
            self._log_interval(step, metrics)
        self._advance(1, self._progress)

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

    def _restart_interval(self) -> None:
        self._interval_start, self._work_since, self._steps_since = (
            time.perf_counter(),
            Work(0, 0, 0.0),
            0,
        )

    def _log_interval(self, step: int, metrics: Mapping[str, float]) -> None:
        goodput = self._goodput.write(step)
        entry = {**metrics, **self._rates(), **memory_in_use(self._hardware.devices)}
        entry |= {"goodput": goodput.share, "device_hours": goodput.device_hours}
        if self._hardware.price:
            entry["dollars"] = goodput.device_hours * self._hardware.price
        finite = {name: value if math.isfinite(value) else None for name, value in entry.items()}
        self._intervals.write(json.dumps({"step": step, **finite}) + "\n")
        for name, value in entry.items():
            self._events.add_scalar(f"train/{name}", value, step)
        self._progress = f"loss {entry['loss']:.4f}"
        if "tokens_per_s" in entry:
            self._progress += f", {entry['tokens_per_s']:.0f} tokens/s, MFU {entry['mfu']:.0%}"
        self.note(f"step {step}/{self._span.steps} " + _format(entry))
        self.flush()
        if self._on_log is not None:
            self._on_log(step, entry)
        self._restart_interval()

    def _rates(self) -> Metrics:
        if not self._steps_since or self._interval_start is None:
            return {}
        seconds = time.perf_counter() - self._interval_start
        return {
            "tokens_per_s": self._work_since.tokens / seconds,
            "step_s": seconds / self._steps_since,
            "fill": self._work_since.tokens / self._work_since.slots,
            "mfu": self._work_since.flops / seconds / self._hardware.peak,
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
    with track("tune", span.steps - span.start, unit="steps") as advance:
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
