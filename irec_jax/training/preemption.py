"""SIGINT and SIGTERM while training: finish the step, save, then leave."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

from irec_jax.exit_codes import EXIT_TERMINATED
from irec_jax.training.consensus import StopRequest
from irec_jax.training.distributed import process_count

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed and everything is saved; the command line exits with 130."""


class Terminated(SystemExit):
    """SIGTERM came and everything is saved; the process exits with 143, as a scheduler expects."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(EXIT_TERMINATED)


class _SignalTaken(BaseException):
    """Leaves what `StopSignal.wait_for` calls."""


class StopSignal:
    """Notes the first SIGINT or SIGTERM instead of stopping at once; a context manager.

    A second one stops at once, for the impatient. Outside the main thread Python cannot catch
    signals; there nothing is noted.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._waiting = False

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()

    def wishes(self, *, save: bool = False) -> StopRequest:
        """What this process wants: to leave, if a signal came, and to save, if it is told so."""
        return StopRequest(self.signal is signal.SIGINT, self.signal is signal.SIGTERM, save)

    def wait_for(self, get: Callable[[], T]) -> T | None:
        """Calls `get`, which may take long, and gives it up at a signal.

        A process of several has to go on: the others wait for the step it belongs to.

        Args:
            get: What to call.

        Returns:
            What it returns; None if a signal came before or meanwhile.
        """
        if process_count() > 1:
            return get()
        if self.signal is not None:
            return None
        try:
            self._waiting = True
            result = get()
            self._waiting = False
        except _SignalTaken:
            return None
        finally:
            self._waiting = False
        return result

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._give_back()
        if self._waiting:
            raise _SignalTaken

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def stop_error(
    number: signal.Signals, step: int, steps: int, tell: Callable[[str], None]
) -> Interrupted | Terminated:
    """Tells that the state of `step` was asked to be saved, and gives what to raise."""
    how = "stopped and saved" if step else "stopped"
    what = f"{how} at step {step} of {steps}; the same command goes on from there"
    tell(what)
    return Interrupted(what) if number is signal.SIGINT else Terminated(what)
