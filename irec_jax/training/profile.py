"""A profiler trace of a few steps, for xprof."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

AFTER, STEPS = 5, 5
"""Steps of an attempt before the trace, which compile and warm up, and steps in it."""


class Profile:
    """Traces a few steps after the first ones; close it after the last step.

    The trace is written to `RUN/metrics/plugins/profile`, where TensorBoard and `xprof` find it.

    Args:
        run: The run folder.
        enabled: Whether to trace.
    """

    def __init__(self, run: Path, *, enabled: bool) -> None:
        self._folder, self._count = run / "metrics", 0 if enabled else AFTER + STEPS
        self._is_tracing = False

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Annotate the dispatch of a step; starts the trace if it is due.

        Args:
            number: Steps done before it.
        """
        if self._count == AFTER:
            jax.profiler.start_trace(str(self._folder))
            self._is_tracing = True
        self._count += 1
        if not self._is_tracing:
            yield
            return
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield

    def after(self, wait: Callable[[], None]) -> None:
        """End the trace if it has all its steps; call this after each step is dispatched.

        Args:
            wait: Waits for the dispatched steps.
        """
        if self._is_tracing and self._count == AFTER + STEPS:
            wait()
            self.close()

    def close(self) -> None:
        """End a trace that does not have all its steps."""
        if self._is_tracing:
            self._is_tracing = False
            jax.profiler.stop_trace()
