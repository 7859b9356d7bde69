"""Protects the check of times: `time.Parse(time.RFC3339, text)` of Go accepts the same texts."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.toc import oracle
from vecache.toc.times import find_bad_time

ACCEPTED = [
    "2023-11-14T22:13:20Z",
    "0000-02-29T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "2000-02-29T00:00:00Z",
    "2024-02-29T00:00:00Z",
    "2024-01-01T00:00:00.123456789012345Z",
    "2024-01-01T00:00:00,5Z",
    "2024-01-01T1:00:00Z",
    "2024-01-01T00:00:00-07:00",
    "2024-01-01T00:00:00+24:60",
]
REFUSED = [
    "",
    "2024-01-01",
    "1900-02-29T00:00:00Z",
    "2023-02-29T00:00:00Z",
    "2024-00-01T00:00:00Z",
    "2024-13-01T00:00:00Z",
    "2024-01-00T00:00:00Z",
    "2024-04-31T00:00:00Z",
    "2024-1-01T00:00:00Z",
    "2024-01-01 00:00:00Z",
    "2024-01-01t00:00:00Z",
    "2024-01-01T00:00:00z",
    "2024-01-01T24:00:00Z",
    "2024-01-01T00:60:00Z",
    "2024-01-01T00:00:60Z",
    "2024-01-01T00:00:00.Z",
    "2024-01-01T00:00:00",
    "2024-01-01T00:00:00+0700",
    "2024-01-01T00:00:00+25:00",
    "2024-01-01T00:00:00+00:61",
    "2024-01-01T00:00:00Z\n",
    " 2024-01-01T00:00:00Z",
    "\u0662024-01-01T00:00:00Z",
]


def is_time(text: bytes) -> bool:
    return find_bad_time(pa.array([text], pa.binary())) == -1


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_go_accepts_is_a_time(text: str) -> None:
    assert is_time(text.encode())
    assert oracle.is_time(text.encode())


@pytest.mark.parametrize("text", REFUSED)
def test_what_go_does_not_parse_is_no_time(text: str) -> None:
    assert not is_time(text.encode())
    assert not oracle.is_time(text.encode())


@given(
    st.tuples(st.integers(0, 9999), st.integers(0, 14), st.integers(0, 33)),
    st.tuples(st.integers(0, 25), st.integers(0, 61), st.integers(0, 61)),
    st.sampled_from(["", ".5", ",25", "."]),
    st.sampled_from(["Z", "+23:59", "-24:60", "+25:00", "", "z"]),
)
def test_agrees_with_the_oracle(
    date: tuple[int, int, int], clock: tuple[int, int, int], fraction: str, zone: str
) -> None:
    (year, month, day), (hour, minute, second) = date, clock
    text = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}"
    assert is_time(text.encode()) == oracle.is_time(text.encode())


@given(st.sampled_from(ACCEPTED), st.integers(0, 40), st.binary(max_size=2))
def test_agrees_on_damaged_times(text: str, at: int, insert: bytes) -> None:
    damaged = text.encode()[:at] + insert + text.encode()[at + 1 :]
    assert is_time(damaged) == oracle.is_time(damaged)


def test_the_first_bad_row_is_named() -> None:
    good, bad = ACCEPTED[0].encode(), b"now"
    assert find_bad_time(pa.array([good, good, bad, good, b"then", bad])) == 2
    assert find_bad_time(pa.array([], pa.binary())) == -1
