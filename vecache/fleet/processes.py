"""Run tasks in local processes, which end with this one whatever ends it.

Processes are started anew (`spawn`), not forked: a fork would take the locks of pyarrow's threads
with it. So a script that uses them has to have its `if __name__ == "__main__":`.

A worker waits for the end of a pipe whose other end only this process holds. When the run ends by
an error or Ctrl-C the pipe is closed, and when this process is killed the kernel closes it: workers
end at once either way. They ignore Ctrl-C themselves, which a terminal sends to all.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from typing import TYPE_CHECKING, Any, ClassVar, Final

from vecache.errors import WorkerError
from vecache.threads import THREADS_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from multiprocessing.connection import Connection
    from typing import Self

__all__ = ["Processes"]

_SECONDS_TO_SEND: Final = 1.0  # a result that is on its way when the pipe closes


class Processes:
    """Local processes while a `with` statement runs."""

    def __init__(self, n_processes: int, call: Callable[[Any, Any], Any], shared: Any) -> None:
        n_cores = len(os.sched_getaffinity(0))
        self._n_processes = min(n_processes, n_cores)
        self._n_threads = max(1, n_cores // self._n_processes)
        self._call = call
        self._shared = shared

    def __enter__(self) -> Self:
        context = get_context("spawn")
        resource_tracker.ensure_running()  # it would unblock SIGINT in the middle of `submit`
        self._reader, self._writer = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(
            self._n_processes,
            context,
            initializer=_Worker.begin,
            initargs=(self._reader, self._shared, self._n_threads),
        )
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            self._pool.shutdown()
        else:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._writer.close()
        self._pool.shutdown()
        self._reader.close()

    def count(self) -> int:
        """Return how many there are."""
        return self._n_processes

    def submit(self, task: Any) -> Future[Any]:
        """Hand a task over; this starts processes until there are enough."""
        with _no_interrupt(), _dead_worker():
            return self._pool.submit(_Worker.run, self._call, task)

    def result(self, future: Future[Any]) -> Any:
        """Wait for a result."""
        with _dead_worker():
            return future.result()


class _Worker:
    """What a worker process has to keep; `concurrent.futures` has no other place for it."""

    shared: ClassVar[Any] = None
    is_running: ClassVar = threading.Lock()

    @classmethod
    def begin(cls, parent: Connection, shared: Any, n_threads: int) -> None:
        """Prepare a worker process."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.environ.setdefault(THREADS_VARIABLE, str(n_threads))
        cls.shared = shared
        threading.Thread(target=cls._end_with, args=(parent,), daemon=True).start()

    @classmethod
    def run(cls, call: Callable[[Any, Any], Any], task: Any) -> Any:
        """Run a task."""
        with cls.is_running:
            return call(cls.shared, task)

    @classmethod
    def _end_with(cls, parent: Connection) -> None:
        """End this process when the run ends, but not in the middle of a result it sends."""
        with suppress(EOFError, OSError):
            parent.recv()
        if not cls.is_running.locked():
            time.sleep(_SECONDS_TO_SEND)  # half a result would block who reads it for ever
        os._exit(1)


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Let Ctrl-C wait a moment: a process that starts now would print a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _dead_worker() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise WorkerError(
            "a local process died in the middle of a task, perhaps killed for lack of memory; "
            "fewer processes need less"
        ) from error
