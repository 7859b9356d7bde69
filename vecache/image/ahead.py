"""Fetch TOCs, or open images, side by side: a few ahead of the next one, as registries answer late.

1. When one is asked for, the fetching of the next ones starts too, each in a thread.
2. At most `MAX_FETCHES` are under way, or done and not asked for yet.
3. An error is raised where its TOC or image is asked for. So the error of the first one is seen, as
   if all were fetched one by one, and nothing more is started after it.

Of a TOC threads only fetch the bytes; the thread that asks checks, decompresses and parses them.

Source: containers/image copy/copy.go maxParallelDownloads.
"""

from __future__ import annotations

from collections import deque
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from concurrent.futures import Future

__all__ = ["MAX_FETCHES", "ReadAhead"]

MAX_FETCHES = 6

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """How to fetch some things by their keys, in the order in which they will be asked for."""

    __slots__ = ("_fetches", "_lock", "_started", "_waiting")

    def __init__(self, fetches: Mapping[Any, Callable[[], T]]) -> None:
        self._fetches = fetches
        self._waiting = deque(fetches)
        self._started: dict[Hashable, Future[T]] = {}
        self._lock = Lock()

    def fetch(self, key: Hashable) -> T:
        """Fetch one of them, and start to fetch the next ones."""
        with self._lock:
            started = self._started.pop(key, None)
            if key in self._waiting:
                self._waiting.remove(key)
            self._start_next()
        return self._fetches[key]() if started is None else started.result()

    def _start_next(self) -> None:
        while self._waiting and len(self._started) < MAX_FETCHES - 1:
            key = self._waiting[0]
            try:
                self._started[key] = _start(self._fetches[key])
            except RuntimeError:  # the system has no more threads: fetch it when it is asked for
                return
            self._waiting.popleft()


def _start(fetch: Callable[[], T]) -> Future[T]:
    from concurrent.futures import Future  # noqa: PLC0415 - 4 ms, and one layer does not need it

    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(fetch())
        except BaseException as error:
            future.set_exception(error)

    # Python waits for the threads of a ThreadPoolExecutor before it exits, but not for daemons: an
    # interrupted program must not wait for a registry.
    Thread(target=run, name="vecache-toc", daemon=True).start()
    return future
