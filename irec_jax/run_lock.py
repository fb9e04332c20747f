"""The lock of a run folder: one command at a time trains there, on whatever host.

Why so: docs/decisions/0175-run-lock.md.
"""

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import shlex
import socket
import subprocess
import time
from pathlib import Path

from irec_jax.errors import InputError
from irec_jax.progress import print_status
from irec_jax.settings import from_json, to_json

FILE = "lock.json"
INHERITED = "IREC_RUN_LOCK"
"""The variable with the number of the open file that a launch shares with its processes."""

TUNE, LAUNCH = "irec tune", "irec launch"
CLAIM_S = 2.0


@dataclasses.dataclass(frozen=True)
class Holder:
    """The process that took a lock.

    Attributes:
        command: What it does there, such as `irec tune`.
        host: Its host.
        pid: Its number there.
        started: When it started, as the host's kernel counts: a later process with the same
            number has another value.
        since: When it took the lock, in ISO 8601.
    """

    command: str
    host: str
    pid: int
    started: str
    since: str

    def __str__(self) -> str:
        """The holder in words, for messages."""
        return f"process {self.pid} on {self.host}, since {self.since}"


_UNKNOWN = Holder("an unknown command", "an unknown host", 0, "", "an unknown time")


class RunLock:
    """The lock of a run folder.

    Args:
        run: The run folder.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / FILE
        self._run, self._made_run = run, False
        self._file: int | None = None
        self._mine: Holder | None = None

    def acquire(self, command: str, *, take_over: bool = False) -> int:
        """Takes the lock; a process that a launch started shares the one of the launch.

        Args:
            command: What is done in the folder.
            take_over: Whether to take a lock whose holder was on another host.

        Returns:
            The open file that holds it, for processes that are to share it.

        Raises:
            InputError: Another process holds it, or one of another host may; it is named.
        """
        inherited = self._inherited()
        if inherited is not None:
            return inherited
        self._made_run = not self._run.exists()
        self._run.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + CLAIM_S  # `holder` locks the file for a moment
        while not self._try(command, take_over, time.monotonic() > until):
            time.sleep(0.05)
        assert self._file is not None
        return self._file

    def holder(self) -> Holder | None:
        """The process that holds the lock; None if no process holds it, or it is dead."""
        try:
            file = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            locked = _flock(file, fcntl.LOCK_SH)
            holder = _read(file)
            return holder if holder is not None and _may_live(holder, locked) else None
        finally:
            os.close(file)

    def adopt(self, file: int) -> None:
        """Becomes the holder of a lock that the parent process took.

        Args:
            file: What `acquire` gave there.
        """
        before = _read(file)
        self._file = file
        self._write(file, _myself(before.command if before else LAUNCH))

    def hand_on(self) -> None:
        """Leaves the lock to the processes that share its file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def release(self) -> None:
        """Gives the lock back, unless it is shared by a launch or was taken over by another."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            if self._mine is not None and self._read_path() == self._mine:
                self.path.unlink()
            if self._made_run:
                self._run.rmdir()  # as long as nothing was written there
        self.hand_on()

    def _inherited(self) -> int | None:
        try:
            file = int(os.environ.get(INHERITED, ""))
            return file if os.path.samestat(os.fstat(file), os.stat(self.path)) else None
        except (ValueError, OverflowError, OSError):
            return None

    def _try(self, command: str, take_over: bool, late: bool) -> bool:
        file, made = _open(self.path)
        taken = False
        try:
            locked = _flock(file, fcntl.LOCK_EX)
            holder = _read(file)
            elsewhere = holder is not None and holder.host != here()
            if elsewhere and take_over and locked is False:
                # An NFS server keeps the locks of a dead client for a while.
                self.path.unlink(missing_ok=True)
            elif locked is False or (holder is None and not made and not late):
                if late:
                    raise self._in_use(holder or _UNKNOWN)
            elif holder is not None and _may_live(holder, locked) and not (elsewhere and take_over):
                raise self._in_use(holder)
            elif self._write(file, _myself(command)):
                self._file, taken = file, True
                if holder is not None:
                    how = "was taken over from" if elsewhere else "was left behind by a dead"
                    print_status(f"{self.path}: the lock of `{holder.command}` {how} {holder}")
        finally:
            if not taken:
                os.close(file)
        return taken

    def _write(self, file: int, mine: Holder) -> bool:
        """Whether the file under the lock's name is now ours.

        It is not if its last holder removed it just then, or if another host was faster.
        """
        try:
            # At no moment is the file empty: a reader would take the lock for a free one.
            text = json.dumps(to_json(mine)).encode()
            os.pwrite(file, text.ljust(os.fstat(file).st_size), 0)
            os.fsync(file)
        except OSError as error:
            if error.errno != errno.ESTALE:  # a bucket has the object of another host by now
                with contextlib.suppress(OSError):
                    os.ftruncate(file, 0)
                raise
        self._mine = mine
        return self._read_path() == mine

    def _read_path(self) -> Holder | None:
        try:
            file = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return _read(file)
        finally:
            os.close(file)

    def _in_use(self, holder: Holder) -> InputError:
        run = shlex.quote(str(self._run))
        if holder.host != here():
            hint = f"Give --take-over when nothing of it runs on {holder.host} any more."
        elif holder.command == LAUNCH:
            hint = f"See `irec launch status {run}`; end it with `irec launch stop {run}`."
        else:
            hint = f"Wait for its end, or have it save and leave with `kill {holder.pid}`."
        what = f"`{holder.command}` is running there: {holder}"
        return InputError(what, where=str(self._run), hint=hint)


def here() -> str:
    """This host."""
    return socket.gethostname()


def now() -> str:
    """The time, in ISO 8601."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def _open(path: Path) -> tuple[int, bool]:
    """The open file, and whether it was made by this call and no other."""
    with contextlib.suppress(FileExistsError):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644), True
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644), False


def _flock(file: int, how: int) -> bool | None:
    """Whether the file could be locked; None where the file system has no locks."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _may_live(holder: Holder, locked: bool | None) -> bool:
    """Whether a holder may be at work, given what `_flock` answered."""
    if locked is False or holder.host != here():
        return True
    return locked is None and _started(holder.pid) == holder.started


def _read(file: int) -> Holder | None:
    text = os.pread(file, 65_536, 0)
    if not text:
        return None
    try:
        return from_json(Holder, json.loads(text))
    except (InputError, ValueError, TypeError, RecursionError):
        return _UNKNOWN


def _myself(command: str) -> Holder:
    return Holder(command, here(), os.getpid(), _started(os.getpid()), now())


def _started(pid: int) -> str:
    """When a process of this host started; "" if it does not run."""
    try:
        if not Path("/proc/self/stat").exists():
            words = ["ps", "-o", "lstart=", "-p", str(pid)]
            return subprocess.run(words, capture_output=True, text=True).stdout.strip()
        # The name before it may hold spaces and parentheses.
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{ticks}"
    except OSError:
        return ""
