"""Divide work on long arrays into blocks, and do them on several threads.

numpy lets other threads run while it computes, so two threads over blocks of an array take about
half of the time. Each block writes to its own part of the result: the result is the same for any
number of threads.
"""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["THREADS_VARIABLE", "map_blocks", "thread_count"]

THREADS_VARIABLE = "VECACHE_THREADS"
"""Environment variable with the number of threads, where none is passed."""

_Result = TypeVar("_Result")


def thread_count(threads: int | None = None) -> int:
    """Return how many threads to use.

    Parameters
    ----------
    threads : int, optional
        What the caller wants; by default what `VECACHE_THREADS` says, else one a core.

    Returns
    -------
    int
        From 1 to as many as this process may use cores.

    Raises
    ------
    TypeError, ValueError
        If `threads` is not a number of at least 1. A variable that is not one counts as not set.
    """
    n_cores = len(os.sched_getaffinity(0))
    if threads is None:
        value = os.environ.get(THREADS_VARIABLE, "")
        threads = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else 0
        threads = threads or n_cores
    if type(threads) is not int:
        raise TypeError(f"threads: found {threads!r:.80}, wanted a number or None")
    if threads < 1:
        raise ValueError(f"threads: found {threads}, wanted at least 1")
    return min(threads, n_cores)


def map_blocks(
    work: Callable[[slice], _Result], n_rows: int, block_rows: int, threads: int | None = None
) -> list[_Result]:
    """Call a function for each block of rows.

    Parameters
    ----------
    work : callable
        Takes a slice of rows. It runs on several threads at once.
    n_rows, block_rows : int
        How many rows there are, and how many a block has.
    threads : int, optional
        As in `thread_count`.

    Returns
    -------
    list
        What `work` returned, in the order of the blocks.

    Examples
    --------
    >>> map_blocks(lambda rows: rows.stop, 5, 2)
    [2, 4, 5]
    """
    blocks = [
        slice(start, min(start + block_rows, n_rows)) for start in range(0, n_rows, block_rows)
    ]
    if len(blocks) <= 1 and threads in (None, 1):
        return [work(block) for block in blocks]
    n_threads = min(thread_count(threads), len(blocks))
    if n_threads <= 1:
        return [work(block) for block in blocks]
    results: dict[int, _Result] = {}
    errors: list[BaseException] = []
    numbers = iter(range(len(blocks)))  # shared: each thread takes the next block

    def run() -> None:
        try:
            for number in numbers:
                if errors:
                    break
                results[number] = work(blocks[number])
        except BaseException as error:
            errors.append(error)

    # This thread works too. A pool of threads takes longer to start, and one thread more.
    others = [Thread(target=run, name="vecache-block", daemon=True) for _ in range(n_threads - 1)]
    with suppress(RuntimeError):  # the system has no more threads: those that run do it all
        for thread in others:
            thread.start()
    run()
    for thread in others:
        if thread.ident is not None:
            thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(blocks))]
