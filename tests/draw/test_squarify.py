"""Tiles have the requested areas and cover the rectangle without overlaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.draw.treemap import squarify

lengths = st.floats(0.5, 20)


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=60), lengths, lengths)
def test_tiles_cover_the_rectangle(areas: list[float], width: float, height: float) -> None:
    area = np.sort(np.array(areas))[::-1]
    tiles = squarify(area, 1.0, 2.0, width, height)
    left, top, tile_width, tile_height = tiles.T
    assert tile_width * tile_height == pytest.approx(area / area.sum() * width * height)
    assert (left >= 1 - 1e-9).all()
    assert (top >= 2 - 1e-9).all()
    assert (left + tile_width <= 1 + width + 1e-6).all()
    assert (top + tile_height <= 2 + height + 1e-6).all()
    across = np.minimum.outer(left + tile_width, left + tile_width) - np.maximum.outer(left, left)
    down = np.minimum.outer(top + tile_height, top + tile_height) - np.maximum.outer(top, top)
    common = np.clip(across, 0, None) * np.clip(down, 0, None)
    np.fill_diagonal(common, 0)
    assert common.max() <= 1e-6 * width * height


def test_equal_tiles_of_a_square_are_squares() -> None:
    tiles = squarify(np.ones(4), 0, 0, 2, 2)
    assert (tiles[:, 2:] == 1).all()


def test_nothing_has_no_tiles() -> None:
    assert squarify(np.zeros(0), 0, 0, 1, 1).shape == (0, 4)
