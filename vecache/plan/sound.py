"""Refuse numbers in a TOC that no sound layer has, before figures are made of them.

They are numbers of what needs data, and of devices, whose sizes Podman counts too:

- a negative size, or more bytes in all than sums over many layers can hold in 64 bits;
- a chunk that begins before the blob, ends before its own begin or behind the blob;
- chunks that are larger than their file.

Podman's pull fails for most of them: the registry does not have what is asked for, or the digest of
the file differs. It does not where a local layer has the file, or where only the size is wrong:
then it logs negative figures, so these are refused too. At the numbers of directories, links and
empty files it does not look, and neither does this module.

Source: containers/storage pkg/chunked/storage_linux.go ApplyDiff, storeMissingFiles, Close.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from vecache.errors import TocError
from vecache.text import quoted

if TYPE_CHECKING:
    from vecache.arrays import I64, BinaryColumn, Bool
    from vecache.toc.files import TocFiles

__all__ = ["MAX_LAYER_BYTES", "require_sound"]

MAX_LAYER_BYTES: Final = 1 << 48
"""Most bytes of a layer's files, and of what is fetched of it: 256 TiB."""


def require_sound(files: TocFiles, needs_data: Bool, is_counted: Bool, blob_bytes: int) -> None:
    """Raise a `TocError` for the first file with numbers that no sound layer has.

    Parameters
    ----------
    files : TocFiles
        The files of a layer.
    needs_data : (n_files,) bool
        Whether a file's content comes from a local layer or over the wire.
    is_counted : (n_files,) bool
        Whether its size counts in the total.
    blob_bytes : int
        Size of the compressed layer.
    """
    size = files.entries.size[files.entry_row]
    _refuse(is_counted & (size < 0), files.name, size, "a negative size")
    chunks = files.chunks
    rows = np.flatnonzero(needs_data[chunks.file_row])
    file_row, offset, end = chunks.file_row[rows], chunks.offset[rows], chunks.end_offset[rows]
    # One check after the other: each one's arithmetic is right where those before it hold.
    for is_bad, values, what in (
        (offset < 0, offset, "data at a negative offset"),
        (end < offset, end, "data that ends before its own begin"),
        (end > blob_bytes, end, f"data behind the end of its blob of {blob_bytes:,} bytes"),
        (chunks.size[rows] < 0, chunks.size[rows], "a chunk of a negative size"),
    ):
        is_bad_file = np.zeros(len(size), np.bool_)
        is_bad_file[file_row[is_bad]] = True
        values_of_file = np.zeros(len(size), np.int64)
        values_of_file[file_row[is_bad]] = values[is_bad]
        _refuse(is_bad_file, files.name, values_of_file, what)
    chunk_bytes = np.bincount(file_row, chunks.size[rows].astype(np.float64), len(size))
    _refuse(needs_data & (chunk_bytes > size), files.name, size, "chunks larger than the file's")
    gaps = np.maximum(offset[1:] - end[:-1], 0)
    _require_sum("files", size[is_counted])
    _require_sum("data to fetch", np.concatenate([end - offset, gaps]))


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
