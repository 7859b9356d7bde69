"""Sets of members that share exactly these contents, as an UpSet plot counts them.

A member is a layer or an image. Most of a million contents have one of a few sets of members: all
that only the base layer has, all that it shares with one other. So one row here is a set of
members, with the number and bytes of the contents that these members have and no other has. There
are some thousand rows as a rule, and every figure of this package about sharing is a sum over them.

1. `from_tables` merges the contents of all members (`content_table.py`), in blocks and on several
   threads; each content is a set of one content.
2. Equal sets become one row, and their numbers and bytes are added up. To find equal sets, each
   member gets a 64-bit number, a set is hashed as the sum of its members' numbers, and the sets are
   sorted by hash; neighbours of equal hash are then compared in full.
3. `regroup` replaces each layer by the images that have it, and repeats step 2.

In the worst case each content stays a row of its own, which costs time and no exactness.
24 bytes a set, and 8 for each of its members.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import column, ragged_arange
from vecache.sharing.content_table import merge_block, table_blocks
from vecache.sharing.keys import order_words
from vecache.threads import map_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vecache.arrays import I64, U64, Bool
    from vecache.sharing.content_table import ContentTable, MergedContents

__all__ = ["Intersections"]

_ROWS_PER_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True, repr=False)
class Intersections:
    """Sets of members, each with the contents that exactly these members have.

    Attributes
    ----------
    n_members : int
        Members are numbered from 0.
    start : (n_sets + 1,) int64
        The members of set i are the rows from `start[i]` up to `start[i + 1]`; at least one.
    member : (n_rows,) int64
        Numbers of members, ascending in each set.
    n_contents : (n_sets,) int64
        Contents that all members of the set have, and no other member.
    n_bytes : (n_sets,) int64
        Bytes of these contents, each once.
    """

    n_members: int
    start: I64
    member: I64
    n_contents: I64
    n_bytes: I64

    def __post_init__(self) -> None:
        column("start", self.start, np.int64, len(self.n_contents) + 1)
        column("member", self.member, np.int64, int(self.start[-1]))
        column("n_contents", self.n_contents, np.int64, len(self.n_contents))
        column("n_bytes", self.n_bytes, np.int64, len(self.n_contents))

    @classmethod
    def from_tables(cls, tables: Sequence[ContentTable]) -> Intersections:
        """Find the sets of the members that have these contents, one table a member."""
        blocks = table_blocks(tables)

        def merge(numbers: slice) -> Intersections:
            (parts,) = blocks[numbers]
            return cls.from_merged(merge_block(parts)).unite_equal()

        return _combine(len(tables), map_blocks(merge, len(blocks), 1))

    @classmethod
    def from_merged(cls, merged: MergedContents) -> Intersections:
        """Return the members of each content of a block, one set a content."""
        return cls(
            len(merged.parts),
            merged.member_start,
            merged.member,
            np.ones(len(merged), np.int64),
            merged.size,
        )

    @property
    def set_sizes(self) -> I64:
        """(n_sets,) int64, members of each set."""
        return np.diff(self.start)

    def expand(self, per_set: I64) -> I64:
        """Repeat a value of each set for each of its members.

        Parameters
        ----------
        per_set : (n_sets,) int64
            Such as `n_bytes`.

        Returns
        -------
        (n_rows,) int64
            One a row of `member`.
        """
        repeated: I64 = np.repeat(per_set, self.set_sizes)
        return repeated

    def all_in(self, is_chosen: Bool) -> Bool:
        """Return which sets have no member outside the chosen ones.

        Parameters
        ----------
        is_chosen : (n_members,) bool
            The chosen members.

        Returns
        -------
        (n_sets,) bool
            True where no other member has the set's contents.
        """
        return self._reduce(np.logical_and, is_chosen)

    def any_in(self, is_chosen: Bool) -> Bool:
        """Return which sets have a member among the chosen ones.

        Parameters
        ----------
        is_chosen : (n_members,) bool
            The chosen members.

        Returns
        -------
        (n_sets,) bool
            True where a chosen member has the set's contents.
        """
        return self._reduce(np.logical_or, is_chosen)

    def take(self, sets: I64) -> Intersections:
        """Select sets by number.

        Parameters
        ----------
        sets : (m,) int64
            Their numbers.

        Returns
        -------
        Intersections
            m sets, of the same members.
        """
        sizes = self.set_sizes[sets]
        return Intersections(
            self.n_members,
            _starts(sizes),
            self.member[ragged_arange(self.start[sets], sizes)],
            self.n_contents[sets],
            self.n_bytes[sets],
        )

    def regroup(self, group_start: I64, group: I64, n_groups: int) -> Intersections:
        """Replace each member by its groups, such as a layer by the images that have it.

        Parameters
        ----------
        group_start : (n_members + 1,) int64
            The groups of member i are the rows from `group_start[i]` up to `group_start[i + 1]`.
        group : (n,) int64
            Numbers of groups.
        n_groups : int
            Groups are numbered from 0.

        Returns
        -------
        Intersections
            Sets of groups. Sets without a group are dropped.
        """
        n_rows = np.append(0, np.cumsum(np.diff(group_start)[self.member]))[self.start]
        blocks = (
            _replace_members(self.take(sets), group_start, group, n_groups)
            for sets in _blocks(n_rows)
        )
        return _combine(n_groups, (sets.unite_equal() for sets in blocks))

    def unite_equal(self) -> Intersections:
        """Make equal sets one row."""
        if not len(self):
            return self
        hashes = _member_hashes(self.n_members)
        set_hash = np.add.reduceat(hashes.take(self.member), self.start[:-1])
        order, is_first = order_words(set_hash)
        if is_first.all():
            return self
        ordered = self.take(order)
        first = np.flatnonzero(_differs_from_previous(ordered, is_first))
        united = ordered.take(first)
        return Intersections(
            self.n_members,
            united.start,
            united.member,
            np.add.reduceat(ordered.n_contents, first),
            np.add.reduceat(ordered.n_bytes, first),
        )

    def _reduce(self, how: np.ufunc, is_chosen: Bool) -> Bool:
        if not len(self):
            return np.zeros(0, np.bool_)
        reduced: Bool = how.reduceat(is_chosen[self.member], self.start[:-1])
        return reduced

    def __len__(self) -> int:
        return len(self.n_contents)

    def __repr__(self) -> str:
        return (
            f"<Intersections: {len(self):,} sets of {self.n_members:,} members, "
            f"{int(self.n_contents.sum()):,} contents, {int(self.n_bytes.sum()):,} bytes>"
        )


def _starts(sizes: I64) -> I64:
    return np.append(0, np.cumsum(sizes)).astype(np.int64)


def _blocks(n_rows: I64) -> Iterator[I64]:
    """Cut sets into blocks of about 4 million rows; (n_sets + 1,) rows before each and in all."""
    cuts = np.arange(0, int(n_rows[-1]) + _ROWS_PER_BLOCK, _ROWS_PER_BLOCK)
    edges = np.unique(np.append(np.searchsorted(n_rows[:-1], cuts), [0, len(n_rows) - 1]))
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        yield np.arange(low, high)


def _replace_members(
    sets: Intersections, group_start: I64, group: I64, n_groups: int
) -> Intersections:
    """Replace members by their groups; a group of several members is in a set once."""
    n_groups_of = np.diff(group_start)[sets.member]
    set_no = np.repeat(sets.expand(np.arange(len(sets))), n_groups_of)
    groups = group[ragged_arange(group_start[sets.member], n_groups_of)]
    pair = np.sort(set_no * max(n_groups, 1) + groups)  # np.unique is ten times slower
    is_first = np.ones(len(pair), np.bool_)
    is_first[1:] = pair[1:] != pair[:-1]
    set_no, groups = np.divmod(pair[is_first], max(n_groups, 1))
    sizes = np.bincount(set_no, minlength=len(sets))
    some = np.flatnonzero(sizes)
    return Intersections(
        n_groups, _starts(sizes[some]), groups, sets.n_contents[some], sets.n_bytes[some]
    )


def _combine(n_members: int, parts: Iterable[Intersections]) -> Intersections:
    """Concatenate parts, in each of which no sets are equal, and make equal sets one row."""
    listed = list(parts)
    if len(listed) == 1:
        return listed[0]
    none = np.zeros(0, np.int64)
    return Intersections(
        n_members,
        _starts(np.concatenate([none, *(part.set_sizes for part in listed)])),
        np.concatenate([none, *(part.member for part in listed)]),
        np.concatenate([none, *(part.n_contents for part in listed)]),
        np.concatenate([none, *(part.n_bytes for part in listed)]),
    ).unite_equal()


def _differs_from_previous(sets: Intersections, has_other_hash: Bool) -> Bool:
    """(n_sets,) bool: False where a set has exactly the members of the one before."""
    sizes = sets.set_sizes
    differs = has_other_hash.copy()
    differs[1:] |= sizes[1:] != sizes[:-1]
    alike = np.flatnonzero(~differs)
    if len(alike):  # of equal size, so the set before ends where this one begins
        rows = ragged_arange(sets.start[alike], sizes[alike])
        is_other = sets.member[rows] != sets.member[rows - np.repeat(sizes[alike], sizes[alike])]
        differs[alike] = np.logical_or.reduceat(is_other, _starts(sizes[alike])[:-1])
    return differs


def _member_hashes(n_members: int) -> U64:
    """(n_members,) uint64: well-mixed numbers, the same on every run (splitmix64)."""
    z = np.arange(1, n_members + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: U64 = z ^ (z >> np.uint64(31))
    return mixed
