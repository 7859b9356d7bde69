"""Add up what each pair of members shares: contents and bytes, of all pairs at once.

1. Contents become sets of members (`intersections.py`): each pair of members of a set shares the
   set's contents.
2. Sets of one size are the columns of an array of member numbers. A row of it and each later row
   are the pairs of all these sets, and one `np.add.at` adds to them.
3. Sets of more than eight members are united first: real layers have most of what many have in
   common with the same others.
4. A set of more than a fifth of all members has too many pairs. Such sets become a matrix of zeros
   and ones, one row a set and one column a member. Its transpose times itself, each row weighted by
   the set's contents or bytes, is the sum for all pairs, at the speed of BLAS.

The products are made in floats and are exact, since all sums stay below 2**53: see
`contents.MAX_BYTES`. Tables are merged and added block by block, on several threads. A block takes
about 150 MB, and each thread 8 bytes a pair; 24 where there are products.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import frozen
from vecache.sharing.content_table import merge_block, table_blocks
from vecache.sharing.intersections import Intersections
from vecache.threads import map_blocks, thread_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from vecache.arrays import I64
    from vecache.sharing.content_table import ContentTable

__all__ = ["PairSums", "pair_sums"]

_FEW = 8
_DENSE_SHARE = 5
_PAIRS_PER_BLOCK = 1 << 15  # stays in the processor's cache
_SETS_PER_BLOCK = 1 << 11
_EXACT_BITS = 53  # of a float64


def pair_sums(
    tables: Sequence[ContentTable], groups: tuple[I64, I64, int] | None = None
) -> tuple[I64, I64]:
    """Add up what each pair of layers, or of groups of layers, shares.

    Parameters
    ----------
    tables : sequence of ContentTable
        The contents of each layer.
    groups : (start, group, n_groups), optional
        The groups of each layer, such as the images that have it: see `Intersections.regroup`.

    Returns
    -------
    n_contents, n_bytes : (n_members, n_members) int64
        Symmetric; the diagonal is the member itself.
    """
    blocks = table_blocks(tables)
    totals = _most_of_a_member(tables, groups)

    def add_blocks(numbers: slice) -> PairSums:
        sums = PairSums(*totals)
        for parts in blocks[numbers]:
            sets = Intersections.from_merged(merge_block(parts))
            sums.add(sets if groups is None else sets.unite_equal().regroup(*groups))
        return sums

    per_thread = max(-(-len(blocks) // thread_count()), 1)
    total = PairSums(*totals)
    for sums in map_blocks(add_blocks, len(blocks), per_thread):
        total.merge(sums)
    return total.matrices()


def _most_of_a_member(
    tables: Sequence[ContentTable], groups: tuple[I64, I64, int] | None
) -> tuple[int, int, int]:
    """Return the number of members, and what none of them has more of: contents and bytes."""
    each = np.array([(len(table), table.n_bytes) for table in tables], np.int64).reshape(-1, 2)
    if groups is not None:  # a content of two layers of a group counts twice, which is no harm
        start, group, n_groups = groups
        layers = np.repeat(each, np.diff(start), axis=0)
        each = np.zeros((n_groups, 2), np.int64)
        np.add.at(each, group, layers)
    n_contents, n_bytes = each.max(axis=0, initial=0).tolist()
    return len(each), n_contents, n_bytes


class PairSums:
    """Contents and bytes that each pair of members shares, added up set by set.

    Both sums of a pair are in one number: bytes in the high bits, contents in the low ones. Where
    those of the largest member would not fit, each has a number of its own.

    Parameters
    ----------
    n_members : int
        Members are numbered from 0.
    most_contents, most_bytes : int
        No member has more, in all sets together.
    """

    def __init__(self, n_members: int, most_contents: int, most_bytes: int) -> None:
        self._n_members = n_members
        self._shift = most_contents.bit_length()
        is_packed = self._shift + most_bytes.bit_length() < 64
        # Each pair once, above the diagonal or on it.
        self._sums = np.zeros((1 if is_packed else 2, n_members * n_members), np.int64)
        self._products: I64 | None = None  # (2, n_members, n_members), where there are any

    def add(self, sets: Intersections) -> None:
        """Add sets: those of few members pair by pair, the others as products of matrices."""
        is_few = sets.set_sizes <= _FEW
        self._add_pairs(sets.take(np.flatnonzero(is_few)))
        # Real layers share much of what many of them have with the same other layers.
        many = sets.take(np.flatnonzero(~is_few)).unite_equal()
        is_dense = many.set_sizes * _DENSE_SHARE > sets.n_members
        self._add_pairs(many.take(np.flatnonzero(~is_dense)))
        if is_dense.any():
            self._add_products(many.take(np.flatnonzero(is_dense)))

    def add_product(
        self, is_member: npt.NDArray[np.uint8 | np.float32], n_contents: I64, n_bytes: I64
    ) -> None:
        """Add all pairs of some sets as a product of matrices.

        Parameters
        ----------
        is_member : (n_sets, n_members) uint8 or float32
            One where the set has the member, else zero.
        n_contents, n_bytes : (n_sets,) int64
            Of each set.
        """
        if self._products is None:
            self._products = np.zeros((2, self._n_members, self._n_members), np.int64)
        shift = int(n_contents.sum()).bit_length()
        if shift + int(n_bytes.sum()).bit_length() <= _EXACT_BITS:  # one product for both
            left = is_member.astype(np.float64)
            packed = (left.T @ (left * (n_bytes << shift | n_contents)[:, None])).astype(np.int64)
            self._products[0] += packed & ((1 << shift) - 1)
            self._products[1] += packed >> shift
            return
        for number, weight in enumerate((n_contents, n_bytes)):
            exact = np.float32 if weight.sum() < 1 << 24 else np.float64
            left = is_member.astype(exact, copy=False)
            product = left.T @ (left * weight[:, None].astype(exact))
            self._products[number] += product.astype(np.int64)

    def merge(self, other: PairSums) -> None:
        """Add the sums of other sets of the same members."""
        self._sums += other._sums
        if self._products is None:
            self._products = other._products
        elif other._products is not None:
            self._products += other._products

    def matrices(self) -> tuple[I64, I64]:
        """Return contents and bytes, each (n_members, n_members) int64."""
        sums = list(self._sums.reshape(len(self._sums), self._n_members, self._n_members))
        if len(sums) == 1:
            sums = [sums[0] & ((1 << self._shift) - 1), sums[0] >> self._shift]
        sums = [upper + np.triu(upper, 1).T for upper in sums]
        if self._products is not None:
            sums = list(self._products + sums)
        return frozen(sums[0]), frozen(sums[1])

    def _add_pairs(self, sets: Intersections) -> None:
        """Add each pair of a set once; sets of one size are the columns of an array."""
        values = [sets.n_contents, sets.n_bytes]
        if len(self._sums) == 1:
            values = [sets.n_bytes << self._shift | sets.n_contents]
        sizes = sets.set_sizes
        order = np.argsort(sizes.astype(np.min_scalar_type(self._n_members)), kind="stable")
        edges = np.searchsorted(sizes[order], np.unique(sizes), side="right")
        for low, high in pairwise([0, *edges.tolist()]):
            size = int(sizes[order[low]])
            n_sets = max(_PAIRS_PER_BLOCK // size, 1)
            for first in range(low, high, n_sets):
                rows = order[first : min(first + n_sets, high)]
                member = sets.member.take(sets.start[rows] + np.arange(size)[:, None])
                self._add_square(member, [value[rows] for value in values])

    def _add_square(self, member: I64, values: list[I64]) -> None:
        """Add all pairs of sets of one size, (size, n_sets) int64 members in ascending order."""
        size, n_sets = member.shape
        row_start = member * self._n_members
        weights = [np.tile(value, size) for value in values]
        for step in range(size):  # each member and the one `step` later
            pair = (row_start[: size - step] + member[step:]).reshape(-1)
            for total, weight in zip(self._sums, weights, strict=True):
                np.add.at(total, pair, weight[: (size - step) * n_sets])

    def _add_products(self, sets: Intersections) -> None:
        """Add all pairs of all sets, as products of matrices."""
        for low in range(0, len(sets), _SETS_PER_BLOCK):  # bounds the memory
            block = sets.take(np.arange(low, min(low + _SETS_PER_BLOCK, len(sets))))
            is_member = np.zeros((len(block), sets.n_members), np.float32)
            is_member[block.expand(np.arange(len(block))), block.member] = 1
            self.add_product(is_member, block.n_contents, block.n_bytes)
