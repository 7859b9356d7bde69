"""Merge the entries of a TOC into files with their chunks, as a pull does.

A TOC lists a file of many chunks as a `REG` entry, which carries the first chunk, and `CHUNK`
entries behind it. Here each file is one row of `TocFiles`, and its chunks are consecutive rows of
`Chunks`, with the range of each in the compressed blob and its uncompressed size.

1. Skip the three landmark files of eStargz. Find the `CHUNK` entries behind each regular file.
2. A file ends in the blob where its last entry says. eStargz does not say: a file then ends where
   the next entry with an offset begins, and the last one where the TOC begins.
3. A chunk ends where the next chunk of its file begins. Its size is `chunkSize`, or what remains.

Numbers wrap at 64 bits, as in Go. 24 bytes a file, 49 a chunk, and the names.

Source: containers/storage pkg/chunked/storage_linux.go mergeTocEntries, makeEntriesFlat.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vecache.arrays import column, frozen, ragged_arange
from vecache.errors import TocError
from vecache.text import quoted
from vecache.toc.entries import Entries, EntryKind
from vecache.toc.layout import find_flat_rows

if TYPE_CHECKING:
    from vecache.arrays import I64, U8, BinaryColumn, Bool

__all__ = ["LANDMARKS", "Chunks", "TocFiles", "TocFormat", "flat_files", "merge_entries"]

LANDMARKS = (b".prefetch.landmark", b".no.prefetch.landmark", b"stargz.index.json")


class TocFormat(StrEnum):
    """The format of a layer's TOC."""

    ZSTD_CHUNKED = "zstd:chunked"
    ESTARGZ = "estargz"


@dataclass(frozen=True, slots=True, repr=False)
class Chunks:
    """One row a chunk, file by file.

    Attributes
    ----------
    file_row : (n_chunks,) int64
        Row in `TocFiles`.
    entry_row : (n_chunks,) int64
        Row in `Entries`, where the chunk's digest is.
    offset, end_offset : (n_chunks,) int64
        Byte range in the compressed blob.
    file_offset, size : (n_chunks,) int64
        Byte offset in the uncompressed file, and length there.
    kind : (n_chunks,) uint8
        `ChunkKind`.
    """

    file_row: I64
    entry_row: I64
    offset: I64
    end_offset: I64
    file_offset: I64
    size: I64
    kind: U8

    def __post_init__(self) -> None:
        for field in fields(self):
            dtype = np.uint8 if field.name == "kind" else np.int64
            column(field.name, getattr(self, field.name), dtype, len(self.file_row))

    def __len__(self) -> int:
        return len(self.file_row)


@dataclass(frozen=True, slots=True, repr=False)
class TocFiles:
    """One row an entry that is not a `CHUNK`, in TOC order: files, directories, links, devices.

    Attributes
    ----------
    entries : Entries
        All entries of the TOC.
    chunks : Chunks
        The chunks of all files.
    entry_row : (n_files,) int64
        Row in `entries`.
    name : pyarrow.BinaryArray of n_files rows
        Name in the TOC, or the flat one.
    end_offset : (n_files,) int64
        Byte in the compressed blob where its data ends.
    chunk_start : (n_files + 1,) int64
        The chunks of file `i` are the rows from `chunk_start[i]` to before `chunk_start[i + 1]` of
        `chunks`. A `REG` has at least one chunk, all others have none.
    """

    entries: Entries
    chunks: Chunks
    entry_row: I64
    name: BinaryColumn
    end_offset: I64
    chunk_start: I64

    def __post_init__(self) -> None:
        n_rows = len(self.name)
        column("entry_row", self.entry_row, np.int64, n_rows)
        column("end_offset", self.end_offset, np.int64, n_rows)
        column("chunk_start", self.chunk_start, np.int64, n_rows + 1)

    def __len__(self) -> int:
        return len(self.entry_row)

    def __repr__(self) -> str:
        return f"<TocFiles: {len(self):,} files, {len(self.chunks):,} chunks>"


def merge_entries(entries: Entries, toc_format: TocFormat, toc_offset: int) -> TocFiles:
    """Merge the entries of a TOC, which begins at byte `toc_offset` of its blob, into files."""
    is_skipped = _is_landmark(entries, TocFormat(toc_format))
    is_chunk = entries.kind == EntryKind.CHUNK
    _require_heads(entries, is_chunk, is_skipped)
    heads = np.flatnonzero(~is_chunk)
    run_ends = np.append(heads, len(entries))[1:]
    is_file_row = ~is_skipped[heads]
    entry_row, run_ends = heads[is_file_row], run_ends[is_file_row]
    is_regular = entries.kind[entry_row] == EntryKind.REG
    n_chunks = np.where(is_regular, run_ends - entry_row, 0)
    last_entry = entry_row + np.maximum(n_chunks, 1) - 1
    end_offset = _fill_ends(entries.offset[entry_row], entries.end_offset[last_entry], toc_offset)
    return TocFiles(
        entries=entries,
        chunks=_list_chunks(entries, entry_row, end_offset, n_chunks),
        entry_row=entry_row,
        name=entries.name.take(pa.array(entry_row)),
        end_offset=end_offset,
        chunk_start=_starts(n_chunks),
    )


def flat_files(files: TocFiles) -> TocFiles:
    """Reduce files to the first regular file of each content, as composefs stores them."""
    entry_row, names = find_flat_rows(files.entries, files.entry_row)
    rows = np.searchsorted(files.entry_row, entry_row)
    n_chunks = np.diff(files.chunk_start)[rows]
    chunk_rows = ragged_arange(files.chunk_start[rows], n_chunks)
    columns = {field.name: getattr(files.chunks, field.name) for field in fields(Chunks)}
    chunks = Chunks(**{name: values[chunk_rows] for name, values in columns.items()})
    return TocFiles(
        entries=files.entries,
        chunks=replace(chunks, file_row=np.repeat(np.arange(len(rows)), n_chunks)),
        entry_row=entry_row,
        name=names,
        end_offset=files.end_offset[rows],
        chunk_start=_starts(n_chunks),
    )


def _is_landmark(entries: Entries, toc_format: TocFormat) -> Bool:
    if toc_format is not TocFormat.ESTARGZ:
        return np.zeros(len(entries), np.bool_)
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only eStargz needs it

    is_landmark = pc.is_in(entries.name, value_set=pa.array(LANDMARKS, pa.binary()))
    mask: Bool = is_landmark.to_numpy(zero_copy_only=False)
    return mask


def _require_heads(entries: Entries, is_chunk: Bool, is_skipped: Bool) -> None:
    """Refuse a chunk that does not follow a regular file; one with a landmark's name may."""
    is_head = ~is_chunk & ~is_skipped & (entries.kind == EntryKind.REG)
    newest = np.maximum.accumulate(np.where(is_chunk, 0, np.arange(1, len(entries) + 1)))
    has_head = np.append(False, is_head)[newest]
    orphans = np.flatnonzero(is_chunk & ~is_skipped & ~has_head)
    if len(orphans):
        row = int(orphans[0])
        name = quoted(entries.name[row].as_py())
        raise TocError(f"entry {row}, {name}: a chunk that does not follow a regular file")


def _fill_ends(offsets: I64, end_offsets: I64, toc_offset: int) -> I64:
    """Let files without an end end where the next one with an offset begins."""
    n_rows = len(offsets)
    known = np.where(offsets != 0, np.arange(n_rows), n_rows)
    later = np.append(np.minimum.accumulate(known[::-1])[::-1], n_rows)[1:]
    begins = np.append(offsets, np.int64(toc_offset))[later]
    return np.where(end_offsets == 0, begins, end_offsets)


def _starts(lengths: I64) -> I64:
    return frozen(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def _list_chunks(entries: Entries, file_entry: I64, file_end: I64, n_chunks: I64) -> Chunks:
    entry_row = ragged_arange(file_entry, n_chunks)
    file_row = np.repeat(np.arange(len(file_entry)), n_chunks)
    is_last = np.append(np.diff(file_row) != 0, True)[: len(file_row)]
    offset = entries.offset[entry_row]
    return Chunks(
        file_row=file_row,
        entry_row=entry_row,
        offset=offset,
        end_offset=np.where(is_last, file_end[file_row], np.roll(offset, -1)),
        file_offset=entries.chunk_offset[entry_row],
        size=_chunk_sizes(
            entries.chunk_size[entry_row],
            entries.size[file_entry[file_row]],
            is_first=np.roll(is_last, 1),
        ),
        kind=entries.chunk_kind[entry_row],
    )


def _chunk_sizes(chunk_size: I64, file_size: I64, *, is_first: Bool) -> I64:
    """Return the size of each chunk; one without a size takes all that remains of its file."""
    # After such a chunk exactly nothing remains, whatever was before it. So what remains is counted
    # from the file's first chunk, or from the one behind the last chunk without a size.
    is_open = chunk_size <= 0
    taken = np.cumsum(np.where(is_open, 0, chunk_size))
    taken_before = taken - np.where(is_open, 0, chunk_size)
    restarts = is_first | np.append(True, is_open[:-1])[: len(is_open)]
    origin = np.maximum.accumulate(np.where(restarts, np.arange(len(is_open)), 0))
    at_origin = np.where(is_first[origin], file_size, 0)
    remaining = at_origin - (taken_before - taken_before[origin])
    return np.where(is_open, remaining, chunk_size)
