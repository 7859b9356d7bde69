"""Draw a table of bytes as a heat map: rows and columns in the given order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vecache.draw.picture import (
    FONT_SIZE,
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

    from vecache.arrays import I64

__all__ = ["byte_grid"]

_SPACE, _HEAD = 0.12, 0.8
_SCALE_WIDTH, _SCALE_HEIGHT = 2.0, 0.75
_MIN_PITCH = 0.1
_ROW_PITCH, _COLUMN_PITCH = 0.3, 0.7
_MAX_SIDE = 20.0
_MAX_NUMBERED = 400  # up to so many cells, each shows its number


def byte_grid(
    values: I64, rows: Sequence[str], columns: Sequence[str], *, title: str, note: str
) -> Picture:
    """Draw a table of bytes.

    Parameters
    ----------
    values : (n_rows, n_columns) int64
        Bytes; -1 where there is no number. The colour is darkest at the largest one.
    rows, columns : sequence of str
        Labels; those of columns are shortened here.
    title, note : str
        See `Picture`.

    Returns
    -------
    Picture
        With labels at all rows up to 200, above that at each second, third and so on.
    """
    if not values.size:
        return Picture(6.0, 1.0, title, note)
    height = min(max(_ROW_PITCH * len(rows), 0.3), max(_MIN_PITCH * len(rows), 12.0), _MAX_SIDE)
    width = min(max(_COLUMN_PITCH * len(columns), 2.2), _MAX_SIDE)
    names = short_labels(columns)
    left = _SPACE + text_inches(rows) + _SPACE
    foot = text_inches(names) + _SPACE
    full_width = left + max(width, _SCALE_WIDTH) + 0.3
    full_height = _HEAD + height + foot + _SPACE + _SCALE_HEIGHT
    picture = Picture(full_width, full_height, title, note)
    axes = picture.add_axes(left, _HEAD, width, height)
    image = _draw_cells(axes, values)
    _put_labels(axes, "y", rows, height / len(rows))
    _put_labels(axes, "x", names, width / len(names))
    if values.size <= _MAX_NUMBERED and width / len(names) >= _COLUMN_PITCH * 0.99:
        _write_cells(axes, image, values)
    scale = picture.add_axes(left, full_height - 0.5, _SCALE_WIDTH, 0.13)
    bar = picture.figure.colorbar(image, cax=scale, orientation="horizontal")
    bar.outline.set_visible(False)
    ends = [0, _largest(values)]
    bar.set_ticks(ends, labels=[bytes_text(end) for end in ends])
    scale.tick_params(length=0, labelsize=FONT_SIZE)
    return picture


def _largest(values: I64) -> int:
    return max(int(values.max()), 1)


def _draw_cells(axes: Axes, values: I64) -> AxesImage:
    axes.set_facecolor(PALE)
    known = np.ma.masked_array(values, values < 0)
    return axes.imshow(
        known, cmap="Blues", vmin=0, vmax=_largest(values), aspect="auto", interpolation="nearest"
    )


def _put_labels(axes: Axes, which: str, names: Sequence[str], pitch: float) -> None:
    font_size = min(FONT_SIZE, 61 * max(pitch, _MIN_PITCH))
    shown = labelled_rows(len(names), pitch, _MIN_PITCH * 0.99)
    texts = [names[row] for row in shown]
    if which == "y":
        axes.set_yticks(shown, texts, fontsize=font_size, **PLAIN_TEXT)
    else:
        axes.set_xticks(shown, texts, fontsize=font_size, rotation=90, **PLAIN_TEXT)


def _write_cells(axes: Axes, image: AxesImage, values: I64) -> None:
    colours = image.to_rgba(values)
    for row, column in np.ndindex(values.shape):  # at most _MAX_NUMBERED
        value = int(values[row, column])
        text = "" if value < 0 else bytes_text(value)
        colour = ink_on(colours[row, column, :3])
        size = FONT_SIZE - 2
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
