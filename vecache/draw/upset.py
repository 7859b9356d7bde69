"""Draw an UpSet chart: a bar for each set of members, with a dot below it for each member."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vecache.arrays import ragged_arange
from vecache.draw.picture import (
    BLUE,
    DARK_ORANGE,
    FONT_SIZE,
    INK,
    MUTED,
    ORANGE,
    PALE,
    PLAIN_TEXT,
    Picture,
    bytes_text,
    show_bytes,
    text_inches,
)
from vecache.text import short_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from vecache.arrays import I64

__all__ = ["upset"]

_COLUMN, _ROW = 0.3, 0.24
_HEAD, _BARS_HEIGHT, _BARS_WIDTH = 1.75, 1.8, 1.8
_LEFT, _SPACE = 0.35, 0.15
_MAX_ROWS = 72


def upset(
    start: I64,
    member: I64,
    n_bytes: I64,
    labels: Sequence[str],
    *,
    title: str,
    note: str,
    n_shown: int = 24,
) -> Picture:
    """Draw the largest sets of two or more members.

    Parameters
    ----------
    start : (n_sets + 1,) int64
        The members of set i are the rows from `start[i]` to before `start[i + 1]`.
    member : (n_rows,) int64
        Indexes into `labels`.
    n_bytes : (n_sets,) int64
        Bytes that exactly the members of the set have.
    labels : sequence of n_members str
        Shortened here.
    title, note : str
        See `Picture`.
    n_shown : int
        How many sets are drawn. Sets with a single member never are.

    Returns
    -------
    Picture
        One column a set, largest first; one row a member, with its total on the left. There are at
        most 72 rows: further members of a set are counted below its column.
    """
    sizes = np.diff(start)
    shared = np.flatnonzero((sizes > 1) & (n_bytes > 0))
    sets = shared[np.argsort(-n_bytes[shared], kind="stable")[:n_shown]]
    if not len(sets):
        return Picture(6.0, 1.0, title, f"{note} Nothing is shared.")
    column = np.repeat(np.arange(len(sets)), sizes[sets])
    shown = member[ragged_arange(start[sets], sizes[sets])]
    rows = _choose_rows(np.split(shown, np.cumsum(sizes[sets])[:-1]))
    y = np.full(len(labels), -1)
    y[rows] = np.arange(len(rows))
    short = short_labels(labels)
    names = [short[row] for row in rows.tolist()]
    left = _LEFT + _BARS_WIDTH + _SPACE + text_inches(names) + _SPACE
    width = left + _COLUMN * len(sets) + _SPACE
    picture = Picture(width, _HEAD + _BARS_HEIGHT + _ROW * (len(rows) + 3), title, note)
    top = _HEAD + _BARS_HEIGHT + _SPACE
    _draw_sets(
        picture.add_axes(left, _HEAD, _COLUMN * len(sets), _BARS_HEIGHT), n_bytes[sets], sizes[sets]
    )
    dots = picture.add_axes(left, top, _COLUMN * len(sets), _ROW * len(rows))
    _draw_dots(dots, column, y[shown], names, len(sets))
    exclusive, total = _member_bytes(start, member, n_bytes, len(labels))
    bars = picture.add_axes(_LEFT, top, _BARS_WIDTH, _ROW * len(rows))
    _draw_members(bars, exclusive[rows], total[rows])
    return picture


def _choose_rows(members: list[I64]) -> I64:
    """Choose the members that get a row: whole sets, largest first, as long as they fit."""
    rows = np.zeros(0, np.int64)
    for member in members:  # at most n_shown sets
        new = np.setdiff1d(member, rows)
        if len(rows) + len(new) <= _MAX_ROWS:
            rows = np.append(rows, new)
    return rows if len(rows) else members[0][:_MAX_ROWS]


def _member_bytes(start: I64, member: I64, n_bytes: I64, n_members: int) -> tuple[I64, I64]:
    """Return the exclusive and the total bytes of each member."""
    sizes = np.diff(start)
    exclusive, total = np.zeros((2, n_members), np.int64)
    np.add.at(total, member, np.repeat(n_bytes, sizes))
    single = np.flatnonzero(sizes == 1)
    exclusive[member[start[single]]] = n_bytes[single]
    return exclusive, total


def _draw_sets(axes: Axes, n_bytes: I64, sizes: I64) -> None:
    axes.bar(np.arange(len(n_bytes)), n_bytes, width=0.62, color=BLUE)
    for x, (value, size) in enumerate(zip(n_bytes.tolist(), sizes.tolist(), strict=True)):
        text = f"{bytes_text(value)} in {size}"
        style: dict[str, Any] = {"fontsize": FONT_SIZE - 1, "color": INK, "rotation": 90}
        axes.annotate(
            text,
            (x, value),
            (0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            **style,
        )
    axes.set_xlim(-0.5, len(n_bytes) - 0.5)
    axes.set_ylim(0, int(n_bytes.max()))
    show_bytes(axes, "y")


def _draw_dots(axes: Axes, column: I64, row: I64, names: list[str], n_sets: int) -> None:
    n_rows = len(names)
    for stripe in range(0, n_rows, 2):
        axes.axhspan(stripe - 0.5, stripe + 0.5, color="#f4f4f4", linewidth=0)
    all_columns, all_rows = np.indices((n_sets, n_rows)).reshape(2, -1)
    axes.scatter(all_columns, all_rows, s=34, color=PALE, linewidths=0)
    is_shown = row >= 0
    top, bottom = np.full(n_sets, n_rows), np.full(n_sets, -1)
    np.minimum.at(top, column[is_shown], row[is_shown])
    np.maximum.at(bottom, column[is_shown], row[is_shown])
    linked = np.flatnonzero(bottom > top)
    axes.vlines(linked, top[linked], bottom[linked], color=INK, linewidth=1.6)
    axes.scatter(column[is_shown], row[is_shown], s=34, color=INK, linewidths=0, zorder=3)
    axes.set(xlim=(-0.5, n_sets - 0.5), ylim=(n_rows - 0.5, -0.5))
    axes.set_yticks(range(n_rows), names, fontsize=FONT_SIZE, **PLAIN_TEXT)
    hidden = np.bincount(column[~is_shown], minlength=n_sets)
    for x in np.flatnonzero(hidden).tolist():
        style: dict[str, Any] = {"fontsize": FONT_SIZE - 2, "color": MUTED}
        axes.text(x, n_rows, f"+{hidden[x]}", ha="center", va="center", **style)


def _draw_members(axes: Axes, exclusive: I64, total: I64) -> None:
    y = np.arange(len(total))
    axes.barh(y, total - exclusive, height=0.66, color=BLUE)
    axes.barh(y, exclusive, left=total - exclusive, height=0.66, color=ORANGE)
    axes.set(ylim=(len(total) - 0.5, -0.5), xlim=(max(int(total.max()), 1), 0))
    show_bytes(axes, "x", 2)
    for x, text, colour in ((1.0, "shared", BLUE), (0.0, "alone", DARK_ORANGE)):
        axes.annotate(
            text,
            (x, 1.0),
            (0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right" if x else "left",
            color=colour,
            fontsize=FONT_SIZE,
            weight="bold",
        )
