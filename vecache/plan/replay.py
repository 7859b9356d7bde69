"""What will a pull do with one layer? Podman's decisions, file by file and chunk by chunk.

1. A file that needs its bytes (`layer_files.py`) and that some layer holds is reused. With hard
   links only the fingerprint counts.
2. Of a file that no layer holds, each chunk is a hole, or is held by some layer (and reused if the
   file system can reflink), or must be fetched.
3. `ranges.py` makes the request out of the chunks to fetch.

Works on whole columns; a file's and a chunk's action is one byte. About 120 bytes a chunk.
Source: containers/storage pkg/chunked/storage_linux.go ApplyDiff; 1.64 reuses chunks only where it
can reflink.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import frozen
from vecache.digest import Digests
from vecache.plan.files import Action
from vecache.plan.ranges import fall_back, join_parts
from vecache.toc.entries import ChunkKind
from vecache.toc.fingerprint import fingerprints

if TYPE_CHECKING:
    from vecache.arrays import I64, U8, Bool
    from vecache.index.layers_cache import LayersCache
    from vecache.index.result import LookupResult
    from vecache.plan.files import LayerFiles
    from vecache.plan.options import PlanOptions
    from vecache.plan.ranges import Parts, Ranges

__all__ = ["Replay", "can_rehash", "replay_layer"]


@dataclass(frozen=True, slots=True, repr=False)
class Replay:
    """One layer's pull.

    Attributes
    ----------
    files : LayerFiles
        What the pull walks through.
    file_action, chunk_action : (n_files,), (n_chunks,) uint8
        `Action` of each. Chunks of reused files are REUSED.
    file_hits : LookupResult of n_wanted rows
        Where the files in `files.wanted` were found.
    chunk_rows : (n_asked,) int64
        Rows of the chunks whose digest was looked up; none without reflinks.
    chunk_hits : LookupResult of n_asked rows
        Where they were found.
    missing_rows : (n_missing,) int64
        Rows of the chunks of files that were not found, in order.
    missing_bytes : int
        What Podman logs as missing, uncompressed.
    parts : Parts
        What must come over the wire.
    ranges : Ranges
        What is asked for, by the request that the registry takes.
    n_refused : int
        Requests before it that the registry refuses.
    """

    files: LayerFiles
    file_action: U8
    chunk_action: U8
    file_hits: LookupResult
    chunk_rows: I64
    chunk_hits: LookupResult
    missing_rows: I64
    missing_bytes: int
    parts: Parts
    ranges: Ranges
    n_refused: int

    def count_files(self, action: Action) -> int:
        """Count the files with an action."""
        return int((self.file_action == action).sum())

    def count_chunks(self, action: Action) -> int:
        """Count the chunks with an action, of files that were not found."""
        return int((self.chunk_action[self.missing_rows] == action).sum())


def replay_layer(files: LayerFiles, cache: LayersCache, options: PlanOptions) -> Replay:
    """Decide for every file and chunk of one layer what a pull does with it."""
    chunks = files.toc.chunks
    file_hits = cache.find_files(_file_queries(files, options), strict=True)
    is_missing = np.zeros(len(files.action), np.bool_)
    is_missing[files.wanted[~file_hits.is_found]] = True
    missing_rows = np.flatnonzero(is_missing[chunks.file_row])
    chunk_action = np.full(len(chunks), Action.REUSED, np.uint8)
    kind = chunks.kind[missing_rows]
    chunk_action[missing_rows] = np.where(kind == ChunkKind.ZEROS, Action.HOLE, Action.FETCHED)
    # Only plain data is looked up, and only where a reflink can reuse it.
    asked = missing_rows[kind == ChunkKind.DATA] if options.reflink else missing_rows[:0]
    chunk_hits = cache.find_chunks(files.chunk_digests(asked), strict=True)
    is_local = chunk_hits.is_found & (chunk_hits.offset >= 0) & can_rehash(files, asked)
    chunk_action[asked[is_local]] = Action.REUSED
    is_fetched = chunk_action[missing_rows] == Action.FETCHED
    saved = chunks.size[missing_rows][~is_fetched]
    parts = join_parts(
        chunks.offset[missing_rows],
        chunks.end_offset[missing_rows],
        chunks.file_row[missing_rows],
        is_fetched,
    )
    fallback = fall_back(parts, options)
    file_action = np.where(
        (files.action == Action.FETCHED) & ~is_missing, Action.REUSED, files.action
    ).astype(np.uint8)
    return Replay(
        files=files,
        file_action=frozen(file_action),
        chunk_action=frozen(chunk_action),
        file_hits=file_hits,
        chunk_rows=frozen(asked),
        chunk_hits=chunk_hits,
        missing_rows=frozen(missing_rows),
        missing_bytes=int(np.concatenate([files.size[is_missing], -saved]).sum()),
        parts=parts,
        ranges=fallback.ranges,
        n_refused=max(len(fallback.n_ranges) - 1, 0),
    )


def can_rehash(files: LayerFiles, chunks: I64) -> Bool:
    """Tell which chunks can pass the check before a local copy is trusted.

    Parameters
    ----------
    files : LayerFiles
        The layer's.
    chunks : (n,) int64
        Rows of chunks.

    Returns
    -------
    (n,) bool
        Go reads `chunkSize` bytes of the local file and takes their sha256. Where the TOC gives no
        size, as eStargz does for the last chunk of a file, it reads nothing, and the chunk is
        fetched.

    Notes
    -----
    Source: containers/storage pkg/chunked/storage_linux.go validateChunkChecksum.
    """
    entries, entry_row = files.toc.entries, files.toc.chunks.entry_row[chunks]
    mask: Bool = (entries.chunk_size[entry_row] > 0) & entries.chunk_digest.is_sha256[entry_row]
    return mask


def _file_queries(files: LayerFiles, options: PlanOptions) -> Digests:
    if options.hard_links:
        entry_row = files.toc.entry_row[files.wanted]
        return Digests.from_raw(fingerprints(files.toc.entries, entry_row))
    return files.digests(files.wanted)
