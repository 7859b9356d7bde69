"""Protects screens: untrusted text never acts on a terminal and is never markup in a notebook."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.text import MAX_LABEL_CHARACTERS, html_table, printable, quoted, short_labels


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),  # sets the window's title
        ("a\nvecache: error: no", r"a\nvecache: error: no"),  # forges a message of this program
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


@given(st.binary(max_size=150))
def test_a_quoted_text_is_one_short_printable_line(text: bytes) -> None:
    assert quoted(text).isprintable()
    assert len(quoted(text)) <= 4 * 100 + 2


def test_everything_in_an_html_table_is_escaped() -> None:
    html = html_table("<i>", ["<th>"], [["<script>\x1b", b"&\xff"], [1234, None, 0.125]])
    assert "<script>" not in html
    assert "<i>" not in html
    assert r"&lt;script&gt;\x1b" in html
    assert r"&amp;\xff" in html
    assert ">1,234</td><td></td>" in html
    assert ">12.5%</td>" in html


def test_a_long_table_shows_its_start_and_says_so() -> None:
    html = html_table("all", ["n"], ([n] for n in range(100)), n_rows=100, n_shown=3)
    assert "all (the first 3 of 100 rows)" in html
    assert html.count("<tr>") == 4
    assert html_table("facts", (), [("name", 1)]).count("<tr>") == 1


@given(st.lists(st.text(max_size=60)))
def test_labels_stay_distinct_short_and_printable(labels: list[str]) -> None:
    short = short_labels(labels)
    assert len(set(short)) == len(labels)
    assert all(text.isprintable() for text in short)
    assert all(len(text) <= MAX_LABEL_CHARACTERS + len(f" ({len(labels)})") for text in short)


def test_labels_that_would_be_equal_are_numbered() -> None:
    assert short_labels(["a" * 64, "a" * 63 + "b"]) == ["a" * 12, "a" * 12 + " (2)"]


def test_folders_that_all_labels_share_are_dropped() -> None:
    assert short_labels(["localhost/x/a", "localhost/x/b/c"]) == ["a", "b/c"]
    assert short_labels(["localhost/x/a"]) == ["localhost/x/a"]


def test_without_a_limit_labels_keep_all_their_characters() -> None:
    assert short_labels(["x/" + "y" * 99, "x/b"], max_characters=None) == ["y" * 99, "b"]
