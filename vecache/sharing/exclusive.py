"""Which files are stored more than once, and what do their copies cost? The costliest of them.

Copies are counted in all layers together, those within one layer too. The keys of all layers are
gone through in stretches, and only the costliest rows so far are kept. Names are not kept with the
keys; so the TOC of each layer that is the first to have one of these files is read once more.

What does each layer or image cost alone, and how much does sharing save? In four figures.

1. Own bytes: what nobody else holds, so what goes if it goes.
2. Bytes by the number of others that hold them too.
3. New bytes: what none before it in store order holds. Their running sum is the curve of unique
   bytes; it ends with all that the store would need if it kept each content once.
4. The ratio of all copies to that, at either grain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import frozen
from vecache.digest import format_digests
from vecache.sharing.content_table import merge_tables
from vecache.sharing.contents import GRAINS, check_by, check_grain
from vecache.sharing.sources import read_contents
from vecache.text import html_table

if TYPE_CHECKING:
    from vecache.arrays import I64, U8
    from vecache.draw.picture import Picture
    from vecache.sharing.contents import By, Contents, Grain
    from vecache.sharing.intersections import Intersections

__all__ = ["DedupRatio", "RepeatedFiles", "Shares", "repeated_files", "shares"]


@dataclass(frozen=True, eq=False, repr=False)
class RepeatedFiles:
    """Files that are stored more than once, the costliest first.

    Attributes
    ----------
    key : (n, 32) uint8
        See `keys.py`.
    path : tuple of str or None
        Where the first layer that has it keeps it first; None where that cannot be found any more.
    size : (n,) int64
        Bytes of one copy.
    n_copies, n_layers : (n,) int64
        Copies in all layers, and how many layers have one.
    """

    key: U8
    path: tuple[str | None, ...]
    size: I64
    n_copies: I64
    n_layers: I64

    @property
    def repeated_bytes(self) -> I64:
        """(n,) int64, bytes of all copies but one."""
        return self.size * (self.n_copies - 1)

    def to_arrow(self) -> Any:
        """Export the columns."""
        return pa.table(
            {
                "digest": format_digests(self.key),
                "path": pa.array(self.path, pa.string()),
                "size": self.size,
                "n_copies": self.n_copies,
                "n_layers": self.n_layers,
                "repeated_bytes": self.repeated_bytes,
            }
        )

    def __len__(self) -> int:
        return len(self.size)

    def __repr__(self) -> str:
        return f"<RepeatedFiles: {len(self):,} files, {int(self.repeated_bytes.sum()):,} bytes>"

    def _repr_html_(self) -> str:
        columns = (self.size, self.n_copies, self.n_layers, self.repeated_bytes)
        return html_table(
            repr(self)[1:-1],
            ("path", "size", "copies", "layers", "repeated bytes"),
            zip(self.path, *(column.tolist() for column in columns), strict=True),
            n_rows=len(self),
        )


def repeated_files(source: Any, n_files: int = 20) -> RepeatedFiles:
    """Find the files whose copies cost most."""
    contents = read_contents(source)
    found = _Costliest(n_files)
    for joined in merge_tables(contents.content_tables("file")):
        found.add(
            joined.key,
            joined.member[joined.member_start[:-1]],
            joined.size,
            joined.n_copies,
            np.diff(joined.member_start),
        )
    key, first_layer, size, n_copies, n_layers = found.columns
    return RepeatedFiles(key, _find_paths(contents, first_layer, key), size, n_copies, n_layers)


def _find_paths(contents: Contents, layer_no: I64, key: U8) -> tuple[str | None, ...]:
    """Read the TOC of each layer once more, for the few files that are to be shown."""
    paths: list[str | None] = [None] * len(key)
    source = contents.source
    if source is None:
        return tuple(paths)
    for number in np.unique(layer_no).tolist():
        rows = np.flatnonzero(layer_no == number)
        found = source.find_paths(contents.layers[number].record, key[rows])
        for row, path in zip(rows.tolist(), found, strict=True):
            paths[row] = path
    return tuple(paths)


class _Costliest:
    """Keeps the rows with the most repeated bytes of all that are added."""

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows
        none = np.zeros(0, np.int64)
        self.columns: tuple[Any, ...] = (np.zeros((0, 32), np.uint8), none, none, none, none)

    def add(self, *columns: Any) -> None:
        joined = [np.concatenate(pair) for pair in zip(self.columns, columns, strict=True)]
        _, _, size, n_copies, _ = joined
        repeated = size * (n_copies - 1)
        order = np.argsort(-repeated, kind="stable")[: self._n_rows]
        self.columns = tuple(column[order[repeated[order] > 0]] for column in joined)


@dataclass(frozen=True, slots=True)
class DedupRatio:
    """How often each byte of a store is there, on average."""

    grain: Grain  # files or chunks; holes count as files only
    logical_bytes: int  # all copies in all layers
    unique_bytes: int  # each content once

    @property
    def ratio(self) -> float:
        """Logical by unique bytes; 1 where there is nothing."""
        return self.logical_bytes / self.unique_bytes if self.unique_bytes else 1.0


@dataclass(frozen=True, eq=False, repr=False)
class Shares:
    """One row a layer or image, in store order.

    Attributes
    ----------
    contents : Contents
        Where it comes from.
    by : {"layer", "image"}
        Whether members are layers or images.
    grain : {"file", "chunk"}
        Whether bytes are those of files or of chunks.
    sets : Intersections
        Who holds what, at that grain.
    """

    contents: Contents
    by: By
    grain: Grain
    sets: Intersections

    @property
    def labels(self) -> tuple[str, ...]:
        """Ids of the layers, or names of the images."""
        return self.contents.labels(self.by)

    @cached_property
    def by_others(self) -> I64:
        """(n, n) int64: bytes of row i that exactly k others hold, in column k."""
        n_members = self.sets.n_members
        others = self.sets.expand(self.sets.set_sizes - 1)
        counted = np.zeros(n_members**2, np.int64)
        np.add.at(counted, self.sets.member * n_members + others, self._row_bytes)
        return frozen(counted.reshape(n_members, n_members))

    @cached_property
    def bytes(self) -> I64:
        """(n,) int64, all it holds, each content once."""
        return frozen(self._sum(self.sets.member, self._row_bytes))

    @cached_property
    def exclusive_bytes(self) -> I64:
        """(n,) int64, what nobody else holds."""
        is_own = self.sets.set_sizes == 1
        own = self.sets.take(np.flatnonzero(is_own))
        return frozen(self._sum(own.member, own.n_bytes))

    @cached_property
    def new_bytes(self) -> I64:
        """(n,) int64, what none before it holds."""
        return frozen(self._sum(self.sets.member[self.sets.start[:-1]], self.sets.n_bytes))

    @property
    def cumulative_bytes(self) -> I64:
        """(n,) int64, unique bytes of all up to and with it."""
        running: I64 = np.cumsum(self.new_bytes)
        return running

    @cached_property
    def dedup(self) -> tuple[DedupRatio, DedupRatio]:
        """The ratio over all layers: by files, and by chunks."""
        files, chunks = (_dedup(self.contents, grain) for grain in GRAINS)
        return files, chunks

    def repeated_files(self, n_files: int = 20) -> RepeatedFiles:
        """Find the files whose copies in layers cost most; see the function of this name.

        Parameters
        ----------
        n_files : int
            How many to find.

        Returns
        -------
        RepeatedFiles
            That many at most.
        """
        return repeated_files(self.contents, n_files)

    def plot(self, kind: str = "treemap") -> Picture:
        """Draw who holds what.

        Parameters
        ----------
        kind : {"treemap", "upset", "curve"}
            Who owns the bytes; who shares with whom; unique bytes in store order.

        Returns
        -------
        Picture
            Shows itself in a notebook; `save` writes SVG or PNG.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        from vecache.sharing.pictures import draw_shares  # noqa: PLC0415 - matplotlib is an extra

        return draw_shares(self, kind)

    def to_arrow(self) -> Any:
        """Export the columns.

        Returns
        -------
        pyarrow.Table
            `label`, `bytes`, `exclusive_bytes`, `new_bytes`, `cumulative_bytes`, and `by_others`:
            lists that end with the last number that is not 0.
        """
        place = np.arange(1, len(self) + 1)
        n_used = np.where(self.by_others > 0, place, 0).max(axis=1, initial=0)
        is_listed = np.arange(len(self)) < n_used[:, None]
        offsets = np.append(0, np.cumsum(n_used)).astype(np.int32)
        return pa.table(
            {
                "label": pa.array(self.labels, pa.string()),
                "bytes": self.bytes,
                "exclusive_bytes": self.exclusive_bytes,
                "new_bytes": self.new_bytes,
                "cumulative_bytes": self.cumulative_bytes,
                "by_others": pa.ListArray.from_arrays(offsets, self.by_others[is_listed]),
            }
        )

    @property
    def _row_bytes(self) -> I64:
        return self.sets.expand(self.sets.n_bytes)

    def _sum(self, member: I64, n_bytes: I64) -> I64:
        total = np.zeros(self.sets.n_members, np.int64)
        np.add.at(total, member, n_bytes)
        return total

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        unique = int(self.sets.n_bytes.sum())
        return (
            f"<Shares: {len(self):,} {self.by}s by {self.grain}, {unique:,} unique bytes, "
            f"{int(self.exclusive_bytes.sum()):,} of them in one {self.by} only>"
        )

    def _repr_html_(self) -> str:
        columns = (self.bytes, self.exclusive_bytes, self.new_bytes, self.cumulative_bytes)
        return html_table(
            repr(self)[1:-1],
            (self.by, "bytes", "exclusive bytes", "new bytes", "unique so far"),
            zip(self.labels, *(column.tolist() for column in columns), strict=True),
            n_rows=len(self),
        )


def shares(source: Any, by: By = "layer", grain: Grain = "file") -> Shares:
    """Find out what each layer or image costs alone.

    Parameters
    ----------
    source : LayersCache, Contents, or anything `read_contents` takes
        Whose layers and images.
    by : {"layer", "image"}
        What is compared.
    grain : {"file", "chunk"}
        What is counted.

    Returns
    -------
    Shares
        One row a layer or image.

    Raises
    ------
    StoreError, DatasetError
        If the source cannot be read.
    ValueError
        If `by` or `grain` is none of the two.
    """
    contents = read_contents(source)
    check_by(by)
    check_grain(grain)
    return Shares(contents, by, grain, contents.intersections(by, grain))


def _dedup(contents: Contents, grain: Grain) -> DedupRatio:
    content_table = contents.content_tables(grain)
    unique = sum(int(joined.size.sum()) for joined in merge_tables(content_table))
    return DedupRatio(grain, sum(each.logical_bytes for each in content_table), unique)
