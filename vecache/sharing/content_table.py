"""Which contents does a layer hold, and who holds each content? Two tables, one from the other.

`ContentTable` is the first answer, at one grain: the distinct contents of one layer, in order of
their keys. 48 bytes a row, and the source of every figure in this room.

`merge_tables` gives the second. It sorts the keys of all layers, so that the members of a content
stand side by side. All at once would take another 100 bytes a row; so it goes by the first byte of
the key, a stretch of about a million rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import column, frozen
from vecache.sharing.keys import KEY_BYTES, order_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecache.arrays import I64, U8

__all__ = ["ContentTable", "MergedContents", "merge_tables"]

_ROWS_PER_STRETCH = 1 << 20


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
        How often the layer has it.
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
    def from_rows(cls, key: U8, size: I64, n_copies: I64 | None = None) -> ContentTable:
        """Count equal contents once.

        Parameters
        ----------
        key : (m, 32) uint8
            In any order, repeats allowed.
        size : (m,) int64
            Bytes. Of rows with one key the first counts: only a damaged TOC has two sizes.
        n_copies : (m,) int64, optional
            How often each row counts as a copy; once by default.

        Returns
        -------
        ContentTable
            One row a key.
        """
        order, is_first = order_keys(key)
        first = np.flatnonzero(is_first)
        if n_copies is None:
            n_copies = np.ones(len(key), np.int64)
        summed = np.add.reduceat(n_copies[order], first) if len(first) else n_copies
        return cls(key[order[first]], size[order[first]], summed)

    @property
    def n_bytes(self) -> int:
        """Bytes, each content once."""
        return int(self.size.sum())

    @property
    def logical_bytes(self) -> int:
        """Bytes with all copies."""
        return int((self.size * self.n_copies).sum())

    def __len__(self) -> int:
        return len(self.size)

    def __repr__(self) -> str:
        return f"<ContentTable: {len(self):,} contents, {self.n_bytes:,} bytes>"


@dataclass(frozen=True, slots=True, repr=False)
class MergedContents:
    """A stretch of contents in order of their keys, each with those who hold it.

    Attributes
    ----------
    key : (n, 32) uint8
        See `keys.py`.
    size : (n,) int64
        Bytes, as the first member has them.
    n_copies : (n,) int64
        Copies in all members together.
    member_start : (n + 1,) int64
        Its members are the rows from `member_start[i]` to before `member_start[i + 1]`.
    member : (n_rows,) int64
        Places in the sequence that was joined, ascending for each content.
    """

    key: U8
    size: I64
    n_copies: I64
    member_start: I64
    member: I64

    def __len__(self) -> int:
        return len(self.size)


def merge_tables(content_table: Sequence[ContentTable]) -> Iterator[MergedContents]:
    """Find who holds each content."""
    n_rows = sum(map(len, content_table))
    n_stretches = min(256, n_rows // _ROWS_PER_STRETCH + 1)
    edges = np.linspace(0, 256, n_stretches + 1).astype(np.int64)
    bounds = np.zeros((len(content_table), len(edges)), np.int64)
    for row, each in zip(bounds, content_table, strict=True):  # layers, not rows
        row[:] = np.searchsorted(each.key[:, 0].astype(np.int64), edges)
    for stretch in range(n_stretches):  # bounds the memory
        starts, ends = bounds[:, stretch], bounds[:, stretch + 1]
        if (ends > starts).any():
            yield _join(content_table, starts, ends)


def _join(content_table: Sequence[ContentTable], starts: I64, ends: I64) -> MergedContents:
    slices = [slice(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    parts = list(zip(content_table, slices, strict=True))
    key = np.concatenate([each.key[rows] for each, rows in parts])
    size = np.concatenate([each.size[rows] for each, rows in parts])
    n_copies = np.concatenate([each.n_copies[rows] for each, rows in parts])
    order, is_first = order_keys(key)
    first = np.flatnonzero(is_first)
    return MergedContents(
        key=key[order[first]],
        size=size[order[first]],
        n_copies=np.add.reduceat(n_copies[order], first),
        member_start=np.append(first, len(order)),
        member=np.repeat(np.arange(len(content_table)), ends - starts)[order],
    )
