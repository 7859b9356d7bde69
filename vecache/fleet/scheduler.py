"""Run tasks on the workers of a Dask scheduler (`distributed`, extra `cluster`), as plain futures.

When a worker dies, what it was doing or had not handed over is done again by others, so nothing
changes in the results, as long as the function gives the same for the same task. A task that runs
there when the run ends runs on, and what it returns is dropped.

Workers need this version of vecache, and the same files under the same paths.
"""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from vecache.errors import MissingExtraError, VecacheError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Self

    from distributed import Future

__all__ = ["Scheduler"]

_CONNECT_SECONDS: Final = 5
_RETRIES: Final = 3  # of a task that fails with an error that is not ours, as of a full disk
_CHECK_SECONDS: Final = 5
_IDLE_SECONDS: Final = 60  # without any worker; one that was killed is started again within seconds


class Scheduler:
    """The workers of a Dask scheduler while a `with` statement runs."""

    def __init__(self, address: str, call: Callable[[Any, Any], Any], shared: Any) -> None:
        self._address = address
        self._call = call
        self._shared = shared
        self._version = metadata.version("vecache")

    def __enter__(self) -> Self:
        distributed = _import_distributed()
        try:
            _greet(self._address, distributed)
            with warnings.catch_warnings(action="ignore"):  # of versions: ours is checked below
                self._client = distributed.Client(
                    self._address, timeout=_CONNECT_SECONDS, set_as_default=False
                )
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise WorkerError(
                f"{self._address}: no Dask scheduler answers ({reason}); is `dask scheduler` "
                "running there, and the port open and not that of its dashboard?"
            ) from error
        try:
            self._begin()
        except BaseException:
            self._client.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()  # the scheduler forgets its futures, and cancels those that wait

    def _begin(self) -> None:
        """Wait for workers, check what they have, and send them what all tasks need."""
        try:
            self._client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
        except TimeoutError:
            raise WorkerError(
                f"{self._address}: the scheduler has no workers; start some: "
                f"`dask worker {self._address}`"
            ) from None
        found = self._client.run(metadata.version, "vecache", on_error="return")
        for worker, version in sorted(found.items()):
            is_gone = isinstance(version, OSError)
            if version != self._version and not is_gone:
                raise self._other_version(worker, version)
        self._shared_there = (
            None
            if self._shared is None
            else self._client.scatter([self._shared], broadcast=True, hash=False)[0]
        )
        self._last_seen = self._next_check = 0.0
        self.count()

    def count(self) -> int:
        """Return the number of threads of all workers, as it was seconds ago."""
        now = time.monotonic()
        if now >= self._next_check:
            with self._lost():
                n_threads: int = sum(self._client.nthreads().values())
            if n_threads:
                self._n_threads, self._last_seen = n_threads, now
            elif now - self._last_seen > _IDLE_SECONDS:
                raise WorkerError(f"{self._address}: all workers are gone; start some again")
            self._next_check = now + _CHECK_SECONDS
        return self._n_threads

    def submit(self, task: Any) -> Future[Any]:
        """Hand a task over."""
        work = _Work(self._version, self._call, task)
        with self._lost():
            future: Future[Any] = self._client.submit(
                work, self._shared_there, retries=_RETRIES, pure=False
            )
        return future

    def result(self, future: Future[Any]) -> Any:
        """Wait for a result, as long as there are workers."""
        seconds = float(_CHECK_SECONDS)
        while True:
            try:
                with self._lost(future):
                    result = future.result(timeout=seconds)
            except TimeoutError:
                if future.status == "error":  # the function's own
                    raise
                self.count()
                seconds *= 2  # a large result takes its time
            else:
                if isinstance(result, _Failure):
                    raise result.error
                return result

    @contextmanager
    def _lost(self, future: Future[Any] | None = None) -> Iterator[None]:
        """Turn what a lost scheduler or worker causes into an error that says so."""
        from distributed import CancelledError, KilledWorker  # noqa: PLC0415 - not always there

        try:
            yield
        except KilledWorker as error:
            raise WorkerError(
                f"{self._address}: several workers died of a task, the last of them "
                f"{error.last_worker.address}; do they have enough memory?"
            ) from error
        except Exception as error:
            is_own = future is not None and future.status == "error"  # raised by the task
            is_lost = isinstance(error, (CancelledError, OSError)) or (
                self._client.status != "running"
            )
            if is_own or not is_lost or isinstance(error, TimeoutError):
                raise
            reason = getattr(error, "reason", None) or error
            raise WorkerError(
                f"{self._address}: the scheduler, or what workers had, is lost ({reason})"
            ) from error

    def _other_version(self, worker: str, found: object) -> WorkerError:
        version = found if isinstance(found, str) else "none"
        return WorkerError(
            f"{self._address}: vecache on worker {worker}: found {version}, wanted "
            f"{self._version} as here; install it there"
        )


class _Failure:
    """A `VecacheError` as a result: the same task would fail in the same way, so no retries."""

    def __init__(self, error: VecacheError) -> None:
        self.error = error


class _Work:
    """A task, with what a worker needs to run it."""

    def __init__(self, version: str, call: Callable[[Any, Any], Any], task: Any) -> None:
        self._version = version
        self._call = call
        self._task = task

    def __call__(self, shared: Any) -> Any:
        found = metadata.version("vecache")  # a worker that came late has not been asked for it
        if found != self._version:
            error = f"vecache on a worker: found {found}, wanted {self._version}"
            return _Failure(WorkerError(error))
        try:
            return self._call(shared, self._task)
        except VecacheError as error:
            return _Failure(error)


def _greet(scheduler: str, distributed: ModuleType) -> None:
    """Connect for a moment: a client would wait for ever for what is not a scheduler to answer."""
    import asyncio  # noqa: PLC0415 - slow, and not always needed
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    async def greet() -> None:
        arguments = distributed.Security().get_connection_args("client")
        comm = await distributed.comm.connect(scheduler, timeout=_CONNECT_SECONDS, **arguments)
        await comm.close()

    async def greet_in_time() -> None:
        await asyncio.wait_for(greet(), _CONNECT_SECONDS + 1)

    with ThreadPoolExecutor(1) as thread:  # in a notebook this one has a loop that runs
        thread.submit(asyncio.run, greet_in_time()).result()


def _import_distributed() -> ModuleType:
    """Import `distributed`, without the lines it logs to stderr, unless it has been imported."""
    try:
        import dask  # noqa: PLC0415

        names = ("distributed", "distributed.client", "tornado.application")
        quiet = dict.fromkeys(names, "critical")  # the last one fails when a call is interrupted
        with dask.config.set({"logging": quiet}):
            import distributed  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "a cluster needs distributed: pip install 'vecache[cluster]'"
        ) from error
    return distributed
