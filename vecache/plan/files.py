"""Which files of a layer need their bytes, whatever the store holds? A pull's first walk.

1. Files and chunks are merged, and reduced to one file a content where the layout is flat.
2. Directories and links cost nothing, empty files are made on the spot, whiteouts are converted.
3. Every other file needs its bytes, and counts into the total. So do devices, which need none.

17 bytes a file, besides what `toc.merge` takes.
Source: containers/storage pkg/chunked/storage_linux.go ApplyDiff.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import frozen
from vecache.errors import TocError
from vecache.text import quoted
from vecache.toc.entries import EntryKind
from vecache.toc.files import flat_files, merge_entries
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from vecache.arrays import I64, U8, BinaryColumn, Bool
    from vecache.digest import Digests
    from vecache.toc.entries import Entries
    from vecache.toc.files import TocFiles, TocFormat

__all__ = ["Action", "LayerFiles", "select_files"]


class Action(IntEnum):
    """What a pull does with a file or a chunk."""

    NOTHING = 0
    """A directory, a link, a device: made, not fetched."""
    EMPTY = 1
    """A file of size 0, made on the spot."""
    WHITEOUT = 2
    """Marks something as deleted; converted."""
    REUSED = 3
    """A local layer holds it."""
    HOLE = 4
    """Zeros, not fetched."""
    FETCHED = 5
    """Comes over the wire: a chunk, or at least one chunk of a file."""


@dataclass(frozen=True, slots=True, repr=False)
class LayerFiles:
    """The files of a layer as a pull walks through them.

    Attributes
    ----------
    toc : TocFiles
        The files and chunks of the TOC, already reduced where the layout is flat.
    action : (n_files,) uint8
        `Action`: NOTHING, EMPTY or WHITEOUT; FETCHED for all that need their bytes.
    wanted : (n_wanted,) int64
        Rows of the files that need their bytes.
    size : (n_files,) int64
        Bytes of each file, uncompressed.
    total_bytes : int
        What Podman logs as the total: files that need their bytes, and devices.
    """

    toc: TocFiles
    action: U8
    wanted: I64
    size: I64
    total_bytes: int

    def digests(self, files: I64) -> Digests:
        """Digests of files, by row."""
        return self.toc.entries.digest.take(self.toc.entry_row[files])

    def chunk_digests(self, chunks: I64) -> Digests:
        """Digests of chunks, by row."""
        return self.toc.entries.chunk_digest.take(self.toc.chunks.entry_row[chunks])

    def chunks_of(self, files: I64) -> I64:
        """Rows of the chunks of some files, which are in ascending order."""
        chosen = np.zeros(len(self.action), np.bool_)
        chosen[files] = True
        rows: I64 = np.flatnonzero(chosen[self.toc.chunks.file_row])
        return rows


def select_files(
    entries: Entries, toc_format: TocFormat, toc_offset: int, layout: Layout
) -> LayerFiles:
    """Walk through a layer's entries and find the files that need their bytes."""
    toc = merge_entries(entries, toc_format, toc_offset)
    if layout is Layout.FLAT:
        toc = flat_files(toc)
    kind, size = entries.kind[toc.entry_row], entries.size[toc.entry_row]
    _require_known(kind, toc.name)
    is_whiteout = _is_whiteout(toc.name)
    is_device = (kind == EntryKind.CHAR) | (kind == EntryKind.BLOCK) | (kind == EntryKind.FIFO)
    action = np.full(len(kind), Action.NOTHING, np.uint8)
    action[kind == EntryKind.REG] = Action.FETCHED
    action[(kind == EntryKind.REG) & (size == 0)] = Action.EMPTY
    action[is_whiteout] = Action.WHITEOUT
    is_counted = (action == Action.FETCHED) | (is_device & ~is_whiteout)
    wanted = np.flatnonzero(action == Action.FETCHED)
    total_bytes = int(size[is_counted].sum())
    return LayerFiles(toc, frozen(action), frozen(wanted), frozen(size), total_bytes)


def _require_known(kind: U8, names: BinaryColumn) -> None:
    unknown = np.flatnonzero(kind == EntryKind.OTHER)
    if len(unknown):
        name = quoted(names[int(unknown[0])].as_py())
        raise TocError(f"entry {name}: unknown type, which Podman's pull refuses too")


def _is_whiteout(names: BinaryColumn) -> Bool:
    """(n,) bool: names whose last part begins with `.wh.`, once cleaned as Go's path.Clean does."""
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms that only a plan needs

    is_whiteout = np.zeros(len(names), np.bool_)
    maybe = np.flatnonzero(pc.match_substring(names, b".wh.").to_numpy(zero_copy_only=False))
    for row in maybe.tolist():  # whiteouts are few, and cleaning a path is no work for arrays
        path = posixpath.normpath(names[row].as_py())
        is_whiteout[row] = posixpath.basename(path).startswith(b".wh.")
    return is_whiteout
