"""Protects: what takes long is named while it is waited for, and what does not is not."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from tests.image.registry.cases import SAMPLE, read_all
from tests.image.registry.clock import FakeTime
from tests.image.registry.server import Registry, Reply, once, serve
from tests.report.test_terminal import Terminal
from vecache import waiting as module
from vecache.errors import StoreLockedError
from vecache.image.registry.http import Deadline, RetryableError, RetryPolicy
from vecache.report.terminal import showing_waits
from vecache.store.lock import write_lock
from vecache.waiting import LOGGER, waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], bool]]:
    """Log waits at once, and yield what waits for the line that begins with a text."""
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    lines: list[str] = []
    has_come = threading.Condition()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with has_come:
                lines.append(record.getMessage())
                has_come.notify_all()

    handler = Handler()
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    monkeypatch.setattr(LOGGER, "propagate", False)
    LOGGER.setLevel(logging.INFO)

    def wait_for(text: str) -> bool:
        with has_come:
            return has_come.wait_for(lambda: any(each.startswith(text) for each in lines), 30)

    yield wait_for
    LOGGER.setLevel(logging.NOTSET)


def test_a_wait_is_logged_printable(logged: Callable[[str], bool]) -> None:
    with waiting("a lock\x1b[2J"):
        assert logged(r"waiting for a lock\x1b[2J")


def test_what_is_over_soon_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER.name)
    with waiting("nothing"):
        pass
    assert caplog.records == []


def test_without_a_listener_no_thread_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Timer", None)
    with waiting("nothing"):
        pass


def test_a_lock_is_named(logged: Callable[[str], bool], tmp_path: Path) -> None:
    path = tmp_path / "layers.lock"
    with (
        write_lock(path),
        pytest.raises(StoreLockedError),
        write_lock(path, wait_seconds=0.5),
    ):
        pytest.fail("the lock was taken twice")
    assert logged(f"waiting for the lock {path}")


def test_a_registry_is_named(logged: Callable[[str], bool]) -> None:
    with serve(Registry(SAMPLE)) as registry:
        registry.rules = [once(lambda _: Reply(503, seconds_before=0.3))]
        read_all(registry, FakeTime())
        assert logged(f"waiting for an answer of {registry.address}")


def test_a_retry_is_named_with_its_reason(logged: Callable[[str], bool]) -> None:
    def sleep(_: float) -> None:
        assert logged("waiting for a.io: too many; attempt 2 of 2 in 30 s")

    def act(_: Deadline) -> None:
        raise RetryableError("too many", 30.0)

    with pytest.raises(Exception, match="tried 2 times"):
        RetryPolicy(n_attempts=2, sleep=sleep).run(act, "a.io")


def test_a_terminal_shows_each_line_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with showing_waits():
        for _ in range(2):
            LOGGER.info("waiting for %s", "a.io")
    LOGGER.info("waiting for b.io")
    assert stream.getvalue() == "\r\x1b[Kvecache: waiting for a.io\n"


def test_a_pipe_shows_no_waits(capsys: pytest.CaptureFixture[str]) -> None:
    with showing_waits():
        LOGGER.info("waiting for a.io")
    assert capsys.readouterr().err == ""
