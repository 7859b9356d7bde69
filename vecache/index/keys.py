"""Find digests among the tags of all layers, in one sorted column of packed u64 keys.

1. A key holds a tag's digest prefix and its address in one number: the high bits are the first
   bytes of the raw digest (big-endian), then comes the layer's number, then the tag's row in that
   layer.
2. One `np.sort` builds the column. Among equal prefixes the keys are in layer order and, inside a
   layer, in file order, so the first one that verifies *is* the first layer's first tag.
3. A fan-out table on the top bits (as git's pack index has one, but sized near the number of tags)
   gives the start of each query's run; a step or two from there finds it.

A prefix only nominates a tag: `lookup.py` compares the whole digest.

8 bytes a tag for the keys and 2 to 4 for the table. Holds no reference to a file.
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
"""Steps from a bucket's start before a binary search takes over. Buckets of real
digests hold one or two keys."""


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
        """Bytes of keys and fan-out table."""
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
        O(1) a query on real digests, O(log n_tags) where many were made to fall into one bucket.
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

    def append(self, layer_no: int, prefixes: U64) -> KeyColumn:
        """Add the tags of one more layer; this column stays as it is.

        Parameters
        ----------
        layer_no : int
            Greater than that of any layer in the column.
        prefixes : (n_tags_of_layer,) uint64
            First 8 raw digest bytes of its tags, read big-endian, in file order.

        Returns
        -------
        KeyColumn
            Over the tags of both.

        Notes
        -----
        O(n_tags): the keys are in order already, and the sort merges two runs.
        """
        if not len(prefixes):
            return self
        layer_bits = max(self.layer_bits, layer_no.bit_length())
        tag_bits = max(self.tag_bits, (len(prefixes) - 1).bit_length())
        keys = np.empty(len(self) + len(prefixes), np.uint64)
        old, new = keys[: len(self)], keys[len(self) :]
        old[:] = self.keys
        if (layer_bits, tag_bits) != (self.layer_bits, self.tag_bits):
            layer, tag = (part.view(np.uint64) for part in self.unpack(np.arange(len(self))))
            low_bits = np.uint64(layer_bits + tag_bits)
            old[:] = (old >> low_bits) << low_bits | layer << np.uint64(tag_bits) | tag
        _pack_keys(prefixes, layer_no, layer_bits, tag_bits, out=new)
        new.sort()
        keys.sort(kind="stable")
        return _index_keys(keys, layer_bits, tag_bits)

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
        Over all tags; a layer's number is its index in `counts`.

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
    keys = np.empty(n_tags, np.uint64)
    start = 0
    for layer_no, layer in enumerate(prefixes):  # over layers: each is one block of the column
        _pack_keys(layer, layer_no, layer_bits, tag_bits, out=keys[start : start + len(layer)])
        start += len(layer)
    keys.sort()
    return _index_keys(keys, layer_bits, tag_bits)


def _pack_keys(prefixes: U64, layer_no: int, layer_bits: int, tag_bits: int, out: U64) -> None:
    """Write the keys of one layer's tags, in file order."""
    low_bits = np.uint64(layer_bits + tag_bits)
    np.right_shift(prefixes, low_bits, out=out)
    out <<= low_bits
    out |= np.arange(len(prefixes), dtype=np.uint64)
    out |= np.uint64(layer_no << tag_bits)


def _index_keys(keys: U64, layer_bits: int, tag_bits: int) -> KeyColumn:
    """Make a column of sorted keys, with its fan-out table."""
    bucket_bits = max(len(keys).bit_length() - 1, 1)
    bucket_start = _fan_out(keys, bucket_bits)
    return KeyColumn(frozen(keys), frozen(bucket_start), bucket_bits, layer_bits, tag_bits)


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
