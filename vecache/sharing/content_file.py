"""A file of the contents of one layer: both tables, sorted, of which any part can be read alone.

Figures of many stores need the tables of thousands of layers, more than fits in memory, and always
the same keys of all of them at once. So each layer's tables are written once, and a reader takes
the rows whose keys begin with certain bytes.

=========  ==========  ============================================================================
offset     bytes
=========  ==========  ============================================================================
0          8           `vecont/1`: another version has another number
8          16          xxh3_128 of the bytes from 24 up to 8,264
24         16          xxh3_128 of the name that the file was written under
40         2 x 16      of files, then of chunks: bytes, each content once; bytes of all copies
72         2 x 2,048   of files, then of chunks: for each first byte of a key, the number of rows
                       whose keys begin with it or with a lower one
4,168      2 x 2,048   the same for the xxh3_64 of the rows whose keys begin with it
8,264      48 a row    of files, then of chunks, each in ascending order of the key: the key (32),
                       the size, the copies
=========  ==========  ============================================================================

Numbers have 8 bytes, little-endian; all fit int64. What is read is verified, and nothing else is
read. A file is a copy of what the TOC says: one that is damaged is derived again.
"""

from __future__ import annotations

import io
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
import xxhash

from vecache.errors import FormatError, TruncatedError
from vecache.sharing.content_table import ContentTable
from vecache.sharing.contents import GRAINS, MAX_BYTES
from vecache.sharing.keys import KEY_BYTES

if TYPE_CHECKING:
    from vecache.arrays import I64
    from vecache.sharing.contents import Grain

__all__ = ["ContentFile", "pack_contents"]

_MAGIC: Final = b"vecont/1"
_N_FIRST_BYTES: Final = 256
_CHECKED_FROM: Final = 24
_ROUNDING: Final = 1 + 1e-9
_HEADER: Final = np.dtype(
    [
        ("magic", "S8"),
        ("checksum", "V16"),
        ("name", "V16"),
        ("total_bytes", "<i8", (2, 2)),
        ("end_row", "<i8", (2, _N_FIRST_BYTES)),
        ("row_checksum", "<u8", (2, _N_FIRST_BYTES)),
    ]
)
_ROW: Final = np.dtype([("key", np.uint8, (KEY_BYTES,)), ("size", "<i8"), ("n_copies", "<i8")])


class ContentFile:
    """An open file of contents, its header verified.

    Parameters
    ----------
    file : binary file
        Open for reading, as long as this object is used.
    n_bytes : int
        Its size.
    name : str
        The name that it must have been written under.

    Attributes
    ----------
    n_bytes, logical_bytes : (2,) int64
        Of files and of chunks: bytes, each content once; bytes of all copies.
    n_rows : (2, 256) int64
        Of files and of chunks: the rows whose key begins with each byte.

    Raises
    ------
    FormatError
        If it is damaged, or of something else.
    """

    def __init__(self, file: BinaryIO, n_bytes: int, name: str) -> None:
        data = file.read(_HEADER.itemsize)
        if len(data) < _HEADER.itemsize:
            raise TruncatedError(
                f"found {len(data):,} bytes, wanted {_HEADER.itemsize:,}",
                section="header",
                offset=0,
            )
        header = np.frombuffer(data, _HEADER)[0]
        _check_header(header, data, n_bytes, name)
        self._file = file
        self._end_row: I64 = header["end_row"].astype(np.int64)
        self._row_checksum = header["row_checksum"]
        self.n_bytes, self.logical_bytes = header["total_bytes"].astype(np.int64).T
        self.n_rows: I64 = np.diff(self._end_row, axis=1, prepend=0)

    def read(self, grain: Grain, first: int = 0, stop: int = _N_FIRST_BYTES) -> ContentTable:
        """Read the contents whose key begins with a byte from `first` to before `stop`.

        Parameters
        ----------
        grain : {"file", "chunk"}
            The table.
        first, stop : int
            From 0 to 256.

        Returns
        -------
        ContentTable
            In ascending order of the key.

        Raises
        ------
        FormatError
            If these rows are damaged.
        """
        number = GRAINS.index(grain)
        ends = np.append(0, self._end_row[number])[first : stop + 1].tolist()
        offset = _HEADER.itemsize + ends[0] * _ROW.itemsize
        if number:
            offset += int(self._end_row[0, -1]) * _ROW.itemsize
        self._file.seek(offset)
        wanted = (ends[-1] - ends[0]) * _ROW.itemsize
        data = memoryview(self._file.read(wanted))
        if len(data) < wanted:
            raise TruncatedError(
                f"found {len(data):,} bytes, wanted {wanted:,}", section="rows", offset=offset
            )
        for byte, start, end in zip(range(first, stop), ends[:-1], ends[1:], strict=True):
            # At most 256 of them, each of many rows.
            part = data[(start - ends[0]) * _ROW.itemsize : (end - ends[0]) * _ROW.itemsize]
            if end > start and xxhash.xxh3_64_intdigest(part) != self._row_checksum[number, byte]:
                raise FormatError(
                    f"the checksum of rows {start:,} to {end:,} differs",
                    section="rows",
                    offset=offset,
                )
        rows = np.frombuffer(data, _ROW)
        table = ContentTable(
            *(np.ascontiguousarray(rows[column]) for column in ("key", "size", "n_copies"))
        )
        _check_sizes(table, int(self.n_bytes[number]), int(self.logical_bytes[number]), offset)
        return table


def pack_contents(name: str, files: ContentTable, chunks: ContentTable) -> bytes:
    """Return the bytes of a file of contents.

    Parameters
    ----------
    name : str
        What the file will be opened by.
    files, chunks : ContentTable
        The contents; neither has more than 2**53 bytes.

    Returns
    -------
    bytes
        The whole file.
    """
    header = np.zeros((), _HEADER)
    header["magic"] = _MAGIC
    header["name"] = np.void(xxhash.xxh3_128_digest(name.encode()))
    parts = []
    for number, table in enumerate((files, chunks)):
        rows = np.empty(len(table), _ROW)
        rows["key"], rows["size"], rows["n_copies"] = table.key, table.size, table.n_copies
        ends = np.searchsorted(table.key[:, 0], np.arange(_N_FIRST_BYTES), side="right")
        header["total_bytes"][number] = table.n_bytes, table.logical_bytes
        header["end_row"][number] = ends
        data = rows.tobytes()
        edges = [0, *(ends * _ROW.itemsize).tolist()]
        header["row_checksum"][number] = [
            xxhash.xxh3_64_intdigest(memoryview(data)[start:end]) for start, end in pairwise(edges)
        ]
        parts.append(data)
    header["checksum"] = np.void(xxhash.xxh3_128_digest(header.tobytes()[_CHECKED_FROM:]))
    out = io.BytesIO()
    out.writelines([header.tobytes(), *parts])
    return out.getvalue()


def _check_header(header: Any, data: bytes, n_bytes: int, name: str) -> None:
    """Refuse a header that is damaged, of another file, or of a file of another size."""
    if header["magic"] != _MAGIC:
        _refuse(f"found {data[:8]!r}, wanted {_MAGIC!r}", 0)
    if header["checksum"].tobytes() != xxhash.xxh3_128_digest(data[_CHECKED_FROM:]):
        _refuse("its checksum differs", 8)
    if header["name"].tobytes() != xxhash.xxh3_128_digest(name.encode()):
        _refuse(f"written under another name than {name}", 24)
    ends, totals = header["end_row"], header["total_bytes"]
    n_rows = np.diff(ends, axis=1, prepend=0)
    most_rows = n_bytes // _ROW.itemsize
    if n_rows.min() < 0 or n_rows.max() > most_rows:
        _refuse("its numbers of rows are not in order", 72)
    wanted = _HEADER.itemsize + int(ends[:, -1].sum()) * _ROW.itemsize
    if n_bytes != wanted:
        _refuse(f"found a file of {n_bytes:,} bytes, wanted {wanted:,}", 72)
    if totals.min() < 0 or totals.max() > MAX_BYTES:
        _refuse(f"it claims bytes from {totals.min():,} to {totals.max():,}", 40)


def _check_sizes(table: ContentTable, n_bytes: int, logical_bytes: int, offset: int) -> None:
    """Refuse rows that have more bytes than the header says: sums would not be exact."""
    if not len(table):
        return
    size = table.size.astype(np.float64)  # which does not overflow
    is_bounded = size.sum() <= n_bytes * _ROUNDING
    is_bounded &= (size * table.n_copies).sum() <= logical_bytes * _ROUNDING
    if not (is_bounded and table.size.min() > 0 < table.n_copies.min()):
        raise FormatError("found sizes out of range", section="rows", offset=offset)


def _refuse(reason: str, offset: int) -> None:
    raise FormatError(reason, section="header", offset=offset)
