"""SIGINT and SIGTERM during training: finish the step, save, then exit."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

from jax.sharding import Mesh

from irec_jax.exit_codes import EXIT_TERMINATED
from irec_jax.training.consensus import CheckpointTimer, StepConsensus, StopRequest
from irec_jax.training.distributed import process_count

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """SIGINT was received and the state is saved; the command line exits with 130."""


class Terminated(SystemExit):
    """SIGTERM was received and the state is saved; the process exits with 143."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(EXIT_TERMINATED)


class _SignalReceived(BaseException):
    """Leaves the function that `SignalCatcher.wait_for` calls."""


class SignalCatcher:
    """Keeps the first SIGINT or SIGTERM instead of stopping at once; a context manager.

    A second signal stops at once. Outside the main thread Python cannot catch signals; there it
    does nothing.

    Attributes:
        signal: The signal that was received; None if none was.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._waiting = False

    def __enter__(self) -> "SignalCatcher":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._catch) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore_handlers()

    def wait_for(self, get: Callable[[], T]) -> T | None:
        """Call `get`, which may take long, and leave it when a signal is received.

        In a run of several processes it is not left: the others wait for this process's step.

        Args:
            get: The function to call.

        Returns:
            The result; None if a signal was received before or meanwhile.
        """
        if process_count() > 1:
            return get()
        if self.signal is not None:
            return None
        try:
            self._waiting = True
            result = get()
            self._waiting = False
        except _SignalReceived:
            return None
        finally:
            self._waiting = False
        return result

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore_handlers()
        if self._waiting:
            raise _SignalReceived

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


class StopSignal:
    """Decides with all processes when to save and when to stop.

    Args:
        catcher: Catches the signals of this process.
        mesh: The devices of the steps.
        checkpoint_minutes: Minutes between two timed checkpoints; 0 for none.
    """

    def __init__(self, catcher: SignalCatcher, mesh: Mesh, checkpoint_minutes: float) -> None:
        self._catcher = catcher
        self._consensus, self._timer = StepConsensus(mesh), CheckpointTimer(checkpoint_minutes)

    @property
    def signal(self) -> signal.Signals | None:
        """The signal that this process received; None if it received none."""
        return self._catcher.signal

    def wait_for(self, get: Callable[[], T]) -> T | None:
        """Call `get` as `SignalCatcher.wait_for` does."""
        return self._catcher.wait_for(get)

    def poll(self) -> StopRequest:
        """Return the request that all processes agree on; each calls this after every step."""
        caught = self._catcher.signal
        own = StopRequest(
            interrupt=caught is signal.SIGINT,
            terminate=caught is signal.SIGTERM,
            save=self._timer.is_due(),
        )
        return self._consensus.exchange(own)


def stop_error(
    number: signal.Signals, step: int, steps: int, report: Callable[[str], None]
) -> Interrupted | Terminated:
    """Report that the state after `step` is being saved, and return the exception to raise.

    Args:
        number: The signal that was received.
        step: Steps done.
        steps: Steps of the whole run.
        report: Called with the message.
    """
    state = "stopped and saved" if step else "stopped"
    message = f"{state} at step {step} of {steps}; the same command resumes from there"
    report(message)
    return Interrupted(message) if number is signal.SIGINT else Terminated(message)
