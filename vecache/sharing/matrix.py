"""What do layers share with each other, and images? Square matrices, every pair at once.

1. Contents become sets of members (`intersections.py`): whoever is in a set shares its contents.
2. Small sets are written out as pairs, and the pairs counted.
3. A set with more than a sixteenth of all members has too many pairs for that. A block of such sets
   is a matrix of zeros and ones, and its product with itself is the count, at the speed of BLAS.

Products are made in floats and are exact: sums stay below 2**53, see `contents.MAX_BYTES`.
The result takes 8 bytes a pair and matrix; making it takes about 300 MB besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import frozen, ragged_arange
from vecache.sharing.contents import check_by, check_grain
from vecache.sharing.sources import read_contents
from vecache.text import html_table

if TYPE_CHECKING:
    import numpy.typing as npt

    from vecache.arrays import F64, I64
    from vecache.draw.picture import Picture
    from vecache.sharing.contents import By, Contents, Grain
    from vecache.sharing.intersections import Intersections

__all__ = ["METRICS", "Overlap", "overlap", "pair_sums"]

METRICS = ("bytes", "files", "chunks")
"""What a share can be a share of."""

_PAIRS_PER_BLOCK = 1 << 17
_SETS_PER_BLOCK = 1 << 11
_DENSE_SHARE = 16


@dataclass(frozen=True, eq=False, repr=False)
class Overlap:
    """What each member shares with each other one; the diagonal is the member itself.

    Attributes
    ----------
    contents : Contents
        Where it comes from.
    by : {"layer", "image"}
        Whether members are layers or images.
    grain : {"file", "chunk"}
        What `bytes` counts: the sizes of shared files, or of shared chunks.
    """

    contents: Contents
    by: By
    grain: Grain

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the rows, which are those of the columns: ids of layers or names of images."""
        return self.contents.labels(self.by)

    @property
    def files(self) -> I64:
        """(n, n) int64, number of distinct files that both hold."""
        return self._sums("file")[0]

    @property
    def chunks(self) -> I64:
        """(n, n) int64, number of distinct chunks that both hold."""
        return self._sums("chunk")[0]

    @property
    def bytes(self) -> I64:
        """(n, n) int64, bytes of the distinct files or chunks, as `grain` says, that both hold."""
        return self._sums(self.grain)[1]

    def containment(self, metric: str = "bytes") -> F64:
        """Say how much of each member is in each other one.

        Parameters
        ----------
        metric : {"bytes", "files", "chunks"}
            What is counted.

        Returns
        -------
        (n, n) float64
            What row and column share, as a share of all the row has: 0 to 1; 0 where it has
            nothing.
        """
        shared = self._metric(metric)
        return _ratio(shared, np.broadcast_to(shared.diagonal()[:, None], shared.shape))

    def jaccard(self, metric: str = "bytes") -> F64:
        """Say how alike two members are.

        Parameters
        ----------
        metric : {"bytes", "files", "chunks"}
            What is counted.

        Returns
        -------
        (n, n) float64
            What both have, as a share of what either has: 0 to 1; 0 where neither has anything.
        """
        shared = self._metric(metric)
        own = shared.diagonal()
        return _ratio(shared, own[:, None] + own[None, :] - shared)

    def to_arrow(self) -> Any:
        """Export every pair that shares something, and each member with itself.

        Returns
        -------
        pyarrow.Table
            One row an unordered pair: `a` and `b` (labels, `a` not after `b`), `files`, `chunks`,
            `bytes`, and of the bytes `jaccard`, `containment_a` (the share of `a` that `b` has) and
            `containment_b`.
        """
        is_shown = np.triu((self.files > 0) | (self.chunks > 0) | np.eye(len(self), dtype=np.bool_))
        a, b = np.nonzero(is_shown)
        labels = pa.array(self.labels, pa.string())
        containment = self.containment()
        return pa.table(
            {
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

    def plot(self, shown: str = "jaccard") -> Picture:
        """Draw a heat map, with those side by side that are alike.

        Parameters
        ----------
        shown : {"jaccard", "containment"}
            What the colours mean, by bytes. The tree is by Jaccard in any case.

        Returns
        -------
        Picture
            Shows itself in a notebook; `save` writes SVG or PNG.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        from vecache.sharing.pictures import draw_overlap  # noqa: PLC0415 - matplotlib is an extra

        return draw_overlap(self, shown)

    def _metric(self, metric: str) -> I64:
        if metric not in METRICS:
            raise ValueError(f"metric: found {metric!r}, wanted one of {METRICS}")
        matrix: I64 = getattr(self, metric)
        return matrix

    def _sums(self, grain: Grain) -> tuple[I64, I64]:
        return self._files if grain == "file" else self._chunks

    @cached_property
    def _files(self) -> tuple[I64, I64]:
        return pair_sums(self.contents.intersections(self.by, "file"))

    @cached_property
    def _chunks(self) -> tuple[I64, I64]:
        return pair_sums(self.contents.intersections(self.by, "chunk"))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        n_sharing = (np.count_nonzero(self.bytes) - np.count_nonzero(self.bytes.diagonal())) // 2
        return (
            f"<Overlap: {len(self):,} {self.by}s by {self.grain}, {n_sharing:,} pairs share, "
            f"{int(self.bytes.diagonal().sum()):,} bytes>"
        )

    def _repr_html_(self) -> str:
        containment = self.containment()
        return html_table(
            f"{repr(self)[1:-1]}; how much of each row is in each column",
            ("", *self.labels[:12]),
            (
                (label, *row[:12].tolist())
                for label, row in zip(self.labels, containment, strict=True)
            ),
            n_rows=len(self),
            n_shown=12,
        )


def overlap(source: Any, by: By = "layer", grain: Grain = "file") -> Overlap:
    """Compare layers or images with each other.

    Parameters
    ----------
    source : LayersCache, Contents, or anything `read_contents` takes
        Whose layers and images.
    by : {"layer", "image"}
        What is compared.
    grain : {"file", "chunk"}
        What `bytes` counts.

    Returns
    -------
    Overlap
        Layers in store order, without those that have no TOC. An image is the union of its layers.

    Raises
    ------
    StoreError, DatasetError
        If the source cannot be read.
    ValueError
        If `by` or `grain` is none of the two.

    Examples
    --------
    >>> import vecache
    >>> toc = vecache.Toc.parse(b'{"version":1,"entries":[]}')
    >>> vecache.overlap({"one": toc, "two": toc}).bytes.tolist()
    [[0, 0], [0, 0]]
    """
    check_by(by)
    check_grain(grain)
    return Overlap(read_contents(source), by, grain)


def pair_sums(sets: Intersections) -> tuple[I64, I64]:
    """Add up what each pair of members shares.

    Parameters
    ----------
    sets : Intersections
        Who holds what.

    Returns
    -------
    n_contents, n_bytes : (n_members, n_members) int64
        Symmetric; the diagonal is the member itself.
    """
    n_members = sets.n_members
    sums = np.zeros((2, n_members, n_members), np.int64)
    is_dense = sets.set_sizes * _DENSE_SHARE > n_members
    _add_pairs(sets.take(np.flatnonzero(~is_dense)), sums)
    sums += np.triu(sums, 1).transpose(0, 2, 1)
    _add_products(sets.take(np.flatnonzero(is_dense)), sums)
    return frozen(sums[0]), frozen(sums[1])


def _add_pairs(sets: Intersections, sums: I64) -> None:
    """Count each pair of a set once, above the diagonal or on it."""
    member = sets.member.astype(np.int32 if sets.n_members**2 < 1 << 31 else np.int64)
    n_right = sets.expand(sets.start[1:]) - np.arange(len(member))  # itself and those behind it
    weights = (sets.expand(sets.n_contents), sets.expand(sets.n_bytes))
    ends = np.cumsum(n_right)
    n_blocks = int(ends[-1]) // _PAIRS_PER_BLOCK + 1 if len(ends) else 0
    edges = np.searchsorted(ends, np.arange(1, n_blocks + 1) * _PAIRS_PER_BLOCK, side="right")
    for low, high in pairwise([0, *edges.tolist()]):  # blocks that stay in the processor's cache
        lengths = n_right[low:high]
        right = member[ragged_arange(np.arange(low, high), lengths)]
        pair = np.repeat(member[low:high] * sets.n_members, lengths) + right
        index = pair.astype(np.intp)  # add.at is many times slower with any other dtype
        for total, weight in zip(sums, weights, strict=True):
            np.add.at(total.reshape(-1), index, np.repeat(weight[low:high], lengths))


def _add_products(sets: Intersections, sums: I64) -> None:
    for low in range(0, len(sets), _SETS_PER_BLOCK):  # bounds the memory
        block = sets.take(np.arange(low, min(low + _SETS_PER_BLOCK, len(sets))))
        member = np.zeros((len(block), sets.n_members), np.float32)
        member[block.expand(np.arange(len(block))), block.member] = 1
        for total, weight in zip(sums, (block.n_contents, block.n_bytes), strict=True):
            exact = np.float32 if weight.sum() < 1 << 24 else np.float64
            held = member.astype(exact, copy=False)
            total[:] += (held.T @ (held * weight[:, None].astype(exact))).astype(np.int64)


def _ratio(part: I64, whole: npt.NDArray[np.int64]) -> F64:
    ratio: F64 = np.divide(part, whole, out=np.zeros(part.shape), where=whole != 0)
    return ratio
