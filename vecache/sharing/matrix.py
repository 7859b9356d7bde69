"""Square matrices of what layers, or images, share with each other: every pair at once.

`pairs.py` adds them up. Each matrix takes 8 bytes a pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from vecache.arrays import ArrowExport
from vecache.cluster import average_linkage
from vecache.sharing.contents import check_by, check_grain
from vecache.sharing.pairs import pair_sums
from vecache.sharing.sources import read_contents
from vecache.text import count, html_table, short_labels

if TYPE_CHECKING:
    from vecache.arrays import F64, I64
    from vecache.cluster import Tree
    from vecache.draw.picture import Picture
    from vecache.sharing.contents import By, Contents, Grain

__all__ = ["Metric", "Overlap", "PairMatrices", "overlap"]

_MAX_SHOWN = 12  # rows and columns in a notebook
Metric: TypeAlias = Literal["bytes", "files", "chunks"]
"""What is counted."""


def overlap(source: Any, by: By = "layer", grain: Grain = "file") -> Overlap:
    """Compare layers or images with each other.

    Parameters
    ----------
    source : LayersCache, Contents, or anything `read_contents` takes
        The layers and images. Several stores are a list, or a mapping of names to them.
    by : {"layer", "image", "host"}
        What is compared; hosts are the stores, where there are several.
    grain : {"file", "chunk"}
        What `bytes` counts.

    Returns
    -------
    Overlap
        Layers in store order, without those that have no TOC. An image is the union of its layers.
        A layer that two stores have is one layer of each host.

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
    >>> over = vecache.overlap(store, by="image")
    >>> over.labels[4], over.bytes[4].tolist()
    ('localhost:5001/small/app2:latest', [182980, 200265, 1340790, 1340790, 2284135])
    >>> vecache.overlap({"web1": store, "web2": store}, by="host").bytes.tolist()
    [[4656899, 4656899], [4656899, 4656899]]
    """
    check_by(by)
    check_grain(grain)
    return Overlap(read_contents(source), by, grain)


class PairMatrices(ArrowExport):
    """Square matrices of what members share, and what follows from them."""

    by: str
    grain: Grain

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the members."""
        raise NotImplementedError

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host of each member; none where all are of one store."""
        return ()

    @property
    def files(self) -> I64:
        """(n, n) int64, distinct files that both members have."""
        raise NotImplementedError

    @property
    def chunks(self) -> I64:
        """(n, n) int64, distinct chunks that both members have."""
        raise NotImplementedError

    @property
    def bytes(self) -> I64:
        """(n, n) int64, bytes of the distinct files or chunks that both members have."""
        raise NotImplementedError

    def containment(self, metric: Metric = "bytes") -> F64:
        """Return how much of each member is in each other one.

        Parameters
        ----------
        metric : {"bytes", "files", "chunks"}
            What is counted.

        Returns
        -------
        (n, n) float64
            What row and column share, divided by all that the row has: 0 to 1; 0 where the row
            has nothing.
        """
        shared = self._matrix(metric)
        return _ratio(shared, np.broadcast_to(shared.diagonal()[:, None], shared.shape))

    def jaccard(self, metric: Metric = "bytes") -> F64:
        """Return the Jaccard similarity of each pair.

        Parameters
        ----------
        metric : {"bytes", "files", "chunks"}
            What is counted.

        Returns
        -------
        (n, n) float64
            What both members have, divided by what either has: 0 to 1; 0 where neither has
            anything.
        """
        shared = self._matrix(metric)
        total = shared.diagonal()
        return _ratio(shared, total[:, None] + total[None, :] - shared)

    def tree(self) -> Tree:
        """Cluster the members, as the heat map does.

        Returns
        -------
        Tree
            By average linkage of 1 - Jaccard similarity, by bytes; `to_arrow` has the merges.

        Raises
        ------
        ValueError
            If there are no members.
        """
        return average_linkage(1 - self.jaccard())

    def order(self) -> I64:
        """Return the order in which the heat map has the members: similar ones side by side.

        Returns
        -------
        (n,) int64
            Indices into `labels`.
        """
        return self.tree().leaf_order() if len(self) else np.zeros(0, np.int64)

    def to_arrow(self) -> Any:
        """Export every pair that shares something, and each member with itself.

        Returns
        -------
        pyarrow.Table
            One row an unordered pair: `a` and `b` (labels, `a` not after `b`), `files`, `chunks`,
            `bytes`, and by bytes `jaccard`, `containment_a` (the share of `a` that is in `b`) and
            `containment_b`. Of several stores also `host_a` and `host_b`.
        """
        is_listed = np.triu(
            (self.files > 0) | (self.chunks > 0) | np.eye(len(self), dtype=np.bool_)
        )
        a, b = np.nonzero(is_listed)
        labels = pa.array(self.labels, pa.string())
        containment = self.containment()
        hosts = {
            f"host_{name}": pa.array(self.hosts, pa.string()).take(pa.array(rows))
            for name, rows in (("a", a), ("b", b))
            if self.hosts
        }
        return pa.table(
            {
                **hosts,
                "a": pa.DictionaryArray.from_arrays(pa.array(a, pa.int32()), labels),
                "b": pa.DictionaryArray.from_arrays(pa.array(b, pa.int32()), labels),
                "files": self.files[a, b],
                "chunks": self.chunks[a, b],
                "bytes": self.bytes[a, b],
                "jaccard": self.jaccard()[a, b],
                "containment_a": containment[a, b],
                "containment_b": containment[b, a],
            }
        )

    def plot(self, shown: Literal["jaccard", "containment"] = "jaccard") -> Picture:
        """Draw a heat map with similar members side by side.

        Parameters
        ----------
        shown : {"jaccard", "containment"}
            What the colours mean, by bytes. The tree is always by Jaccard similarity.

        Returns
        -------
        Picture
            Shows itself in a notebook; `save` writes SVG or PNG.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        from vecache.draw.heatmap import heatmap  # noqa: PLC0415 - matplotlib is an extra

        jaccard = self.jaccard()
        if shown == "jaccard":
            share = jaccard
            note = f"Per cent of the bytes of {self.grain}s that either has, which both have"
        elif shown == "containment":
            share = self.containment()
            note = f"Per cent of the row's bytes of {self.grain}s that the column has too"
        else:
            raise ValueError(f"shown: found {shown!r}, wanted 'jaccard' or 'containment'")
        return heatmap(
            share,
            1 - jaccard,
            self.bytes.diagonal(),
            self._titles(),
            title=f"What is shared among {self._members_text()}",
            note=f"{note}; those that are alike stand together.",
        )

    def _titles(self) -> tuple[str, ...]:
        """Return the names of the members in a picture."""
        return self.labels

    def _members_text(self) -> str:
        return f"{len(self):,} {self.by}{'' if len(self) == 1 else 's'}"

    def _matrix(self, metric: Metric) -> I64:
        if metric not in ("bytes", "files", "chunks"):
            raise ValueError(f"metric: found {metric!r}, wanted 'bytes', 'files' or 'chunks'")
        matrix: I64 = getattr(self, metric)
        return matrix

    def __len__(self) -> int:
        return len(self.labels)

    def _repr_html_(self) -> str:
        names = short_labels(self.labels)
        rows = self.containment()[:_MAX_SHOWN, :_MAX_SHOWN].tolist()
        n_bytes = self.bytes.diagonal().tolist()
        return html_table(
            f"{repr(self)[1:-1]}; how much of each row is in each column",
            ("", "bytes", *names[:_MAX_SHOWN]),
            (
                (names[i], n_bytes[i], *(None if i == j else part for j, part in enumerate(row)))
                for i, row in enumerate(rows)
            ),
            n_rows=len(self),
            n_shown=_MAX_SHOWN,
            tips=dict(zip(names, self.labels, strict=True)),
            is_shaded=True,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Overlap(PairMatrices):
    """What each pair of members shares; the diagonal is the member itself.

    Attributes
    ----------
    contents : Contents
        The contents that are compared.
    by : {"layer", "image", "host"}
        The members.
    grain : {"file", "chunk"}
        What `bytes` counts: shared files, or shared chunks.
    labels : tuple of str, n of them
        Ids of layers or names of images, of the rows as of the columns. Of several stores each
        begins with its host.
    hosts : tuple of str, n of them
        The host of each; empty where all are of one store.
    files, chunks : (n, n) int64
        Distinct files, or chunks, that both members have.
    bytes : (n, n) int64
        Bytes of the distinct files or chunks that both members have.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> over = vecache.overlap(store, by="image")
    >>> over
    <Overlap: 5 images by file, 10 pairs share, 8,956,628 bytes>
    >>> over.bytes[0].tolist(), over.order().tolist()
    ([1417884, 1417884, 142980, 142980, 182980], [0, 1, 2, 3, 4])
    """

    contents: Contents
    by: By
    grain: Grain

    @property
    def labels(self) -> tuple[str, ...]:
        """Ids of layers or names of images, of the rows as of the columns."""
        return self.contents.labels(self.by)

    def _titles(self) -> tuple[str, ...]:
        return self.contents.titles(self.by)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host of each member; none where all are of one store."""
        return self.contents.member_hosts(self.by)

    @property
    def files(self) -> I64:
        """(n, n) int64, distinct files that both members have."""
        return self._of_files[0]

    @property
    def chunks(self) -> I64:
        """(n, n) int64, distinct chunks that both members have."""
        return self._of_chunks[0]

    @property
    def bytes(self) -> I64:
        """(n, n) int64, bytes of the distinct files or chunks that both members have."""
        return (self._of_files if self.grain == "file" else self._of_chunks)[1]

    @cached_property
    def _of_files(self) -> tuple[I64, I64]:
        return self._pair_sums("file")

    @cached_property
    def _of_chunks(self) -> tuple[I64, I64]:
        return self._pair_sums("chunk")

    def _pair_sums(self, grain: Grain) -> tuple[I64, I64]:
        return pair_sums(self.contents.content_tables(grain), self.contents.groups(self.by))

    def __repr__(self) -> str:
        n_sharing = int(np.count_nonzero(self.bytes) - np.count_nonzero(self.bytes.diagonal())) // 2
        n_bytes = sum(self.bytes.diagonal().tolist())  # of many images it may exceed int64
        pairs = f"{count(n_sharing, 'pair')} {'shares' if n_sharing == 1 else 'share'}"
        return f"<Overlap: {count(len(self), self.by)} by {self.grain}, {pairs}, {n_bytes:,} bytes>"


def _ratio(part: I64, whole: I64) -> F64:
    ratio: F64 = np.divide(part, whole, out=np.zeros(part.shape), where=whole != 0)
    return ratio
