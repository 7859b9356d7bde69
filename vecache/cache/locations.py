"""Convert between locations, which say where a tag's content is, and columns.

A location is three unsigned varints (LEB128): the byte offset of the name in fnames, the offset in
the file, the length. Reading follows Go's `binary.ReadUvarint` exactly: at most ten bytes, the
tenth at most 1; longer forms than needed are accepted; bytes behind the third varint are ignored. A
row that points outside its section is marked corrupt, and nothing outside is read for it. So is one
whose name is longer than a path can be: Go reads it, and then cannot open the file, which fails the
pull as a corrupt row does.

The loops run over the (at most ten) bytes of a varint, never over rows. About 60 ns a row to read;
33 bytes a row. A buffer may hold one file, or a thousand that are viewed as one array.

Source: containers/storage pkg/chunked/cache_linux.go generateFileLocation, parseFileLocation,
findDigestInternal.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vecache.arrays import column, gather_bytes
from vecache.cache.format import MAX_NAME_BYTES, NAME_HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecache.arrays import I64, U8, U64, Bool

__all__ = ["Locations", "Section", "name_lengths", "pack_locations", "parse_locations"]

_MAX_VARINT_BYTES = 10  # Go: binary.MaxVarintLen64
_VARINT_STEPS = np.uint64(1) << np.arange(7, 64, 7, dtype=np.uint64)  # one more byte from here on
_ROWS_PER_BLOCK = 1 << 14


@dataclass(frozen=True, slots=True, repr=False)
class Locations:
    """One row a tag that was located.

    Attributes
    ----------
    name_offset : (n,) int64
        Byte offset of the name in fnames; -1 where corrupt or absent.
    name_length : (n,) int64
        Bytes of the name; -1 where corrupt or absent.
    offset, length : (n,) int64
        Byte range in the uncompressed file, as Go's `int64(uint64)` wraps it; -1 where corrupt or
        absent.
    is_corrupt : (n,) bool
        The tag points outside vdata, a varint is invalid, or the name is not inside fnames or is
        longer than a path.
    """

    name_offset: I64
    name_length: I64
    offset: I64
    length: I64
    is_corrupt: Bool

    def __post_init__(self) -> None:
        for field in fields(self):
            dtype = np.bool_ if field.name == "is_corrupt" else np.int64
            column(field.name, getattr(self, field.name), dtype, len(self.is_corrupt))

    def take(self, rows: I64) -> Locations:
        """Pick rows, as `ndarray[rows]` does."""
        return Locations(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def gather(cls, n_rows: int, parts: Iterable[tuple[I64 | slice, Locations]]) -> Locations:
        """Make a table of parts and the rows that each part has; the others are absent (-1)."""
        name_offset, name_length, offset, length = np.full((4, n_rows), -1, np.int64)
        is_corrupt = np.zeros(n_rows, np.bool_)
        for rows, part in parts:
            name_offset[rows], name_length[rows] = part.name_offset, part.name_length
            offset[rows], length[rows] = part.offset, part.length
            is_corrupt[rows] = part.is_corrupt
        return cls(name_offset, name_length, offset, length, is_corrupt)

    def __len__(self) -> int:
        return len(self.is_corrupt)

    def __repr__(self) -> str:
        return f"<Locations: {len(self):,} rows, {int(self.is_corrupt.sum()):,} corrupt>"


class Section(NamedTuple):
    """Position of a section of a file in a buffer: one for all rows, or one a row.

    Attributes
    ----------
    start, n_bytes : () or (n,) int64
        First byte in the buffer, and length. The buffer may hold many files.
    """

    start: I64
    n_bytes: I64

    def rows(self, block: slice) -> Section:
        """Select a block of rows; one section for all rows stays as it is."""
        return Section(self.start[block], self.n_bytes[block]) if self.start.ndim else self

    def bounds(self) -> tuple[I64, I64]:
        """Return the first and the last byte that may be read: byte 0 for an empty section."""
        start = np.where(self.n_bytes > 0, self.start, 0)
        return start, np.maximum(start + self.n_bytes - 1, 0)


def parse_locations(
    data: U8, vdata: Section, fnames: Section, location_offset: U64, location_length: U64
) -> Locations:
    """Read the locations that tags point at.

    Parameters
    ----------
    data : (n_bytes,) uint8
        The buffer that both sections lie in.
    vdata, fnames : Section
        The two sections, of one file or of the file of each row.
    location_offset, location_length : (n,) uint64
        The tags' pointers into vdata.

    Returns
    -------
    Locations
        n rows.
    """
    n_rows = len(location_offset)
    values = np.zeros((3, n_rows), np.int64)
    name_length = np.empty(n_rows, np.int64)
    is_corrupt = np.empty(n_rows, np.bool_)
    for start in range(0, n_rows, _ROWS_PER_BLOCK):  # what a block needs stays in the cache
        block = slice(start, start + _ROWS_PER_BLOCK)
        found = values[:, block]
        is_bad = _read_pointers(
            data, vdata.rows(block), location_offset[block], location_length[block], found
        )
        lengths = name_lengths(data, fnames.rows(block), found[0])
        is_bad |= lengths < 0
        found[:, is_bad], lengths[is_bad] = -1, -1
        name_length[block] = lengths
        is_corrupt[block] = is_bad
    name_offset, offset, length = values
    return Locations(name_offset, name_length, offset, length, is_corrupt)


def _read_pointers(data: U8, vdata: Section, offset: U64, length: U64, out: I64) -> Bool:
    """Read three varints a row into `out`, which is all 0; return the rows that are invalid."""
    n_vdata = vdata.n_bytes.astype(np.uint64)
    is_bad: Bool = (offset > n_vdata) | (length > n_vdata - offset)
    start, last = vdata.bounds()
    cursor = start + np.minimum(offset, n_vdata).astype(np.int64)
    end = cursor + np.minimum(length, n_vdata).astype(np.int64)
    for value in out:
        is_bad |= _read_varint(data, cursor, last, value)
        is_bad |= cursor > end
    return is_bad


def _read_varint(data: U8, cursor: I64, last: I64, out: I64) -> Bool:
    """Read one varint a row into `out`, move `cursor` behind it, return the rows that overflow."""
    # A cursor that is past the last byte reads that byte again; the caller then sees its position.
    is_open = np.ones(len(cursor), np.bool_)
    for n_read in range(_MAX_VARINT_BYTES):
        byte = data.take(np.minimum(cursor, last), mode="clip") * is_open
        out |= (byte & 0x7F).astype(np.int64) << (7 * n_read)
        cursor += is_open
        is_open = byte >= 0x80
        if not is_open.any():
            break
    return byte > 1 if n_read == _MAX_VARINT_BYTES - 1 else is_open


def name_lengths(data: U8, fnames: Section, name_offset: I64) -> I64:
    """Return the length of each name.

    Parameters
    ----------
    data : (n_bytes,) uint8
        The buffer that the section lies in, not empty.
    fnames : Section
        Length (u32) and bytes of every name.
    name_offset : (n,) int64
        Byte offset of each name in the section.

    Returns
    -------
    (n,) int64
        Bytes of each name; -1 where it is not wholly inside the section, or longer than a path.

    Notes
    -----
    Go returns a longer name too. A pull that would reuse a file there cannot open it and fails; a
    chunk there it fetches. No layer on a disk has one: pulling it fails for the same reason.
    """
    n_behind = fnames.n_bytes - NAME_HEAD_BYTES - name_offset  # from a name's head to the end
    is_inside = (name_offset >= 0) & (n_behind >= 0)
    rows = slice(None) if is_inside.all() else np.flatnonzero(is_inside)
    heads = gather_bytes(data, (fnames.start + name_offset)[rows], NAME_HEAD_BYTES)
    n_bytes = np.full(len(name_offset), -1, np.int64)
    n_bytes[rows] = heads.view("<u4")[:, 0]
    n_bytes[n_bytes > np.minimum(n_behind, MAX_NAME_BYTES)] = -1
    return n_bytes


def pack_locations(name_offset: U64, offset: U64, length: U64) -> tuple[U8, I64]:
    """Pack locations one behind the other.

    Parameters
    ----------
    name_offset, offset, length : (n,) uint64
        The three numbers of each location.

    Returns
    -------
    vdata : (n_bytes,) uint8
        All locations.
    starts : (n + 1,) int64
        Offset in `vdata` of each location, and the end of the last.
    """
    value = np.column_stack([name_offset, offset, length]).reshape(-1)
    n_bytes = np.ones(len(value), np.int64)
    for step in _VARINT_STEPS:  # nine at most, most numbers have up to four bytes
        is_longer = value >= step
        if not is_longer.any():
            break
        n_bytes += is_longer
    starts = np.zeros(len(value) + 1, np.int64)
    np.cumsum(n_bytes, out=starts[1:])
    vdata = np.empty(starts[-1], np.uint8)
    at = starts[:-1]
    for _ in range(_MAX_VARINT_BYTES):
        has_more = value > 0x7F
        vdata[at] = value.astype(np.uint8) & 0x7F | has_more.astype(np.uint8) << 7
        rows = np.flatnonzero(has_more)
        if not len(rows):
            break
        value, at = value.take(rows) >> np.uint64(7), at.take(rows) + 1
    return vdata, starts[::3]
