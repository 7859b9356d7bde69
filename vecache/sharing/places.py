"""Where does a layer have each content? One row a place, from the layer's TOC.

1. Each file digest is a place: the whole file.
2. So is each chunk digest: a part of a file, of the size that the TOC gives, or what remains.
3. So is, where it is asked for, each hard-link fingerprint.

The first two are what overlap counts, with two exceptions each:

- at the grain of files, no empty file, and nothing that is not a regular file;
- at the grain of chunks, no hole and no empty chunk, but every file without chunk digests: it is
  one chunk, with its own digest and size.

A text that is no digest is no place. eStargz landmarks are files like any other here: a store does
not say which format a TOC has.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import column, frozen
from vecache.sharing.keys import content_keys
from vecache.toc.entries import ChunkKind, EntryKind
from vecache.toc.fingerprint import fingerprints
from vecache.toc.merge import TocFormat, merge_entries

if TYPE_CHECKING:
    from vecache.arrays import I64, U8, Bool
    from vecache.toc.entries import Entries
    from vecache.toc.merge import Chunks

__all__ = ["PlaceKind", "Places", "find_places"]


class PlaceKind(IntEnum):
    """What a digest is of."""

    FILE = 0
    CHUNK = 1
    HOLE = 2
    """A chunk of zeros."""
    FINGERPRINT = 3
    """Of a file with its owner, mode and extended attributes, by which hard links go."""


@dataclass(frozen=True, slots=True, repr=False)
class Places:
    """Columns of equal length, one row a place: files, chunks and holes, fingerprints.

    Attributes
    ----------
    kind : (n,) uint8
        `PlaceKind`.
    key : (n, 32) uint8
        The content's key.
    entry_row : (n,) int64
        Row in the TOC's entries, where the name is.
    offset, size : (n,) int64
        Bytes: where in the uncompressed file, and how many.
    is_in_files, is_in_chunks : (n,) bool
        Whether overlap counts it at the grain of files, and at that of chunks.
    """

    kind: U8
    key: U8
    entry_row: I64
    offset: I64
    size: I64
    is_in_files: Bool
    is_in_chunks: Bool

    def __post_init__(self) -> None:
        n_rows = len(self.kind)
        column("kind", self.kind, np.uint8, n_rows)
        for name in ("entry_row", "offset", "size"):
            column(name, getattr(self, name), np.int64, n_rows)
        for name in ("is_in_files", "is_in_chunks"):
            column(name, getattr(self, name), np.bool_, n_rows)
        frozen(self.key)

    def __len__(self) -> int:
        return len(self.kind)

    def __repr__(self) -> str:
        return f"<Places: {len(self):,} rows>"


def find_places(entries: Entries, *, with_fingerprints: bool = False) -> Places:
    """List the places of a layer.

    Parameters
    ----------
    entries : Entries
        The layer's TOC.
    with_fingerprints : bool
        Whether to list fingerprints too; each costs a sha256.

    Returns
    -------
    Places
        Files in TOC order, then chunks, then fingerprints.

    Raises
    ------
    TocError
        If a chunk does not follow a file.
    """
    chunks = merge_entries(entries, TocFormat.ZSTD_CHUNKED, 0).chunks
    file_key, has_file_key = content_keys(entries.digest)
    chunk_key, has_chunk_key = content_keys(entries.chunk_digest)
    file_row = np.flatnonzero(has_file_key)
    chunk_at = np.flatnonzero(has_chunk_key[chunks.entry_row])
    link_row = file_row if with_fingerprints else file_row[:0]
    chunk_row, is_hole = chunks.entry_row[chunk_at], chunks.kind[chunk_at] == ChunkKind.ZEROS
    is_counted = (entries.kind[file_row] == EntryKind.REG) & (entries.size[file_row] > 0)
    is_whole = is_counted & _is_one_chunk(entries, chunks)[file_row]
    no_link = np.zeros(len(link_row), np.bool_)
    return Places(
        kind=np.concatenate(
            [
                np.full(len(file_row), PlaceKind.FILE, np.uint8),
                np.where(is_hole, PlaceKind.HOLE, PlaceKind.CHUNK).astype(np.uint8),
                np.full(len(link_row), PlaceKind.FINGERPRINT, np.uint8),
            ]
        ),
        key=np.concatenate(
            [file_key[file_row], chunk_key[chunk_row], fingerprints(entries, link_row)]
        ),
        entry_row=np.concatenate([file_row, chunk_row, link_row]),
        offset=np.concatenate(
            [np.zeros_like(file_row), chunks.file_offset[chunk_at], np.zeros_like(link_row)]
        ),
        size=np.concatenate(
            [entries.size[file_row], chunks.size[chunk_at], entries.size[link_row]]
        ),
        is_in_files=np.concatenate([is_counted, np.zeros(len(chunk_at), np.bool_), no_link]),
        is_in_chunks=np.concatenate([is_whole, ~is_hole & (chunks.size[chunk_at] > 0), no_link]),
    )


def _is_one_chunk(entries: Entries, chunks: Chunks) -> Bool:
    """(n_entries,) bool: files without chunk digests, save those that are nothing but holes."""
    head = chunks.entry_row[np.searchsorted(chunks.file_row, chunks.file_row)]  # of each chunk
    has_digest = np.zeros(len(entries), np.bool_)
    has_data = np.zeros(len(entries), np.bool_)
    has_digest[head[entries.chunk_digest.is_present[chunks.entry_row]]] = True
    has_data[head[chunks.kind != ChunkKind.ZEROS]] = True
    return has_data & ~has_digest
