"""Define what all pictures have in common: size, title, colours, labels, and how they are saved.

Axes have a fixed position in inches from the top left corner, so that labels fit at 5 rows and at
200, and the layout does not depend on font metrics. pyplot and its global state are never used.

The same arrays give the same bytes: SVG ids come from a fixed salt, and files hold no date. Text in
an SVG stays text, in the fonts of the browser that shows it; its title and description are read by
screen readers. A PNG has two dots for each pixel of a plain screen, and 256 colours, which take a
third of the bytes of all. It takes characters that the usual font lacks, such as Japanese, from the
fonts of this machine; matplotlib lists these once, so fonts that are installed later are found only
when its list of fonts is deleted.

The colours are from the palette of Okabe and Ito, safe for colour blindness. Text has a contrast of
4.5 to 1 or more against what is behind it, as WCAG 2.2 asks for.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from functools import cache
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import matplotlib as mpl
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.text import Text
from matplotlib.ticker import EngFormatter, MaxNLocator
from PIL import Image

from vecache.text import display_width, printable

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

__all__ = [
    "BLUE",
    "DARK_ORANGE",
    "FONT_SIZE",
    "INK",
    "MUTED",
    "ORANGE",
    "PALE",
    "PLAIN_TEXT",
    "Picture",
    "bytes_text",
    "contrast",
    "ink_on",
    "labelled_rows",
    "show_bytes",
    "text_inches",
]

INK, MUTED, PALE = "#222222", "#767676", "#e6e6e6"
ORANGE, BLUE = "#e69f00", "#0072b2"
DARK_ORANGE = "#955d00"  # of lines and text, for which the other one is too pale
FONT_SIZE = 9.0
PLAIN_TEXT: dict[str, Any] = {"parse_math": False}  # untrusted text: "$" must not begin a formula

_PIXELS_PER_INCH = 110  # of a plain screen
_DOTS_PER_INCH = 2 * _PIXELS_PER_INCH
_POINTS_PER_INCH = 72
_MARGIN = 0.2
_TITLE_SIZE = 12
_MAX_TITLE = 120  # characters
_FONTS = (
    "DejaVu Sans",  # comes with matplotlib
    "Verdana",  # as wide as the one before
    "Noto Sans CJK JP",
    "Noto Sans JP",
    "Source Han Sans JP",
    "Hiragino Sans",
    "Yu Gothic",
    "Meiryo",
    "IPAexGothic",
    "IPAGothic",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vecache",
    "font.sans-serif": list(_FONTS),
}


class Picture:
    """A drawing that displays itself in a notebook and can be saved.

    Parameters
    ----------
    width, height : float
        Inches.
        The least that is needed: a long title or note makes it wider.
    title : str
        What the picture shows.
    note : str
        A second line: how to read it, and in which units.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
        The drawing, which can still be changed.
    title, note : str
        Both lines, which an SVG has as its title and description too.
    """

    __slots__ = ("figure", "note", "title")

    def __init__(self, width: float, height: float, title: str, note: str) -> None:
        self.title, self.note = printable(title), printable(note)
        shown = self.title
        if len(shown) > _MAX_TITLE:
            shown = f"{shown[: _MAX_TITLE - 1]}…"
        text_width = max(text_inches([shown], 1.12 * _TITLE_SIZE), text_inches([self.note]))
        width = max(width, text_width + 2 * _MARGIN)
        self.figure = Figure(figsize=(width, height), facecolor="white")
        style = {"va": "top", "color": INK, **PLAIN_TEXT}
        x = _MARGIN / width
        self.figure.text(x, 1 - 0.15 / height, shown, fontsize=_TITLE_SIZE, weight="bold", **style)
        self.figure.text(x, 1 - 0.42 / height, self.note, fontsize=FONT_SIZE, **style)

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
        if form not in ("svg", "png"):
            raise ValueError(f"form: found {form!r}, wanted 'svg' or 'png'")
        self._set_fonts(["sans-serif"] if form == "svg" else _installed_fonts())
        with mpl.rc_context(_STYLE), _quiet_fonts():
            file.write(self._svg() if form == "svg" else self._png())

    def _png(self) -> bytes:
        buffer = BytesIO()
        self.figure.savefig(buffer, dpi=_DOTS_PER_INCH, pil_kwargs={"compress_level": 1})
        dots = Image.open(buffer).convert("RGB")
        few = dots.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        result = BytesIO()
        few.save(result, "png", optimize=True, dpi=(_DOTS_PER_INCH, _DOTS_PER_INCH))
        return result.getvalue()

    def _svg(self) -> bytes:
        buffer = BytesIO()
        self.figure.savefig(buffer, format="svg", dpi=_DOTS_PER_INCH, metadata={"Date": None})
        texts = f"<title>{escape(self.title)}</title>\n <desc>{escape(self.note)}</desc>\n"
        svg = buffer.getvalue().replace(b"<svg ", b'<svg role="img" ', 1)
        return svg.replace(b"<metadata>", f"{texts} <metadata>".encode(), 1)

    def _set_fonts(self, families: list[str]) -> None:
        """Set the fonts of all texts, except where the figure was given others."""
        ours = (["sans-serif"], _installed_fonts())
        for text in self.figure.findobj(Text):
            if text.get_fontfamily() in ours:
                text.set_fontfamily(families)

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

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        buffer = BytesIO()
        self.write(buffer, "png")
        width, height = self.figure.get_size_inches() * _PIXELS_PER_INCH
        return buffer.getvalue(), {"width": int(width), "height": int(height)}

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


def show_bytes(axes: Axes, which: Literal["x", "y"], n_ticks: int = 4) -> None:
    """Give an axis of bytes a few ticks with units, and pale grid lines."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(n_ticks, min_n_ticks=2))
    axis.set_major_formatter(EngFormatter("B"))
    axes.grid(axis=which, color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)


def contrast(first: Any, second: Any) -> float:
    """Return the contrast of two colours by WCAG 2.2: 1 to 21.

    Examples
    --------
    >>> contrast("white", "black"), round(contrast(INK, PALE), 1)
    (21.0, 12.7)
    """
    low, high = sorted(_luminance(to_rgb(colour)) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


def ink_on(background: Any) -> str:
    """Return the colour of text on a background: black or white, whichever contrasts more."""
    return max("white", "black", key=lambda ink: contrast(ink, background))


def text_inches(texts: Sequence[str], font_size: float = FONT_SIZE) -> float:
    """Return an upper bound of the width of texts, without font metrics."""
    return font_size / _POINTS_PER_INCH * max((sum(map(_em, text)) for text in texts), default=0)


def labelled_rows(n_rows: int, pitch: float, min_pitch: float) -> range:
    """Choose the rows that get a label: all, or each second, third and so on.

    Examples
    --------
    >>> list(labelled_rows(5, 0.3, 0.1)), list(labelled_rows(5, 0.06, 0.1))
    ([0, 1, 2, 3, 4], [0, 2, 4])
    """
    step = max(1, -int(-min_pitch // pitch)) if pitch > 0 else 1
    return range(0, n_rows, step)


@contextmanager
def _quiet_fonts() -> Iterator[None]:
    """Ignore what fonts lack: a missing character is drawn as a box, a missing weight as another.

    An SVG keeps the text in any case.
    """
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            yield
    finally:
        log.setLevel(level)


@cache
def _em(character: str) -> float:
    """Return an upper bound of the width of a character, in font sizes."""
    if character in "mwMW@%…" or display_width(character) == 2:
        return 1.0
    return 0.78 if character.isupper() else 0.64


def _luminance(colour: tuple[float, float, float]) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@cache
def _installed_fonts() -> list[str]:
    installed = set(get_font_names())
    return [name for name in _FONTS if name in installed]
