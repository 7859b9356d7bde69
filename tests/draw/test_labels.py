"""Where rows are too narrow, labels are dropped evenly, so that the others stay readable."""

from __future__ import annotations

from vecache.draw.picture import labelled_rows


def test_narrow_rows_drop_labels_evenly() -> None:
    assert list(labelled_rows(7, 1.0, 1.0)) == list(range(7))
    assert list(labelled_rows(7, 0.4, 1.0)) == [0, 3, 6]
