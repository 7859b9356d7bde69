"""What each layer or image costs by itself, how much sharing saves, and which files repeat most.

For each member, a layer or an image, `shares` finds:

1. exclusive bytes: contents that no other member has, so that go if it goes;
2. bytes by the number of other members that have them too;
3. new bytes: contents that no member before it in store order has. Their running sum is the curve
   of unique bytes; it ends with what the store would need if it kept each content once.

`repeated_files` finds the files whose copies, in all layers and within one, take most bytes. It
goes through the contents of all layers block by block and holds only the largest rows so far. The
tables have no paths, so the TOC of the first layer that has one of these files is read once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from vecache.arrays import ArrowExport, frozen
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


def shares(source: Any, by: By = "layer", grain: Grain = "file") -> Shares:
    """Find what each layer or image costs by itself, and what it shares.

    Parameters
    ----------
    source : LayersCache, Contents, or anything `read_contents` takes
        The layers and images. Several stores are a list, or a mapping of names to them.
    by : {"layer", "image", "host"}
        The members that are compared; hosts are the stores, where there are several.
    grain : {"file", "chunk"}
        What is counted.

    Returns
    -------
    Shares
        One row a layer, image or host. A layer that two stores have is one layer of each host.

    Raises
    ------
    StoreError, DatasetError
        If the source cannot be read.
    ValueError
        If `by` or `grain` has another value.
    """
    check_by(by)
    check_grain(grain)
    contents = read_contents(source)
    return Shares(contents, by, grain, contents.intersections(by, grain))


@dataclass(frozen=True, slots=True)
class DedupRatio:
    """How often each byte of the layers is there, on average."""

    grain: Grain  # holes count as files only
    logical_bytes: int  # all copies in all layers
    unique_bytes: int  # each content once

    @property
    def ratio(self) -> float:
        """Logical by unique bytes; 1 where there is nothing."""
        return self.logical_bytes / self.unique_bytes if self.unique_bytes else 1.0


@dataclass(frozen=True, eq=False, repr=False)
class Shares(ArrowExport):
    """What each layer or image has, alone and with others; one row each, in store order.

    Attributes
    ----------
    contents : Contents
        The contents that are compared.
    by : {"layer", "image", "host"}
        The members.
    grain : {"file", "chunk"}
        Whether bytes are those of files or of chunks.
    sets : Intersections
        Sets of members, with what exactly they share at that grain.
    labels : tuple of str, n of them
        Ids of layers or names of images.
    bytes : (n,) int64
        All that each member has, each content once.
    exclusive_bytes : (n,) int64
        What no other member has.
    new_bytes, cumulative_bytes : (n,) int64
        What no member before it has; and the unique bytes of all members up to and with it.
    by_others : (n, n) int64
        Bytes of row i that exactly k other members have, in column k.
    dedup : tuple of two DedupRatio
        Of all layers, by files and by chunks.
    """

    contents: Contents
    by: By
    grain: Grain
    sets: Intersections

    @property
    def labels(self) -> tuple[str, ...]:
        """Ids of layers or names of images."""
        return self.contents.labels(self.by)

    @cached_property
    def bytes(self) -> I64:
        """(n,) int64, all that each member has, each content once."""
        return self._sum(self.sets.member, self.sets.expand(self.sets.n_bytes))

    @cached_property
    def exclusive_bytes(self) -> I64:
        """(n,) int64, what no other member has."""
        single = self.sets.take(np.flatnonzero(self.sets.set_sizes == 1))
        return self._sum(single.member, single.n_bytes)

    @cached_property
    def new_bytes(self) -> I64:
        """(n,) int64, what no member before it has."""
        return self._sum(self.sets.member[self.sets.start[:-1]], self.sets.n_bytes)

    @property
    def cumulative_bytes(self) -> I64:
        """(n,) int64, unique bytes of all members up to and with it."""
        running: I64 = np.cumsum(self.new_bytes)
        return running

    @cached_property
    def by_others(self) -> I64:
        """(n, n) int64, bytes of row i that exactly k other members have, in column k."""
        n_members = self.sets.n_members
        n_others = self.sets.expand(self.sets.set_sizes - 1)
        counted = np.zeros(n_members**2, np.int64)  # flat: add.at is many times slower in 2-D
        index = self.sets.member * n_members + n_others
        np.add.at(counted, index, self.sets.expand(self.sets.n_bytes))
        return frozen(counted.reshape(n_members, n_members))

    @cached_property
    def dedup(self) -> tuple[DedupRatio, DedupRatio]:
        """The ratios over all layers: by files, and by chunks."""
        files, chunks = (_dedup(self.contents, grain) for grain in GRAINS)
        return files, chunks

    def repeated_files(self, n_files: int = 20) -> RepeatedFiles:
        """Find the files whose copies in layers take most bytes.

        Parameters
        ----------
        n_files : int
            How many to find.

        Returns
        -------
        RepeatedFiles
            At most `n_files` rows.
        """
        return repeated_files(self.contents, n_files)

    def plot(self, kind: Literal["treemap", "upset", "curve"] = "treemap") -> Picture:
        """Draw what members have, alone and with others.

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
        members = f"{self.by}s"
        among = f"{len(self):,} {self.by if len(self) == 1 else members}"
        sets = (self.sets.start, self.sets.member, self.sets.n_bytes)
        if kind == "treemap":
            from vecache.draw.treemap import treemap  # noqa: PLC0415 - matplotlib is an extra

            note = (
                f"A tile is what exactly these {members} have; bytes of {self.grain}s, each once."
            )
            title = f"Who owns the bytes of {among}"
            return treemap(*sets, self.labels, title=title, note=note)
        if kind == "upset":
            from vecache.draw.upset import upset  # noqa: PLC0415 - as above

            note = f"Bytes of {self.grain}s that exactly the {members} with a dot have."
            title = f"Who shares what among {among}"
            return upset(*sets, self.labels, title=title, note=note)
        if kind == "curve":
            from vecache.draw.curves import unique_curve  # noqa: PLC0415 - as above

            note = f"Bytes of {self.grain}s in store order; copies in one {self.by} count once."
            title = f"Unique bytes of {among}"
            return unique_curve(self.bytes, self.new_bytes, self.labels, title=title, note=note)
        raise ValueError(f"kind: found {kind!r}, wanted 'treemap', 'upset' or 'curve'")

    def to_arrow(self) -> Any:
        """Export the columns.

        Returns
        -------
        pyarrow.Table
            `label`, `bytes`, `exclusive_bytes`, `new_bytes`, `cumulative_bytes`, and `by_others`:
            lists that end with the last number that is not 0. Of several stores also `host`.
        """
        column = np.arange(1, len(self) + 1)
        n_used = np.where(self.by_others > 0, column, 0).max(axis=1, initial=0)
        is_listed = np.arange(len(self)) < n_used[:, None]
        offsets = np.append(0, np.cumsum(n_used)).astype(np.int32)
        hosts = self.contents.member_hosts(self.by)
        return pa.table(
            {
                **({"host": pa.array(hosts, pa.string())} if hosts else {}),
                "label": pa.array(self.labels, pa.string()),
                "bytes": self.bytes,
                "exclusive_bytes": self.exclusive_bytes,
                "new_bytes": self.new_bytes,
                "cumulative_bytes": self.cumulative_bytes,
                "by_others": pa.ListArray.from_arrays(offsets, self.by_others[is_listed]),
            }
        )

    def _sum(self, member: I64, n_bytes: I64) -> I64:
        total = np.zeros(self.sets.n_members, np.int64)
        np.add.at(total, member, n_bytes)
        return frozen(total)

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


def _dedup(contents: Contents, grain: Grain) -> DedupRatio:
    tables = contents.content_tables(grain)
    unique_bytes = sum(int(merged.size.sum()) for merged in merge_tables(tables))
    return DedupRatio(grain, sum(table.logical_bytes for table in tables), unique_bytes)


def repeated_files(source: Any, n_files: int = 20) -> RepeatedFiles:
    """Find the files whose copies take most bytes, those of the lowest digest first if equal."""
    contents = read_contents(source)
    none = np.zeros(0, np.int64)
    columns: list[Any] = [np.zeros((0, 32), np.uint8), none, none, none, none]
    for merged in merge_tables(contents.content_tables("file")):
        block: tuple[Any, ...] = (
            merged.key,
            merged.member[merged.member_start[:-1]],
            merged.size,
            merged.n_copies,
            np.diff(merged.member_start),
        )
        columns = [np.concatenate(pair) for pair in zip(columns, block, strict=True)]
        repeated_bytes = columns[2] * (columns[3] - 1)
        order = np.argsort(-repeated_bytes, kind="stable")[:n_files]
        columns = [column[order[repeated_bytes[order] > 0]] for column in columns]
    key, first_layer, size, n_copies, n_layers = columns
    return RepeatedFiles(key, _find_paths(contents, first_layer, key), size, n_copies, n_layers)


@dataclass(frozen=True, eq=False, repr=False)
class RepeatedFiles(ArrowExport):
    """Files that are stored more than once, the one whose copies take most bytes first.

    Attributes
    ----------
    key : (n, 32) uint8
        See `keys.py`.
    path : tuple of str or None
        First path of the file in the first layer that has it; None where it cannot be found now.
    size : (n,) int64
        Bytes of one copy.
    n_copies, n_layers : (n,) int64
        Copies in all layers, and layers with at least one.
    repeated_bytes : (n,) int64
        Bytes of all copies but one.
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
        """Export the columns.

        Returns
        -------
        pyarrow.Table
            `digest`, `path`, `size`, `n_copies`, `n_layers`, `repeated_bytes`.
        """
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


def _find_paths(contents: Contents, layer_no: I64, key: U8) -> tuple[str | None, ...]:
    """Read the TOC of each of these layers once more, for the few files that are listed."""
    paths: list[str | None] = [None] * len(key)
    if contents.source is None:
        return tuple(paths)
    for number in np.unique(layer_no).tolist():
        rows = np.flatnonzero(layer_no == number)
        found = contents.source.find_paths(contents.layers[number].record, key[rows])
        for row, path in zip(rows.tolist(), found, strict=True):
            paths[row] = path
    return tuple(paths)
