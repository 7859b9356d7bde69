"""How is a rectangle cut into tiles of given areas that are nearly square? Strip by strip.

The tiles are laid in strips along the shorter side of what is left; a strip takes another tile as
long as that makes its worst tile squarer (Bruls, Huizing and van Wijk 2000).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vecache.arrays import F64

__all__ = ["squarify"]


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
