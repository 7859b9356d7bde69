"""Protects the array operations that every room relies on: they equal plain loops."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.arrays import (
    ArrowExport,
    binary_buffers,
    binary_to_text,
    column,
    first_rows,
    ragged_arange,
    slices_to_binary,
)
from vecache.errors import ColumnSizeError

RUNS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=12)


@given(RUNS)
def test_ranges_are_concatenated(runs: list[tuple[int, int]]) -> None:
    starts, lengths = np.array(runs, np.int64).reshape(-1, 2).T
    wanted = [start + step for start, length in runs for step in range(length)]
    assert ragged_arange(starts, lengths).tolist() == wanted


@given(RUNS, st.data())
def test_slices_are_copied(runs: list[tuple[int, int]], data: st.DataObject) -> None:
    text = bytes(range(50))
    valid = data.draw(st.lists(st.booleans(), min_size=len(runs), max_size=len(runs)))
    runs = [(start, length if ok else 0) for (start, length), ok in zip(runs, valid, strict=True)]
    starts, lengths = np.array(runs, np.int64).reshape(-1, 2).T
    array = slices_to_binary(np.frombuffer(text, np.uint8), starts, lengths, np.array(valid, bool))
    array.validate(full=True)
    wanted = [text[s : s + n] if ok else None for (s, n), ok in zip(runs, valid, strict=True)]
    assert array.to_pylist() == wanted


@given(
    st.lists(st.sampled_from([0, 1, 3, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]), max_size=8),
    st.integers(0, 5),
)
def test_long_slices_are_copied(lengths: list[int], start: int) -> None:
    """Blocks of rows end after a megabyte; a longer row is a block of its own."""
    text = np.arange(2 << 20, dtype=np.uint32).view(np.uint8)
    array = slices_to_binary(text, np.full(len(lengths), start), np.array(lengths, np.int64))
    array.validate(full=True)
    assert array.to_pylist() == [text[start : start + n].tobytes() for n in lengths]


def test_slices_take_little_more_memory_than_their_bytes() -> None:
    text = np.zeros(64 << 20, np.uint8)
    lengths = np.array([60 << 20, *[4_000] * 1_000])
    tracemalloc.start()
    try:
        slices_to_binary(text, np.zeros(len(lengths), np.int64), lengths)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("lengths", [[2**30, 2**30], [2**31, 0], [2**31, 2**31, 5]])
def test_slices_beyond_what_a_column_holds_are_refused(lengths: list[int]) -> None:
    """The sums wrap in 32 bits: to a negative size, and the last one to a size of 5 bytes."""
    starts = np.zeros(len(lengths), np.int64)
    with pytest.raises(ColumnSizeError, match=f"found {sum(lengths):,} bytes.*fewer rows"):
        slices_to_binary(np.zeros(1, np.uint8), starts, np.array(lengths))


@given(st.lists(st.none() | st.binary(max_size=5), max_size=12), st.integers(0, 3))
def test_buffers_of_a_sliced_array(rows: list[bytes | None], skip: int) -> None:
    for kind in (pa.binary(), pa.large_binary()):
        starts, lengths, data = binary_buffers(pa.array(rows, kind)[skip:])
        found = [data[s : s + n].tobytes() for s, n in zip(starts, lengths, strict=True)]
        assert found == [row or b"" for row in rows[skip:]]


@given(st.lists(st.none() | st.binary(max_size=5), max_size=12))
def test_every_name_can_be_shown(rows: list[bytes | None]) -> None:
    texts = binary_to_text(pa.array(rows, pa.binary())).to_pylist()
    for row, text in zip(rows, texts, strict=True):
        assert (row is None) == (text is None)
        if row is not None:
            assert text == row.decode(errors="backslashreplace")


def test_a_column_is_checked_and_made_read_only() -> None:
    with pytest.raises(TypeError, match="list"):
        column("a", [1], np.int64, 1)
    with pytest.raises(TypeError, match="int32"):
        column("a", np.zeros(1, np.int32), np.int64, 1)
    with pytest.raises(ValueError, match=r"\(2,\)"):
        column("a", np.zeros(1, np.int64), np.int64, 2)
    assert not column("a", np.zeros(1, np.int64), np.int64, 1).flags.writeable


@given(st.lists(st.binary(max_size=1), max_size=12), st.integers(0, 3))
def test_first_rows_of_distinct_texts(rows: list[bytes], skip: int) -> None:
    wanted = [row for row, text in enumerate(rows[skip:]) if text not in rows[skip:][:row]]
    assert first_rows(pa.array(rows, pa.binary())[skip:]).tolist() == wanted


def test_a_result_is_exported_through_the_arrow_c_stream() -> None:
    class Result(ArrowExport):
        def to_arrow(self) -> pa.Table:
            return pa.table({"n": [1, 2]})

    assert pa.table(Result()).to_pydict() == {"n": [1, 2]}
