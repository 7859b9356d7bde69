"""Nothing that a file of strangers says may act on the terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.report.terminal import Screen, display_width, printable


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),  # sets the window's title
        ("a\nvecache: error: no", r"a\nvecache: error: no"),  # forges a line of ours
        ("\x9b31m", r"\x9b31m"),  # the one-byte escape sequence
        ("gpj.\u202eexe", r"gpj.\u202eexe"),  # writes from right to left
        (b"\xff\xfe", r"\xff\xfe"),
        ("\udcff", r"\xff"),
        ("a\\x2db 日本語 é", "a\\x2db 日本語 é"),
    ],
)
def test_printable_escapes_what_a_terminal_would_act_on(text: str | bytes, shown: str) -> None:
    assert printable(text) == shown


@given(st.one_of(st.text(), st.binary()))
def test_printable_gives_one_printable_line(text: str | bytes) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown


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


def test_paint_leaves_text_alone_without_colours() -> None:
    assert Screen(colour=True).paint("found", "green") == "\x1b[32mfound\x1b[0m"
    assert Screen(colour=True).paint("found", "") == "found"
    assert Screen().paint("found", "green") == "found"
