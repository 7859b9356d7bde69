"""Draw a legend in lines: a square of its colour and a text for each key, as many as fit a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.patches import Rectangle

from vecache.draw.picture import FONT_SIZE, INK, PLAIN_TEXT, text_inches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vecache.draw.picture import Picture

__all__ = ["LegendKey", "draw_legend", "layout_legend", "legend_height"]

_SQUARE, _LINE, _SPACE = 0.15, 0.25, 0.1


class LegendKey(NamedTuple):
    """One key, and where it stands: its line and the inches from the left."""

    colour: str
    text: str
    line: int
    left: float


def layout_legend(keys: Iterable[tuple[str, str]], width: float) -> list[LegendKey]:
    """Place keys, each a colour and a text, in lines that are not wider than `width` inches."""
    placed: list[LegendKey] = []
    line, left = 0, 0.0
    for colour, text in keys:
        key_width = _SQUARE + _SPACE + 0.9 * text_inches([text])  # real texts are narrower
        if left and left + key_width > width:
            line, left = line + 1, 0.0
        placed.append(LegendKey(colour, text, line, left))
        left += key_width + _SPACE
    return placed


def legend_height(keys: Sequence[LegendKey]) -> float:
    """Return the inches that the lines of a legend take."""
    return _LINE * (1 + max((key.line for key in keys), default=-1))


def draw_legend(
    picture: Picture, keys: Sequence[LegendKey], left: float, top: float, width: float
) -> None:
    """Draw a legend, in inches from the top left corner of the picture."""
    if not keys:
        return
    height = legend_height(keys)
    axes = picture.add_axes(left, top, width, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    style: dict[str, Any] = {"va": "center", "fontsize": FONT_SIZE, "color": INK, **PLAIN_TEXT}
    for key in keys:
        middle = (key.line + 0.5) * _LINE
        corner = (key.left, middle - _SQUARE / 2)
        axes.add_patch(Rectangle(corner, _SQUARE, _SQUARE, facecolor=key.colour))
        axes.text(key.left + _SQUARE + _SPACE, middle, key.text, **style)
