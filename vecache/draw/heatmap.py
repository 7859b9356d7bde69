"""Draw a clustered heat map: a square matrix in the order of a tree, with similar rows adjacent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection

from vecache.cluster import average_linkage
from vecache.draw.picture import (
    FONT_SIZE,
    MUTED,
    PALE,
    PLAIN_TEXT,
    Picture,
    bytes_text,
    ink_on,
    labelled_rows,
    text_inches,
)
from vecache.text import short_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from vecache.arrays import F64, I64
    from vecache.cluster import Tree

__all__ = ["heatmap"]

_COLOURS = "Blues"
_TREE_WIDTH = 1.1
_SPACE = 0.12
_HEAD = 0.8
_SCALE_WIDTH, _SCALE_HEIGHT = 2.0, 0.75
_MIN_PITCH, _MAX_PITCH = 0.1, 0.62
_USUAL_SIDE, _MAX_SIDE = 8.0, 20.0
_MAX_NUMBERED = 14  # up to so many rows, each cell shows its number


def heatmap(
    share: F64, distance: F64, row_bytes: I64, labels: Sequence[str], *, title: str, note: str
) -> Picture:
    """Draw a clustered heat map.

    Parameters
    ----------
    share : (n, n) float64
        The colour of each cell: 0 to 1.
    distance : (n, n) float64
        What rows are clustered by; symmetric, 0 to 1.
    row_bytes : (n,) int64
        Written on the diagonal where there is room.
    labels : sequence of n str
        Shortened here.
    title, note : str
        See `Picture`.

    Returns
    -------
    Picture
        Rows and columns in the order of the tree. Up to 200 rows all have a label, above that each
        second, third and so on.
    """
    if not len(labels):
        return Picture(6.0, 1.0, title, note)
    tree = average_linkage(distance)
    order = tree.leaf_order()
    short = short_labels(labels)
    names = [short[row] for row in order.tolist()]
    pitch, side = _square(len(names))
    font_size = min(FONT_SIZE, 61 * max(pitch, _MIN_PITCH))
    label_width = text_inches(names, font_size)
    left = _SPACE + _TREE_WIDTH + _SPACE
    width = left + max(side + _SPACE + label_width, _SCALE_WIDTH + 0.3)
    height = _HEAD + side + label_width + _SPACE + _SCALE_HEIGHT
    picture = Picture(width, height, title, note)
    axes = picture.add_axes(left, _HEAD, side, side)
    image = _draw_cells(axes, share[np.ix_(order, order)])
    _put_labels(axes, names, pitch, font_size)
    if len(names) <= _MAX_NUMBERED:
        _write_cells(axes, share[np.ix_(order, order)], row_bytes[order])
    _draw_tree(picture.add_axes(_SPACE, _HEAD, _TREE_WIDTH, side), tree)
    _draw_scale(picture, picture.add_axes(left, height - 0.5, _SCALE_WIDTH, 0.13), image)
    return picture


def _square(n_rows: int) -> tuple[float, float]:
    """Return the height of a row and of all rows, in inches."""
    pitch = min(_MAX_PITCH, max(_MIN_PITCH, _USUAL_SIDE / n_rows))
    side = min(pitch * n_rows, _MAX_SIDE)
    return side / n_rows, side


def _draw_cells(axes: Axes, share: F64) -> AxesImage:
    n_rows = len(share)
    off_diagonal = np.ma.masked_array(share, np.eye(n_rows, dtype=np.bool_))
    axes.set_facecolor(PALE)
    image = axes.imshow(
        off_diagonal, cmap=_COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    if n_rows <= _USUAL_SIDE / _MIN_PITCH:
        edges = np.arange(1, n_rows) - 0.5
        limits = (-0.5, n_rows - 0.5)
        axes.hlines(edges, *limits, color="white", linewidth=0.8)
        axes.vlines(edges, *limits, color="white", linewidth=0.8)
    return image


def _put_labels(axes: Axes, names: list[str], pitch: float, font_size: float) -> None:
    rows = labelled_rows(len(names), pitch, _MIN_PITCH * 0.99)
    shown = [names[row] for row in rows]
    axes.yaxis.tick_right()
    axes.set_yticks(rows, shown, fontsize=font_size, **PLAIN_TEXT)
    axes.set_xticks(rows, shown, fontsize=font_size, rotation=90, **PLAIN_TEXT)


def _write_cells(axes: Axes, share: F64, row_bytes: I64) -> None:
    n_rows = len(share)
    font_size = FONT_SIZE - 1 if n_rows < _MAX_NUMBERED - 4 else FONT_SIZE - 2
    colours = colormaps[_COLOURS](share)
    for row, column in np.ndindex(share.shape):  # at most _MAX_NUMBERED squared
        value = float(share[row, column])
        if row == column:
            text, colour = bytes_text(int(row_bytes[row])), ink_on(PALE)
        else:
            text = f"{100 * value:.0f}" if value >= 0.005 else "<1" if value else ""
            colour = ink_on(colours[row, column, :3])
        axes.text(column, row, text, ha="center", va="center", fontsize=font_size, color=colour)


def _draw_scale(picture: Picture, axes: Axes, image: AxesImage) -> None:
    bar = picture.figure.colorbar(image, cax=axes, orientation="horizontal", ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    bar.set_ticklabels(["0 %", "50 %", "100 %"], fontsize=FONT_SIZE)
    axes.tick_params(length=0)


def _draw_tree(axes: Axes, tree: Tree) -> None:
    """Draw the tree to the left of the rows, its leaves on the right."""
    brackets = tree.brackets()[:, :, ::-1]
    lines = LineCollection(brackets.tolist(), colors=MUTED, linewidths=0.9, capstyle="projecting")
    axes.add_collection(lines, autolim=False)
    axes.set(xlim=(1.02, -0.03), ylim=(tree.n_leaves - 0.5, -0.5))
