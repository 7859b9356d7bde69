"""Labels are left out evenly, so that those that stay can be read."""

from __future__ import annotations

from vecache.draw.picture import thinned


def test_labels_are_left_out_evenly_where_rows_are_narrow() -> None:
    assert list(thinned(7, 1.0, 1.0)) == list(range(7))
    assert list(thinned(7, 0.4, 1.0)) == [0, 3, 6]
