"""What each layer or image costs by itself, and how much sharing saves.

For each member, a layer or an image, `shares` finds:

1. exclusive bytes: contents that no other member has, so that go if it goes;
2. bytes by the number of other members that have them too;
3. new bytes: contents that no member before it in store order has. Their running sum is the curve
   of unique bytes; it ends with what the store would need if it kept each content once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from vecache.arrays import ArrowExport, frozen
from vecache.sharing.content_table import merge_tables
from vecache.sharing.contents import GRAINS, check_by, check_grain
from vecache.sharing.repeated import RepeatedFiles, repeated_files
from vecache.sharing.sources import read_contents
from vecache.text import html_table

if TYPE_CHECKING:
    from vecache.arrays import I64
    from vecache.draw.picture import Picture
    from vecache.sharing.contents import By, Contents, Grain
    from vecache.sharing.intersections import Intersections

__all__ = ["DedupRatio", "Shares", "shares"]


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

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> vecache.shares(store)
    <Shares: 5 layers by file, 4,656,899 unique bytes, 4,425,790 of them in one layer only>
    >>> vecache.shares(store, by="image").exclusive_bytes.tolist()
    [0, 1137860, 0, 0, 886060]
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

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> shares = vecache.shares(store, by="image")
    >>> shares
    <Shares: 5 images by file, 4,656,899 unique bytes, 2,023,920 of them in one image only>
    >>> shares.exclusive_bytes.tolist(), shares.cumulative_bytes.tolist()
    ([0, 1137860, 0, 0, 886060], [1417884, 2573029, 3770839, 3770839, 4656899])
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
        titles = self.contents.titles(self.by)
        if kind == "treemap":
            from vecache.draw.treemap import treemap  # noqa: PLC0415 - matplotlib is an extra

            note = (
                f"A tile is what exactly these {members} have; bytes of {self.grain}s, each once."
            )
            title = f"Who owns the bytes of {among}"
            return treemap(*sets, titles, title=title, note=note)
        if kind == "upset":
            from vecache.draw.upset import upset  # noqa: PLC0415 - as above

            note = f"Bytes of {self.grain}s that exactly the {members} with a dot have."
            title = f"Who shares what among {among}"
            return upset(*sets, titles, title=title, note=note)
        if kind == "curve":
            from vecache.draw.curves import unique_curve  # noqa: PLC0415 - as above

            note = f"Bytes of {self.grain}s in store order; copies in one {self.by} count once."
            title = f"Unique bytes of {among}"
            return unique_curve(self.bytes, self.new_bytes, titles, title=title, note=note)
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
