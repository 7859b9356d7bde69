"""One row for each distinct content of a layer; and, merged, one for each content of all layers.

`ContentTable` holds the distinct files or chunks of one layer, sorted by key; 48 bytes a row.

`merge_tables` is the outer join of these tables on the key. It adds to each key the numbers of its
members, the layers that have it:

1. The keys are cut by their first byte into blocks of about a million rows, since a sort of all
   rows at once would take another 100 bytes for each.
2. The rows of all layers that fall into a block are concatenated, in the order of the layers.
3. A stable sort by key brings equal keys together; the layer numbers of each run of equal keys are
   its members, in ascending order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import column, frozen
from vecache.sharing.keys import KEY_BYTES, order_keys
from vecache.text import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    from vecache.arrays import I64, U8

    _Parts: TypeAlias = "tuple[tuple[ContentTable, slice], ...]"

__all__ = ["ContentTable", "MergedContents", "merge_block", "merge_tables", "table_blocks"]

_ROWS_PER_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, repr=False)
class ContentTable:
    """The distinct contents of one layer at one grain, in ascending order of the key.

    Attributes
    ----------
    key : (n, 32) uint8, C-contiguous
        See `keys.py`.
    size : (n,) int64
        Bytes of one copy, more than 0.
    n_copies : (n,) int64
        Copies in the layer.
    """

    key: U8
    size: I64
    n_copies: I64

    def __post_init__(self) -> None:
        if self.key.dtype != np.uint8 or self.key.shape != (len(self.size), KEY_BYTES):
            raise ValueError(f"key: found {self.key.dtype}, shape {self.key.shape}")
        frozen(self.key)
        column("size", self.size, np.int64, len(self.key))
        column("n_copies", self.n_copies, np.int64, len(self.key))

    @classmethod
    def from_rows(cls, key: U8, size: I64) -> ContentTable:
        """Count the copies of each content.

        Parameters
        ----------
        key : (m, 32) uint8, C-contiguous
            In any order, repeats allowed.
        size : (m,) int64
            Bytes. Only a damaged TOC has two sizes for one key; then the smallest counts.

        Returns
        -------
        ContentTable
            One row for each distinct key.
        """
        order, is_first = order_keys(key)
        first = np.flatnonzero(is_first)
        smallest = np.minimum.reduceat(size[order], first) if len(first) else size
        return cls(key[order[first]], smallest, np.diff(np.append(first, len(key))))

    @property
    def n_bytes(self) -> int:
        """Bytes, each content once; exact beyond int64."""
        return _exact_sum(self.size, np.ones_like(self.n_copies))

    @property
    def logical_bytes(self) -> int:
        """Bytes of all copies; exact beyond int64."""
        return _exact_sum(self.size, self.n_copies)

    def __len__(self) -> int:
        return len(self.size)

    def __repr__(self) -> str:
        return f"<ContentTable: {count(len(self), 'content')}, {self.n_bytes:,} bytes>"


@dataclass(frozen=True, slots=True, repr=False)
class MergedContents:
    """A block of the contents of all members, in ascending order of the key.

    Attributes
    ----------
    size : (n,) int64
        Bytes of one copy. Where members have different sizes the smallest counts: so the bytes of
        all copies never exceed what the members have, which is checked to fit.
    member_start : (n + 1,) int64
        The members of content i are the rows from `member_start[i]` up to `member_start[i + 1]`.
    member : (n_rows,) int64
        Indices into the merged sequence of tables, ascending for each content.
    order : (n_rows,) int64
        Where each of these rows is in `row_key` and in the parts of the tables.
    row_key : (n_rows, 32) uint8
        Keys before the sort.
    parts : tuple of (ContentTable, slice)
        The tables, and the rows of them that are merged.
    """

    size: I64
    member_start: I64
    member: I64
    order: I64
    row_key: U8
    parts: _Parts

    @property
    def key(self) -> U8:
        """(n, 32) uint8, each key once."""
        return self.row_key[self.order[self.member_start[:-1]]]

    @property
    def n_copies(self) -> I64:
        """(n,) int64, copies in all members."""
        return self.sum_copies(np.ones(len(self.parts), np.int64))

    def sum_copies(self, weight: I64) -> I64:
        """(n,) int64, copies in all members, those of each times its weight, (n_members,)."""
        row_copies = np.concatenate(
            [table.n_copies[rows] * n for (table, rows), n in zip(self.parts, weight, strict=True)]
        )
        summed: I64 = np.add.reduceat(row_copies[self.order], self.member_start[:-1])
        return summed

    def __len__(self) -> int:
        return len(self.size)


def merge_tables(tables: Sequence[ContentTable]) -> Iterator[MergedContents]:
    """Merge the tables of several members, block by block; no block is empty."""
    return map(merge_block, table_blocks(tables))


def table_blocks(tables: Sequence[ContentTable]) -> list[_Parts]:
    """Cut tables into blocks of about a million rows; each content is in one block of them."""
    n_rows = sum(map(len, tables))
    n_blocks = min(256, n_rows // _ROWS_PER_BLOCK + 1)
    first_byte = np.linspace(0, 256, n_blocks + 1)[:-1].astype(np.uint8)
    cuts = [  # layers, not rows
        [*np.searchsorted(table.key[:, 0], first_byte).tolist(), len(table)] for table in tables
    ]
    blocks = (
        tuple((table, slice(*cut[n : n + 2])) for table, cut in zip(tables, cuts, strict=True))
        for n in range(n_blocks)
    )
    return [parts for parts in blocks if any(rows.start < rows.stop for _, rows in parts)]


def merge_block(parts: _Parts) -> MergedContents:
    """Merge the parts of tables that make up one block."""
    key = np.concatenate([table.key[rows] for table, rows in parts])
    size = np.concatenate([table.size[rows] for table, rows in parts])
    order, is_first = order_keys(key)
    first = np.flatnonzero(is_first)
    n_rows = [rows.stop - rows.start for _, rows in parts]
    return MergedContents(
        size=np.minimum.reduceat(size.take(order), first),
        member_start=np.append(first, len(order)),
        member=np.repeat(np.arange(len(parts)), n_rows).take(order),
        order=order,
        row_key=key,
        parts=parts,
    )


def _exact_sum(size: I64, n_copies: I64) -> int:
    """Sum size * n_copies in two halves, neither of which can overflow below 2**31 copies."""
    high, low = size >> 32, size & 0xFFFFFFFF
    return (int(high @ n_copies) << 32) + int(low @ n_copies)
