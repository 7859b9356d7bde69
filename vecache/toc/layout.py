"""Select the entries that a cache file retains, and their names there.

`DIR`: every entry with a file digest, and of the others the first with each chunk digest.
`FLAT` (composefs): regular files only, named by their content, the first of each name.

Flat names are `ab/cdef...`: the hex of a sha256 digest, split after two digits.

Source: containers/storage pkg/chunked/cache_linux.go prepareCacheFile, storage_linux.go
makeEntriesFlat.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vecache.arrays import column, first_rows
from vecache.digest import PREFIX_BYTES, RAW_BYTES, Algorithm
from vecache.errors import DigestError, TocError
from vecache.text import quoted
from vecache.toc.entries import EntryKind

if TYPE_CHECKING:
    from vecache.arrays import I64, BinaryColumn
    from vecache.toc.entries import Entries

__all__ = ["MAX_TOC_BYTES", "Layout", "RetainedEntries", "find_flat_rows", "select_retained"]

MAX_TOC_BYTES = 150 << 20
"""The largest TOC that is read (upstream: maxTocSize)."""

_SPLIT = PREFIX_BYTES + 2


class Layout(StrEnum):
    """The layout of a layer's files on disk (upstream: DifferOutputFormat, 0 and 1)."""

    DIR = "dir"
    FLAT = "flat"

    @classmethod
    def _missing_(cls, value: object) -> Layout:
        raise ValueError(f"layout: found {value!r}, wanted 'dir' or 'flat'")


@dataclass(frozen=True, slots=True)
class RetainedEntries:
    """The entries that a cache file retains, in TOC order.

    Attributes
    ----------
    entry_row : (m,) int64
        Row in `Entries`, ascending.
    name : pyarrow.BinaryArray of m rows
        Its name in the cache file.
    """

    entry_row: I64
    name: BinaryColumn

    def __post_init__(self) -> None:
        column("entry_row", self.entry_row, np.int64, len(self.name))

    def __len__(self) -> int:
        return len(self.entry_row)


def select_retained(entries: Entries, layout: Layout) -> RetainedEntries:
    """Select the entries that a cache file retains; FLAT raises as `find_flat_rows` does."""
    if Layout(layout) is Layout.FLAT:
        return RetainedEntries(*find_flat_rows(entries, np.arange(len(entries), dtype=np.int64)))
    is_retained = entries.digest.is_present.copy()
    chunk_rows = np.flatnonzero(~is_retained & entries.chunk_digest.is_present)
    texts = entries.chunk_digest.to_text().take(pa.array(chunk_rows))
    is_retained[chunk_rows[first_rows(texts)]] = True
    rows = np.flatnonzero(is_retained)
    return RetainedEntries(rows, entries.name.take(pa.array(rows)))


def find_flat_rows(entries: Entries, rows: I64) -> tuple[I64, BinaryColumn]:
    """Reduce entries to one regular file a content, as composefs stores them.

    Parameters
    ----------
    entries : Entries
        A whole TOC.
    rows : (n,) int64
        The rows to reduce, ascending.

    Returns
    -------
    rows : (m,) int64
        The first regular file of each content, ascending.
    names : pyarrow.BinaryArray of m rows
        `ab/cdef...`, the path of that content.

    Raises
    ------
    TocError
        If a regular file has no digest.
    DigestError
        If a regular file has a digest other than sha256.
    """
    files = rows[entries.kind[rows] == EntryKind.REG]
    bad = files[~entries.digest.is_sha256[files]]
    if len(bad):
        _refuse(entries, int(bad[0]))
    names = _flat_names(entries, files)
    firsts = first_rows(names)
    return files[firsts], names.take(pa.array(firsts))


def _refuse(entries: Entries, row: int) -> None:
    name = quoted(entries.name[row].as_py())
    if entries.digest.algorithm[row] == Algorithm.NONE:
        raise TocError(f"entry {row}, {name}: a regular file without a digest has no flat name")
    text = quoted(entries.digest.to_text()[row].as_py())
    raise DigestError(f"entry {row}, {name}: {text} is not a sha256 digest; flat names need one")


def _flat_names(entries: Entries, rows: I64) -> BinaryColumn:
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only the flat layout needs it

    texts = entries.digest.to_text().take(pa.array(rows))
    folder = pc.binary_slice(texts, PREFIX_BYTES, _SPLIT)
    # Without a stop Arrow fails ("Negative buffer resize").
    rest = pc.binary_slice(texts, _SPLIT, PREFIX_BYTES + 2 * RAW_BYTES[Algorithm.SHA256])
    return pc.binary_join_element_wise(folder, rest, b"/")
