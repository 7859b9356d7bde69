"""A run: the tags of several layers in one table, sorted by digest.

1. The prefix of a tag is the first 8 bytes of its raw digest, read big-endian. `merge.py` gives the
   tags of all layers in the order of their prefixes, block by block.
2. A fan-out table on the top bits of the prefix (as git's pack index has one, but sized near the
   number of tags) gives the row where a search begins; a step or two from there finds it.

Rows of one prefix are in layer order and, inside a layer, in file order: the first that equals a
digest on all of its bytes is the answer of a look-up (see `lookup.py`).

44 to 48 bytes a tag: 8 for the prefix, 32 for the row, 4 to 8 for the fan-out table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vecache.arrays import frozen
from vecache.index.merge import indexed_only, sorted_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecache.arrays import I64, U32, U64, Bool
    from vecache.cache.reader import CacheFile

__all__ = [
    "MAPPED_BYTES",
    "Guard",
    "Run",
    "bucket_bits",
    "build_run",
    "count_buckets",
    "fan_out",
    "merge_runs",
    "split_sorted",
    "take_rows",
]

MAPPED_BYTES = 128 << 20
"""Most of a mapped index that is in memory at a time, for each thread."""

_TAGS_PER_BLOCK = 1 << 19
_LAYER_SHIFT = np.uint64(32)
_TAG_MASK = np.uint64(2**32 - 1)

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
        found = take_rows(self.rows, rows)
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
    members = indexed_only(files)
    n_tags = sum(file.n_tags for file in members if file is not None)
    prefixes, rows = np.empty(n_tags, np.uint64), np.empty((n_tags, 4), np.uint64)
    start = 0
    for block_prefixes, block_rows in sorted_blocks(members):
        end = start + len(block_prefixes)
        prefixes[start:end], rows[start:end] = block_prefixes, block_rows
        start = end
    return Run(frozen(prefixes), frozen(rows), frozen(fan_out(prefixes)), frozen(layer_of))


def split_sorted(n_rows: int, n_bytes: int, most: int) -> int:
    """Return how many of the rows to read at a time from a mapped column, in its order.

    Parameters
    ----------
    n_rows : int
        How many rows are read, spread over all of it.
    n_bytes : int
        Size of the column.
    most : int
        Not more than so many at a time.

    Returns
    -------
    int
        From 1 to `most`: so few that no more than `MAPPED_BYTES` are in memory for them.

    Notes
    -----
    A few rows bring much of a file into memory: the kernel maps up to 2 MB around each.
    """
    n_blocks = -(-n_bytes // MAPPED_BYTES)
    return max(min(-(-n_rows // max(n_blocks, 1)), most), 1)


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
    bucket_start = np.zeros((1 << bucket_bits(len(prefixes))) + 1, np.uint32)
    for start in range(0, len(prefixes), _TAGS_PER_BLOCK):
        count_buckets(bucket_start, prefixes[start : start + _TAGS_PER_BLOCK])
    return np.cumsum(bucket_start, out=bucket_start)


def bucket_bits(n_tags: int) -> int:
    """Return how many bits of a prefix choose its bucket."""
    return max(n_tags.bit_length(), 1)


def count_buckets(counts: U32, prefixes: U64) -> None:
    """Count the tags of each bucket.

    Parameters
    ----------
    counts : (2**k + 1,) uint32
        Incremented behind the bucket of each tag; summed up from the start, it is the fan-out
        table.
    prefixes : (n,) uint64, ascending
        At least one. The fewer buckets they fill, the faster.
    """
    shifted: U64 = prefixes >> np.uint64(65 - (len(counts) - 1).bit_length())
    bucket = shifted.view(np.int64)
    first = int(bucket[0])
    n_tags = np.bincount(bucket - first)
    counts[first + 1 : first + 1 + len(n_tags)] += n_tags.astype(np.uint32)


def take_rows(table: U64, rows: I64) -> U64:
    """(n, 4) uint64: rows of a table; as items of 32 bytes, which numpy copies fastest."""
    return table.view("V32")[:, 0].take(rows).view(np.uint64).reshape(len(rows), 4)
