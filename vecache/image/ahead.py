"""Fetch TOCs side by side: a few ahead of the one that is asked for, since registries answer late.

1. When a TOC is asked for, the fetching of the next ones starts too, each in a thread.
2. At most `MAX_FETCHES` are under way, or done and not asked for yet.
3. An error is raised where its TOC is asked for. So the error of the first layer is the one that is
   seen, as if TOCs were fetched one by one, and nothing more is started after it.

Threads only fetch bytes; the thread that asks checks, decompresses and parses them.

Source: containers/image copy/copy.go maxParallelDownloads.
"""

from __future__ import annotations

from collections import deque
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from concurrent.futures import Future

__all__ = ["MAX_FETCHES", "ReadAhead"]

MAX_FETCHES = 6


class ReadAhead:
    """How to fetch the TOCs of some layers, in the order in which they will be asked for."""

    __slots__ = ("_fetches", "_lock", "_started", "_waiting")

    def __init__(self, fetches: Mapping[Any, Callable[[], bytes]]) -> None:
        self._fetches = fetches
        self._waiting = deque(fetches)
        self._started: dict[Hashable, Future[bytes]] = {}
        self._lock = Lock()

    def fetch(self, layer: Hashable) -> bytes:
        """Fetch the TOC of a layer, and start to fetch the next ones."""
        with self._lock:
            started = self._started.pop(layer, None)
            if layer in self._waiting:
                self._waiting.remove(layer)
            self._start_next()
        return self._fetches[layer]() if started is None else started.result()

    def _start_next(self) -> None:
        while self._waiting and len(self._started) < MAX_FETCHES - 1:
            layer = self._waiting[0]
            try:
                self._started[layer] = _start(self._fetches[layer])
            except RuntimeError:  # the system has no more threads: fetch it when it is asked for
                return
            self._waiting.popleft()


def _start(fetch: Callable[[], bytes]) -> Future[bytes]:
    from concurrent.futures import Future  # noqa: PLC0415 - 4 ms, and one layer does not need it

    future: Future[bytes] = Future()

    def run() -> None:
        try:
            future.set_result(fetch())
        except BaseException as error:
            future.set_exception(error)

    # Python waits for the threads of a ThreadPoolExecutor before it exits, but not for daemons: an
    # interrupted program must not wait for a registry.
    Thread(target=run, name="vecache-toc", daemon=True).start()
    return future
