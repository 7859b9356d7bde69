"""Run independent tasks here, in local processes, or on the workers of a Dask cluster.

`run_tasks` calls one function for each task and gives the results in the order of the tasks:

1. A task is taken from its iterable only when there is room: at most `TASKS_PER_WORKER` tasks for
   each process or thread are on their way, finished ones whose turn has not come included. So much
   memory it takes here; on a worker, that of the tasks it runs and of the results not yet fetched.
2. What all tasks need (`shared`) goes to each worker once, not with each task.
3. An error of the function ends the run: tasks that have not started are cancelled, local processes
   are ended. A `VecacheError` of a task is raised as it was; any other error too.

`processes.py` and `scheduler.py` have the workers.

A scheduler and its workers are trusted: functions, tasks and results are sent as pickles, which can
run any code, on the workers and here. Name only a scheduler of your own, in a network of your own.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import Self, TypeAlias

    _Tasks: TypeAlias = Iterable[Any] | Callable[[int], Iterable[Any]]

__all__ = ["TASKS_PER_WORKER", "check_scheduler", "run_tasks"]

TASKS_PER_WORKER: Final = 4
"""Tasks on their way for each worker: one runs, one waits, two more wait for their turn."""

_SCHEDULER: Final = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[\w.-]+):[0-9]{1,5}", re.ASCII)

_Result = TypeVar("_Result")


def run_tasks(
    function: Callable[..., _Result],
    tasks: _Tasks,
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
    tasks : iterable, or callable
        Taken one by one, as there is room for them. A callable is given the number of workers, and
        returns the tasks.
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
        from vecache.fleet.scheduler import Scheduler  # noqa: PLC0415 - not always needed

        return _in_order(Scheduler(scheduler, call, shared), tasks, progress)
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
    call: _Call, shared: Any, tasks: _Tasks, progress: Callable[[], object] | None
) -> Generator[Any, None, None]:
    for task in _for_workers(tasks, 1):
        result = call(shared, task)
        if progress is not None:
            progress()
        yield result


def _in_order(
    workers: _Workers, tasks: _Tasks, progress: Callable[[], object] | None
) -> Generator[Any, None, None]:
    pending: deque[Any] = deque()

    def oldest() -> Any:
        result = workers.result(pending.popleft())
        if progress is not None:
            progress()
        return result

    with workers:
        for task in _for_workers(tasks, workers.count()):
            pending.append(workers.submit(task))
            while len(pending) >= TASKS_PER_WORKER * workers.count():
                yield oldest()
        while pending:
            yield oldest()


def _for_workers(tasks: _Tasks, n_workers: int) -> Iterable[Any]:
    return tasks(n_workers) if callable(tasks) else tasks
