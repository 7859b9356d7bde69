"""Where a tag's content is: locations <-> columns.

A location is three unsigned varints (LEB128): the byte in fnames where the name is, the offset in
the file, the length. Reading follows Go's `binary.ReadUvarint` to the letter: at most ten bytes,
the tenth at most 1; longer forms than needed are accepted; bytes behind the third varint are
ignored. A row that points outside is marked corrupt, and nothing outside is touched for it.

The loops run over the (at most ten) bytes of a varint, never over rows. About 60 ns a row to read;
25 bytes a row.

Source: containers/storage pkg/chunked/cache_linux.go generateFileLocation, parseFileLocation,
findDigestInternal.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from vecache.arrays import column

if TYPE_CHECKING:
    import numpy.typing as npt

    from vecache.arrays import I64, U8, U64, Bool

__all__ = ["Locations", "decode_locations", "name_lengths", "pack_locations"]

_MAX_VARINT_BYTES = 10  # Go: binary.MaxVarintLen64
_VARINT_STEPS = np.uint64(1) << np.arange(7, 64, 7, dtype=np.uint64)  # one more byte from here on
_NAME_HEAD_BYTES = 4
_ROWS_PER_BLOCK = 1 << 14


@dataclass(frozen=True, slots=True, repr=False)
class Locations:
    """One row a tag that was asked for.

    Attributes
    ----------
    name_offset : (n,) int64
        Byte in fnames where the name stands; -1 where corrupt or absent.
    offset, length : (n,) int64
        Place and bytes in the uncompressed file, as Go's `int64(uint64)` wraps them; -1 where
        corrupt or absent.
    is_corrupt : (n,) bool
        The tag points outside vdata, a varint is bad, or the name is not inside fnames.
    """

    name_offset: I64
    offset: I64
    length: I64
    is_corrupt: Bool

    def __post_init__(self) -> None:
        for field in fields(self):
            dtype = np.bool_ if field.name == "is_corrupt" else np.int64
            column(field.name, getattr(self, field.name), dtype, len(self.is_corrupt))

    def __len__(self) -> int:
        return len(self.is_corrupt)

    def __repr__(self) -> str:
        return f"<Locations: {len(self):,} rows, {int(self.is_corrupt.sum()):,} corrupt>"


def decode_locations(vdata: U8, fnames: U8, tags: npt.NDArray[Any], tag_row: I64) -> Locations:
    """Read the locations that tags point at.

    Parameters
    ----------
    vdata, fnames : (n_bytes,) uint8
        The two sections of the file.
    tags : (n_tags,) structured
        As `format.tag_dtype` says.
    tag_row : (n,) int64
        Rows in `tags`; where negative, the result is -1 and not corrupt.

    Returns
    -------
    Locations
        n rows.

    Raises
    ------
    IndexError
        If a row is not in `tags`.
    """
    values = np.full((3, len(tag_row)), -1, np.int64)
    is_corrupt = np.zeros(len(tag_row), np.bool_)
    present = np.flatnonzero(tag_row >= 0)
    for start in range(0, len(present), _ROWS_PER_BLOCK):  # what a block needs stays in the cache
        rows = present[start : start + _ROWS_PER_BLOCK]
        asked = tag_row[rows]
        found, is_bad = _decode_block(
            vdata, fnames, tags["location_offset"][asked], tags["location_length"][asked]
        )
        found[:, is_bad] = -1
        values[:, rows] = found
        is_corrupt[rows] = is_bad
    name_offset, offset, length = values
    return Locations(name_offset, offset, length, is_corrupt)


def _decode_block(vdata: U8, fnames: U8, offset: U64, length: U64) -> tuple[I64, Bool]:
    """(3, n) int64 values, and (n,) bool: which of the columns mean nothing."""
    found = np.zeros((3, len(offset)), np.int64)
    if not len(vdata):
        return found, np.ones(len(offset), np.bool_)
    n_vdata = np.uint64(len(vdata))
    is_bad: Bool = (offset > n_vdata) | (length > n_vdata - offset)
    cursor = np.minimum(offset, n_vdata).astype(np.int64)
    end = cursor + np.minimum(length, n_vdata).astype(np.int64)
    for value in found:  # three varints
        is_bad |= _read_varint(vdata, cursor, value)
        is_bad |= cursor > end
    is_bad |= name_lengths(fnames, found[0]) < 0
    return found, is_bad


def _read_varint(data: U8, cursor: I64, out: I64) -> Bool:
    """Read one varint a row into `out`, move `cursor` behind it, tell which rows overflow.

    A cursor that is past the end of `data` reads its last byte again; the caller sees it there.
    """
    is_open = np.ones(len(cursor), np.bool_)
    for n_read in range(_MAX_VARINT_BYTES):
        byte = data.take(cursor, mode="clip") * is_open
        out |= (byte & 0x7F).astype(np.int64) << (7 * n_read)
        cursor += is_open
        is_open = byte >= 0x80
        if not is_open.any():
            break
    return byte > 1 if n_read == _MAX_VARINT_BYTES - 1 else is_open


def name_lengths(fnames: U8, name_offset: I64) -> I64:
    """Read how long names are.

    Parameters
    ----------
    fnames : (n_bytes,) uint8
        Length (u32) and bytes of every name.
    name_offset : (n,) int64
        Where names stand.

    Returns
    -------
    (n,) int64
        Bytes of each name; -1 where it is not wholly inside `fnames`.
    """
    last = len(fnames) - _NAME_HEAD_BYTES
    if last < 0:
        return np.full(len(name_offset), -1, np.int64)
    n_bytes = np.zeros(len(name_offset), np.int64)
    for place in range(_NAME_HEAD_BYTES):  # an unaligned u32, byte by byte
        n_bytes |= fnames.take(name_offset + place, mode="clip").astype(np.int64) << (8 * place)
    n_bytes[(name_offset < 0) | (n_bytes > last - name_offset)] = -1
    return n_bytes


def pack_locations(name_offset: U64, offset: U64, length: U64) -> tuple[U8, I64]:
    """Write locations one behind the other.

    Parameters
    ----------
    name_offset, offset, length : (n,) uint64
        The three numbers of each.

    Returns
    -------
    vdata : (n_bytes,) uint8
        All locations.
    starts : (n + 1,) int64
        Where in `vdata` each begins, and where the last ends.
    """
    value = np.column_stack([name_offset, offset, length]).reshape(-1)
    n_bytes = 1 + np.searchsorted(_VARINT_STEPS, value, side="right")
    starts = np.zeros(len(value) + 1, np.int64)
    np.cumsum(n_bytes, out=starts[1:])
    vdata = np.empty(starts[-1], np.uint8)
    rows = np.arange(len(value))
    for place in range(_MAX_VARINT_BYTES):
        payload = (value[rows] >> np.uint64(7 * place)).astype(np.uint8) & 0x7F
        has_more = n_bytes[rows] > place + 1
        vdata[starts[rows] + place] = payload | has_more.astype(np.uint8) << 7
        rows = rows[has_more]
    return vdata, starts[::3]
