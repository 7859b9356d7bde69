"""Cluster rows by average linkage into a tree, which gives an order with similar rows adjacent.

The two nearest groups are merged until one is left. The distance of two groups is the mean over all
pairs of their rows. A chain of nearest neighbours (Benzecri 1982) finds the pairs: it goes from a
group to its nearest until two are nearest to each other, and these can be merged at once. So the
tree takes about 3 n passes over a row: 0.05 s for 1,000 rows, 0.6 s for 3,000.

Of groups at the same distance the one with the lowest row is taken, so the tree is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import ArrowExport, column
from vecache.text import html_table

if TYPE_CHECKING:
    from vecache.arrays import F64, I64

__all__ = ["Tree", "average_linkage"]


@dataclass(frozen=True, slots=True, repr=False)
class Tree(ArrowExport):
    """A tree of n leaves and n - 1 merges, one row a merge; children come before parents.

    Nodes below n are leaves, node n + i is merge i.

    Attributes
    ----------
    left, right : (n - 1,) int64
        The nodes that are merged; the lowest leaf of both is under `left`.
    height : (n - 1,) float64
        Their distance; never below that of a child.
    """

    left: I64
    right: I64
    height: F64

    def __post_init__(self) -> None:
        n_merges = len(self.height)
        column("left", self.left, np.int64, n_merges)
        column("right", self.right, np.int64, n_merges)
        column("height", self.height, np.float64, n_merges)

    @property
    def n_leaves(self) -> int:
        """Number of leaves: one more than merges."""
        return len(self.height) + 1

    def to_arrow(self) -> Any:
        """Export the merges.

        Returns
        -------
        pyarrow.Table of n - 1 rows
            `left`, `right`, `height` and `n_leaves`, the leaves under both: the four columns that
            `scipy.cluster.hierarchy` calls a linkage matrix.
        """
        n = self.n_leaves
        n_leaves = np.ones(2 * n - 1, np.int64)
        pairs = zip(self.left.tolist(), self.right.tolist(), strict=True)
        for node, pair in enumerate(pairs, n):  # merges
            n_leaves[node] = n_leaves[list(pair)].sum()
        return pa.table(
            {
                "left": self.left,
                "right": self.right,
                "height": self.height,
                "n_leaves": n_leaves[n:],
            }
        )

    def __len__(self) -> int:
        return len(self.height)

    def __repr__(self) -> str:
        return f"<Tree: {self.n_leaves:,} leaves, up to {self.height.max(initial=0):.3f} apart>"

    def _repr_html_(self) -> str:
        table = self.to_arrow()
        rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
        return html_table(repr(self)[1:-1], table.column_names, rows, n_rows=len(self))

    def leaf_order(self) -> I64:
        """Return all leaves from left to right, (n_leaves,) int64."""
        n = self.n_leaves
        leaves: dict[int, list[int]] = {leaf: [leaf] for leaf in range(n)}
        pairs = zip(self.left.tolist(), self.right.tolist(), strict=True)
        for node, (left, right) in enumerate(pairs, n):
            leaves[node] = leaves.pop(left) + leaves.pop(right)
        return np.array(leaves.popitem()[1], np.int64)

    def brackets(self) -> F64:
        """Return the lines of a dendrogram.

        Returns
        -------
        (n - 1, 4, 2) float64
            For each merge the corners of a bracket as (position among the leaves, height): from the
            left child up, across, and down to the right child.
        """
        n = self.n_leaves
        node_x, node_y = np.zeros((2, 2 * n - 1))
        node_x[self.leaf_order()] = np.arange(n)
        node_y[n:] = self.height
        for node, pair in enumerate(np.stack([self.left, self.right], axis=1), n):  # merges
            node_x[node] = node_x[pair].sum() / 2
        x = node_x[np.stack([self.left, self.left, self.right, self.right], axis=1)]
        y = np.stack([node_y[self.left], self.height, self.height, node_y[self.right]], axis=1)
        return np.stack([x, y], axis=2)


def average_linkage(distance: F64) -> Tree:
    """Cluster rows by their distances.

    Parameters
    ----------
    distance : (n, n) float64
        Symmetric, not negative; n is 1 at least. The diagonal is ignored.

    Returns
    -------
    Tree
        With n leaves.

    Raises
    ------
    ValueError
        If it is not square, or empty.

    Examples
    --------
    >>> average_linkage(np.array([[0, 1, 9], [1, 0, 5], [9, 5, 0.0]])).height.tolist()
    [1.0, 7.0]
    """
    n = len(distance)
    if not n or distance.shape != (n, n):
        raise ValueError(f"distance: found shape {distance.shape}, wanted a square")
    near = np.array(distance, np.float64)  # of groups; a group stays in the lowest of its rows
    np.fill_diagonal(near, np.inf)
    node, size = np.arange(n), np.ones(n)
    height = np.zeros(2 * n - 1)
    merges: list[tuple[int, int]] = []
    chain: list[int] = []
    while len(merges) < n - 1:
        low, high = _nearest_pair(near, size, chain)
        pair = (int(node[low]), int(node[high]))
        merged = n + len(merges)
        height[merged] = max(near[low, high], height[pair[0]], height[pair[1]])
        merges.append(pair)
        weight = size[[low, high]] / size[[low, high]].sum()
        near[low] = weight @ near[[low, high]]
        near[:, low] = near[low]
        near[low, low] = np.inf
        near[high], near[:, high] = np.inf, np.inf
        size[low] += size[high]
        size[high] = 0  # merged into `low`
        node[low] = merged
    left, right = np.array(merges, np.int64).reshape(-1, 2).T
    return Tree(left.copy(), right.copy(), height[n:].copy())


def _nearest_pair(near: F64, size: F64, chain: list[int]) -> tuple[int, int]:
    """Follow nearest neighbours until two groups are each other's; remove both from the chain."""
    if not chain:
        chain.append(int(np.argmax(size > 0)))
    while True:
        last = chain[-1]
        nearest = int(np.argmin(near[last]))
        if len(chain) > 1 and near[last, chain[-2]] <= near[last, nearest]:
            del chain[-1]
            nearest = chain.pop()
            return min(last, nearest), max(last, nearest)
        chain.append(nearest)
