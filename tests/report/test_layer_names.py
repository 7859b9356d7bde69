"""Names stand beside ids, are safe to show, and leave the figures of a narrow screen in place."""

from __future__ import annotations

import pytest

from vecache.report.layer_names import command_column, name_columns, render_named
from vecache.report.terminal import Column, Screen
from vecache.store.names import LayerNames
from vecache.text import display_width

COLUMNS = (Column("LAYER"), Column("BYTES", "right"), Column("TAGS", "right"))
ROWS = [("dd95d764c505", "1.44 MB", 405), ("3492096ae743", "1.19 MB", 173), ("in all", "2 MB", 7)]
NAMES = [
    LayerNames(("host/a/base:latest", "host/a/app:latest"), "/bin/sh -c apt-get update"),
    LayerNames(("host/a/app:latest",), "COPY dir:" + "0f" * 32 + " in /日本語"),
]


def test_the_smallest_image_and_the_instruction_are_shown() -> None:
    assert render_named(COLUMNS, ROWS, name_columns(NAMES), Screen()).splitlines() == [
        "LAYER           BYTES  TAGS  IMAGES   CREATED BY",
        "dd95d764c505  1.44 MB   405  base +1  RUN apt-get update",
        "3492096ae743  1.19 MB   173  app      COPY dir in /日本語",
        "in all           2 MB     7",
    ]


def test_without_names_there_is_no_column() -> None:
    names = [LayerNames(), LayerNames((), "/bin/sh")]
    text = render_named(COLUMNS, ROWS, name_columns(names), Screen())
    assert text.splitlines()[0] == "LAYER           BYTES  TAGS"
    names[1] = LayerNames(("a",))
    text = render_named(COLUMNS, ROWS, name_columns(names), Screen())
    assert [line[29:] for line in text.splitlines()] == ["IMAGES", "-", "a", ""]


@pytest.mark.parametrize("width", [*range(40, 70), 80])
def test_other_columns_give_way_to_names(width: int) -> None:
    text = render_named(
        COLUMNS, ROWS, name_columns(NAMES), Screen(width), optional=("TAGS", "BYTES")
    )
    assert max(map(display_width, text.splitlines())) <= width
    title, *_, last = text.splitlines()
    left_out = [name for name in ("TAGS", "BYTES") if name not in title]
    assert left_out == ([] if width >= 54 else ["TAGS"] if width >= 48 else ["TAGS", "BYTES"])
    assert (last == f"Not shown at this width: {', '.join(left_out)}") == bool(left_out)


def test_what_others_wrote_is_escaped_and_cut() -> None:
    column = command_column(["RUN \x1b[2J" + "x" * 10_000, "\x1b]0;a\x07"])
    assert column.cells[0] == "RUN \\x1b[2J" + "x" * 68 + "…"
    assert column.cells[1] == "\\x1b]0;a\\x07"
    names = [LayerNames(("\x1b[31m",), "")]
    assert "\x1b" not in render_named(COLUMNS, ROWS, name_columns(names), Screen())
