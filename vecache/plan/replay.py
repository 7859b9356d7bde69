"""The decisions of one layer's pull, file by file and chunk by chunk, as Podman makes them.

1. A file that needs data (`files.py`) is reused if the first layer that holds its digest holds it
   at the start of a file. With hard links only the fingerprint is looked up.
2. Each chunk of a file that was not found is a hole, or is found in some layer (and reused if the
   file system can reflink), or is fetched.
3. `ranges.py` turns the chunks to fetch into the request.

Works on whole columns; the action of a file or chunk is one byte. About 120 bytes per chunk.
Source: containers/storage pkg/chunked/storage_linux.go ApplyDiff; since 1.64 chunks are reused only
where the file system can reflink.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import frozen
from vecache.errors import TocError
from vecache.index.result import LookupResult
from vecache.plan.files import Action
from vecache.plan.ranges import coalesce_chunks, fit_ranges
from vecache.plan.sound import require_fetchable
from vecache.toc.entries import ChunkKind

if TYPE_CHECKING:
    from vecache.arrays import I64, U8
    from vecache.digest import Digests
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.files import PullFiles
    from vecache.plan.options import PlanOptions
    from vecache.plan.ranges import Parts, Ranges

__all__ = ["Replay", "replay_layer"]


@dataclass(frozen=True, slots=True, repr=False)
class Replay:
    """The decisions of one layer's pull.

    Attributes
    ----------
    files : PullFiles
        The files that the pull visits.
    file_action, chunk_action : (n_files,), (n_chunks,) uint8
        `Action` of each. Chunks of reused files are REUSED.
    file_hits : LookupResult of n_wanted rows
        Where the files in `files.wanted` were found.
    chunk_rows : (n_queries,) int64
        Rows of the chunks whose digest was looked up; none without reflinks.
    chunk_hits : LookupResult of n_queries rows
        Where they were found.
    missing_rows : (n_missing,) int64
        Rows of the chunks of files that were not found, ascending.
    missing_bytes : int
        What Podman logs as missing, uncompressed.
    parts : Parts
        What must come over the wire.
    ranges : Ranges
        What the accepted request asks for.
    n_refused : int
        Requests before it that the registry refuses.
    """

    files: PullFiles
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

    @property
    def n_layers_used(self) -> int:
        """How many of the set's layers, from the first, the decisions rest on."""
        hits = (self.file_hits.layer, self.chunk_hits.layer)
        return 1 + max(int(layer.max(initial=-1)) for layer in hits)

    @property
    def n_misplaced(self) -> int:
        """How many files are reused though their data is misplaced in the blob."""
        file_row = self.files.chunks.file_row[self.files.is_misplaced]
        return len(np.unique(file_row[self.file_action[file_row] == Action.REUSED]))

    def count_files(self, action: Action) -> int:
        """Count the files with an action."""
        return int((self.file_action == action).sum())

    def count_chunks(self, action: Action) -> int:
        """Count the chunks with an action, of files that were not found."""
        return int((self.chunk_action[self.missing_rows] == action).sum())


def replay_layer(
    files: PullFiles, cache: LayersCache, options: PlanOptions, known: Replay | None = None
) -> Replay:
    """Decide what a pull does with every file and chunk of one layer.

    `known` is the replay against a set that begins with the layers of `cache`: what it found in
    them is not looked up again.

    Raises LocationError or DigestError where Podman's pull fails: for a corrupt location or a
    malformed digest among those that are looked up; TocError for data to fetch that its blob does
    not have, and for ranges that end before they begin.
    """
    chunks = files.chunks
    if known is None:
        file_hits = cache.find_files(_file_queries(files, options), strict=True)
    else:
        file_hits = known.file_hits.within(len(cache.layers))
    file_action = files.action.copy()
    file_action[files.wanted[file_hits.is_found]] = Action.REUSED
    is_missing = file_action == Action.FETCHED
    missing_rows = np.flatnonzero(is_missing[chunks.file_row])
    require_fetchable(files, missing_rows)
    chunk_action, chunk_rows, chunk_hits = _find_chunks(files, missing_rows, cache, options, known)
    is_fetched = chunk_action[missing_rows] == Action.FETCHED
    parts = coalesce_chunks(
        chunks.offset[missing_rows],
        chunks.end_offset[missing_rows],
        chunks.file_row[missing_rows],
        is_fetched,
    )
    ranges, refused = fit_ranges(parts, options)
    if (ranges.bounds[:, 1] - ranges.bounds[:, 0] < -1).any():  # Podman asks for it, and fails
        raise TocError(
            f"Podman's pull fails: {len(parts):,} parts in another order than in the blob; wanted "
            f"{options.max_ranges:,} at most, as those that are merged must follow each other"
        )
    found_bytes = chunks.size[missing_rows[~is_fetched]]
    return Replay(
        files=files,
        file_action=frozen(file_action),
        chunk_action=frozen(chunk_action),
        file_hits=file_hits,
        chunk_rows=frozen(chunk_rows),
        chunk_hits=chunk_hits,
        missing_rows=frozen(missing_rows),
        missing_bytes=int(np.concatenate([files.size[is_missing], -found_bytes]).sum()),
        parts=parts,
        ranges=ranges,
        n_refused=len(refused),
    )


def _find_chunks(
    files: PullFiles,
    missing_rows: I64,
    cache: LayersCache,
    options: PlanOptions,
    known: Replay | None,
) -> tuple[U8, I64, LookupResult]:
    """Return the action of each chunk, the rows that were looked up, and where they were found."""
    action = np.full(len(files.chunks), Action.REUSED, np.uint8)
    kind = files.chunks.kind[missing_rows]
    action[missing_rows] = np.where(kind == ChunkKind.ZEROS, Action.HOLE, Action.FETCHED)
    # Only plain data is looked up, and only where a reflink can reuse it.
    rows = missing_rows[kind == ChunkKind.DATA] if options.reflink else missing_rows[:0]
    if known is None:
        hits = cache.find_chunks(files.chunk_digests(rows), strict=True)
        _reuse_chunks(action, rows, hits, files)
        return action, rows, hits
    is_known = np.zeros(len(files.chunks), np.bool_)
    is_known[known.chunk_rows] = True  # fewer layers find fewer files, so all are among the rows
    is_known = is_known[rows]
    layer, tag = np.full((2, len(rows)), -1, np.int64)
    for mask, hits in (
        (is_known, known.chunk_hits.within(len(cache.layers))),
        (~is_known, cache.find_chunks(files.chunk_digests(rows[~is_known]), strict=True)),
    ):
        _reuse_chunks(action, rows[mask], hits, files)
        layer[mask], tag[mask] = hits.layer, hits.tag
    return action, rows, LookupResult(None, layer, tag, cache.index.tags, cache.layers)


def _reuse_chunks(action: U8, rows: I64, hits: LookupResult, files: PullFiles) -> None:
    """Set the action of the chunks that a pull can reuse where they were found."""
    is_reused = hits.is_found & (hits.offset >= 0) & files.can_verify(rows)
    action[rows[is_reused]] = Action.REUSED


def _file_queries(files: PullFiles, options: PlanOptions) -> Digests:
    return files.fingerprints if options.hard_links else files.digests(files.wanted)
