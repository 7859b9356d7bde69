"""How does a result look to people? Aligned columns, and numbers with units.

1. Every cell becomes a printable text; numbers get thousands separators, None a dash.
2. Columns are as wide as their widest cell. Where the screen is narrower, the widest of the columns
   that may be shortened gives way: digests keep their start, paths their end.
3. Numbers stand right, texts left, two blanks between them.

Bytes are in decimal units with three digits, as Podman shows them: 1 MB is 1,000,000 bytes.
Loops over the rows it prints: a table that nobody can read to its end has `-o` instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from vecache.report.terminal import display_width
from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vecache.report.terminal import Screen

__all__ = [
    "Cell",
    "Column",
    "count",
    "human_bytes",
    "human_share",
    "render_facts",
    "render_table",
]

Cell: TypeAlias = str | bytes | int | None
"""What stands in a table: a text, a number, or nothing."""

_GAP = "  "
_NARROWEST = 8
_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str  # in capitals, as container tools do
    align: Literal["left", "right"] = "left"  # right for numbers
    # what stays of a cell where the screen is too narrow
    keep: Literal["all", "start", "end"] = "all"
    styles: Mapping[str, str] = field(default_factory=dict)  # cell text -> style of `Screen.paint`


def render_table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], screen: Screen) -> str:
    """Lay out a table.

    Examples
    --------
    >>> from vecache.report.terminal import Screen
    >>> columns = [Column("LAYER"), Column("TAGS", "right")]
    >>> print(render_table(columns, [["base", 1234], ["app", None]], Screen()))
    LAYER   TAGS
    base   1,234
    app        -
    """
    cells = [[_cell_text(cell) for cell in row] for row in rows]
    titles = [column.title for column in columns]
    widths = [max(map(display_width, texts)) for texts in zip(titles, *cells, strict=True)]
    if screen.width is not None:
        widths = _fit(columns, widths, screen.width)
    lines = [_line(columns, widths, [screen.paint(t, "bold") for t in titles], titles)]
    for row in cells:
        texts = [_shorten(*item) for item in zip(row, widths, columns, strict=True)]
        painted = [
            screen.paint(text, column.styles.get(cell, ""))
            for text, cell, column in zip(texts, row, columns, strict=True)
        ]
        lines.append(_line(columns, widths, painted, texts))
    return "\n".join(lines)


def render_facts(facts: Iterable[tuple[str, Cell]], screen: Screen) -> str:
    """Lay out names and values, one pair a line."""
    pairs = [(name, _cell_text(value)) for name, value in facts]
    width = max((len(name) for name, _ in pairs), default=0)
    titles = (screen.paint(name.ljust(width), "bold") for name, _ in pairs)
    lines = (f"{title}{_GAP}{text}" for title, (_, text) in zip(titles, pairs, strict=True))
    return "\n".join(lines)


def human_bytes(n_bytes: int | None) -> str:
    """Write a number of bytes for people.

    Examples
    --------
    >>> [human_bytes(n) for n in (0, 999, 1000, 77_812_345, 999_600)]
    ['0 B', '999 B', '1.00 kB', '77.8 MB', '1.00 MB']
    """
    if n_bytes is None:
        return "-"
    if abs(n_bytes) < 1000:
        return f"{n_bytes} B"
    value, step = n_bytes / 1000, 0
    while abs(value) >= 999.5 and step < len(_UNITS) - 1:
        value, step = value / 1000, step + 1
    n_decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{n_decimals}f} {_UNITS[step]}"


def human_share(share: float | None) -> str:
    """Write a share for people.

    Examples
    --------
    >>> human_share(0.1234)
    '12.3 %'
    """
    return "-" if share is None else f"{100 * share:.1f} %"


def count(n: int, noun: str) -> str:
    """Write a number of things."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _cell_text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) else printable(cell)


def _fit(columns: Sequence[Column], widths: list[int], room: int) -> list[int]:
    """Take the columns that are too many from the widest that may give."""
    least = [max(_NARROWEST, len(column.title)) for column in columns]
    may_give = [number for number, column in enumerate(columns) if column.keep != "all"]
    widths = list(widths)
    for number in may_give:  # a name may have a million characters, a screen has not
        widths[number] = min(widths[number], max(room, least[number]))
    too_many = sum(widths) + len(_GAP) * (len(widths) - 1) - room
    for _ in range(too_many):
        number = max(may_give, key=widths.__getitem__, default=-1)
        if number < 0 or widths[number] <= least[number]:
            break
        widths[number] -= 1
    return widths


def _shorten(text: str, width: int, column: Column) -> str:
    if column.keep == "all" or display_width(text) <= width:
        return text
    n_kept, room = 0, width - 1
    for character in text if column.keep == "start" else reversed(text):
        room -= display_width(character)
        if room < 0:
            break
        n_kept += 1
    return f"{text[:n_kept]}…" if column.keep == "start" else f"…{text[len(text) - n_kept :]}"


def _line(
    columns: Sequence[Column], widths: list[int], painted: list[str], texts: list[str]
) -> str:
    """Pad by what is seen: escape sequences take no room."""
    parts = []
    for column, width, shown, text in zip(columns, widths, painted, texts, strict=True):
        padding = " " * (width - display_width(text))
        parts.append(padding + shown if column.align == "right" else shown + padding)
    return _GAP.join(parts).rstrip()
