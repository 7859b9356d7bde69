"""Refuse numbers in a TOC that no sound layer has, before figures are made of them.

- A negative size, more bytes in all than sums over many layers can hold in 64 bits, or chunks that
  are larger than their file. Podman's pull fails where it fetches the file, as its digest differs,
  and logs such figures where a local layer has it.
- A chunk that begins before the blob, ends before its own begin or behind the blob: it is
  misplaced. The pull asks for what the registry does not have, and fails. Where a local layer has
  the file it looks at no place in the blob and goes on, so the plan does too, with a warning.

The numbers are of what needs data, and of devices, whose sizes Podman counts too. At the numbers
of directories, links and empty files it does not look, and neither does this module.

Podman also refuses a TOC that differs from the layer's tar-split, which is not read here. Of that,
only paths that are there twice show in the TOC.

Source: containers/storage pkg/chunked/storage_linux.go ApplyDiff, storeMissingFiles, Close;
compression_linux.go ensureTOCMatchesTarSplit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from vecache.errors import TocError
from vecache.text import quoted
from vecache.toc.entries import EntryKind

if TYPE_CHECKING:
    from vecache.arrays import I64, BinaryColumn, Bool
    from vecache.plan.files import PullFiles
    from vecache.toc.files import Chunks, TocFiles
    from vecache.toc.parse import Toc

__all__ = [
    "MAX_LAYER_BYTES",
    "find_misplaced",
    "require_distinct",
    "require_fetchable",
    "require_sound",
]

MAX_LAYER_BYTES: Final = 1 << 48
"""Most bytes of a layer's files, and of what is fetched of it: 256 TiB."""


def require_sound(files: TocFiles, needs_data: Bool, is_counted: Bool) -> None:
    """Raise a `TocError` for the first file of a size that no sound layer has.

    Parameters
    ----------
    files : TocFiles
        The files of a layer.
    needs_data : (n_files,) bool
        Whether a file's content comes from a local layer or over the wire.
    is_counted : (n_files,) bool
        Whether its size counts in the total.
    """
    size = files.entries.size[files.entry_row]
    _refuse(is_counted & (size < 0), files.name, size, "a negative size")
    chunks = files.chunks
    rows = np.flatnonzero(needs_data[chunks.file_row])
    file_row, chunk_size = chunks.file_row[rows], chunks.size[rows]
    negative = np.zeros(len(size), np.int64)
    negative[file_row[chunk_size < 0]] = chunk_size[chunk_size < 0]
    _refuse(negative < 0, files.name, negative, "a chunk of a negative size")
    chunk_bytes = np.bincount(file_row, chunk_size.astype(np.float64), len(size))
    _refuse(needs_data & (chunk_bytes > size), files.name, size, "chunks larger than the file's")
    _require_sum("files", size[is_counted])


def find_misplaced(chunks: Chunks, blob_bytes: int) -> Bool:
    """Return which chunks are at a place that the blob does not have: (n_chunks,) bool."""
    offset, end = chunks.offset, chunks.end_offset
    is_misplaced: Bool = (offset < 0) | (end < offset) | (end > blob_bytes)
    return is_misplaced


def require_fetchable(files: PullFiles, rows: I64) -> None:
    """Raise a `TocError` if chunks of files that no layer has, in `rows`, are misplaced."""
    chunks = files.chunks
    bad = rows[files.is_misplaced[rows]]
    if len(bad):
        row = int(bad[0])
        name = quoted(files.name[int(chunks.file_row[row])].as_py())
        offset, end = int(chunks.offset[row]), int(chunks.end_offset[row])
        raise TocError(
            f"Podman's pull fails: entry {name}: found data from {offset:,} to {end:,}, wanted a "
            f"part of its blob of {files.blob_bytes:,} bytes; no local layer has the file"
        )
    first, last = chunks.offset[rows], chunks.end_offset[rows]
    gaps = np.maximum(first[1:] - last[:-1], 0)
    _require_sum("data to fetch", np.concatenate([last - first, gaps]))


def require_distinct(toc: Toc) -> None:
    """Raise a `TocError` if a path is twice in a TOC that Podman compares with its tar-split."""
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms that only a plan needs

    if toc.tar_split_digest is None:
        return
    names = toc.entries.name.filter(pa.array(toc.entries.kind != EntryKind.CHUNK))
    if pc.count_distinct(names).as_py() < len(names):
        counts = names.value_counts()
        name = counts.field(0)[int(np.argmax(counts.field(1).to_numpy()))].as_py()
        raise TocError(
            f"Podman's pull fails: the TOC has the path {quoted(name)} twice, which its tar-split "
            "cannot agree with; build the image anew, without files that replace others in a layer"
        )


def _refuse(is_bad: Bool, names: BinaryColumn, values: I64, what: str) -> None:
    rows = np.flatnonzero(is_bad)
    if len(rows):
        row = int(rows[0])
        raise TocError(
            f"entry {quoted(names[row].as_py())}: found {what}, {int(values[row]):,}; "
            "no sound layer has that"
        )


def _require_sum(what: str, n_bytes: I64) -> None:
    total = float(n_bytes.sum(dtype=np.float64))  # in 64 bits it could wrap
    if total > MAX_LAYER_BYTES:
        raise TocError(f"found {total:.4g} bytes of {what}, wanted at most {MAX_LAYER_BYTES:,}")
