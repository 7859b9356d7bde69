"""The files of a TOC with their chunks: what a pull looks at.

A TOC lists a file of many chunks as a `REG` entry, which carries the first chunk, and `CHUNK`
entries right behind it. Here each file is one row, and its chunks are a run of rows in a second
table, with the range that each has in the compressed blob and its size once unpacked.

1. Leave out the three landmarks of eStargz. Find the run of chunks behind each regular file.
2. A file ends in the blob where its last entry says. eStargz says nothing: it ends where the next
   entry with an offset begins, the last one where the TOC begins.
3. A chunk ends where the next of its file begins. Its size is `chunkSize`, or what remains.

Numbers wrap at 64 bits, as in Go. 24 bytes a file, 49 a chunk, and the names.

Source: containers/storage pkg/chunked/storage_linux.go mergeTocEntries, makeEntriesFlat.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
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

__all__ = ["Chunks", "Files", "Merged", "TocFormat", "flat_files", "merge_entries"]

_LANDMARKS = (b".prefetch.landmark", b".no.prefetch.landmark", b"stargz.index.json")


class TocFormat(StrEnum):
    """Which of the two formats a layer's TOC has."""

    ZSTD_CHUNKED = "zstd:chunked"
    ESTARGZ = "estargz"


@dataclass(frozen=True, slots=True, repr=False)
class Files:
    """One row an entry that is not a `CHUNK`, in TOC order.

    Attributes
    ----------
    entry_row : (n_files,) int64
        Row in `Entries`.
    name : pyarrow.BinaryArray of n_files rows
        Name in the TOC, or the flat one.
    end_offset : (n_files,) int64
        Byte in the compressed blob where its data ends.
    chunk_start : (n_files + 1,) int64
        Its chunks are the rows from `chunk_start[i]` to before `chunk_start[i + 1]` of `Chunks`; a
        `REG` has at least one, all others have none.
    """

    entry_row: I64
    name: BinaryColumn
    end_offset: I64
    chunk_start: I64

    def __post_init__(self) -> None:
        n_rows = len(self.name)
        for name in ("entry_row", "end_offset"):
            column(name, getattr(self, name), np.int64, n_rows)
        column("chunk_start", self.chunk_start, np.int64, n_rows + 1)

    def __len__(self) -> int:
        return len(self.entry_row)


@dataclass(frozen=True, slots=True, repr=False)
class Chunks:
    """One row a chunk, file by file.

    Attributes
    ----------
    file_row : (n_chunks,) int64
        Row in `Files`.
    entry_row : (n_chunks,) int64
        Row in `Entries`, where the chunk's digest is.
    offset, end_offset : (n_chunks,) int64
        Byte range in the compressed blob.
    file_offset, size : (n_chunks,) int64
        Place and length in the uncompressed file, in bytes.
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

    def take(self, rows: I64, file_row: I64) -> Chunks:
        """Pick chunks and say to which files they belong now.

        Parameters
        ----------
        rows : (m,) int64
            Row numbers.
        file_row : (m,) int64
            New row in `Files` of each.

        Returns
        -------
        Chunks
            m rows.
        """
        kept = (field.name for field in fields(self) if field.name != "file_row")
        return Chunks(file_row=file_row, **{name: getattr(self, name)[rows] for name in kept})


@dataclass(frozen=True, slots=True, repr=False)
class Merged:
    """A TOC's files and their chunks, beside the entries they point into."""

    entries: Entries  # all entries of the TOC
    files: Files  # one row a file, directory, link or device
    chunks: Chunks  # one row a chunk

    def __repr__(self) -> str:
        return f"<Merged: {len(self.files):,} files, {len(self.chunks):,} chunks>"


def merge_entries(entries: Entries, toc_format: TocFormat, toc_offset: int) -> Merged:
    """Merge a TOC's entries into files with chunks."""
    is_skipped = _is_landmark(entries, TocFormat(toc_format))
    is_chunk = entries.kind == EntryKind.CHUNK
    _require_heads(entries, is_chunk, is_skipped)
    heads = np.flatnonzero(~is_chunk)
    run_ends = np.append(heads, len(entries))[1:]
    is_kept = ~is_skipped[heads]
    file_entry, run_ends = heads[is_kept], run_ends[is_kept]
    is_file = entries.kind[file_entry] == EntryKind.REG
    n_chunks = np.where(is_file, run_ends - file_entry, 0)
    last_entry = file_entry + np.maximum(n_chunks, 1) - 1
    end_offset = _fill_ends(entries.offset[file_entry], entries.end_offset[last_entry], toc_offset)
    files = Files(
        entry_row=file_entry,
        name=entries.name.take(pa.array(file_entry)),
        end_offset=end_offset,
        chunk_start=_starts(n_chunks),
    )
    return Merged(entries, files, _list_chunks(entries, files, n_chunks))


def flat_files(merged: Merged) -> Merged:
    """Reduce merged entries to one file a content, as composefs stores them."""
    files = merged.files
    entry_row, names = find_flat_rows(merged.entries, files.entry_row)
    rows = np.searchsorted(files.entry_row, entry_row)
    starts = files.chunk_start[rows]
    n_chunks = files.chunk_start[rows + 1] - starts
    chunks = merged.chunks.take(
        ragged_arange(starts, n_chunks), np.repeat(np.arange(len(rows)), n_chunks)
    )
    flat = Files(entry_row, names, files.end_offset[rows], _starts(n_chunks))
    return Merged(merged.entries, flat, chunks)


def _is_landmark(entries: Entries, toc_format: TocFormat) -> Bool:
    if toc_format is not TocFormat.ESTARGZ:
        return np.zeros(len(entries), np.bool_)
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only eStargz needs it

    is_landmark = pc.is_in(entries.name, value_set=pa.array(_LANDMARKS, pa.binary()))
    mask: Bool = is_landmark.to_numpy(zero_copy_only=False)
    return mask


def _require_heads(entries: Entries, is_chunk: Bool, is_skipped: Bool) -> None:
    """Refuse a chunk that is not in the run behind a regular file; a skipped name needs none."""
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


def _list_chunks(entries: Entries, files: Files, n_chunks: I64) -> Chunks:
    entry_row = ragged_arange(files.entry_row, n_chunks)
    file_row = np.repeat(np.arange(len(files)), n_chunks)
    is_last = np.append(np.diff(file_row) != 0, True)[: len(file_row)]
    offset = entries.offset[entry_row]
    return Chunks(
        file_row=file_row,
        entry_row=entry_row,
        offset=offset,
        end_offset=np.where(is_last, files.end_offset[file_row], np.roll(offset, -1)),
        file_offset=entries.chunk_offset[entry_row],
        size=_chunk_sizes(
            entries.chunk_size[entry_row],
            entries.size[files.entry_row[file_row]],
            is_first=np.roll(is_last, 1),
        ),
        kind=entries.chunk_kind[entry_row],
    )


def _chunk_sizes(chunk_size: I64, file_size: I64, *, is_first: Bool) -> I64:
    """Give a chunk without a size all that remains of its file.

    After such a chunk exactly nothing remains, whatever was before it. So what remains is counted
    from the file's first chunk, or from the one behind the last chunk without a size.
    """
    is_open = chunk_size <= 0
    taken = np.cumsum(np.where(is_open, 0, chunk_size))
    taken_before = taken - np.where(is_open, 0, chunk_size)
    restarts = is_first | np.append(True, is_open[:-1])[: len(is_open)]
    origin = np.maximum.accumulate(np.where(restarts, np.arange(len(is_open)), 0))
    at_origin = np.where(is_first[origin], file_size, 0)
    remaining = at_origin - (taken_before - taken_before[origin])
    return np.where(is_open, remaining, chunk_size)
