"""Draw a horizontal bar for each row, of parts that add up: what a pull finds and misses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vecache.draw.legend import draw_legend, layout_legend, legend_height
from vecache.draw.picture import (
    BLUE,
    FONT_SIZE,
    INK,
    ORANGE,
    PLAIN_TEXT,
    Picture,
    labelled_rows,
    show_bytes,
    text_inches,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    from vecache.arrays import F64

__all__ = ["stacked_bars"]

_HEAD, _FOOT, _SPACE, _WIDTH = 0.75, 0.5, 0.15, 6.0
_PITCH, _MIN_PITCH, _MAX_HEIGHT = 0.3, 0.15, 20.0
_MANY_ROWS = 40
_COLOURS = (BLUE, ORANGE, "#d55e00", "#999999")


def stacked_bars(
    parts: Mapping[str, F64],
    labels: Sequence[str],
    ends: Sequence[str],
    *,
    title: str,
    note: str,
) -> Picture:
    """Draw a bar for each row.

    Parameters
    ----------
    parts : mapping of str to (n,) float64, at most 4
        Bytes that are stacked, the first at the left. Those that are 0 everywhere are left out.
    labels : sequence of n str
        Shown as they are.
    ends : sequence of n str
        What is written at the end of each row.
    title, note : str
        See `Picture`.

    Returns
    -------
    Picture
        The first row on top. Up to 130 rows all have their texts, above that each second and so on.
    """
    pitch = _PITCH if len(labels) <= _MANY_ROWS else _MIN_PITCH
    height = min(pitch * len(labels), _MAX_HEIGHT)
    label_width = text_inches(labels)
    left = _SPACE + label_width + _SPACE
    shown = {
        name: (values, colour)
        for (name, values), colour in zip(parts.items(), _COLOURS, strict=False)
        if values.any()
    }
    keys = layout_legend(((colour, name) for name, (_, colour) in shown.items()), _WIDTH)
    top = _HEAD + legend_height(keys) + _SPACE
    right = _SPACE + text_inches(ends) + _SPACE
    picture = Picture(left + _WIDTH + right, top + height + _FOOT, title, note)
    if not labels:
        return picture
    draw_legend(picture, keys, left, _HEAD, _WIDTH)
    axes = picture.add_axes(left, top, _WIDTH, height)
    base = np.zeros(len(labels))
    for values, colour in shown.values():
        axes.barh(np.arange(len(labels)), values, 0.72, base, color=colour, linewidth=0)
        base = base + values
    axes.set(xlim=(0, max(float(base.max()), 1.0)), ylim=(len(labels) - 0.5, -0.5))
    show_bytes(axes, "x")
    _put_labels(axes, labels, ends, height / len(labels))
    axes.tick_params(axis="y", pad=72 * (label_width + 0.05))
    return picture


def _put_labels(axes: Axes, labels: Sequence[str], ends: Sequence[str], pitch: float) -> None:
    rows = labelled_rows(len(labels), pitch, _MIN_PITCH * 0.99)
    shown = [labels[row] for row in rows]
    axes.set_yticks(rows, shown, fontsize=FONT_SIZE, ha="left", **PLAIN_TEXT)
    for row in rows:
        axes.annotate(
            ends[row],
            (1, row),
            (8, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=FONT_SIZE,
            color=INK,
            **PLAIN_TEXT,
        )
