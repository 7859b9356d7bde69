"""Protects work in blocks: each is done once, by any number of threads, and errors come out."""

from __future__ import annotations

import os
import threading
import time

import pytest

from vecache import threads
from vecache.threads import map_blocks, thread_count


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.parametrize("n_threads", [1, 2, 8])
@pytest.mark.parametrize("n_rows", [0, 1, 7, 8, 100])
def test_each_block_is_done_once_and_results_are_in_order(n_threads: int, n_rows: int) -> None:
    found = map_blocks(lambda block: list(range(n_rows))[block], n_rows, 7, n_threads)
    assert [row for block in found for row in block] == list(range(n_rows))
    assert len(found) == -(-n_rows // 7)


def test_several_threads_work_at_once() -> None:
    both = threading.Barrier(3, timeout=10)
    assert len(map_blocks(lambda _: both.wait(), 3, 1, 3)) == 3


@pytest.mark.parametrize("n_threads", [1, 2, 8])
def test_an_error_in_any_thread_is_raised_and_ends_the_work(n_threads: int) -> None:
    done = []

    def work(block: slice) -> None:
        if block.start == 3:
            raise ValueError("block 3")
        time.sleep(0.002)
        done.append(block.start)

    with pytest.raises(ValueError, match="block 3"):
        map_blocks(work, 1000, 1, n_threads)
    assert len(done) < 100
    assert threading.active_count() == len(threading.enumerate())
    assert not [each for each in threading.enumerate() if each.name == "vecache-block"]


def test_work_is_done_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "Thread", NoThread)
    assert map_blocks(lambda block: block.start, 5, 1, 4) == [0, 1, 2, 3, 4]


def test_the_number_of_threads_is_asked_for_or_set_or_one_a_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VECACHE_THREADS", raising=False)
    assert thread_count() == 8
    assert [thread_count(n) for n in (1, 3, 99)] == [1, 3, 8]
    for value, wanted in {"3": 3, "99": 8, "0": 8, "": 8, "-1": 8, "x": 8, "9" * 5000: 8}.items():
        monkeypatch.setenv("VECACHE_THREADS", value)
        assert thread_count() == wanted
        assert thread_count(2) == 2


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_number_below_one_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match="wanted at least 1"):
        thread_count(wrong)


@pytest.mark.parametrize("wrong", [True, 2.0, "2"])
def test_what_is_not_a_number_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="wanted a number or None"):
        thread_count(wrong)  # type: ignore[arg-type]
