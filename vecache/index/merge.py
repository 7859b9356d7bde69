"""Merge the tags of many cache files in digest order, a block at a time.

The tags of a sound file are in digest order already. So the digest space is cut into ranges of
about half a million tags, the same for all files: in each file a range is one slice, found by a
binary search. The slices of a range are copied one after another and sorted together.

A block's sort is one `np.sort` of numbers: the high bits hold the beginning of the digest, the low
ones the row in the block. Where two different beginnings are equal as far as they fit, and come out
in the wrong order, the block is sorted again by all 8 bytes.

A run in memory and a run on disk are both made of these blocks. About 100 bytes a row of a block,
80 MB in all; more only where more tags than a block has share their first 8 bytes. The pages of the
files are released after some blocks, long before `RESIDENT_BYTES` of them are in memory.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import ragged_arange
from vecache.digest import PREFIX_BYTES, RAW_BYTES, Algorithm
from vecache.files import RESIDENT_BYTES, release_pages
from vecache.threads import map_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecache.arrays import I64, U8, U64
    from vecache.cache.reader import CacheFile

__all__ = ["indexed_only", "is_indexed", "read_prefixes", "sorted_blocks"]

_TAGS_PER_BLOCK = 1 << 19
_FILES_PER_BLOCK = 8
_MAX_RANGE_BITS = 8
_PREFIX_BITS = 64
_LAYER_SHIFT = 32
_BIG_ENDIAN = np.dtype(">u8")
_ROW = np.dtype(f"V{RAW_BYTES[Algorithm.SHA256]}")


def is_indexed(file: CacheFile) -> bool:
    """Return whether a search of sorted digests finds in a file what Go's search finds."""
    return file.algorithm is Algorithm.SHA256 and file.is_sound()


def indexed_only(files: Sequence[CacheFile]) -> list[CacheFile | None]:
    """Return the files, None in place of each that is not indexed.

    On several threads: the first time, that reads all tags.
    """
    is_large = sum(file.n_bytes for file in files) > RESIDENT_BYTES

    def check(block: slice) -> list[CacheFile | None]:
        found = []
        for file in files[block]:
            found.append(file if is_indexed(file) else None)
            if is_large:
                release_pages(file.data)
        return found

    return list(chain.from_iterable(map_blocks(check, len(files), _FILES_PER_BLOCK)))


def read_prefixes(raw: U8, start: int = 0) -> U64:
    """Read prefixes from raw digests.

    Parameters
    ----------
    raw : (n, n_bytes) uint8
        Rows of contiguous bytes.
    start : int
        Where in each row the raw digest begins.

    Returns
    -------
    (n,) uint64
        8 bytes of each row, read big-endian.
    """
    prefixes: U64 = raw[:, start : start + 8].view(_BIG_ENDIAN)[:, 0].astype(np.uint64)
    return prefixes


def sorted_blocks(files: Sequence[CacheFile | None]) -> Iterator[tuple[U64, U64]]:
    """Read the tags of cache files in the order of a run.

    Parameters
    ----------
    files : sequence of CacheFile or None
        Files that are indexed; None for a layer that has no tags in the run.

    Yields
    ------
    prefixes : (n,) uint64
        The next prefixes, ascending, of at least one tag.
    rows : (n, 4) uint64
        The rows that belong to them; see `Run`.
    """
    members = [(n, file) for n, file in enumerate(files) if file is not None and file.n_tags]
    if not members:
        return
    merge = _Merge([n for n, _ in members], [file for _, file in members])
    counts = np.array([file.n_tags for _, file in members], np.int64)
    n_read = 0
    for start, stop in merge.ranges(np.zeros_like(counts), counts, 0, 0):
        yield merge.sorted_block(start, stop)
        n_read += int(((stop - start) * merge.tag_bytes).sum())
        if n_read > RESIDENT_BYTES // 4:  # the kernel maps more than was read
            n_read = 0
            merge.release()
    if merge.is_large:
        merge.release()


class _Merge:
    """The files of one merge."""

    __slots__ = ("_files", "_numbers", "_raw", "is_large", "tag_bytes")

    def __init__(self, numbers: list[int], files: list[CacheFile]) -> None:
        self._numbers = np.array(numbers, np.int64)
        self._files = files
        self._raw: list[U8] = [file.packed[:, PREFIX_BYTES:] for file in files]
        self.tag_bytes = np.array([file.tag_len for file in files], np.int64)
        self.is_large = sum(file.n_bytes for file in files) > RESIDENT_BYTES

    def ranges(self, start: I64, stop: I64, base: int, n_bits: int) -> Iterator[tuple[I64, I64]]:
        """Cut rows `start` to `stop` of each file into ranges of few tags.

        Their prefixes begin with the `n_bits` high bits of `base`.
        """
        n_tags = int((stop - start).sum())
        free_bits = _PREFIX_BITS - n_bits
        if n_tags <= 2 * _TAGS_PER_BLOCK or not free_bits:
            if n_tags:
                yield start, stop
            return
        bits = min((n_tags // _TAGS_PER_BLOCK).bit_length(), _MAX_RANGE_BITS, free_bits)
        step = free_bits - bits
        bounds = np.array([base + (k << step) for k in range(1, 1 << bits)], np.uint64)
        cuts = np.empty((len(self._raw), len(bounds) + 2), np.int64)
        cuts[:, 0], cuts[:, -1] = start, stop
        for row, raw in enumerate(self._raw):  # over files: each is searched in its own column
            first = int(start[row])
            prefixes = read_prefixes(raw[first : int(stop[row])])
            cuts[row, 1:-1] = first + np.searchsorted(prefixes, bounds)
            if self.is_large:
                release_pages(raw)
        for k in range(1 << bits):
            next_base = base + (k << step)
            yield from self.ranges(cuts[:, k], cuts[:, k + 1], next_base, n_bits + bits)

    def sorted_block(self, start: I64, stop: I64) -> tuple[U64, U64]:
        """Copy rows `start` to `stop` of each file, and sort them."""
        lengths = stop - start
        ends = np.cumsum(lengths).tolist()
        copied = np.empty((ends[-1], _ROW.itemsize), np.uint8)
        end = 0
        slices = zip(self._raw, start.tolist(), stop.tolist(), ends, strict=True)
        for raw, first, last, next_end in slices:  # over files: one slice of each
            copied[end:next_end] = raw[first:last]
            end = next_end
        rows = copied.view(np.uint64)
        prefixes = rows[:, 0].byteswap()
        # An address takes the place of the prefix.
        rows[:, 0] = ragged_arange((self._numbers << _LAYER_SHIFT) + start, lengths)
        order = _sort_prefixes(prefixes)
        rows = rows.view(_ROW)[:, 0].take(order).view(np.uint64).reshape(len(order), 4)
        return prefixes.take(order), rows

    def release(self) -> None:
        """Return the memory of the maps to the system."""
        for file in self._files:
            release_pages(file.data)


def _sort_prefixes(prefixes: U64) -> I64:
    """(n,) int64: the stable order of (n,) uint64, n at least 1."""
    # Sorting numbers is several times as fast as sorting rows by them.
    row_bits = np.uint64(max(len(prefixes) - 1, 1).bit_length())
    lowest, highest = int(prefixes.min()), int(prefixes.max())
    shared_bits = np.uint64(_PREFIX_BITS - max((lowest ^ highest).bit_length(), 1))
    keys = prefixes << shared_bits
    keys >>= row_bits
    keys <<= row_bits
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    keys &= np.uint64((1 << int(row_bits)) - 1)
    order: I64 = keys.view(np.int64)
    in_order = prefixes.take(order)
    if (in_order[1:] < in_order[:-1]).any():
        order = np.argsort(prefixes, kind="stable")
    return order
