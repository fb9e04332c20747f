"""A trace of a few steps, for xprof."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

AFTER, STEPS = 5, 5
"""Steps of an attempt before the trace, which compile and warm up, and steps in it."""


class Profile:
    """Writes a trace of the steps after the first few; to be closed behind all of them.

    The trace lies in `RUN/metrics/plugins/profile`, where TensorBoard and `xprof` look for it.

    Args:
        run: The run folder.
        wanted: Whether to; if not, this does nothing.
    """

    def __init__(self, run: Path, *, wanted: bool) -> None:
        self._folder, self._count = run / "metrics", 0 if wanted else AFTER + STEPS
        self._tracing = False

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around the start of a step.

        Args:
            number: Steps done before it.
        """
        if self._count == AFTER:
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True
        self._count += 1
        if not self._tracing:
            yield
            return
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield

    def after(self, wait: Callable[[], None]) -> None:
        """To be called after each step is started; ends the trace when it has all its steps.

        Args:
            wait: Waits for the steps that were started.
        """
        if self._tracing and self._count == AFTER + STEPS:
            wait()
            self.close()

    def close(self) -> None:
        """Ends a trace that has not all its steps."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
