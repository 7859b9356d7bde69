"""Draw a series, such as the tags of an image: bytes as lines, and below them stacked bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from vecache.draw.picture import (
    BLUE,
    DARK_ORANGE,
    FONT_SIZE,
    INK,
    MUTED,
    ORANGE,
    PLAIN_TEXT,
    Picture,
    labelled_rows,
    show_bytes,
    text_inches,
)
from vecache.text import short_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from vecache.arrays import I64

__all__ = ["series_curve"]

_LEFT, _HEAD, _SPACE = 0.85, 0.8, 0.3
_CURVE, _BARS, _COUNTS = 2.8, 1.6, 1.1  # heights
_MIN_WIDTH, _MAX_WIDTH, _MIN_PITCH = 5.5, 14.0, 0.16
_LINES = (MUTED, BLUE, DARK_ORANGE)
_BAR_COLOURS = ("#009e73", "#cc79a7", ORANGE, "#56b4e9", "#d55e00", "#f0e442", BLUE)
_COUNT_COLOURS = ("#009e73", "#56b4e9", "#d55e00")


def series_curve(
    lines: Mapping[str, I64],
    bars: Mapping[str, I64],
    counts: Mapping[str, I64],
    labels: Sequence[str],
    *,
    title: str,
    note: str,
) -> Picture:
    """Draw a series of n members, the same on all three axes.

    Parameters
    ----------
    lines : mapping of str to (n,) int64, at most 3
        Bytes; a line each.
    bars : mapping of str to (n,) int64, at most 7
        Bytes that are stacked, the first at the bottom. Those that are 0 everywhere are left out.
    counts : mapping of str to (n,) int64, at most 3
        Numbers that are stacked likewise.
    labels : sequence of n str
        Shortened here.
    title, note : str
        See `Picture`.

    Returns
    -------
    Picture
        One above the other: lines, stacked bytes, stacked numbers.
    """
    names = short_labels(labels)
    width = min(_MAX_WIDTH, max(_MIN_WIDTH, 0.3 * len(names)))
    right = text_inches([*lines, *bars, *counts]) + 0.6
    heights = (_CURVE, _BARS, _COUNTS)
    height = _HEAD + sum(heights) + 2 * _SPACE + text_inches(names, FONT_SIZE - 1) + 0.2
    picture = Picture(_LEFT + width + right, height, title, note)
    if not names:
        return picture
    tops = _HEAD + np.cumsum([0, *heights[:-1]]) + np.arange(3) * _SPACE
    axes = [
        picture.add_axes(_LEFT, top, width, each)
        for top, each in zip(tops.tolist(), heights, strict=True)
    ]
    _draw_lines(axes[0], lines)
    _draw_stack(axes[1], bars, _BAR_COLOURS)
    _draw_stack(axes[2], counts, _COUNT_COLOURS)
    for each in axes[:2]:
        show_bytes(each, "y")
    axes[2].yaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))
    for each in axes:
        each.set_xlim(-0.6, len(names) - 0.4)
    shown = labelled_rows(len(names), width / len(names), _MIN_PITCH)
    axes[2].set_xticks(shown, [names[row] for row in shown], rotation=90, **PLAIN_TEXT)
    axes[2].tick_params(axis="x", labelsize=FONT_SIZE - 1)
    return picture


def _draw_lines(axes: Axes, lines: Mapping[str, I64]) -> None:
    x = np.arange(len(next(iter(lines.values()))))
    for n_bytes, colour in zip(lines.values(), _LINES, strict=False):
        axes.plot(x, n_bytes, color=colour, marker="o" if len(x) <= 60 else "", markersize=4)
    axes.set_ylim(0, max(*(int(each.max()) for each in lines.values()), 1) * 1.08)
    _add_legend(axes, lines, _LINES)


def _draw_stack(axes: Axes, parts: Mapping[str, I64], colours: Sequence[str]) -> None:
    chosen = [name for name, values in parts.items() if values.any()]
    shown = {name: colour for name, colour in zip(parts, colours, strict=False) if name in chosen}
    base = np.zeros(len(next(iter(parts.values()))))
    for name, colour in shown.items():
        axes.bar(np.arange(len(base)), parts[name], 0.72, base, color=colour, linewidth=0)
        base = base + parts[name]
    axes.set_ylim(0, max(float(base.max()), 1.0) * 1.05)
    _add_legend(axes, shown, list(shown.values()))


def _add_legend(axes: Axes, names: Mapping[str, object], colours: Sequence[str]) -> None:
    """Write the names beside the axes, in the order of a stack: the first at the bottom."""
    style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    style |= {"fontsize": FONT_SIZE, "va": "bottom"}
    for row, (name, colour) in enumerate(zip(names, colours, strict=False)):
        height = 4 + 13 * row
        axes.annotate("■", (1, 0), (8, height), color=colour, **style)
        text = name.replace("_", " ")
        axes.annotate(text, (1, 0), (20, height), color=INK, **style)
