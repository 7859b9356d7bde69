"""A run: the tags of several layers in one table, sorted by digest.

1. The prefix of a tag is the first 8 bytes of its raw digest, read big-endian. Prefix, layer and
   tag row are packed into one number a tag, and one `np.sort` of these keys gives the order.
2. A key has no room for the whole prefix. So the rows are read from the maps in that order, block
   by block, and a block that is not in order yet is sorted once more by whole prefixes.
3. A fan-out table on the top bits of the prefix (as git's pack index has one, but sized near the
   number of tags) gives the row where a search begins; a step or two from there finds it.

Rows of one prefix are in layer order and, inside a layer, in file order: the first that equals a
digest on all of its bytes is the answer of a look-up (see `lookup.py`).

44 to 48 bytes a tag: 8 for the prefix, 32 for the row, 4 to 8 for the fan-out table. While a run is
built, 8 more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vecache.arrays import frozen
from vecache.digest import PREFIX_BYTES, Algorithm
from vecache.files import release_pages
from vecache.index.tags import RESIDENT_BYTES, LayerTags

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecache.arrays import I64, U8, U32, U64, Bool
    from vecache.cache.reader import CacheFile

__all__ = [
    "Guard",
    "Run",
    "build_run",
    "fan_out",
    "is_indexed",
    "merge_runs",
    "read_prefixes",
    "sorted_blocks",
]

_TAGS_PER_BLOCK = 1 << 19
_LAYER_SHIFT = np.uint64(32)
_TAG_MASK = np.uint64(2**32 - 1)
_BIG_ENDIAN = np.dtype(">u8")

_MAX_STEPS = 6
"""Steps from a bucket's start before a binary search takes over. Buckets of real
digests hold one or two tags."""


class Guard(Protocol):
    """Checks the pages of a file of the index before they are read."""

    def check(self, column: str, rows: I64) -> None:
        """Check the pages with these rows of a column; raise `IndexDamagedError`."""

    def release(self) -> None:
        """Return the memory of pages that were read."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Run:
    """The tags of several layers, sorted by digest.

    Attributes
    ----------
    prefixes : (n_tags,) uint64, ascending
        First 8 raw digest bytes of each tag, read big-endian.
    rows : (n_tags, 4) uint64, C-contiguous
        For each tag its address, `number of the layer in this run << 32 | row in that layer's
        file`, and the other 24 bytes of its raw digest as they lie.
    bucket_start : (2**k + 1,) uint32
        Row of the first tag of each bucket; a bucket is a value of the top k bits of the prefix.
    layer_of : (n_layers,) int64
        Index in the set of each layer of this run, ascending; -1 for a layer that is in the set no
        more.
    guard : Guard or None
        Where the columns are mapped from a file.
    """

    prefixes: U64
    rows: U64
    bucket_start: U32
    layer_of: I64
    guard: Guard | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the three columns."""
        return int(self.prefixes.nbytes + self.rows.nbytes + self.bucket_start.nbytes)

    def find_prefixes(self, prefixes: U64) -> I64:
        """Find the first row of each prefix.

        Parameters
        ----------
        prefixes : (n,) uint64
            Any order, repeats allowed.

        Returns
        -------
        (n,) int64
            The lowest row of that prefix; -1 where there is none.

        Notes
        -----
        O(1) a query on real digests, O(log n_tags) where many were made to fall into one bucket.
        """
        if not len(self):
            return np.full(len(prefixes), -1, np.int64)
        bucket = self._buckets(prefixes)
        self.check("bucket_start", bucket)
        row = self.bucket_start.take(bucket).astype(np.int64)
        found = self._prefix_at(row)
        below = np.flatnonzero(found < prefixes)
        for _ in range(_MAX_STEPS):
            if not len(below):
                break
            row[below] = step = row.take(below) + 1
            found[below] = there = self._prefix_at(step)
            is_below = (there < prefixes.take(below)) & (step < len(self))
            below = below[is_below]
        if len(below):
            row[below] = first = self._bisect(row[below], prefixes[below])
            found[below] = self._prefix_at(first)
        row[(found != prefixes) | (row >= len(self))] = -1
        return row

    def bucket_ends(self, prefixes: U64) -> I64:
        """(n,) int64: the row after the last one in the bucket of each prefix."""
        bucket = self._buckets(prefixes) + 1
        self.check("bucket_start", bucket)
        return self.bucket_start.take(bucket).astype(np.int64)

    def next_of_prefix(self, rows: I64, prefixes: U64) -> I64:
        """(n,) int64: the row after each, -1 where its prefix is another one."""
        step = rows + 1
        is_same = (step < len(self)) & (self._prefix_at(step) == prefixes)
        return np.where(is_same, step, -1)

    def compare(self, rows: I64, words: U64) -> tuple[Bool, I64, I64]:
        """Compare the digests of rows with queries of the same prefix, and read the addresses.

        Parameters
        ----------
        rows : (n,) int64
            Rows of the table.
        words : (n, 4) uint64
            The raw digest of each query as it lies.

        Returns
        -------
        is_equal : (n,) bool
            Whether the last 24 bytes are equal and the layer is in the set.
        layer_no, tag_row : (n,) int64
            Index of each row's layer in the set, and of its tag in the file.
        """
        self.check("rows", rows)
        found = _take_rows(self.rows, rows)
        is_equal = found[:, 1] == words[:, 1]
        is_equal &= found[:, 2] == words[:, 2]
        is_equal &= found[:, 3] == words[:, 3]
        address = found[:, 0]
        layer_no = self.layer_of.take((address >> _LAYER_SHIFT).view(np.int64))
        is_equal &= layer_no >= 0
        return is_equal, layer_no, (address & _TAG_MASK).view(np.int64)

    def check(self, column: str, rows: I64) -> None:
        """Check the parts of a mapped run that are read next."""
        if self.guard is not None:
            self.guard.check(column, rows)

    def _prefix_at(self, rows: I64) -> U64:
        """(n,) uint64: the prefix at each row, the last one behind the end."""
        if self.guard is not None:
            rows = np.minimum(rows, len(self) - 1)
            self.guard.check("prefixes", rows)
        return self.prefixes.take(rows, mode="clip")

    def _buckets(self, prefixes: U64) -> I64:
        n_buckets = len(self.bucket_start) - 1
        return (prefixes >> np.uint64(65 - n_buckets.bit_length())).view(np.int64)

    def _bisect(self, low: I64, prefixes: U64) -> I64:
        """(n,) int64: the first row from `low` whose prefix is not below the query's."""
        high = self.bucket_ends(prefixes)
        while (is_open := low < high).any():
            middle = (low + high) >> 1
            is_below = is_open & (self._prefix_at(middle) < prefixes)
            low = np.where(is_below, middle + 1, low)
            high = np.where(is_open & ~is_below, middle, high)
        return low

    def __len__(self) -> int:
        return len(self.prefixes)

    def __repr__(self) -> str:
        return f"<Run: {len(self):,} tags of {len(self.layer_of):,} layers, {self.nbytes:,} bytes>"


def build_run(files: Sequence[CacheFile], layer_of: I64) -> Run:
    """Build the run of some layers in memory.

    Parameters
    ----------
    files : sequence of CacheFile
        The layers; those that are not `is_indexed` have no tags in the run.
    layer_of : (n_layers,) int64
        Index of each in the set, ascending.

    Returns
    -------
    Run
        Holds no reference to the files.
    """
    n_tags = sum(file.n_tags for file in files if is_indexed(file))
    prefixes, rows = np.empty(n_tags, np.uint64), np.empty((n_tags, 4), np.uint64)
    start = 0
    for block_prefixes, block_rows in sorted_blocks(files):
        end = start + len(block_prefixes)
        prefixes[start:end], rows[start:end] = block_prefixes, block_rows
        start = end
    return Run(frozen(prefixes), frozen(rows), frozen(fan_out(prefixes)), frozen(layer_of))


def merge_runs(first: Run, second: Run) -> Run:
    """Merge two runs in memory; all layers of the second come after those of the first.

    Parameters
    ----------
    first, second : Run
        No layer of either is gone.

    Returns
    -------
    Run
        Over the layers of both.
    """
    prefixes = np.concatenate([first.prefixes, second.prefixes])
    order = np.argsort(prefixes, kind="stable")  # two ascending runs: merged, not sorted
    rows = np.concatenate([first.rows, second.rows])
    rows[len(first) :, 0] += np.uint64(len(first.layer_of)) << _LAYER_SHIFT
    layer_of = np.concatenate([first.layer_of, second.layer_of])
    prefixes = prefixes[order]
    return Run(frozen(prefixes), frozen(rows[order]), frozen(fan_out(prefixes)), frozen(layer_of))


def sorted_blocks(files: Sequence[CacheFile]) -> Iterator[tuple[U64, U64]]:
    """Read the tags of some layers in the order of a run.

    Parameters
    ----------
    files : sequence of CacheFile
        The layers; those that are not `is_indexed` are left out.

    Yields
    ------
    prefixes : (n,) uint64
        The next prefixes, ascending.
    rows : (n, 4) uint64
        The rows that belong to them; see `Run`.

    Notes
    -----
    Memory: 8 bytes a tag, and one block. A block has half a million tags, and as many more as share
    the first bits of its last prefix.
    """
    is_large = sum(file.n_bytes for file in files) > RESIDENT_BYTES
    counts = [file.n_tags if is_indexed(file) else 0 for file in files]
    layer_bits = max(len(counts) - 1, 0).bit_length()
    tag_bits = max(max(counts, default=0) - 1, 0).bit_length()
    keys = np.empty(sum(counts), np.uint64)
    starts = np.cumsum([0, *counts]).tolist()
    for number, file in enumerate(files):  # over layers: each is one block of the column
        if counts[number]:
            layer_keys = keys[starts[number] : starts[number + 1]]
            _pack_keys(file, number, layer_bits, tag_bits, out=layer_keys)
        if is_large:
            release_pages(file.data)
    keys.sort()
    tags = LayerTags.of_files(files)
    low_bits = np.uint64((1 << (layer_bits + tag_bits)) - 1)
    end = 0
    while end < len(keys):
        start, end = end, min(end + _TAGS_PER_BLOCK, len(keys))
        # Tags of one prefix stay together.
        end = int(np.searchsorted(keys, keys[end - 1] | low_bits, side="right"))
        address = keys[start:end] & low_bits
        layer_no, tag_row = address >> np.uint64(tag_bits), address & np.uint64((1 << tag_bits) - 1)
        rows = tags.raw_digests(layer_no.view(np.int64), tag_row.view(np.int64))
        if is_large:
            tags.release()
        prefixes = read_prefixes(rows.view(np.uint8))
        rows[:, 0] = layer_no << _LAYER_SHIFT | tag_row
        if (prefixes[1:] < prefixes[:-1]).any():
            order = np.argsort(prefixes, kind="stable")
            prefixes, rows = prefixes[order], rows[order]
        yield prefixes, rows


def _pack_keys(file: CacheFile, number: int, layer_bits: int, tag_bits: int, out: U64) -> None:
    """Write the keys of one layer's tags, in file order: prefix, layer, tag row."""
    low_bits = np.uint64(layer_bits + tag_bits)
    np.right_shift(read_prefixes(file.packed, PREFIX_BYTES), low_bits, out=out)
    out <<= low_bits
    out |= np.arange(len(out), dtype=np.uint64)
    out |= np.uint64(number << tag_bits)


def fan_out(prefixes: U64) -> U32:
    """Count the tags before each bucket.

    Parameters
    ----------
    prefixes : (n_tags,) uint64, ascending
        The prefixes of a run.

    Returns
    -------
    (2**k + 1,) uint32
        Row of the first tag of each bucket: more than one bucket and at most two a tag.
    """
    bucket_bits = max(len(prefixes).bit_length(), 1)
    bucket_start = np.zeros((1 << bucket_bits) + 1, np.uint32)
    for start in range(0, len(prefixes), _TAGS_PER_BLOCK):  # the tags of a block fill few buckets
        shifted: U64 = prefixes[start : start + _TAGS_PER_BLOCK] >> np.uint64(64 - bucket_bits)
        bucket = shifted.view(np.int64)
        first = int(bucket[0])
        counts = np.bincount(bucket - first)
        bucket_start[first + 1 : first + 1 + len(counts)] += counts.astype(np.uint32)
    return np.cumsum(bucket_start, out=bucket_start)


def is_indexed(file: CacheFile) -> bool:
    """Return whether a search of sorted digests finds in a file what Go's search finds."""
    return file.algorithm is Algorithm.SHA256 and file.is_sound()


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


def _take_rows(table: U64, rows: I64) -> U64:
    """(n, 4) uint64: rows of a table; as items of 32 bytes, which numpy copies fastest."""
    return table.view("V32")[:, 0].take(rows).view(np.uint64).reshape(len(rows), 4)
