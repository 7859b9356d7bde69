"""The files of one layer as a pull visits them, and which of them need data.

1. Merge the TOC's entries into files with chunks; the flat layout keeps one file per content.
2. Directories, links, devices and empty files are created without data; whiteouts are converted.
3. All other files need data, and their sizes add up to the total. So do devices, which need none.
   Their sizes must be sound (`sound.py`).

17 bytes per file and one per chunk, besides what `toc.files` takes; 33 more a file for hard-link
fingerprints, which are computed when they are first asked for.
Source: containers/storage pkg/chunked/storage_linux.go ApplyDiff.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import frozen
from vecache.digest import Digests
from vecache.errors import TocError
from vecache.plan.sound import find_misplaced, require_sound
from vecache.text import quoted
from vecache.toc.entries import EntryKind
from vecache.toc.files import TocFiles, flat_files, merge_entries
from vecache.toc.fingerprint import fingerprints
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from vecache.arrays import I64, U8, BinaryColumn, Bool
    from vecache.toc.entries import Entries
    from vecache.toc.files import TocFormat

__all__ = ["Action", "PullFiles", "select_files"]


class Action(IntEnum):
    """What a pull does with a file or a chunk."""

    NOTHING = 0
    """A directory, a link, a device: created, not fetched."""
    EMPTY = 1
    """A file of size 0: created, not fetched."""
    WHITEOUT = 2
    """Marks something as deleted; converted."""
    REUSED = 3
    """Copied or linked from a local layer."""
    HOLE = 4
    """Zeros, not fetched."""
    FETCHED = 5
    """Comes over the wire: a chunk, or at least one chunk of a file."""


@dataclass(frozen=True, repr=False)
class PullFiles(TocFiles):
    """The files and chunks of one layer, with what its pull has to do, whatever the store holds.

    Attributes
    ----------
    action : (n_files,) uint8
        `Action`: NOTHING, EMPTY or WHITEOUT; FETCHED for all that need data.
    wanted : (n_wanted,) int64
        Rows of the files that need data.
    size : (n_files,) int64
        Bytes of each file, uncompressed.
    total_bytes : int
        What Podman logs as the total: files that need data, and devices.
    blob_bytes : int
        Size of the compressed layer.
    is_misplaced : (n_chunks,) bool
        Whether a chunk is at a place that the blob does not have.
    """

    action: U8
    wanted: I64
    size: I64
    total_bytes: int
    blob_bytes: int
    is_misplaced: Bool

    @cached_property
    def fingerprints(self) -> Digests:
        """Hard-link fingerprints of the files in `wanted`."""
        return Digests.from_raw(fingerprints(self.entries, self.entry_row[self.wanted]))

    def digests(self, files: I64) -> Digests:
        """Return the digests of some files."""
        return self.entries.digest.take(self.entry_row[files])

    def chunk_digests(self, chunks: I64) -> Digests:
        """Return the digests of some chunks."""
        return self.entries.chunk_digest.take(self.chunks.entry_row[chunks])

    def chunks_of(self, files: I64) -> I64:
        """Return the rows of the chunks of some files, ascending."""
        is_chosen = np.zeros(len(self.action), np.bool_)
        is_chosen[files] = True
        rows: I64 = np.flatnonzero(is_chosen[self.chunks.file_row])
        return rows

    def can_verify(self, chunks: I64) -> Bool:
        """Return which chunks can pass the check that a pull makes before it uses a local copy.

        Parameters
        ----------
        chunks : (n,) int64
            Rows of chunks.

        Returns
        -------
        (n,) bool
            Go reads `chunkSize` bytes of the local file and compares their sha256. Where the TOC
            gives no size, as eStargz does for the last chunk of a file, it reads nothing, the check
            fails, and the chunk is fetched.

        Notes
        -----
        Source: containers/storage pkg/chunked/storage_linux.go validateChunkChecksum.
        """
        entries, entry_row = self.entries, self.chunks.entry_row[chunks]
        mask: Bool = (entries.chunk_size[entry_row] > 0) & entries.chunk_digest.is_sha256[entry_row]
        return mask


def select_files(
    entries: Entries, toc_format: TocFormat, toc_offset: int, layout: Layout, blob_bytes: int
) -> PullFiles:
    """Merge a layer's entries into files, and find the files that need data.

    The TOC begins at `toc_offset` of a blob of `blob_bytes`. Raises TocError for an unknown type,
    and for sizes that no sound layer has.
    """
    files = merge_entries(entries, toc_format, toc_offset)
    if layout is Layout.FLAT:
        files = flat_files(files)
    kind, size = entries.kind[files.entry_row], entries.size[files.entry_row]
    _require_known(kind, files.name)
    is_whiteout = _is_whiteout(files.name)
    is_device = (kind == EntryKind.CHAR) | (kind == EntryKind.BLOCK) | (kind == EntryKind.FIFO)
    action = np.full(len(kind), Action.NOTHING, np.uint8)
    action[kind == EntryKind.REG] = Action.FETCHED
    action[(kind == EntryKind.REG) & (size == 0)] = Action.EMPTY
    action[is_whiteout] = Action.WHITEOUT
    needs_data = action == Action.FETCHED
    is_counted = needs_data | (is_device & ~is_whiteout)
    require_sound(files, needs_data, is_counted)
    return PullFiles(
        **{field.name: getattr(files, field.name) for field in fields(files)},
        action=frozen(action),
        wanted=frozen(np.flatnonzero(action == Action.FETCHED)),
        size=frozen(size),
        total_bytes=int(size[is_counted].sum()),
        blob_bytes=blob_bytes,
        is_misplaced=frozen(find_misplaced(files.chunks, blob_bytes)),
    )


def _require_known(kind: U8, names: BinaryColumn) -> None:
    unknown = np.flatnonzero(kind == EntryKind.OTHER)
    if len(unknown):
        name = quoted(names[int(unknown[0])].as_py())
        raise TocError(f"entry {name}: unknown type, which Podman's pull refuses too")


def _is_whiteout(names: BinaryColumn) -> Bool:
    """(n,) bool: whether the base name, cleaned as Go's path.Clean does, begins with `.wh.`."""
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms that only a plan needs

    is_whiteout = np.zeros(len(names), np.bool_)
    candidates = np.flatnonzero(pc.match_substring(names, b".wh.").to_numpy(zero_copy_only=False))
    for row in candidates.tolist():  # few rows, and Arrow has no function that cleans a path
        path = posixpath.normpath(names[row].as_py())
        is_whiteout[row] = posixpath.basename(path).startswith(b".wh.")
    return is_whiteout
