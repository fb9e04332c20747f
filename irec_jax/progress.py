"""Progress of long work: a live bar on a terminal, plain lines elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from irec_jax.terminal import Console

console = Console(stderr=True, highlight=False, soft_wrap=True)

PLAIN_LINE_EVERY_S = 10.0


def print_status(message: str) -> None:
    """Prints one plain line on standard error, where progress lives."""
    console.print(message, markup=False)


@contextlib.contextmanager
def track(what: str, total: int, *, unit: str = "") -> Iterator[Callable[[int, str], None]]:
    """Yields `advance(amount, note)`, which reports progress, rate and time left.

    Args:
        what: What is being done, such as `tune`.
        total: How many units the work has.
        unit: The unit's name in the plural, for the rate (`records`).
    """
    if console.is_terminal:
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        columns += [TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}")]
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(what, total=total, note="")
            yield lambda amount, note: progress.update(task, advance=amount, note=note)
        return
    yield _plain_reporter(what, total, unit)


def _plain_reporter(what: str, total: int, unit: str) -> Callable[[int, str], None]:
    start = last = time.monotonic()
    done = 0

    def advance(amount: int, note: str) -> None:
        nonlocal done, last
        done += amount
        now = time.monotonic()
        if now - last < PLAIN_LINE_EVERY_S and done < total:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        left = (total - done) / max(rate, 1e-9)
        print_status(
            f"{what}: {done}/{total} {unit} ({rate:.1f}/s, {left:.0f} s left) {note}".rstrip()
        )

    return advance
