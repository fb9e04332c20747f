"""Progress of long work: a live bar on a terminal, plain lines elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from irec_jax.terminal import Console

console = Console(stderr=True, highlight=False, soft_wrap=True)

PLAIN_LINE_EVERY_S = 10.0
LIVE_NOTE_EVERY_S = 2.0


def print_status(message: str) -> None:
    """Prints one plain line on standard error, where progress lives."""
    console.print(message, markup=False)


Note = str | Callable[[], str]
"""A short text beside the progress; a function is called only when the text is shown."""


@contextlib.contextmanager
def track(
    what: str, total: int, *, unit: str = "", warm_up: bool = False
) -> Iterator[Callable[[int, Note], None]]:
    """Yields `advance(amount, note)`, which reports progress, rate and time left.

    Args:
        what: What is being done, such as `tune`.
        total: How many units the work has.
        unit: The unit's name in the plural, for the rate (`records`).
        warm_up: Whether the first call ends a preparation, such as a compilation, that says
            nothing of the rate; rates and the time left are then measured from this call on.
    """
    if console.is_terminal:
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        columns += [TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}")]
        with Progress(*columns, console=console) as progress:
            yield _live_reporter(progress, progress.add_task(what, total=total, note=""), total)
        return
    yield _plain_reporter(what, total, unit, warm_up=warm_up)


def _live_reporter(progress: Progress, task: TaskID, total: int) -> Callable[[int, Note], None]:
    last, done = time.monotonic(), 0

    def advance(amount: int, note: Note) -> None:
        nonlocal last, done
        done += amount
        now = time.monotonic()
        if callable(note) and now - last < LIVE_NOTE_EVERY_S and done < total:
            progress.update(task, advance=amount)
            return
        last = now
        progress.update(task, advance=amount, note=note() if callable(note) else note)

    return advance


def _plain_reporter(
    what: str, total: int, unit: str, *, warm_up: bool
) -> Callable[[int, Note], None]:
    start = last = time.monotonic()
    done, before = 0, 0

    def advance(amount: int, note: Note) -> None:
        nonlocal start, last, done, before
        done += amount
        now = time.monotonic()
        if warm_up and not before:
            start, last, before = now, now, done
            return
        if now - last < PLAIN_LINE_EVERY_S and done < total:
            return
        last = now
        rate = (done - before) / max(now - start, 1e-9)
        left = (total - done) / max(rate, 1e-9)
        text = note() if callable(note) else note
        count, times = f"{done:,}/{total:,}", f"{rate:,.1f}/s, {duration(left)} left"
        print_status(f"{what}: {count} {unit} ({times}) {text}".rstrip())

    return advance


def duration(seconds: float) -> str:
    """Writes a time in its two largest units.

    >>> duration(8.2), duration(135), duration(9_000)
    ('8 s', '2 min 15 s', '2 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3_600:,} h {whole % 3_600 // 60} min"
