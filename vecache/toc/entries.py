"""The entries of one TOC as columns, in TOC order.

One row an entry as the document has it: a file of many chunks is a `REG` row, which carries the
first chunk, and the `CHUNK` rows behind it. Extended attributes are few, so they are a table of
their own that refers to entry rows. Times are checked when the TOC is parsed and then dropped:
nothing depends on them.

75 bytes a row of numbers, 66 of packed digests, and the texts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from vecache.arrays import binary_buffers, binary_to_text, column, slices_to_binary

if TYPE_CHECKING:
    from vecache.arrays import I64, U8, BinaryColumn
    from vecache.digest import Digests

__all__ = ["ChunkKind", "Entries", "EntryKind", "Xattrs"]


class EntryKind(IntEnum):
    """An entry's `type`. OTHER is any text that is not one of the eight."""

    OTHER = 0
    REG = 1
    HARDLINK = 2
    CHAR = 3
    BLOCK = 4
    DIR = 5
    FIFO = 6
    SYMLINK = 7
    CHUNK = 8


class ChunkKind(IntEnum):
    """An entry's `chunkType`: data (the empty text), a hole, or any other text."""

    DATA = 0
    ZEROS = 1
    OTHER = 2


_KINDS: Final = {"kind": EntryKind, "chunk_kind": ChunkKind}
_ARROW_COLUMNS: Final = (
    *("kind", "name", "link_name", "mode", "uid", "gid", "size", "digest"),
    *("chunk_offset", "chunk_size", "chunk_kind", "chunk_digest", "offset", "end_offset"),
)


@dataclass(frozen=True, slots=True, repr=False)
class Xattrs:
    """Extended attributes, sorted by entry row and then by the bytes of the name.

    Attributes
    ----------
    entry_row : (n_xattrs,) int64
        Row in `Entries`.
    name, value : pyarrow.BinaryArray of n_xattrs rows
        As in the TOC: the value is base64 text.
    """

    entry_row: I64
    name: BinaryColumn
    value: BinaryColumn

    def __len__(self) -> int:
        return len(self.entry_row)


@dataclass(frozen=True, slots=True, repr=False)
class Entries:
    """Columns of equal length, one row an entry.

    Attributes
    ----------
    kind : (n,) uint8
        `EntryKind`.
    name, link_name : pyarrow.BinaryArray of n rows, no nulls
        Bytes of the JSON text, unescaped.
    mode, uid, gid : (n,) int64
        As in the TOC; 0 where it has none.
    size : (n,) int64
        Bytes of the uncompressed file; 0 on `CHUNK` rows.
    offset, end_offset : (n,) int64
        Byte range in the compressed blob; `end_offset` is 0 where the TOC has none.
    chunk_size, chunk_offset : (n,) int64
        Bytes of this entry's chunk, and its byte offset in the uncompressed file.
    chunk_kind : (n,) uint8
        `ChunkKind`.
    digest, chunk_digest : Digests of n rows
        Of the whole file, and of this entry's chunk.
    xattrs : Xattrs
        Extended attributes of all entries.
    """

    kind: U8
    name: BinaryColumn
    link_name: BinaryColumn
    mode: I64
    size: I64
    uid: I64
    gid: I64
    offset: I64
    end_offset: I64
    chunk_size: I64
    chunk_offset: I64
    chunk_kind: U8
    digest: Digests
    chunk_digest: Digests
    xattrs: Xattrs

    def __post_init__(self) -> None:
        n_rows = len(self.kind)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                column(field.name, value, np.uint8 if "kind" in field.name else np.int64, n_rows)
            elif field.name != "xattrs" and len(value) != n_rows:
                raise ValueError(f"{field.name}: found {len(value)} rows, wanted {n_rows}")

    def to_arrow(self) -> Any:
        """Return all columns but the extended attributes; null where there is no text."""
        columns: dict[str, Any] = {}
        for field in fields(self):  # columns, not rows
            value = getattr(self, field.name)
            if field.name in _KINDS:
                names = [kind.name.lower() for kind in _KINDS[field.name]]
                columns[field.name] = pa.DictionaryArray.from_arrays(value.astype(np.int8), names)
            elif isinstance(value, np.ndarray):
                columns[field.name] = value
            elif field.name != "xattrs":
                texts = value if isinstance(value, pa.Array) else value.to_text()
                starts, lengths, data = binary_buffers(texts)
                columns[field.name] = binary_to_text(
                    slices_to_binary(data, starts, lengths, lengths > 0)
                )
        return pa.table({name: columns[name] for name in _ARROW_COLUMNS})

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def n_files(self) -> int:
        """Number of regular files: rows of kind `REG`."""
        return int(np.count_nonzero(self.kind == EntryKind.REG))

    def __repr__(self) -> str:
        n_bytes = int(self.size.sum())
        return f"<Entries: {len(self):,} rows, {self.n_files:,} files, {n_bytes:,} bytes>"
