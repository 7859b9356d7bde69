"""How is a rectangle cut into tiles of given areas that are nearly square? Strip by strip.

The tiles are laid in strips along the shorter side of what is left; a strip takes another tile as
long as that makes its worst tile squarer (Bruls, Huizing and van Wijk 2000).

Who owns the bytes? A tile for each set of members, as large as what they and nobody else hold.

All tiles together are the bytes that are there once. Sets of one member stand together, then those
of two, and so on; the more hold it, the darker it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.patches import Rectangle

from vecache.draw.picture import (
    ALONE,
    FONT_SIZE,
    INK,
    PLAIN_TEXT,
    Picture,
    bytes_text,
    text_inches,
)
from vecache.text import short_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from vecache.arrays import F64, I64, Bool

__all__ = ["squarify", "treemap"]


def squarify(area: F64, left: float, top: float, width: float, height: float) -> F64:
    """Cut a rectangle.

    Parameters
    ----------
    area : (n,) float64
        Parts of the rectangle in any unit, more than 0, largest first.
    left, top, width, height : float
        The rectangle.

    Returns
    -------
    (n, 4) float64
        Left, top, width and height of each tile; they cover the rectangle.

    Examples
    --------
    >>> squarify(np.array([2.0, 1.0, 1.0]), 0, 0, 2, 2).tolist()
    [[0.0, 0.0, 1.0, 2.0], [1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    tiles = np.zeros((len(area), 4))
    parts = area * (width * height / area.sum()) if len(area) else area
    first = 0
    while first < len(parts):  # strips of tiles, some dozens
        is_upright = width >= height
        side = height if is_upright else width
        end = _strip_end(parts, first, side)
        strip = parts[first:end]
        depth = float(strip.sum()) / side
        lengths = strip / depth
        offsets = np.cumsum(lengths) - lengths
        if is_upright:
            tiles[first:end] = _rows(left, top + offsets, depth, lengths)
            left, width = left + depth, width - depth
        else:
            tiles[first:end] = _rows(left + offsets, top, lengths, depth)
            top, height = top + depth, height - depth
        first = end
    return tiles


def _strip_end(parts: F64, first: int, side: float) -> int:
    """Where the strip ends that begins with a tile: its worst tile is as square as can be."""
    total = np.cumsum(parts[first:])
    longest = side**2 * parts[first] / total**2
    shortest = total**2 / (side**2 * parts[first:])
    worst = np.maximum(longest, shortest)
    gets_worse = np.flatnonzero(np.diff(worst) > 0)
    return first + (int(gets_worse[0]) if len(gets_worse) else len(worst) - 1) + 1


def _rows(*columns: F64 | float) -> F64:
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


_WIDTH, _HEIGHT, _HEAD, _FOOT, _MARGIN = 10.0, 6.0, 0.75, 0.5, 0.2
_MOST_TILES = 120
_FONT_SIZE = FONT_SIZE - 1
_LINE = 0.15
_MOST_NAMES = 3


class _Crowd(NamedTuple):
    """Sets that are drawn in one colour."""

    name: str
    most_members: float
    colour: str
    ink: str


_CROWDS = (
    _Crowd("in one only", 1, ALONE, INK),
    _Crowd("in 2", 2, "#c3ddf0", INK),
    _Crowd("in 3 or 4", 4, "#7fb5dc", INK),
    _Crowd("in 5 to 8", 8, "#0072b2", "white"),
    _Crowd("in 9 or more", np.inf, "#003b5c", "white"),
)


def treemap(
    start: I64, member: I64, n_bytes: I64, labels: Sequence[str], *, title: str, note: str
) -> Picture:
    """Draw who owns the bytes.

    Parameters
    ----------
    start : (n_sets + 1,) int64
        The members of set i are the rows from `start[i]` to before `start[i + 1]`.
    member : (n_rows,) int64
        Numbers of members.
    n_bytes : (n_sets,) int64
        What all of the set hold, and nobody else.
    labels : sequence of str
        One a member, shortened here.
    title, note : str
        What it shows, and how to read it.

    Returns
    -------
    Picture
        A tile a set, with its members and bytes where there is room. Sets beyond the 120 largest
        share a tile with others of their colour.
    """
    width = max(_WIDTH, text_inches([note])) + 2 * _MARGIN
    picture = Picture(width, _HEAD + _HEIGHT + _FOOT, title, note)
    axes = picture.add_axes(_MARGIN, _HEAD, width - 2 * _MARGIN, _HEIGHT)
    axes.set(xlim=(0, width - 2 * _MARGIN), ylim=(_HEIGHT, 0))
    crowd_of = np.searchsorted([crowd.most_members for crowd in _CROWDS], np.diff(start))
    total = np.zeros(len(_CROWDS))
    np.add.at(total, crowd_of, n_bytes)
    is_named = np.zeros(len(n_bytes), np.bool_)
    is_named[np.argsort(-n_bytes, kind="stable")[:_MOST_TILES]] = True
    names = short_labels(labels)
    order = np.argsort(-total, kind="stable")[: np.count_nonzero(total)]
    boxes = squarify(total[order], 0, 0, width - 2 * _MARGIN, _HEIGHT)
    for number, box in zip(order.tolist(), boxes.tolist(), strict=True):  # five colours at most
        sets = np.flatnonzero((crowd_of == number) & (n_bytes > 0))
        area, texts = _tiles(sets, is_named, start, member, n_bytes, names)
        for tile, text in zip(squarify(area, *box), texts, strict=True):
            _draw_tile(axes, tile, text, _CROWDS[number])
    _draw_legend(picture, total)
    return picture


def _tiles(
    sets: I64, is_named: Bool, start: I64, member: I64, n_bytes: I64, names: list[str]
) -> tuple[F64, list[list[str]]]:
    """Size and text of the tiles of one colour, largest first; sets without a name are one."""
    named = sets[is_named[sets]]
    rest = sets[~is_named[sets]]
    area = n_bytes[named].astype(np.float64)
    texts = [
        [*_member_lines([names[row] for row in member[start[each] : start[each + 1]].tolist()])]
        for each in named.tolist()  # 120 at most
    ]
    if len(rest):
        area = np.append(area, float(n_bytes[rest].sum()))
        texts.append([f"{len(rest):,} more"])
    order = np.argsort(-area, kind="stable")
    return area[order], [[*texts[row], bytes_text(area[row])] for row in order.tolist()]


def _member_lines(names: list[str]) -> list[str]:
    if len(names) <= _MOST_NAMES:
        return names
    return [*names[: _MOST_NAMES - 1], f"+ {len(names) - _MOST_NAMES + 1} others"]


def _draw_tile(axes: Axes, tile: F64, lines: list[str], crowd: _Crowd) -> None:
    """Draw a tile, with all its lines, or the bytes alone, or nothing: as there is room."""
    left, top, width, height = tile.tolist()
    axes.add_patch(
        Rectangle((left, top), width, height, facecolor=crowd.colour, edgecolor="white", lw=1.2)
    )
    for shown in (lines, lines[-1:]):
        if text_inches(shown, _FONT_SIZE) + 0.1 <= width and len(shown) * _LINE <= height:
            x, y = left + width / 2, top + height / 2
            style: dict[str, Any] = {"fontsize": _FONT_SIZE, "color": crowd.ink, **PLAIN_TEXT}
            axes.text(x, y, "\n".join(shown), ha="center", va="center", **style)
            break


def _draw_legend(picture: Picture, total: F64) -> None:
    width = float(picture.figure.get_size_inches()[0]) - 2 * _MARGIN
    axes = picture.add_axes(_MARGIN, _HEAD + _HEIGHT + 0.12, width, 0.25)
    axes.set(xlim=(0, width), ylim=(0, 0.25))
    x = 0.0
    for crowd, n_bytes in zip(_CROWDS, total.tolist(), strict=True):
        if not n_bytes:
            continue
        share = 100 * n_bytes / total.sum()
        text = f"{crowd.name}: {bytes_text(n_bytes)}, {f'{share:.0f}' if share >= 0.5 else '<1'} %"
        axes.add_patch(Rectangle((x, 0.05), 0.15, 0.15, facecolor=crowd.colour))
        axes.text(x + 0.22, 0.125, text, va="center", fontsize=FONT_SIZE, color=INK)
        x += 0.9 * text_inches([text]) + 0.4
