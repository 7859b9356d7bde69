"""Protects the one claim of `crc`: every row gets what zlib would give it."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vecache.cache.bloom import crc32_rows

ROWS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(0, 75)))


@given(ROWS)
def test_equals_zlib(rows: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> None:
    assert crc32_rows(rows).tolist() == [zlib.crc32(row.tobytes()) for row in rows]


@given(ROWS, st.data())
def test_shared_columns_can_be_skipped(
    rows: np.ndarray[tuple[int, int], np.dtype[np.uint8]], data: st.DataObject
) -> None:
    n_shared = data.draw(st.integers(0, rows.shape[1]))
    rows[:, :n_shared] = rows[0, :n_shared]
    assert crc32_rows(rows, n_shared).tolist() == crc32_rows(rows).tolist()


@pytest.mark.parametrize("n_rows", [0, 1, 8_191, 8_192, 8_193])
def test_blocks_meet_and_rows_may_lie_apart(n_rows: int) -> None:
    tags = np.random.default_rng(0).integers(0, 256, (n_rows, 55), np.uint8)
    digests = tags[:, :39]
    assert crc32_rows(digests).tolist() == [zlib.crc32(row.tobytes()) for row in digests]
