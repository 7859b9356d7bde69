"""Columns are counted as a terminal counts them, and colours go where they are wanted."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from vecache.report.terminal import Screen
from vecache.text import display_width

if TYPE_CHECKING:
    import pytest


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_display_width_counts_columns() -> None:
    assert display_width("abc") == 3
    assert display_width("日本語") == 6
    assert display_width("e\u0301") == 1
    assert display_width("\u2764\ufe0f") == 1  # a variation selector has combining class 0


def test_colours_only_on_a_terminal_that_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "72")
    assert Screen.of(Terminal()) == Screen(72, colour=True)
    assert Screen.of(io.StringIO()) == Screen(None, colour=False)
    assert Screen.of(None) == Screen(None, colour=False)
    monkeypatch.setenv("TERM", "dumb")
    assert Screen.of(Terminal()) == Screen(72, colour=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert Screen.of(Terminal()) == Screen(72, colour=False)


def test_colours_can_be_forced_into_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "72")
    assert Screen.of(io.StringIO()) == Screen(None, colour=True)
    assert Screen.of(Terminal()) == Screen(72, colour=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert Screen.of(io.StringIO()) == Screen(None, colour=False)


def test_paint_leaves_text_alone_without_colours() -> None:
    assert Screen(colour=True).paint("found", "green") == "\x1b[32mfound\x1b[0m"
    assert Screen(colour=True).paint("found", "") == "found"
    assert Screen().paint("found", "green") == "found"
