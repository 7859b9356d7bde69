"""Define what all pictures have in common: size, title, colours, labels, and how they are saved.

Axes have a fixed position in inches from the top left corner, so that labels fit at 5 rows and at
200, and the layout does not depend on font metrics. pyplot and its global state are never used.

The same arrays give the same bytes: SVG ids come from a fixed salt, and files hold no date. Text in
an SVG stays text. The colours are from the palette of Okabe and Ito, safe for colour blindness.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from matplotlib.axes import Axes

__all__ = [
    "BLUE",
    "FONT_SIZE",
    "INK",
    "MUTED",
    "ORANGE",
    "PALE",
    "PLAIN_TEXT",
    "Picture",
    "bytes_text",
    "labelled_rows",
    "show_bytes",
    "text_inches",
]

INK, MUTED, PALE = "#222222", "#767676", "#e6e6e6"
ORANGE, BLUE = "#e69f00", "#0072b2"
FONT_SIZE = 9.0
PLAIN_TEXT: dict[str, Any] = {"parse_math": False}  # untrusted text: "$" must not begin a formula

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
    """A drawing that displays itself in a notebook and can be saved.

    Parameters
    ----------
    width, height : float
        Inches.
    title : str
        What the picture shows.
    note : str
        A second line: how to read it, and in which units.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
        The drawing, which can still be changed.
    title : str
        What the picture shows.
    """

    __slots__ = ("figure", "title")

    def __init__(self, width: float, height: float, title: str, note: str) -> None:
        self.title = title
        self.figure = Figure(figsize=(width, height), facecolor="white")
        style = {"va": "top", "color": INK, **PLAIN_TEXT}
        x = _MARGIN / width
        self.figure.text(x, 1 - 0.15 / height, title, fontsize=12, weight="bold", **style)
        self.figure.text(x, 1 - 0.42 / height, note, fontsize=FONT_SIZE, **style)

    def add_axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes without ticks and frame, in inches from the top left corner."""
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
        """Write the picture to a binary file, as "svg" or "png"."""
        if form not in _METADATA:
            raise ValueError(f"form: found {form!r}, wanted 'svg' or 'png'")
        with mpl.rc_context(_STYLE), warnings.catch_warnings():
            # Characters that the font lacks are drawn as boxes; an SVG keeps the text.
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            self.figure.savefig(file, format=form, dpi=_DOTS_PER_INCH, metadata=_METADATA[form])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the picture.

        Parameters
        ----------
        path : path-like
            Ends in `.svg` or `.png`.

        Raises
        ------
        ValueError
            If it has another ending.
        OSError
            If it cannot be written.
        """
        buffer = BytesIO()  # a file is only created once the picture is complete
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
    """Format a number of bytes with a decimal unit.

    Examples
    --------
    >>> [bytes_text(n) for n in (0, 999, 77_812_345)]
    ['0 B', '999 B', '77.8 MB']
    """
    return EngFormatter("B", places=0 if n_bytes < 1000 else 1)(n_bytes)


def show_bytes(axes: Axes, which: Literal["x", "y"]) -> None:
    """Give an axis of bytes a few ticks with units, and pale grid lines."""
    axis, n_ticks = (axes.xaxis, 2) if which == "x" else (axes.yaxis, 4)
    axis.set_major_locator(MaxNLocator(n_ticks, min_n_ticks=2))
    axis.set_major_formatter(EngFormatter("B"))
    axes.grid(axis=which, color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)


def text_inches(texts: Sequence[str], font_size: float = FONT_SIZE) -> float:
    """Return an upper bound of the width of texts, without font metrics."""
    return 0.62 * font_size / _POINTS_PER_INCH * max(map(len, texts), default=0)


def labelled_rows(n_rows: int, pitch: float, min_pitch: float) -> range:
    """Choose the rows that get a label: all, or each second, third and so on.

    Examples
    --------
    >>> list(labelled_rows(5, 0.3, 0.1)), list(labelled_rows(5, 0.06, 0.1))
    ([0, 1, 2, 3, 4], [0, 2, 4])
    """
    step = max(1, -int(-min_pitch // pitch)) if pitch > 0 else 1
    return range(0, n_rows, step)
