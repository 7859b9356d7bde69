"""How do labels fit beside narrow rows? Some of them are left out, evenly.

What do all pictures have in common? A size in inches, a title, colours, and how they are saved.

Axes are placed by hand, in inches from the top left corner, so that labels find room at 5 rows and
at 200, and nothing depends on what a font measures. pyplot and its global state are never used.

The same arrays give the same bytes: SVG ids come from a fixed salt, and no file has a date in it.
Text in an SVG stays text. The colours are those of Okabe and Ito, which all eyes can tell apart.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from matplotlib.axes import Axes

__all__ = [
    "ALONE",
    "FONT_SIZE",
    "INK",
    "MUTED",
    "PALE",
    "PLAIN_TEXT",
    "SHARED",
    "Picture",
    "bytes_text",
    "show_bytes",
    "text_inches",
    "thinned",
]


def thinned(n_labels: int, pitch: float, least: float) -> range:
    """Choose which rows get their label.

    Examples
    --------
    >>> list(thinned(5, 0.3, 0.1)), list(thinned(5, 0.06, 0.1))
    ([0, 1, 2, 3, 4], [0, 2, 4])
    """
    step = max(1, -int(-least // pitch)) if pitch > 0 else 1
    return range(0, n_labels, step)


INK, MUTED, PALE = "#222222", "#767676", "#e6e6e6"
ALONE, SHARED = "#e69f00", "#0072b2"
FONT_SIZE = 9.0
PLAIN_TEXT: dict[str, Any] = {"parse_math": False}
"""For texts of strangers: a dollar in a name begins no formula."""

_DOTS_PER_INCH = 110
_POINTS_PER_INCH = 72
_MARGIN = 0.2
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vecache",
    "font.family": ["DejaVu Sans"],
}
_METADATA: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "png": {"Software": None}}


class Picture:
    """A drawing that shows itself in a notebook and can be saved."""

    __slots__ = ("figure", "title")

    def __init__(self, width: float, height: float, title: str, note: str) -> None:
        self.title = title
        self.figure = Figure(figsize=(width, height), facecolor="white")
        place = {"va": "top", "color": INK, **PLAIN_TEXT}
        x = _MARGIN / width
        self.figure.text(x, 1 - 0.15 / height, title, fontsize=12, weight="bold", **place)
        self.figure.text(x, 1 - 0.42 / height, note, fontsize=FONT_SIZE, **place)

    def add_axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Make room to draw in, without ticks and frame."""
        full_width, full_height = self.figure.get_size_inches()
        box = (
            left / full_width,
            1 - (top + height) / full_height,
            width / full_width,
            height / full_height,
        )
        axes = self.figure.add_axes(box)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=FONT_SIZE, labelcolor=INK)
        axes.set(xticks=[], yticks=[])
        return axes

    def write(self, file: BinaryIO, form: str) -> None:
        """Write the picture."""
        if form not in _METADATA:
            raise ValueError(f"form: found {form!r}, wanted 'svg' or 'png'")
        with mpl.rc_context(_STYLE), warnings.catch_warnings():
            # A name in a script that the font lacks is drawn as boxes; an SVG keeps the text.
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            self.figure.savefig(file, format=form, dpi=_DOTS_PER_INCH, metadata=_METADATA[form])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the picture under a name."""
        from pathlib import Path  # noqa: PLC0415 - not for the pictures that are only shown

        buffer = BytesIO()
        self.write(buffer, Path(path).suffix[1:].lower())
        Path(path).write_bytes(buffer.getvalue())

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.write(buffer, "png")
        return buffer.getvalue()

    def __repr__(self) -> str:
        width, height = self.figure.get_size_inches()
        return f"<Picture {self.title!r}, {width:.1f} x {height:.1f} inches>"


def bytes_text(n_bytes: float) -> str:
    """Write a number of bytes on a picture.

    Examples
    --------
    >>> [bytes_text(n) for n in (0, 999, 77_812_345)]
    ['0 B', '999 B', '77.8 MB']
    """
    return EngFormatter("B", places=0 if n_bytes < 1000 else 1)(n_bytes)


def show_bytes(axes: Axes, which: Literal["x", "y"]) -> None:
    """Give an axis of bytes a few ticks with units, and pale lines across."""
    axis, n_ticks = (axes.xaxis, 2) if which == "x" else (axes.yaxis, 4)
    axis.set_major_locator(MaxNLocator(n_ticks, min_n_ticks=2))
    axis.set_major_formatter(EngFormatter("B"))
    axes.grid(axis=which, color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)


def text_inches(texts: Sequence[str], font_size: float = FONT_SIZE) -> float:
    """Say how wide texts can be at most, without measuring them."""
    return 0.62 * font_size / _POINTS_PER_INCH * max(map(len, texts), default=0)
