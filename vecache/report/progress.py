"""What does a long step say while it runs? One line on stderr, on a terminal only.

The line appears when a step has taken a while, is redrawn a few times a second, and is gone when
the step ends, however it ends. In a pipe, a log or a notebook nothing is written at all.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Literal, TypeVar

from vecache.report.table import human_bytes
from vecache.report.terminal import Screen
from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self, TextIO

__all__ = ["Progress", "track"]

Item = TypeVar("Item")

_SECONDS_BETWEEN = 0.1
_CLEAR = "\r\x1b[K"


class Progress:
    """A step that says how far it is; a context manager.

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
        """Count what was done."""
        self.n_done += n
        now = time.monotonic()
        if self._width is not None and now >= self._next_drawing:
            self._next_drawing = now + _SECONDS_BETWEEN
            self._is_drawn = True
            self._stream.write(_CLEAR + self.line()[: self._width - 1])
            self._stream.flush()

    def advance_to(self, n_done: int, total: int) -> None:
        """Say how far the step is, where it counts itself."""
        self._total = total
        self.advance(n_done - self.n_done)

    def line(self) -> str:
        """Say how far the step is."""
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


def track(
    items: Iterable[Item], label: str, total: int | None = None, *, stream: TextIO | None = None
) -> Iterator[Item]:
    """Yield items and say how many have been done."""
    with Progress(label, total, stream=stream) as progress:
        for item in items:
            yield item
            progress.advance()
