"""Where is each digest among the tags of all layers? One sorted column of packed u64 keys.

1. A key is a tag's place in digest order and its address in one number: the high bits are the
   first bytes of the raw digest (big-endian), then the layer's number, then the tag's row in that
   layer.
2. One `np.sort` builds the column. Among equal prefixes the keys come in layer order and, inside a
   layer, in file order, so the first one that verifies *is* the first layer's first tag.
3. A fan-out table on the top bits (as git's pack index has one, but sized near the number of tags)
   gives the start of each query's run; a step or two from there finds it.

A prefix only nominates a tag. Whoever asks compares the whole digest before it believes it.

8 bytes a tag for the keys and 2 to 4 for the table. Does not read a tag's digest past its prefix
and holds no reference to a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vecache.arrays import I64, U32, U64

__all__ = ["KeyColumn", "build_keys"]

_KEYS_PER_BLOCK = 1 << 20

_MAX_STEPS = 6
"""Steps from a bucket's start before a binary search takes over. Buckets hold one or two keys
unless somebody made the digests up."""


@dataclass(frozen=True, slots=True, repr=False)
class KeyColumn:
    """A sorted column of packed keys and its fan-out table.

    Attributes
    ----------
    keys : (n_tags,) uint64, ascending
        Digest prefix, layer number, tag row, from the high bits to the low.
    bucket_start : (n_buckets + 1,) uint32
        Row of the first key of each bucket; a bucket is a value of the top `bucket_bits`.
    bucket_bits : int
        Bits that choose a bucket.
    layer_bits, tag_bits : int
        Widths of the two low parts of a key.
    """

    keys: U64
    bucket_start: U32
    bucket_bits: int
    layer_bits: int
    tag_bits: int

    @property
    def nbytes(self) -> int:
        """Bytes of keys and fan-out table: all that the column holds beyond the maps."""
        return int(self.keys.nbytes + self.bucket_start.nbytes)

    def prefix(self, queries: U64) -> U64:
        """Clear the bits of a query that a key uses for the address.

        Parameters
        ----------
        queries : (n,) uint64
            First 8 raw digest bytes, read big-endian.

        Returns
        -------
        (n,) uint64
            The same with the low bits 0: no key of that prefix is smaller.
        """
        low_bits = np.uint64(self.layer_bits + self.tag_bits)
        return (queries >> low_bits) << low_bits

    def unpack(self, rows: I64) -> tuple[I64, I64]:
        """Read the addresses from keys.

        Parameters
        ----------
        rows : (n,) int64
            Rows of `keys`.

        Returns
        -------
        layer_no, tag_row : (n,) int64
            Which layer, and which tag of its file.
        """
        keys = self.keys[rows]
        tag_row = keys & np.uint64((1 << self.tag_bits) - 1)
        layer_no = (keys >> np.uint64(self.tag_bits)) & np.uint64((1 << self.layer_bits) - 1)
        return layer_no.astype(np.int64), tag_row.astype(np.int64)

    def find_first(self, prefixes: U64) -> I64:
        """Find the first key of each prefix.

        Parameters
        ----------
        prefixes : (n,) uint64
            From `prefix`; any order, repeats allowed.

        Returns
        -------
        (n,) int64
            Row of the lowest key that begins with the prefix; -1 where there is none.

        Notes
        -----
        O(1) a query on real digests. A bucket that was stuffed on purpose costs O(log n_tags).
        """
        if not len(self.keys):
            return np.full(len(prefixes), -1, np.int64)
        rows = self._lower_bound(prefixes)
        last = len(self.keys) - 1
        is_inside = rows <= last
        found = self.keys[np.minimum(rows, last)]
        rows[~(is_inside & (self.prefix(found) == prefixes))] = -1
        return rows

    def find_end(self, prefixes: U64) -> I64:
        """Find the row after the last key of each prefix.

        Parameters
        ----------
        prefixes : (n,) uint64
            From `prefix`.

        Returns
        -------
        (n,) int64
            Row of the first key that is greater; `n_tags` at most.
        """
        low_bits = np.uint64((1 << (self.layer_bits + self.tag_bits)) - 1)
        return np.searchsorted(self.keys, prefixes | low_bits, side="right").astype(np.int64)

    def next_of_prefix(self, rows: I64, prefixes: U64) -> I64:
        """Step from each key to the next one, if it has the same prefix.

        Parameters
        ----------
        rows : (n,) int64
            Rows of keys that begin with the prefixes.
        prefixes : (n,) uint64
            From `prefix`.

        Returns
        -------
        (n,) int64
            `rows + 1`, or -1 where that key begins otherwise.
        """
        following = np.minimum(rows + 1, len(self.keys) - 1)
        is_same = (following > rows) & (self.prefix(self.keys[following]) == prefixes)
        return np.where(is_same, following, -1)

    def _lower_bound(self, prefixes: U64) -> I64:
        """(n,) int64: the first row whose key is not below the prefix."""
        bucket = prefixes >> np.uint64(64 - self.bucket_bits)
        rows: I64 = self.bucket_start[bucket].astype(np.int64)
        last = len(self.keys) - 1
        behind = np.flatnonzero(self.keys[np.minimum(rows, last)] < prefixes)
        for _ in range(_MAX_STEPS):
            if not len(behind):
                return rows
            step = rows[behind] + 1
            rows[behind] = step
            is_behind = (step <= last) & (self.keys[np.minimum(step, last)] < prefixes[behind])
            behind = behind[is_behind]
        rows[behind] = np.searchsorted(self.keys, prefixes[behind])
        return rows

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"<KeyColumn: {len(self):,} tags, {self.nbytes:,} bytes>"


def build_keys(prefixes: Iterable[U64], counts: Sequence[int]) -> KeyColumn:
    """Build the column over several layers.

    Parameters
    ----------
    prefixes : iterable of (n_tags_i,) uint64
        For each layer, the first 8 raw digest bytes of its tags, read big-endian, in file order.
    counts : sequence of int
        How many tags each layer has.

    Returns
    -------
    KeyColumn
        Over all tags; the layer number is the place in the sequence.

    Examples
    --------
    >>> layers = [np.array([7 << 60], np.uint64), np.array([3 << 60], np.uint64)]
    >>> column = build_keys(layers, [1, 1])
    >>> column.unpack(column.find_first(np.array([3 << 60], np.uint64)))
    (array([1]), array([0]))
    """
    n_tags = sum(counts)
    layer_bits = max(len(counts) - 1, 0).bit_length()
    tag_bits = max(max(counts, default=0) - 1, 0).bit_length()
    low_bits = np.uint64(layer_bits + tag_bits)
    keys = np.empty(n_tags, np.uint64)
    start = 0
    for layer_no, layer in enumerate(prefixes):  # over layers: each is one block of the column
        block = keys[start : start + len(layer)]
        np.right_shift(layer, low_bits, out=block)
        block <<= low_bits
        block |= np.arange(len(layer), dtype=np.uint64)
        block |= np.uint64(layer_no << tag_bits)
        start += len(layer)
    keys.sort()
    bucket_bits = max(n_tags.bit_length() - 1, 1)
    return KeyColumn(
        frozen(keys), frozen(_fan_out(keys, bucket_bits)), bucket_bits, layer_bits, tag_bits
    )


def _fan_out(keys: U64, bucket_bits: int) -> U32:
    """(2**bucket_bits + 1,) uint32: counting beats searching for the starts."""
    bucket_start = np.zeros((1 << bucket_bits) + 1, np.uint32)
    for start in range(0, len(keys), _KEYS_PER_BLOCK):  # a block's keys fill few buckets
        bucket = (keys[start : start + _KEYS_PER_BLOCK] >> np.uint64(64 - bucket_bits)).view(
            np.int64
        )
        first = bucket[0]
        counts = np.bincount(bucket - first)
        bucket_start[first + 1 : first + 1 + len(counts)] += counts.astype(np.uint32)
    return np.cumsum(bucket_start, out=bucket_start)
