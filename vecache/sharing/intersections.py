"""Who shares what, in its shortest form: the sets of members that have contents in common.

Of a million contents most are held by the same few sets of layers: all that only the base layer
has, all that it shares with one other. So contents with equal members are one row here, with their
number and bytes, and every figure of this room is a sum over rows: a few thousand, as a rule.

1. `from_tables` joins the keys of all layers and counts the contents of each set of members.
2. `regroup` replaces layers by the images that have them, which may make sets equal.

Sets are recognised by a hash, which is the sum of one number a member, and compared in full where
it is equal. In the worst case each content is a row of its own, and nothing is lost but time.
24 bytes a set, and 8 for each of its members.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import column, ragged_arange
from vecache.sharing.content_table import merge_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vecache.arrays import I64, U64, Bool
    from vecache.sharing.content_table import ContentTable

__all__ = ["Intersections"]

_ROWS_PER_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True, repr=False)
class Intersections:
    """Sets of members, each with what exactly they hold in common.

    Attributes
    ----------
    n_members : int
        Holders are numbered from 0 to before this.
    start : (n_sets + 1,) int64
        The members of set i are the rows from `start[i]` to before `start[i + 1]`; one at least.
    member : (n_rows,) int64
        Numbers of members, ascending in each set.
    n_contents : (n_sets,) int64
        How many contents all of the set hold, and nobody else.
    n_bytes : (n_sets,) int64
        Bytes of those contents, each once.
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
    def from_tables(cls, content_table: Sequence[ContentTable]) -> Intersections:
        """Find the sets among layers, or whatever holds contents."""
        return _merge(
            len(content_table),
            (
                _grouped(
                    cls(
                        len(content_table),
                        joined.member_start,
                        joined.member,
                        np.ones(len(joined), np.int64),
                        joined.size,
                    )
                )
                for joined in merge_tables(content_table)
            ),
        )

    @property
    def set_sizes(self) -> I64:
        """(n_sets,) int64, members of each set."""
        return np.diff(self.start)

    def expand(self, per_set: I64) -> I64:
        """Repeat one number a set for each of its members.

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
        """Say of each set whether all of its members are among the chosen.

        Parameters
        ----------
        is_chosen : (n_members,) bool
            The chosen.

        Returns
        -------
        (n_sets,) bool
            True where nobody else holds the set's contents.
        """
        return self._reduce(np.logical_and, is_chosen)

    def any_in(self, is_chosen: Bool) -> Bool:
        """Say of each set whether one of its members is among the chosen.

        Parameters
        ----------
        is_chosen : (n_members,) bool
            The chosen.

        Returns
        -------
        (n_sets,) bool
            True where the chosen hold the set's contents.
        """
        return self._reduce(np.logical_or, is_chosen)

    def take(self, sets: I64) -> Intersections:
        """Pick sets.

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

    def regroup(self, owner_start: I64, owner: I64, n_owners: int) -> Intersections:
        """Replace each member by its owners, such as a layer by the images that have it.

        Parameters
        ----------
        owner_start : (n_members + 1,) int64
            The owners of member i are the rows from `owner_start[i]` to before
            `owner_start[i + 1]`.
        owner : (n,) int64
            Numbers of owners.
        n_owners : int
            How many owners there are.

        Returns
        -------
        Intersections
            Sets of owners. What has no owner is left out.
        """
        n_owned = np.diff(owner_start)
        row_ends = np.cumsum(n_owned[self.member])
        return _merge(
            n_owners,
            (
                _owned(self.take(sets), owner_start, owner, n_owners)
                for sets in _blocks(np.append(0, row_ends)[self.start])
            ),
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


def _blocks(ends: I64) -> Iterator[I64]:
    """Cut sets into blocks of about 4 million rows, given the rows before each and in all."""
    cuts = np.arange(0, int(ends[-1]) + _ROWS_PER_BLOCK, _ROWS_PER_BLOCK)
    edges = np.unique(np.append(np.searchsorted(ends[:-1], cuts), [0, len(ends) - 1]))
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        yield np.arange(low, high)


def _owned(sets: Intersections, owner_start: I64, owner: I64, n_owners: int) -> Intersections:
    """Replace members by owners; a set owned twice by one owner has it once."""
    n_owned = np.diff(owner_start)[sets.member]
    set_no = np.repeat(sets.expand(np.arange(len(sets))), n_owned)
    owners = owner[ragged_arange(owner_start[sets.member], n_owned)]
    pair = np.sort(set_no * max(n_owners, 1) + owners)  # np.unique is ten times slower
    is_first = np.ones(len(pair), np.bool_)
    is_first[1:] = pair[1:] != pair[:-1]
    set_no, owners = np.divmod(pair[is_first], max(n_owners, 1))
    sizes = np.bincount(set_no, minlength=len(sets))
    kept = np.flatnonzero(sizes)
    owned = Intersections(
        n_owners, _starts(sizes[kept]), owners, sets.n_contents[kept], sets.n_bytes[kept]
    )
    return _grouped(owned)


def _merge(n_members: int, parts: Iterable[Intersections]) -> Intersections:
    """Make one table of several, with equal sets as one row."""
    listed = list(parts)
    none = np.zeros(0, np.int64)
    merged = Intersections(
        n_members,
        _starts(np.concatenate([none, *(part.set_sizes for part in listed)])),
        np.concatenate([none, *(part.member for part in listed)]),
        np.concatenate([none, *(part.n_contents for part in listed)]),
        np.concatenate([none, *(part.n_bytes for part in listed)]),
    )
    return _grouped(merged)


def _grouped(sets: Intersections) -> Intersections:
    """Make equal sets one row, in the order of their hashes."""
    if not len(sets):
        return sets
    mark = np.add.reduceat(_member_marks(sets.n_members)[sets.member], sets.start[:-1])
    ordered = sets.take(np.argsort(mark, kind="stable"))
    first = np.flatnonzero(_differs_from_previous(ordered, np.sort(mark)))
    grouped = ordered.take(first)
    return Intersections(
        sets.n_members,
        grouped.start,
        grouped.member,
        np.add.reduceat(ordered.n_contents, first),
        np.add.reduceat(ordered.n_bytes, first),
    )


def _differs_from_previous(sets: Intersections, mark: U64) -> Bool:
    """(n_sets,) bool: False where a set has exactly the members of the one before."""
    sizes = sets.set_sizes
    differs = np.ones(len(sets), np.bool_)
    differs[1:] = (mark[1:] != mark[:-1]) | (sizes[1:] != sizes[:-1])
    alike = np.flatnonzero(~differs)
    if len(alike):  # of equal size, so the set before ends where this one begins
        rows = ragged_arange(sets.start[alike], sizes[alike])
        is_other = sets.member[rows] != sets.member[rows - np.repeat(sizes[alike], sizes[alike])]
        differs[alike] = np.logical_or.reduceat(is_other, _starts(sizes[alike])[:-1])
    return differs


def _member_marks(n_members: int) -> U64:
    """(n_members,) uint64: well-mixed numbers, the same on every run (splitmix64)."""
    z = np.arange(1, n_members + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: U64 = z ^ (z >> np.uint64(31))
    return mixed
