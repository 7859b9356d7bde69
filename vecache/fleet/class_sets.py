"""Sets of node classes as bits: which of them have a content, given which layers have it.

A layer that all nodes run would make as many rows of a content as there are nodes, for each of its
millions of contents. So a set of classes is a row of bits here, and that of a content the union of
the rows of its layers: 8 bytes for 64 classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import column, frozen
from vecache.sharing.intersections import Intersections
from vecache.sharing.keys import order_words

if TYPE_CHECKING:
    from vecache.arrays import I64, U8, U64
    from vecache.sharing.pairs import PairSums

__all__ = ["ClassSets", "pack_bits", "unite_bits", "unpack_bits"]

_FEW_SHARE = 5  # sets of fewer than a fifth of all classes are added pair by pair
_CELLS_PER_BLOCK = 1 << 21
_MIXER = np.uint64(0x9E3779B97F4A7C15)


def pack_bits(row: I64, bit: I64, n_rows: int, n_bits: int) -> U64:
    """Set bits of a table of bits.

    Parameters
    ----------
    row, bit : (n,) int64
        The bits to set, each by its row and its number in the row.
    n_rows, n_bits : int
        The size of the table.

    Returns
    -------
    (n_rows, n_words) uint64
        64 bits a word, the lowest first.

    Examples
    --------
    >>> pack_bits(np.array([0, 0, 1]), np.array([0, 2, 64]), 2, 65).tolist()
    [[5, 0], [0, 1]]
    """
    words = np.zeros((n_rows, max(-(-n_bits // 64), 1)), np.uint64)
    np.bitwise_or.at(words, (row, bit >> 6), np.uint64(1) << (bit & 63).astype(np.uint64))
    return words


def unpack_bits(words: U64, n_bits: int) -> U8:
    """Return bits as a matrix.

    Parameters
    ----------
    words : (n_rows, n_words) uint64
        As `pack_bits` makes them.
    n_bits : int
        How many of each row count.

    Returns
    -------
    (n_rows, n_bits) uint8
        Zeros and ones.
    """
    octets = np.ascontiguousarray(words.astype("<u8", copy=False)).view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little", count=n_bits)


def unite_bits(words: U64, row: I64, start: I64) -> U64:
    """Unite the bits of several rows of a table.

    Parameters
    ----------
    words : (n_rows, n_words) uint64
        The table.
    row : (n,) int64
        Rows of it.
    start : (n_sets + 1,) int64
        Set i unites those from `start[i]` up to `start[i + 1]`, at least one.

    Returns
    -------
    (n_sets, n_words) uint64
        The bits of each set.
    """
    united = np.empty((len(start) - 1, words.shape[1]), np.uint64)
    for number in range(words.shape[1]) if len(united) else ():  # a word at a time needs no copies
        taken = np.ascontiguousarray(words[:, number]).take(row)
        united[:, number] = np.bitwise_or.reduceat(taken, start[:-1])
    return united


@dataclass(frozen=True, slots=True)
class ClassSets:
    """Sets of classes, each with the contents that exactly these classes have.

    Attributes
    ----------
    n_classes : int
        Classes are numbered from 0.
    bits : (n_sets, n_words) uint64
        The classes of each set; at least one.
    n_contents, n_bytes : (n_sets,) int64
        Contents that all classes of the set have, and no other; bytes of them, each once.
    """

    n_classes: int
    bits: U64
    n_contents: I64
    n_bytes: I64

    def __post_init__(self) -> None:
        frozen(self.bits)
        column("n_contents", self.n_contents, np.int64, len(self.bits))
        column("n_bytes", self.n_bytes, np.int64, len(self.bits))

    @classmethod
    def from_layers(cls, sets: Intersections, layer_bits: U64, n_classes: int) -> ClassSets:
        """Replace the layers of each set by the classes that have them, (n_layers, n_words)."""
        bits = unite_bits(layer_bits, sets.member, sets.start)
        return cls(n_classes, bits, sets.n_contents, sets.n_bytes).unite_equal()

    @property
    def set_sizes(self) -> I64:
        """(n_sets,) int64, classes of each set."""
        sizes: I64 = np.bitwise_count(self.bits).sum(axis=1, dtype=np.int64)
        return sizes

    def take(self, sets: I64) -> ClassSets:
        """Select sets by number."""
        return ClassSets(self.n_classes, self.bits[sets], self.n_contents[sets], self.n_bytes[sets])

    def unite_equal(self) -> ClassSets:
        """Make equal sets one row."""
        if not len(self):
            return self
        hashed = self.bits[:, 0].copy()
        for number in range(1, self.bits.shape[1]):
            hashed = (hashed ^ (hashed >> np.uint64(29))) * _MIXER + self.bits[:, number]
        hashed = (hashed ^ (hashed >> np.uint64(32))) * _MIXER
        order, is_first = order_words(hashed ^ (hashed >> np.uint64(29)))
        ordered = self.take(order)
        alike = np.flatnonzero(~is_first)  # by their hashes: those of unequal sets may be equal
        is_first[alike] = (ordered.bits[alike] != ordered.bits[alike - 1]).any(axis=1)
        first = np.flatnonzero(is_first)
        return ClassSets(
            self.n_classes,
            ordered.bits[first],
            np.add.reduceat(ordered.n_contents, first),
            np.add.reduceat(ordered.n_bytes, first),
        )

    def add_to(self, sums: PairSums) -> None:
        """Add what each pair of classes shares."""
        is_few = self.set_sizes * _FEW_SHARE < self.n_classes
        for is_of_kind, add in ((is_few, _add_pairs), (~is_few, _add_product)):
            chosen = np.flatnonzero(is_of_kind)
            n_sets = max(_CELLS_PER_BLOCK // max(self.n_classes, 1), 1)
            for low in range(0, len(chosen), n_sets):  # bounds the memory
                add(self.take(chosen[low : low + n_sets]), sums)

    def exclusive_bytes(self) -> I64:
        """(n_classes,) int64, bytes that each class has and no other."""
        single = self.take(np.flatnonzero(self.set_sizes == 1))
        total = np.zeros(self.n_classes, np.int64)
        np.add.at(total, _members(single)[1], single.n_bytes)
        return total

    def __len__(self) -> int:
        return len(self.n_contents)


def _add_pairs(sets: ClassSets, sums: PairSums) -> None:
    set_no, member = _members(sets)
    start = np.searchsorted(set_no, np.arange(len(sets) + 1)).astype(np.int64)
    sums.add(Intersections(sets.n_classes, start, member, sets.n_contents, sets.n_bytes))


def _add_product(sets: ClassSets, sums: PairSums) -> None:
    sums.add_product(unpack_bits(sets.bits, sets.n_classes), sets.n_contents, sets.n_bytes)


def _members(sets: ClassSets) -> tuple[I64, I64]:
    """List the classes of all sets: the number of the set, and that of the class."""
    set_no, member = np.nonzero(unpack_bits(sets.bits, sets.n_classes))
    return set_no, member
