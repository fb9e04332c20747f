"""Tasks in spawned worker processes that end with their parent."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from irec_jax.errors import InputError

Advance = Callable[[int], None]
Job = Callable[[Any, Advance], Any]

_JOIN_TIMEOUT_S = 5.0
_SAFE_PATH = "PYTHONSAFEPATH"


def run_in_workers(job: Job, tasks: Sequence[Any], workers: int, advance: Advance) -> Iterator[Any]:
    """Yields `job(task, advance)` of every task, in order of completion.

    Args:
        job: Does a task, and calls `advance` with the units done since its last call; pickled once
            for each worker.
        tasks: Arguments of the job, small enough to be sent.
        workers: Number of processes; 1 works in this process.
        advance: Receives the progress of all workers.

    Raises:
        InputError: A worker was killed.
        Exception: An exception of `job`; all workers are terminated before it is raised again.
    """
    if workers == 1 or len(tasks) < 2:
        for task in tasks:
            yield job(task, advance)
        return
    left = iter(tasks)
    with _started(job, min(workers, len(tasks))) as started:
        busy = {worker.connection: worker for worker in started}
        for connection in busy:
            connection.send((next(left),))
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                kind, value = _received(busy[connection])
                if kind == _PROGRESS:
                    advance(value)
                    continue
                task = next(left, _NO_TASK)
                if task is _NO_TASK:
                    del busy[connection]
                else:
                    connection.send((task,))
                yield value


class _Worker(NamedTuple):
    process: BaseProcess
    connection: Connection


@contextlib.contextmanager
def _started(job: Job, count: int) -> Iterator[list[_Worker]]:
    # A fork would copy the locks of JAX's threads, but not the threads that release them.
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            with _without_working_folder():
                process.start()
            theirs.close()  # so that the end of either process is the end of the pipe
            workers.append(_Worker(process, ours))
        pickled = pickle.dumps(job, pickle.HIGHEST_PROTOCOL)  # while they import what they need
        for worker in workers:
            worker.connection.send_bytes(pickled)
        del pickled
        yield workers
    finally:
        for worker in workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in workers:
            worker.process.join(_JOIN_TIMEOUT_S)


@contextlib.contextmanager
def _without_working_folder() -> Iterator[None]:
    """Starts Python processes without the working folder on their import path."""
    # multiprocessing has no parameter for it: a new process starts as `python -c`.
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def _received(worker: _Worker) -> tuple[str, Any]:
    try:
        kind, value = worker.connection.recv()
    except (EOFError, ConnectionError) as error:
        worker.process.join(_JOIN_TIMEOUT_S)
        raise InputError(
            f"a worker was ended from outside (exit code {worker.process.exitcode})",
            where="workers",
            hint="Use fewer workers if the memory was full. Finished shards are kept: the same "
            "command continues with the others.",
        ) from error
    if kind == _FAILURE:
        raise value
    return kind, value


def _serve(connection: Connection) -> None:
    """Runs tasks in a worker until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C

    def advance(amount: int) -> None:
        connection.send((_PROGRESS, amount))

    with contextlib.suppress(EOFError, ConnectionError):
        job = pickle.loads(connection.recv_bytes())
        while True:
            (task,) = connection.recv()
            try:
                answer = (_RESULT, job(task, advance))
            except (EOFError, ConnectionError):
                raise
            except Exception as error:
                answer = (_FAILURE, _sendable(error))
            connection.send(answer)


def _sendable(error: Exception) -> Exception:
    summary = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(summary)
    if not isinstance(error, (InputError, OSError)):
        error.add_note(summary)
    return error


_PROGRESS, _RESULT, _FAILURE = "progress", "result", "failure"
_NO_TASK = object()
