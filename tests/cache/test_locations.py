"""Protects the reading of locations: exactly Go's varints, and no byte outside the sections."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from vecache.cache.locations import (
    Locations,
    Section,
    name_lengths,
    pack_locations,
    parse_locations,
)

NAME = b"\x03\x00\x00\x00abc"
U64 = st.integers(0, 2**64 - 1)


def decode(vdata: bytes, fnames: bytes, pointers: list[tuple[int, int]]) -> Locations:
    data = b"\0" + vdata + b"\0\0" + fnames + b"\0"  # to read outside a section would be noticed
    columns = np.array(pointers, np.uint64).reshape(-1, 2)
    return parse_locations(
        np.frombuffer(data, np.uint8),
        section(1, len(vdata)),
        section(len(vdata) + 3, len(fnames)),
        columns[:, 0],
        columns[:, 1],
    )


def section(start: int, n_bytes: int) -> Section:
    return Section(np.array(start), np.array(n_bytes))


def rows(found: Locations) -> list[tuple[int, int, int] | None]:
    columns = zip(found.name_offset, found.offset, found.length, found.is_corrupt, strict=True)
    return [None if bad else (int(a), int(b), int(c)) for a, b, c, bad in columns]


@given(st.lists(st.tuples(st.sampled_from([0, 7, 14]), U64, U64), max_size=20))
def test_packed_locations_are_parsed_again(values: list[tuple[int, int, int]]) -> None:
    columns = np.array(values, np.uint64).reshape(-1, 3)
    vdata, starts = pack_locations(*columns.T)
    assert vdata.tobytes() == b"".join(oracle.uvarint(n) for row in values for n in row)
    pointers = list(zip(starts[:-1].tolist(), np.diff(starts).tolist(), strict=True))
    wanted = [(name, oracle.as_int64(a), oracle.as_int64(b)) for name, a, b in values]
    assert rows(decode(vdata.tobytes(), 3 * NAME, pointers)) == wanted


VARINT_BYTE = st.sampled_from([0, 1, 2, 7, 0x7F, 0x80, 0x81, 0xFF])
HOSTILE_U64 = st.one_of(st.integers(0, 70), st.integers(2**63 - 40, 2**63 + 40), U64)


@given(
    st.lists(VARINT_BYTE, max_size=60).map(bytes),
    st.sampled_from([b"", NAME, NAME[:5], 3 * NAME]),
    st.lists(st.tuples(HOSTILE_U64, HOSTILE_U64), min_size=1, max_size=30),
)
def test_reads_any_bytes_as_the_oracle(
    vdata: bytes, fnames: bytes, pointers: list[tuple[int, int]]
) -> None:
    tags = [struct.pack("<QQ", *pointer) for pointer in pointers]
    cache = oracle.OracleCache(tags, vdata, fnames)
    found = decode(vdata, fnames, pointers)
    assert rows(found) == [oracle.locate(cache, row) for row in range(len(tags))]
    assert (found.name_offset[found.is_corrupt] == -1).all()
    assert (found.offset[found.is_corrupt] == -1).all()
    assert (found.length[found.is_corrupt] == -1).all()


TEN = b"\x80" * 9
EDGES = {
    "the largest number": (b"\x00\x00" + b"\xff" * 9 + b"\x01", (0, 0, -1)),
    "the sign bit": (b"\x00" + TEN + b"\x01\x05", (0, -(2**63), 5)),
    "a tenth byte over 1": (b"\x00\x00" + b"\xff" * 9 + b"\x02", None),
    "eleven bytes": (b"\x00\x00" + b"\x80" * 10 + b"\x00", None),
    "longer than needed": (b"\x80\x00" + b"\x81\x80\x00" + TEN + b"\x00", (0, 1, 0)),
    "bytes behind": (b"\x00\x01\x02\xff\xff", (0, 1, 2)),
    "ends in the third": (b"\x00\x01\x80", None),
    "two only": (b"\x00\x01", None),
    "a name at the end of the names": (b"\x07\x01\x02", None),
    "a name from the last byte on": (b"\x06\x01\x02", None),
    "a negative name offset": (TEN + b"\x01\x00\x00", None),
    "the largest name offset": (b"\xff" * 8 + b"\x7f\x00\x00", None),
}


@pytest.mark.parametrize(("vdata", "wanted"), EDGES.values(), ids=EDGES.keys())
def test_varints_at_their_limits_are_read_as_go_reads_them(
    vdata: bytes, wanted: tuple[int, int, int] | None
) -> None:
    assert rows(decode(vdata, NAME, [(0, len(vdata))])) == [wanted]


@pytest.mark.parametrize(
    ("pointer", "is_corrupt"),
    [
        ((0, 3), False),
        ((0, 2), True),
        ((1, 3), True),
        ((3, 0), True),
        ((0, 0), True),
        ((4, 0), True),
        ((2**64 - 1, 4), True),  # their sum wraps to 3
        ((2**64 - 3, 3), True),  # their sum wraps to 0
        ((0, 2**64 - 1), True),
    ],
)
def test_tags_that_point_outside_are_corrupt(pointer: tuple[int, int], is_corrupt: bool) -> None:
    assert decode(b"\x00\x01\x02", NAME, [pointer]).is_corrupt.tolist() == [is_corrupt]


def test_a_batch_of_several_blocks_is_complete() -> None:
    n_rows = (1 << 14) + 2
    found = decode(b"\x00\x01\x02\x80", NAME, [(0, 3), (1, 3)] * (n_rows // 2))
    assert rows(found) == [(0, 1, 2), None] * (n_rows // 2)


def test_names_must_be_whole() -> None:
    fnames = np.frombuffer(NAME + b"\x01\x00\x00\x01ab", np.uint8)
    offsets = [0, 7, 8, 9, 10, 11, -1, -(2**63), 2**63 - 1]
    assert name_lengths(fnames, section(0, 13), np.array(offsets)).tolist() == [3, *[-1] * 8]
    assert name_lengths(fnames, section(0, 3), np.array([0])).tolist() == [-1]
    assert name_lengths(fnames, section(0, 0), np.array([0])).tolist() == [-1]


def test_each_row_may_have_sections_of_its_own() -> None:
    data = np.frombuffer(b"\0\1\2" + NAME + b"\0\3\4" + b"\0\0\0\0", np.uint8)
    vdata = Section(np.array([0, 10, 0]), np.array([3, 3, 0]))
    fnames = Section(np.array([3, 13, 3]), np.array([7, 4, 7]))
    zero, three = np.zeros(3, np.uint64), np.full(3, 3, np.uint64)
    found = parse_locations(data, vdata, fnames, zero, three)
    assert rows(found) == [(0, 1, 2), (0, 3, 4), None]


def test_rows_are_scattered_to_a_larger_table() -> None:
    located = decode(b"\0\1\2", NAME, [(0, 3), (1, 3)])
    found = Locations.gather(4, [(np.array([3, 1]), located)])
    assert found.length.tolist() == [-1, -1, -1, 2]
    assert found.is_corrupt.tolist() == [False, True, False, False]


def test_a_table_refuses_columns_of_other_lengths() -> None:
    column = np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="length: found shape"):
        Locations(column, column, column, np.zeros(1, np.int64), np.zeros(2, np.bool_))
    assert repr(decode(b"", b"", [(0, 0)])) == "<Locations: 1 rows, 1 corrupt>"
