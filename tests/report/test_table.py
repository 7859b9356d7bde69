"""Tables must line up, whatever is in them, and fit where they can."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.report.terminal import (
    Cell,
    Column,
    Screen,
    human_bytes,
    human_share,
    render_facts,
    render_table,
)
from vecache.text import display_width, wrap_lines

DIGEST = "sha256:" + "ab" * 32
COLUMNS = [
    Column("DIGEST", truncate="end"),
    Column("PATH", truncate="start"),
    Column("STATE", styles={"found": "green"}),
    Column("BYTES", "right"),
]


def test_cells_line_up_and_numbers_stand_right() -> None:
    text = render_table(
        COLUMNS, [["a", "日本", "found", 1234567], ["bcd", b"x\xff", "no", None]], Screen()
    )
    assert text.splitlines() == [
        "DIGEST  PATH   STATE      BYTES",
        "a       日本   found  1,234,567",
        r"bcd     x\xff  no             -",
    ]


def test_no_rows_leave_the_titles() -> None:
    assert render_table(COLUMNS, [], Screen()) == "DIGEST  PATH  STATE  BYTES"


def test_a_narrow_screen_shortens_digests_and_paths_only() -> None:
    rows: list[list[Cell]] = [[DIGEST, "usr/share/doc/" * 5 + "copyright", "found", 10**9]]
    line = render_table(COLUMNS, rows, Screen(80)).splitlines()[1]
    assert display_width(line) == 80
    digest, path, state, number = line.split()
    assert digest.startswith("sha256:abab")
    assert digest.endswith("…")
    assert path.startswith("…")
    assert path.endswith("/copyright")
    assert (state, number) == ("found", "1,000,000,000")


@pytest.mark.parametrize("name", ["a" * 1_000_000, "日" * 100_000])
def test_a_name_without_end_is_cut_to_the_screen_at_once(name: str) -> None:
    line = render_table(COLUMNS, [["", name, "found", 1]], Screen(60)).splitlines()[1]
    assert 58 <= display_width(line) <= 60
    assert "…" in line


@given(st.text("aé日e\u0301\ufe0f", max_size=40), st.integers(1, 40))
def test_what_is_cut_keeps_as_much_as_the_width_holds(text: str, room: int) -> None:
    columns = (Column("PATH", truncate="start"), Column("DIGEST", truncate="end"))
    end, start = (render_table([column], [[text]], Screen(room)) for column in columns)
    width = max(8, room)
    for shown, rest in ((end.splitlines()[1:], text), (start.splitlines()[1:], text[::-1])):
        for line in filter(None, shown):
            assert display_width(line) <= width
            kept = line.strip("…")
            if kept != text.rstrip():
                more = rest[len(rest) - len(kept) - 1]  # the next character would not have fitted
                assert display_width(kept) + display_width(more) >= width


def test_a_pipe_gets_everything() -> None:
    assert DIGEST in render_table(COLUMNS, [[DIGEST, "p" * 500, "found", 1]], Screen())


def test_colours_take_no_room() -> None:
    rows: list[list[Cell]] = [["a", "b", "found", 1], ["a", "b", "missing", 22]]
    painted = render_table(COLUMNS, rows, Screen(colour=True))
    assert "\x1b[32mfound\x1b[0m" in painted
    assert re.sub(r"\x1b\[\d+m", "", painted) == render_table(COLUMNS, rows, Screen())


@given(
    st.lists(st.tuples(st.text(), st.binary(), st.text(), st.integers()), max_size=4),
    st.integers(1, 100),
)
def test_any_cells_give_one_printable_line_a_row_or_one_block(
    rows: list[tuple[str, bytes, str, int]], width: int
) -> None:
    text = render_table(COLUMNS, rows, Screen(width))
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines)
    if lines[0].split() == [column.title for column in COLUMNS]:
        assert len(lines) == len(rows) + 1
        assert max(map(display_width, lines)) <= width or not rows
    else:
        assert len(text.split("\n\n")) == len(rows)


def test_titles_break_before_a_row_becomes_a_block() -> None:
    columns = [Column("LAYER"), Column("FILES REUSED", "right"), Column("PATH", truncate="start")]
    rows: list[list[Cell]] = [["abc", "1/2", "a/b"], ["d", "33/44", ""]]
    assert render_table(columns, rows, Screen(20)).splitlines() == [
        "        FILES",
        "LAYER  REUSED  PATH",
        "abc       1/2  a/b",
        "d       33/44",
    ]
    assert render_table(columns, rows, Screen(17)).splitlines() == [
        "LAYER         abc",
        "FILES REUSED  1/2",
        "PATH          a/b",
        "",
        "LAYER         d",
        "FILES REUSED  33/44",
    ]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("without a gap it goes on below", ["without a gap it", "goes on below"]),
        (
            "Wire:  it goes on behind the gap",
            ["Wire:  it goes", "       on behind", "       the gap"],
        ),
        ("  indented: it stays so", ["  indented: it", "  stays so"]),
        ("it would be of 4.66 MB then", ["it would be of", "4.66 MB then"]),
        ("\x1b[1mPainted words\x1b[0m are wide", ["\x1b[1mPainted words\x1b[0m", "are wide"]),
        ("A  TABLE  IS  LEFT  ALONE", ["A  TABLE  IS  LEFT  ALONE"]),
        ("awordthatiswiderthanthescreen", ["awordthatiswiderthanthescreen"]),
    ],
)
def test_long_lines_break_at_words(line: str, wanted: list[str]) -> None:
    assert wrap_lines(line, 16).split("\n") == wanted
    assert wrap_lines(line, None) == line


def test_facts_line_up() -> None:
    text = render_facts([("file", "a\x1b"), ("n tags", 1234)], Screen())
    assert text.splitlines() == [r"file    a\x1b", "n tags  1,234"]


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (None, "-"),
        (-1_500, "-1.50 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (1_509_000_000, "1.51 GB"),
        (2**63 - 1, "9.22 EB"),
        (10**24, "1000000 EB"),
    ],
)
def test_human_bytes_are_decimal_with_three_digits(n_bytes: int | None, text: str) -> None:
    assert human_bytes(n_bytes) == text


def test_an_unknown_share_is_a_dash() -> None:
    assert human_share(None) == "-"
