"""What a run writes down of itself: every loss, and its speed every few steps."""

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
from irec_jax.training.flops import Work, memory_in_use
from irec_jax.training.goodput import Cause, GoodputClock
from irec_jax.training.json_lines import loss_of, read_json_lines, step_of

STEPS = Path("metrics/steps.jsonl")
INTERVALS = Path("metrics/intervals.jsonl")
LOG = Path("log.txt")

Metrics = dict[str, float]
OnLog = Callable[[int, Metrics], None]


class Hardware(NamedTuple):
    """What a run runs on.

    Attributes:
        peak: Floating point operations per second that all its devices could do.
        devices: The devices of this process, whose memory is looked at.
        price: Dollars for an hour of a device; 0.0 where it is not known.
    """

    peak: float
    devices: tuple[Any, ...]
    price: float = 0.0


class StepRange(NamedTuple):
    """The steps that a ledger is opened for.

    Attributes:
        start: Steps done before.
        steps: Steps of the whole run.
        every: Steps between two entries other than the loss.
    """

    start: int
    steps: int
    every: int


def report(run: Path, message: str) -> None:
    """Writes a line for people into a run's `log.txt` and on standard error."""
    with (run / LOG).open("a", encoding="utf-8") as log:
        log.write(_stamped(message))
    print_status(message)


def _stamped(message: str) -> str:
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return f"{now} {message}\n"


class MetricsLogger:
    """The books of one run; open it with `open_metrics_logger`.

    Files in the run folder: `metrics/steps.jsonl` has the loss of every step to the last bit;
    `metrics/intervals.jsonl`, the TensorBoard events beside it and `log.txt` have everything else
    every `StepRange.every` steps.

    Args:
        run: The run folder.
        span: Which steps are to come; what was written of later ones than its start is taken
            out first.
        machine: What the run runs on.
        clock: Counts what its time goes to.
        on_log: Called with the step and the metrics of each entry.
        advance: Called with 1 and a note after each step.
    """

    def __init__(
        self,
        run: Path,
        span: StepRange,
        machine: Hardware,
        clock: GoodputClock,
        *,
        on_log: OnLog | None,
        advance: Callable[[int, str], None],
    ) -> None:
        self.run, self._span = run, span
        self._machine, self._goodput = machine, clock
        self._on_log, self._advance = on_log, advance
        self.count = clock.count
        self._losses = _reopen(run / STEPS, span.start, loss_of)
        self._intervals = _reopen(run / INTERVALS, span.start, step_of)
        self._log = (run / LOG).open("a", encoding="utf-8")
        # Imported late: it imports torch wherever torch is installed, which takes seconds.
        from tensorboardX import SummaryWriter

        self._events = SummaryWriter(str(run / "metrics"), purge_step=span.start + 1)
        self._note = ""
        self._clock: float | None = None
        self._done = Work(0, 0, 0.0)
        self._since, self._step = 0, span.start
        clock.write(span.start)  # a start that never comes to a step was one as well

    def note(self, message: str) -> None:
        """Writes a line for people into `log.txt`."""
        self._log.write(_stamped(message))
        self._log.flush()

    def report(self, message: str) -> None:
        """Writes a line for people into `log.txt` and on standard error."""
        self.note(message)
        print_status(message)

    def step(self, step: int, metrics: Mapping[str, float], work: Work) -> None:
        """Takes in one finished step.

        Args:
            step: The number of steps done, this one included.
            metrics: `loss` and whatever else the step measured.
            work: What its batch held.
        """
        self._step, loss = step, metrics["loss"]
        # JSON's shortest decimal form of a float reads back as the same float; it has no NaN.
        entry = {"step": step, "loss": loss if math.isfinite(loss) else None}
        self._losses.write(json.dumps(entry) + "\n")
        if metrics.get("skipped"):
            self.report(f"step {step} was skipped: its loss is {loss}, or its gradient is infinite")
        if self._clock is None:
            # The first step waited for the compiler, so the clock starts after it.
            self._restart()
        else:
            self._since += 1
            self._done = self._done.plus(work)
        if step % self._span.every == 0 or step == self._span.steps:
            self._enter(step, metrics)
        self._advance(1, self._note)

    def validated(self, step: int, loss: float) -> None:
        """Takes in the loss on validation instructions after a step."""
        self.note(f"step {step}: validation loss {loss:.6g}")
        self._events.add_scalar("validation/loss", loss, step)

    def flush(self) -> None:
        """Puts the losses on the disk, so that a checkpoint never knows of steps they lack."""
        self._goodput.write(self._step)
        for file in (self._losses, self._intervals):
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Says what the time went to, and closes all files.

        What was not counted yet was waited for the last checkpoint.
        """
        self.count(Cause.SAVING)
        self.note(self._goodput.write(self._step).in_words(self._machine.price))
        self.flush()
        for file in (self._losses, self._intervals, self._log, self._events):
            file.close()

    def _restart(self) -> None:
        self._clock, self._done, self._since = time.perf_counter(), Work(0, 0, 0.0), 0

    def _enter(self, step: int, metrics: Mapping[str, float]) -> None:
        told = self._goodput.write(step)
        entry = {**metrics, **self._rates(), **memory_in_use(self._machine.devices)}
        entry |= {"goodput": told.share, "device_hours": told.device_hours}
        if self._machine.price:
            entry["dollars"] = told.device_hours * self._machine.price
        finite = {name: value if math.isfinite(value) else None for name, value in entry.items()}
        self._intervals.write(json.dumps({"step": step, **finite}) + "\n")
        for name, value in entry.items():
            self._events.add_scalar(f"train/{name}", value, step)
        self._note = f"loss {entry['loss']:.4f}"
        if "tokens_per_s" in entry:
            self._note += f", {entry['tokens_per_s']:.0f} tokens/s, MFU {entry['mfu']:.0%}"
        self.note(f"step {step}/{self._span.steps} " + _in_words(entry))
        self.flush()
        if self._on_log is not None:
            self._on_log(step, entry)
        self._restart()

    def _rates(self) -> Metrics:
        if not self._since or self._clock is None:
            return {}
        seconds = time.perf_counter() - self._clock
        return {
            "tokens_per_s": self._done.tokens / seconds,
            "step_s": seconds / self._since,
            "fill": self._done.tokens / self._done.slots,
            "mfu": self._done.flops / seconds / self._machine.peak,
        }


@contextlib.contextmanager
def open_metrics_logger(
    run: Path,
    span: StepRange,
    machine: Hardware,
    clock: GoodputClock,
    *,
    on_log: OnLog | None = None,
) -> Iterator[MetricsLogger]:
    """Opens the books of a run and shows its progress; see `MetricsLogger`."""
    with track("tune", span.steps - span.start, unit="steps") as advance:
        ledger = MetricsLogger(run, span, machine, clock, on_log=on_log, advance=advance)
        with contextlib.closing(ledger):
            yield ledger


def read_losses(run: Path) -> dict[int, float]:
    """The loss of every step that a run has written down, by step; NaN where it had none."""
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


def _in_words(entry: Metrics) -> str:
    return " ".join(f"{name}={value:.6g}" for name, value in entry.items())
