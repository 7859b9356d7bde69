"""Text for a terminal: tables, numbers with units, colours and a progress line.

1. Every cell becomes printable text (`vecache.text.printable`): paths, image names and ids are
   untrusted, and a control character could move the cursor or hide a line.
2. A column is as wide as its widest cell. On a narrower screen titles take several lines, and the
   widest of the columns that may be shortened gives way: digests keep their start, paths their end.
   Where that is not enough each row becomes lines of titles and cells.
3. Widths are those on a terminal: Japanese takes two columns a character, a combining accent none.

Bytes have decimal units and three digits, as Podman shows them: 1 MB is 1,000,000 bytes.
Progress goes to stderr, and only where that is a terminal.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from vecache.text import break_words, count, display_width, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Self, TextIO

__all__ = [
    "Cell",
    "Column",
    "Progress",
    "Screen",
    "count",
    "human_age",
    "human_bytes",
    "human_share",
    "render_facts",
    "render_table",
    "showing_waits",
]

_GAP = "  "
_NARROWEST = 8
_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")
_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}


class Screen(NamedTuple):
    """Width and colours of an output stream."""

    width: int | None = None  # columns of a line; None for a file or a pipe
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO | None) -> Screen:
        """Return what a stream can show; NO_COLOR comes before FORCE_COLOR, that before TERM."""
        has_colour = bool(os.environ.get("FORCE_COLOR")) and not os.environ.get("NO_COLOR")
        if stream is None or not stream.isatty():
            return cls(None, stream is not None and has_colour)
        from shutil import get_terminal_size  # noqa: PLC0415 - slow, and only needed here

        is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return cls(get_terminal_size().columns, has_colour or not is_plain)

    def paint(self, text: str, style: str) -> str:
        """Return the text with escape sequences around it, where colours are on."""
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.colour and style else text


Cell: TypeAlias = str | bytes | int | None
"""A cell of a table; None is shown as a dash."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str  # in capitals, as container tools do
    align: Literal["left", "right"] = "left"  # right for numbers
    # which end of a cell gives way on a narrow screen
    truncate: Literal["never", "start", "end"] = "never"
    styles: Mapping[str, str] = field(default_factory=dict)  # cell text -> style of `Screen.paint`


def render_table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], screen: Screen) -> str:
    """Lay out a table.

    Examples
    --------
    >>> columns = [Column("LAYER"), Column("TAGS", "right")]
    >>> print(render_table(columns, [["base", 1234], ["app", None]], Screen()))
    LAYER   TAGS
    base   1,234
    app        -
    """
    cells = [list(map(_cell_text, column)) for column in zip(*rows, strict=True)]
    cells = cells or [[] for _ in columns]
    widths = [max(map(_width_of(texts), texts), default=0) for texts in cells]
    fitted = [max(len(column.title), width) for column, width in zip(columns, widths, strict=True)]
    if screen.width is not None and _line_width(fitted) > screen.width:
        fitted = _fit(columns, widths, screen.width)
        if any(cells) and _line_width(fitted) > screen.width:
            return _render_records(columns, cells, screen)
    heads = _render_titles(columns, fitted, screen)
    rendered = [
        _render_column(column, texts, width, screen)
        for column, texts, width in zip(columns, cells, fitted, strict=True)
    ]
    lines = chain(heads, zip(*rendered, strict=True))  # padded one by one: there may be a million
    return "\n".join(_GAP.join(line).rstrip() for line in lines)


def render_facts(facts: Iterable[tuple[str, Cell]], screen: Screen) -> str:
    """Lay out names and values, one pair per line."""
    pairs = [(name, _cell_text(value)) for name, value in facts]
    width = max((len(name) for name, _ in pairs), default=0)
    titles = (screen.paint(name.ljust(width), "bold") for name, _ in pairs)
    lines = (f"{title}{_GAP}{text}" for title, (_, text) in zip(titles, pairs, strict=True))
    return "\n".join(lines)


def human_bytes(n_bytes: int | None) -> str:
    """Format a number of bytes.

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


def human_age(seconds: float) -> str:
    """Format an age in its largest unit.

    Examples
    --------
    >>> human_age(300_000), human_age(61.5), human_age(-1)
    ('3 days', '1 minute', '0 seconds')
    """
    for n_seconds, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= n_seconds:
            return count(int(seconds) // n_seconds, unit)
    return count(max(int(seconds), 0), "second")


def human_share(share: float | None) -> str:
    """Format a share of 1 as a percentage.

    Examples
    --------
    >>> human_share(0.1234)
    '12.3 %'
    """
    return "-" if share is None else f"{100 * share:.1f} %"


def _cell_text(cell: Cell) -> str:
    if type(cell) is str and cell.isprintable():
        return cell
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) else printable(cell)


def _line_width(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _fit(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """Break titles, and narrow the widest columns that may be shortened, until lines fit."""
    words = [max(map(len, column.title.split()), default=0) for column in columns]
    least = [max(_NARROWEST, width) for width in words]
    shrinkable = [number for number, column in enumerate(columns) if column.truncate != "never"]
    fitted = list(map(max, widths, words))
    for number in shrinkable:  # bounds the loop below: a name may have a million characters
        fitted[number] = min(fitted[number], max(room, least[number]))
    for _ in range(_line_width(fitted) - room):
        number = max(shrinkable, key=fitted.__getitem__, default=-1)
        if number < 0 or fitted[number] <= least[number]:
            break
        fitted[number] -= 1
    return fitted


def _render_records(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], screen: Screen
) -> str:
    """Lay out each row as lines of a title and a cell, with a blank line between rows."""
    titles = [column.title for column in columns]
    room = max((screen.width or 0) - max(map(len, titles)) - len(_GAP), _NARROWEST)
    short = [
        [_shorten(text, room, column) for text in texts]
        for column, texts in zip(columns, cells, strict=True)
    ]
    rows = ([*zip(titles, row, strict=True)] for row in zip(*short, strict=True))
    return "\n\n".join(render_facts(filter(all, row), screen) for row in rows)


def _render_titles(
    columns: Sequence[Column], widths: Sequence[int], screen: Screen
) -> list[tuple[str, ...]]:
    """Return the lines of the titles, which end in the same line."""
    broken = [
        break_words(column.title.split(" "), width)
        for column, width in zip(columns, widths, strict=True)
    ]
    n_lines = max(map(len, broken), default=0)
    padded = [
        [
            _pad(line, screen.paint(line, "bold"), width, is_right=column.align == "right")
            for line in [""] * (n_lines - len(lines)) + lines
        ]
        for column, lines, width in zip(columns, broken, widths, strict=True)
    ]
    return [*zip(*padded, strict=True)]


def _shorten(text: str, width: int, column: Column) -> str:
    if column.truncate == "never" or display_width(text) <= width:
        return text
    n_shown, room = 0, width - 1
    for character in text if column.truncate == "end" else reversed(text):
        room -= display_width(character)
        if room < 0:
            break
        n_shown += 1
    return f"{text[:n_shown]}…" if column.truncate == "end" else f"…{text[len(text) - n_shown :]}"


def _render_column(column: Column, texts: list[str], width: int, screen: Screen) -> Iterable[str]:
    """Return the cells of a column, padded to its width."""
    is_right = column.align == "right"
    is_plain = not screen.colour and _width_of(texts) is len
    if is_plain and max(map(len, texts), default=0) <= width:
        pad = str.rjust if is_right else str.ljust  # ten thousand rows of a look-up are common
        return (pad(text, width) for text in texts)
    rendered = []
    for text in texts:
        short = _shorten(text, width, column)
        painted = screen.paint(short, column.styles.get(text, ""))
        rendered.append(_pad(short, painted, width, is_right=is_right))
    return rendered


def _pad(text: str, painted: str, width: int, *, is_right: bool) -> str:
    """Pad by the visible width: escape sequences take no room."""
    padding = " " * (width - display_width(text))
    return padding + painted if is_right else painted + padding


_SECONDS_BETWEEN = 0.1
_CLEAR = "\r\x1b[K"


def _width_of(texts: list[str]) -> Callable[[str], int]:
    """Return what counts the columns of each of these texts, the fastest that can."""
    return len if "".join(texts).isascii() else display_width


class Progress:
    """A context manager that shows how far a long step is, in one line that it removes at the end.

    Examples
    --------
    >>> with Progress("Reading TOCs", total=2) as progress:
    ...     progress.advance()
    ...     progress.advance()
    >>> progress.n_done
    2
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        *,
        unit: Literal["items", "bytes"] = "items",
        stream: TextIO | None = None,
    ) -> None:
        self.n_done = 0
        self._label = printable(label)
        self._total = total
        self._as_text = human_bytes if unit == "bytes" else "{:,}".format
        self._stream = sys.stderr if stream is None else stream
        self._width = Screen.of(self._stream).width
        self._next_drawing = time.monotonic() + _SECONDS_BETWEEN
        self._is_drawn = False

    def advance(self, n: int = 1) -> None:
        """Add to the count."""
        self.n_done += n
        now = time.monotonic()
        if self._width is not None and now >= self._next_drawing:
            self._next_drawing = now + _SECONDS_BETWEEN
            self._is_drawn = True
            self._stream.write(_CLEAR + self.line()[: self._width - 1])
            self._stream.flush()

    def advance_to(self, n_done: int, total: int) -> None:
        """Set the count and the total."""
        self._total = total
        self.advance(n_done - self.n_done)

    def line(self) -> str:
        """Return the text of the line."""
        done = self._as_text(self.n_done)
        if not self._total:
            return f"{self._label}: {done}"
        share = self.n_done * 100 // self._total
        return f"{self._label}: {done} of {self._as_text(self._total)}, {share} %"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_drawn:
            self._stream.write(_CLEAR)
            self._stream.flush()


@contextmanager
def showing_waits() -> Iterator[None]:
    """Show on stderr what is waited for, if that is a terminal; each line once."""
    if Screen.of(sys.stderr).width is None:
        yield
        return
    import logging  # noqa: PLC0415 - slow, as the next is, and only needed here

    from vecache.waiting import LOGGER  # noqa: PLC0415

    shown: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return not (text in shown or shown.add(text))  # type: ignore[func-returns-value]

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{_CLEAR}vecache: %(message)s"))
    handler.addFilter(is_new)
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(logging.NOTSET)
