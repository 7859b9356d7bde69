"""Progress is shown on a terminal only, and removed at the end: none of it reaches a log."""

from __future__ import annotations

import io
from itertools import count

import pytest

from tests.report.test_terminal import Terminal
from vecache.report.terminal import Progress


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which every step takes a second."""
    seconds = count()
    monkeypatch.setattr("vecache.report.terminal.time.monotonic", lambda: float(next(seconds)))


@pytest.mark.usefixtures("slow")
def test_a_line_is_drawn_and_cleared() -> None:
    terminal = Terminal()
    with Progress("Reading\x1b", 2_000_000, unit="bytes", stream=terminal) as progress:
        progress.advance(500_000)
    drawn = terminal.getvalue()
    assert r"Reading\x1b: 500 kB of 2.00 MB, 25 %" in drawn
    assert drawn.endswith("\r\x1b[K")
    assert "\n" not in drawn


@pytest.mark.usefixtures("slow")
def test_a_pipe_gets_nothing() -> None:
    pipe = io.StringIO()
    with Progress("Reading", stream=pipe) as progress:
        progress.advance(3)
    assert progress.n_done == 3
    assert pipe.getvalue() == ""


def test_a_quick_step_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vecache.report.terminal.time.monotonic", lambda: 0.0)
    terminal = Terminal()
    with Progress("Reading", 3, stream=terminal) as progress:
        progress.advance(3)
    assert terminal.getvalue() == ""


@pytest.mark.usefixtures("slow")
def test_the_line_is_cleared_when_the_step_fails() -> None:
    terminal = Terminal()

    def interrupted_step() -> None:
        with Progress("Reading", stream=terminal) as progress:
            progress.advance()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_step()
    assert terminal.getvalue().endswith("Reading: 1\r\x1b[K")


@pytest.mark.usefixtures("slow")
def test_the_line_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    terminal = Terminal()
    with Progress("A label that is much too long", stream=terminal) as progress:
        progress.advance()
    assert terminal.getvalue() == "\r\x1b[KA label t\r\x1b[K"


def test_a_step_that_counts_itself_says_where_it_is() -> None:
    progress = Progress("Reading")
    progress.advance_to(3, 12)
    assert progress.line() == "Reading: 3 of 12, 25 %"
