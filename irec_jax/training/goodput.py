"""Goodput of a run: the share of its time spent on steps that count, and the rest by cause."""

import dataclasses
import enum
import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from irec_jax.files import write_text
from irec_jax.training.json_lines import read_json_lines

GOODPUT = Path("metrics/goodput.jsonl")


class Cause(enum.StrEnum):
    """A cause of spent time, as `metrics/goodput.jsonl` names it."""

    STEPS = "steps"
    PREPARING = "preparing"
    COMPILING = "compiling"
    WAITING = "waiting for data"
    VALIDATING = "validating"
    SAVING = "saving"
    REPEATED = "repeated steps"
    AWAY = "away"


@dataclasses.dataclass
class Attempt:
    """One start of a run: a line of `metrics/goodput.jsonl`.

    Attributes:
        start_time: The time of the start, in seconds since 1970.
        ended: The time of the last write, in seconds since 1970.
        start: Steps done before.
        step: Steps done at the last write.
        devices: The number of devices.
        seconds: Seconds by cause; steps that a later attempt repeated are among its steps.
    """

    start_time: float
    ended: float
    start: int
    step: int
    devices: int
    seconds: dict[str, float]


class GoodputClock:
    """Counts all time of an attempt by its causes.

    Args:
        run: The run folder, with the earlier attempts.
        start: Steps done before.
        devices: The number of devices.
        start_time: When the attempt started, in seconds since 1970; the first count covers the
            time since then.
    """

    def __init__(self, run: Path, start: int, devices: int, start_time: float) -> None:
        self._path = run / GOODPUT
        self._attempts = read_attempts(run)
        self._attempt = Attempt(start_time, start_time, start, start, devices, {})
        # The monotonic clock never jumps, unlike `time.time`.
        self._last = time.monotonic() - max(time.time() - start_time, 0.0)

    def count(self, cause: Cause) -> None:
        """Add the time since the last count to a cause."""
        now = time.monotonic()
        seconds = self._attempt.seconds
        seconds[cause] = seconds.get(cause, 0.0) + now - self._last
        self._attempt.ended += now - self._last
        self._last = now

    def seconds(self, cause: Cause) -> float:
        """Return the seconds of this attempt that were counted for a cause."""
        return self._attempt.seconds.get(cause, 0.0)

    def write(self, step: int) -> "Goodput":
        """Write the counted time to the file.

        Args:
            step: Steps done.

        Returns:
            The goodput of the whole run so far.
        """
        self._attempt.step = step
        attempts = [*self._attempts, self._attempt]
        lines = [json.dumps(dataclasses.asdict(attempt)) for attempt in attempts]
        write_text(self._path, "".join(f"{line}\n" for line in lines))
        return goodput_of(attempts)


@dataclasses.dataclass(frozen=True)
class Goodput:
    """The time of a run since its first start, by cause.

    Attributes:
        seconds: Seconds by cause; their sum is the time since the first start.
        device_hours: Hours of all devices together while the run held them.
    """

    seconds: Mapping[Cause, float]
    device_hours: float

    @property
    def share(self) -> float:
        """The share of the time that was spent on steps that count, 0 to 1."""
        total = math.fsum(self.seconds.values())
        return self.seconds.get(Cause.STEPS, 0.0) / total if total else 0.0

    def summary(self, price: float) -> str:
        """Return the goodput, the largest causes and the cost in one line.

        Args:
            price: Dollars per device-hour; 0.0 if unknown.
        """
        shown = sorted((-spent, cause) for cause, spent in self.seconds.items() if spent >= 0.05)
        parts = ", ".join(f"{cause} {-spent:.1f} s" for spent, cause in shown)
        cost = f", {self.device_hours * price:.2f} dollars" if price else ""
        hours = f"{self.device_hours:.3g} device-hours{cost}"
        return f"goodput {self.share:.1%} of {sum(self.seconds.values()):.1f} s ({parts}); {hours}"


def goodput_of(attempts: Sequence[Attempt]) -> Goodput:
    """Add up the attempts of a run, in their order.

    Steps that a later attempt repeated, because no checkpoint had them, count as repeated.
    """
    seconds: dict[Cause, float] = {}
    for attempt, share in zip(attempts, _lasting_shares(attempts), strict=True):
        for name, spent in attempt.seconds.items():
            cause = Cause(name)
            repeated = spent * (1 - share) if cause is Cause.STEPS else 0.0
            seconds[cause] = seconds.get(cause, 0.0) + spent - repeated
            seconds[Cause.REPEATED] = seconds.get(Cause.REPEATED, 0.0) + repeated
    away = math.fsum(max(b.start_time - a.ended, 0.0) for a, b in itertools.pairwise(attempts))
    seconds[Cause.AWAY] = away
    device_seconds = math.fsum(sum(each.seconds.values()) * each.devices for each in attempts)
    return Goodput(seconds, device_seconds / 3_600)


def _lasting_shares(attempts: Sequence[Attempt]) -> Iterator[float]:
    """Yield the share of each attempt's steps that no later attempt repeated."""
    for number, attempt in enumerate(attempts):
        later = min((other.start for other in attempts[number + 1 :]), default=attempt.step)
        steps = attempt.step - attempt.start
        yield min(max(later - attempt.start, 0), steps) / steps if steps else 1.0


def read_attempts(run: Path) -> list[Attempt]:
    """Return the attempts of a run, in their order."""
    return read_json_lines(run / GOODPUT, _attempt)


def _attempt(entry: dict[str, Any]) -> Attempt:
    seconds = {str(Cause(name)): float(spent) for name, spent in entry["seconds"].items()}
    counts = {name: int(entry[name]) for name in ("start", "step", "devices")}
    times = float(entry["start_time"]), float(entry["ended"])
    return Attempt(*times, **counts, seconds=seconds)
