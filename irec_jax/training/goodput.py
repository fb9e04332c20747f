"""Where the time of a run went: productive steps over all time, the rest by its cause."""

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
    """What time can go to."""

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
        start_time: When it was started, in seconds since 1970.
        ended: When it last wrote this.
        start: Steps done before.
        step: Steps done when it last wrote this.
        devices: That it held.
        seconds: What each cause took; steps that a later attempt repeated are among its steps.
    """

    start_time: float
    ended: float
    start: int
    step: int
    devices: int
    seconds: dict[str, float]


class GoodputClock:
    """Counts the time of an attempt by its causes, all of it.

    Args:
        run: The run folder, which knows of the attempts before.
        start: Steps done before.
        devices: That the run holds.
        start_time: When the attempt began, in seconds since 1970; its first count starts here.
    """

    def __init__(self, run: Path, start: int, devices: int, start_time: float) -> None:
        self._path = run / GOODPUT
        self._attempts = read_attempts(run)
        self._now = Attempt(start_time, start_time, start, start, devices, {})
        # Of the two clocks only this one never jumps.
        self._last = time.monotonic() - max(time.time() - start_time, 0.0)

    def count(self, cause: Cause) -> None:
        """Says what the time since the last count was."""
        now = time.monotonic()
        seconds = self._now.seconds
        seconds[cause] = seconds.get(cause, 0.0) + now - self._last
        self._now.ended += now - self._last
        self._last = now

    def write(self, step: int) -> "Goodput":
        """Writes down the time that was counted.

        Args:
            step: Steps done.

        Returns:
            What the whole run is at.
        """
        self._now.step = step
        attempts = [*self._attempts, self._now]
        lines = [json.dumps(dataclasses.asdict(attempt)) for attempt in attempts]
        write_text(self._path, "".join(f"{line}\n" for line in lines))
        return goodput_of(attempts)


@dataclasses.dataclass(frozen=True)
class Goodput:
    """What a run's time went to, from its first start on.

    Attributes:
        seconds: Each cause's; they add up to the time from first to last.
        device_hours: Hours of all devices while the run held them.
    """

    seconds: Mapping[Cause, float]
    device_hours: float

    @property
    def share(self) -> float:
        """The part of the time that went to steps that count, 0 to 1."""
        total = math.fsum(self.seconds.values())
        return self.seconds.get(Cause.STEPS, 0.0) / total if total else 0.0

    def in_words(self, price: float) -> str:
        """A line for people.

        Args:
            price: Dollars for an hour of a device; 0.0 where it is not known.
        """
        shown = sorted((-spent, cause) for cause, spent in self.seconds.items() if spent >= 0.05)
        parts = ", ".join(f"{cause} {-spent:.1f} s" for spent, cause in shown)
        money = f", {self.device_hours * price:.2f} dollars" if price else ""
        hours = f"{self.device_hours:.3g} device-hours{money}"
        return f"goodput {self.share:.1%} of {sum(self.seconds.values()):.1f} s ({parts}); {hours}"


def goodput_of(attempts: Sequence[Attempt]) -> Goodput:
    """Adds up the attempts of a run.

    Steps that a later attempt did again, since no checkpoint knew of them, are no progress.
    """
    seconds: dict[Cause, float] = {}
    for attempt, kept in zip(attempts, _kept(attempts), strict=True):
        for name, spent in attempt.seconds.items():
            cause = Cause(name)
            again = spent * (1 - kept) if cause is Cause.STEPS else 0.0
            seconds[cause] = seconds.get(cause, 0.0) + spent - again
            seconds[Cause.REPEATED] = seconds.get(Cause.REPEATED, 0.0) + again
    away = math.fsum(max(b.start_time - a.ended, 0.0) for a, b in itertools.pairwise(attempts))
    seconds[Cause.AWAY] = away
    held = math.fsum(sum(attempt.seconds.values()) * attempt.devices for attempt in attempts)
    return Goodput(seconds, held / 3_600)


def _kept(attempts: Sequence[Attempt]) -> Iterator[float]:
    """The share of each attempt's steps that no later one did again."""
    for number, attempt in enumerate(attempts):
        later = min((other.start for other in attempts[number + 1 :]), default=attempt.step)
        done = attempt.step - attempt.start
        yield min(max(later - attempt.start, 0), done) / done if done else 1.0


def read_attempts(run: Path) -> list[Attempt]:
    """The attempts that a run has written down, in their order."""
    return read_json_lines(run / GOODPUT, _attempt)


def _attempt(entry: dict[str, Any]) -> Attempt:
    seconds = {str(Cause(name)): float(spent) for name, spent in entry["seconds"].items()}
    counts = {name: int(entry[name]) for name in ("start", "step", "devices")}
    return Attempt(float(entry["start_time"]), float(entry["ended"]), **counts, seconds=seconds)
