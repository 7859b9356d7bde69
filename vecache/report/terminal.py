"""What can be put on a terminal, and how much room it takes there.

Paths, image names and ids come from files of strangers. A control character among them could move
the cursor, recolour the screen or hide a line, so whatever is printed goes through `printable`
first. Japanese takes two columns a character and an accent none, which `display_width` knows.

Does not write anything, and imports nothing heavy.
"""

from __future__ import annotations

import os
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["Screen", "display_width"]

_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}


class Screen(NamedTuple):
    """What the place where text goes can do."""

    width: int | None = None  # columns of a line; None for a file or a pipe, which get everything
    colour: bool = False  # whether `paint` does anything

    @classmethod
    def of(cls, stream: TextIO | None) -> Screen:
        """Look at a stream."""
        if stream is None or not stream.isatty():
            return cls()
        from shutil import get_terminal_size  # noqa: PLC0415 - slow, and only needed here

        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return cls(get_terminal_size().columns, not plain)

    def paint(self, text: str, style: str) -> str:
        """Colour a text, if colours are on."""
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self.colour and style else text


def display_width(text: str) -> int:
    """Count the columns that a printable text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):  # some of them combine with class 0
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
