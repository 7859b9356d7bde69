"""Draw a treemap: a tile for each set of members, as large as the bytes that exactly they have.

All tiles together are the unique bytes. Sets are binned by their number of members; a bin is one
block of tiles in one colour, darker where more members have the bytes.

`squarify` lays tiles in strips along the shorter side of the remaining rectangle. A strip takes
another tile as long as that brings its least square tile nearer to a square (Bruls, Huizing and van
Wijk 2000).
"""

from __future__ import annotations

import re
from itertools import chain, product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.patches import Rectangle

from vecache.draw.legend import draw_legend, layout_legend, legend_height
from vecache.draw.picture import (
    BLUE,
    FONT_SIZE,
    INK,
    ORANGE,
    PLAIN_TEXT,
    Picture,
    bytes_text,
    text_inches,
)
from vecache.text import short_labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

    from vecache.arrays import F64, I64, Bool

__all__ = ["squarify", "treemap"]


_WIDTH, _HEIGHT, _HEAD, _MARGIN = 10.0, 6.0, 0.75, 0.2
_MAX_TILES = 120
_MAX_NAMES, _MAX_CHARACTERS = 3, 14
_ID, _ID_DIGITS = re.compile(r"[0-9a-f]{12}\b"), 8
_FONT_SIZES = (FONT_SIZE - 1, FONT_SIZE - 2.5)
_LINE = 1.35  # its height, in font sizes


class _Bin(NamedTuple):
    """Sets with a similar number of members, drawn in one colour."""

    name: str
    max_members: float
    colour: str
    text_colour: str


_BINS = (
    _Bin("in one only", 1, ORANGE, INK),
    _Bin("in 2", 2, "#c3ddf0", INK),
    _Bin("in 3 or 4", 4, "#7fb5dc", INK),
    _Bin("in 5 to 8", 8, BLUE, "white"),
    _Bin("in 9 or more", np.inf, "#003b5c", "white"),
)


def treemap(
    start: I64, member: I64, n_bytes: I64, labels: Sequence[str], *, title: str, note: str
) -> Picture:
    """Draw a tile for each set of members.

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

    Returns
    -------
    Picture
        Tiles show members and bytes where there is room. Sets beyond the 120 largest share one
        tile in each bin.
    """
    bin_no = np.searchsorted([each.max_members for each in _BINS], np.diff(start))
    total = np.zeros(len(_BINS))
    np.add.at(total, bin_no, n_bytes)
    keys = layout_legend(_keys(total), _WIDTH)
    height = _HEAD + _HEIGHT + 0.25 + legend_height(keys)
    picture = Picture(_WIDTH + 2 * _MARGIN, height, title, note)
    axes = picture.add_axes(_MARGIN, _HEAD, _WIDTH, _HEIGHT)
    axes.set(xlim=(0, _WIDTH), ylim=(_HEIGHT, 0))
    is_named = np.zeros(len(n_bytes), np.bool_)
    is_named[np.argsort(-n_bytes, kind="stable")[:_MAX_TILES]] = True
    names = list(
        zip(short_labels(labels), map(_brief, short_labels(labels, _MAX_CHARACTERS)), strict=True)
    )
    order = np.argsort(-total, kind="stable")[: np.count_nonzero(total)]
    boxes = squarify(total[order], 0, 0, _WIDTH, _HEIGHT)
    for number, box in zip(order.tolist(), boxes.tolist(), strict=True):  # at most five bins
        sets = np.flatnonzero((bin_no == number) & (n_bytes > 0))
        area, texts = _tiles(sets, is_named, start, member, n_bytes, names)
        for tile, forms in zip(squarify(area, *box), texts, strict=True):
            _draw_tile(axes, tile, forms, _BINS[number])
    draw_legend(picture, keys, _MARGIN, _HEAD + _HEIGHT + 0.1, _WIDTH)
    return picture


def _tiles(
    sets: I64, is_named: Bool, start: I64, member: I64, n_bytes: I64, names: list[tuple[str, str]]
) -> tuple[F64, list[list[list[str]]]]:
    """Return size and texts of the tiles of one bin, largest first; unnamed sets are one tile.

    Of the texts of a tile the last one is its bytes alone.
    """
    named = sets[is_named[sets]]
    others = sets[~is_named[sets]]
    area = n_bytes[named].astype(np.float64)
    texts = [
        _forms([names[row] for row in member[start[each] : start[each + 1]].tolist()])
        for each in named.tolist()  # at most _MAX_TILES
    ]
    if len(others):
        area = np.append(area, float(n_bytes[others].sum()))
        texts.append([[f"{len(others):,} more"]])
    order = np.argsort(-area, kind="stable")
    return area[order], [
        [
            *([*lines, bytes_text(area[row])] for lines in texts[row]),
            *texts[row][-1:],
            [bytes_text(area[row])],
        ]
        for row in order.tolist()
    ]


def _forms(members: list[tuple[str, str]]) -> list[list[str]]:
    """Return the lines that name members, from the longest form to the shortest."""
    n_others = len(members) - 1
    forms = []
    for names in zip(*members, strict=True):  # long ones, then short ones
        if len(names) <= _MAX_NAMES:
            forms.append(list(names))
        else:
            n_more = len(names) - _MAX_NAMES + 1
            forms.append([*names[: _MAX_NAMES - 1], f"+ {n_more} others"])
        if n_others:
            forms += [[names[0], f"+ {n_others}"], [f"{names[0]} + {n_others}"]]
    return forms


def _brief(name: str) -> str:
    """Shorten an id once more, without what made the layer."""
    return name[:_ID_DIGITS] if _ID.match(name) else name


def _draw_tile(axes: Axes, tile: F64, forms: list[list[str]], set_bin: _Bin) -> None:
    """Draw a tile with the first of the texts for which there is room, upright if need be."""
    left, top, width, height = tile.tolist()
    axes.add_patch(
        Rectangle((left, top), width, height, facecolor=set_bin.colour, edgecolor="white", lw=1.2)
    )
    named, bare = product(_FONT_SIZES, forms[:-1]), product(_FONT_SIZES, forms[-1:])
    for font_size, lines in chain(named, bare):
        text_width = text_inches(lines, font_size) + 0.06
        text_height = _LINE * font_size / 72 * len(lines)
        is_upright = text_width > width
        if is_upright:
            text_width, text_height = text_height, text_width
        if text_width <= width and text_height <= height:
            x, y = left + width / 2, top + height / 2
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": font_size}
            style |= {"color": set_bin.text_colour, "rotation": 90 if is_upright else 0}
            axes.text(x, y, "\n".join(lines), **style, **PLAIN_TEXT)
            break


def _keys(total: F64) -> Iterator[tuple[str, str]]:
    """Yield colour and text of each bin that has bytes."""
    for each, n_bytes in zip(_BINS, total.tolist(), strict=True):
        if n_bytes:
            share = 100 * n_bytes / total.sum()
            percent = f"{share:.0f}" if share >= 0.5 else "<1"
            yield each.colour, f"{each.name}: {bytes_text(n_bytes)}, {percent} %"


def squarify(area: F64, left: float, top: float, width: float, height: float) -> F64:
    """Divide a rectangle into tiles that are nearly square.

    Parameters
    ----------
    area : (n,) float64
        The tiles' areas in any unit, more than 0, largest first.
    left, top, width, height : float
        The rectangle.

    Returns
    -------
    (n, 4) float64
        Left, top, width and height of each tile. Together they cover the rectangle.

    Examples
    --------
    >>> squarify(np.array([2.0, 1.0, 1.0]), 0, 0, 2, 2).tolist()
    [[0.0, 0.0, 1.0, 2.0], [1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    tiles = np.zeros((len(area), 4))
    parts = area * (width * height / area.sum()) if len(area) else area
    first = 0
    while first < len(parts):  # strips, some dozens
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
    """Return the end of the strip from `first` whose least square tile is as square as possible."""
    total = np.cumsum(parts[first:])
    longest = side**2 * parts[first] / total**2
    shortest = total**2 / (side**2 * parts[first:])
    worst = np.maximum(longest, shortest)
    gets_worse = np.flatnonzero(np.diff(worst) > 0)
    return first + (int(gets_worse[0]) if len(gets_worse) else len(worst) - 1) + 1


def _rows(*columns: F64 | float) -> F64:
    return np.stack(np.broadcast_arrays(*columns), axis=-1)
