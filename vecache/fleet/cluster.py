"""Run independent tasks here, in local processes, or on the workers of a Dask cluster.

`run_tasks` calls one function for each task and gives the results in the order of the tasks:

1. A task is taken from its iterable only when there is room: at most `TASKS_PER_WORKER` tasks for
   each process or thread are on their way, finished ones whose turn has not come included. So much
   memory it takes here; on a worker, that of the tasks it runs and of the results not yet fetched.
2. What all tasks need (`shared`) goes to each worker once, not with each task.
3. An error of the function ends the run: tasks that have not started are cancelled, local processes
   are ended. A `VecacheError` of a task is raised as it was; any other error too.

On a cluster (`distributed`, extra `cluster`) tasks are plain futures. When a worker dies, what it
was doing or had not handed over is done again by others, so nothing changes in the results, as long
as the function gives the same for the same task. A task that has already been running there when
the run ends runs on; what it returns is dropped.

A scheduler and its workers are trusted: functions, tasks and results are sent as pickles, which can
run any code, on the workers and here. Name only a scheduler of your own, in a network of your own.
"""

from __future__ import annotations

import re
import time
import warnings
from collections import deque
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from vecache.errors import MissingExtraError, VecacheError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from types import ModuleType
    from typing import Self

    from distributed import Future

__all__ = ["TASKS_PER_WORKER", "check_scheduler", "run_tasks"]

TASKS_PER_WORKER: Final = 4
"""Tasks on their way for each worker: one runs, one waits, two more wait for their turn."""

_CONNECT_SECONDS: Final = 5
_RETRIES: Final = 3  # of a task that fails with an error that is not ours, as of a full disk
_CHECK_SECONDS: Final = 5
_IDLE_SECONDS: Final = 60  # without any worker; one that was killed is started again within seconds
_SCHEDULER: Final = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[\w.-]+):[0-9]{1,5}", re.ASCII)

_Result = TypeVar("_Result")


def run_tasks(
    function: Callable[..., _Result],
    tasks: Iterable[Any],
    *,
    shared: Any = None,
    scheduler: str | None = None,
    processes: int | None = None,
    progress: Callable[[], object] | None = None,
) -> Generator[_Result, None, None]:
    """Call a function for each task, and give the results in the order of the tasks.

    Parameters
    ----------
    function : callable
        Called as `function(task)`, or `function(shared, task)` where `shared` is given. For other
        processes it has to be a function of a module, with arguments and results that pickle.
    tasks : iterable
        Taken one by one, as there is room for them.
    shared : object, optional
        What all tasks need; sent once to each worker.
    scheduler : str, optional
        Address of a Dask scheduler, `tcp://HOST:PORT`.
    processes : int, optional
        Number of local processes; at most one a core is used. One is this process itself, as is the
        default.
    progress : callable, optional
        Called after each result.

    Returns
    -------
    generator
        The results. Nothing runs until the first of them is asked for. Closing it ends
        the run.

    Raises
    ------
    ValueError
        If `scheduler` is not an address, `processes` is less than 1, or both are given.
    WorkerError
        While iterating: if the scheduler cannot be reached or has no workers, a worker has another
        version of vecache, a local process dies, or a task ends worker after worker.
    MissingExtraError
        While iterating: if `distributed` is not installed.

    Examples
    --------
    >>> list(run_tasks(len, ["a", "bcd"]))
    [1, 3]
    """
    if scheduler is not None and processes is not None:
        raise ValueError("found both a scheduler and a number of processes, wanted one of them")
    if scheduler is not None:
        check_scheduler(scheduler)
    if processes is not None and processes < 1:
        raise ValueError(f"processes: found {processes}, wanted at least 1")
    call = _Call(function, has_shared=shared is not None)
    if scheduler is not None:
        return _in_order(_Cluster(scheduler, call, shared), tasks, progress)
    if processes is not None and processes > 1:
        from vecache.fleet.processes import Processes  # noqa: PLC0415 - slow, and not always needed

        return _in_order(Processes(processes, call, shared), tasks, progress)
    return _one_by_one(call, shared, tasks, progress)


def check_scheduler(address: str) -> str:
    """Return the address of a scheduler; ValueError if it is not one."""
    if not _SCHEDULER.fullmatch(address):
        raise ValueError(f"found {address!r:.80}, wanted tcp://HOST:PORT")
    return address


class _Call:
    """Calls the function with what all tasks need, where there is something."""

    def __init__(self, function: Callable[..., Any], *, has_shared: bool) -> None:
        self._function = function
        self._has_shared = has_shared

    def __call__(self, shared: Any, task: Any) -> Any:
        return self._function(shared, task) if self._has_shared else self._function(task)


class _Workers(Protocol):
    """Workers while a `with` statement runs; leaving it by an error ends what they do."""

    def __enter__(self) -> Self: ...
    def __exit__(self, error: object, /, *_: object) -> None: ...

    def count(self) -> int:
        """Return how many there are; they may come and go."""

    def submit(self, task: Any) -> Any:
        """Hand a task over, and return its future."""

    def result(self, future: Any) -> Any:
        """Wait for a result."""


def _one_by_one(
    call: _Call, shared: Any, tasks: Iterable[Any], progress: Callable[[], object] | None
) -> Generator[Any, None, None]:
    for task in tasks:
        yield call(shared, task)
        if progress is not None:
            progress()


def _in_order(
    workers: _Workers, tasks: Iterable[Any], progress: Callable[[], object] | None
) -> Generator[Any, None, None]:
    pending: deque[Any] = deque()

    def oldest() -> Any:
        result = workers.result(pending.popleft())
        if progress is not None:
            progress()
        return result

    with workers:
        for task in tasks:
            pending.append(workers.submit(task))
            while len(pending) >= TASKS_PER_WORKER * workers.count():
                yield oldest()
        while pending:
            yield oldest()


class _Cluster:
    """The workers of a Dask cluster."""

    def __init__(self, scheduler: str, call: _Call, shared: Any) -> None:
        self._scheduler = scheduler
        self._call = call
        self._shared = shared
        self._version = metadata.version("vecache")

    def __enter__(self) -> Self:
        distributed = _import_distributed()
        try:
            _greet(self._scheduler, distributed)
            with warnings.catch_warnings(action="ignore"):  # of versions: ours is checked below
                self._client = distributed.Client(
                    self._scheduler, timeout=_CONNECT_SECONDS, set_as_default=False
                )
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise WorkerError(
                f"{self._scheduler}: no Dask scheduler answers ({reason}); is `dask scheduler` "
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
                f"{self._scheduler}: the scheduler has no workers; start some: "
                f"`dask worker {self._scheduler}`"
            ) from None
        found = self._client.run(metadata.version, "vecache", on_error="return")
        for worker, version in sorted(found.items()):
            if version != self._version:
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
                raise WorkerError(f"{self._scheduler}: all workers are gone; start some again")
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
                f"{self._scheduler}: several workers died of a task, the last of them "
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
                f"{self._scheduler}: the scheduler, or what workers had, is lost ({reason})"
            ) from error

    def _other_version(self, worker: str, found: object) -> WorkerError:
        version = found if isinstance(found, str) else "none"
        return WorkerError(
            f"{self._scheduler}: vecache on worker {worker}: found {version}, wanted "
            f"{self._version} as here; install it there"
        )


class _Failure:
    """A `VecacheError` as a result: the same task would fail in the same way, so no retries."""

    def __init__(self, error: VecacheError) -> None:
        self.error = error


class _Work:
    """A task, with what a worker needs to run it."""

    def __init__(self, version: str, call: _Call, task: Any) -> None:
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

        quiet = {"distributed": "critical", "distributed.client": "critical"}
        with dask.config.set({"logging": quiet}):
            import distributed  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "a cluster needs distributed: pip install 'vecache[cluster]'"
        ) from error
    return distributed
