"""Protects the request: the ranges are those of Go's loop, whatever the chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plan.oracle import Part, as_ranges, merge_missing_chunks
from vecache.plan.options import PlanOptions, parse_ranges
from vecache.plan.ranges import Parts, coalesce_chunks, fit_ranges, merge_ranges

CHUNKS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 5, 6, 100]),  # gap before it
        st.integers(0, 9),  # bytes
        st.booleans(),  # begins a new file
        st.sampled_from([True, True, True, False]),  # fetched
    ),
    max_size=12,
)


def lay_out(chunks: list[tuple[int, int, bool, bool]]) -> tuple[list[Part], Parts]:
    """The same chunks for the oracle, and coalesced by the code under test."""
    offset, file, parts = 0, 0, []
    for gap, n_bytes, is_new_file, is_fetched in chunks:
        offset, file = offset + gap, file + is_new_file
        parts.append(Part(offset, n_bytes, file, not is_fetched))
        offset += n_bytes
    columns = [[p.offset, p.offset + p.length, p.file, not p.is_local] for p in parts]
    first, end, file_row, is_fetched_column = np.array(columns, np.int64).reshape(-1, 4).T
    return parts, coalesce_chunks(first, end, file_row, is_fetched_column.astype(np.bool_))


@given(CHUNKS, st.integers(1, 14), st.sampled_from([0, 5, 6]))
def test_any_chunks_are_merged_as_in_go(
    chunks: list[tuple[int, int, bool, bool]], max_ranges: int, gap_bytes: int
) -> None:
    expected, parts = lay_out(chunks)
    fetched_bytes = sum(part.length for part in expected if not part.is_local)
    wanted = as_ranges(merge_missing_chunks(expected, max_ranges, gap_bytes))
    ranges = merge_ranges(parts, max_ranges, gap_bytes)
    assert [tuple(bounds) for bounds in ranges.bounds.tolist()] == wanted
    assert ranges.fetch_bytes == sum(last - first + 1 for first, last in wanted)
    assert ranges.slack_bytes == ranges.fetch_bytes - fetched_bytes


@given(CHUNKS, st.integers(1, 14))
def test_each_chunk_lies_in_its_range(
    chunks: list[tuple[int, int, bool, bool]], max_ranges: int
) -> None:
    laid_out, parts = lay_out(chunks)
    ranges = merge_ranges(parts, max_ranges, 0)
    for part, number in zip(laid_out, ranges.range_of.tolist(), strict=True):
        assert (number < 0) == part.is_local
        if number >= 0:
            first, last = ranges.bounds[number].tolist()
            assert first <= part.offset <= part.offset + part.length <= last + 1


def test_one_part_fewer_remains_than_allowed() -> None:
    """Go counts down to zero and merges once more: with 4 parts and 3 allowed, 2 remain."""
    _, parts = lay_out([(10, 1, True, True), (11, 1, True, True), (9, 1, True, True)] * 2)
    assert [len(merge_ranges(parts, allowed, 0)) for allowed in (1, 2, 5, 6, 7)] == [1, 1, 4, 5, 6]


def test_a_part_before_the_last_one_is_never_merged() -> None:
    """Its gap is nearly 2**64 in Go, whatever the threshold."""
    first, end = np.array([500, 100], np.int64), np.array([600, 200], np.int64)
    parts = coalesce_chunks(first, end, np.arange(2), np.ones(2, np.bool_))
    assert merge_ranges(parts, 1024, 2**62).bounds.tolist() == [[500, 599], [100, 199]]


@given(CHUNKS, st.integers(1, 14), st.integers(1, 14))
def test_a_refused_request_is_halved_as_podman_halves_it(
    chunks: list[tuple[int, int, bool, bool]], max_ranges: int, n_accepted: int
) -> None:
    expected, parts = lay_out(chunks)
    merged = merge_missing_chunks(expected, max_ranges, 1)
    wanted = [len(as_ranges(merged))] if as_ranges(merged) else []
    while wanted and wanted[-1] > n_accepted:
        merged = merge_missing_chunks(merged, wanted[-1] // 2, 1)
        wanted.append(len(as_ranges(merged)))
    options = PlanOptions(max_ranges=max_ranges, gap_bytes=1, accepted_ranges=n_accepted)
    ranges, refused = fit_ranges(parts, options)
    assert [*refused, *[len(ranges)] * bool(len(ranges))] == wanted
    assert [tuple(bounds) for bounds in ranges.bounds.tolist()] == as_ranges(merged)


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "1e3", "9" * 10, "\u0663", "one "])
def test_a_text_that_is_not_a_number_of_ranges_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="wanted a number from 1"):
        parse_ranges(text)


@pytest.mark.parametrize(
    "options",
    [{"max_ranges": 0}, {"gap_bytes": -1}, {"gap_bytes": 2**63}, {"accepted_ranges": 0}],
)
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="wanted"):
        PlanOptions(**options)  # type: ignore[arg-type]  # of the right type, but mypy cannot know
