"""In which order do rows that are alike stand side by side? Average linkage, as a tree.

The two nearest groups become one, again and again; the distance of two groups is the mean over all
pairs of their rows. A chain of nearest neighbours (Benzecri 1982) finds the pairs: whoever follows
the nearest neighbour comes soon to two that are each other's nearest, and may join them at once. So
the tree takes about 3 n passes over a row: 0.05 s for 1,000 rows, 0.6 s for 3,000.

Of groups equally near, the one with the lowest row wins, so the tree is always the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vecache.arrays import column

if TYPE_CHECKING:
    from vecache.arrays import F64, I64

__all__ = ["Tree", "average_linkage"]


@dataclass(frozen=True, slots=True, repr=False)
class Tree:
    """A tree of n leaves and n - 1 joins, one row a join; children come before parents.

    Nodes below n are leaves, node n + i is join i.
    """

    left: I64  # the nodes that are joined; on the left the one that has the lowest leaf of both
    right: I64  # the nodes that are joined; on the left the one that has the lowest leaf of both
    height: F64  # their distance; never below that of a child

    def __post_init__(self) -> None:
        n_joins = len(self.height)
        column("left", self.left, np.int64, n_joins)
        column("right", self.right, np.int64, n_joins)
        column("height", self.height, np.float64, n_joins)

    @property
    def n_leaves(self) -> int:
        """Leaves: one more than joins."""
        return len(self.height) + 1

    def leaf_order(self) -> I64:
        """List the leaves as the tree has them, from left to right.

        Returns
        -------
        (n_leaves,) int64
            Each leaf once.
        """
        n = self.n_leaves
        leaves: dict[int, list[int]] = {leaf: [leaf] for leaf in range(n)}
        for join, (left, right) in enumerate(
            zip(self.left.tolist(), self.right.tolist(), strict=True)
        ):
            leaves[n + join] = leaves.pop(left) + leaves.pop(right)
        return np.array(leaves.popitem()[1], np.int64)

    def brackets(self) -> F64:
        """Lay the tree out for drawing."""
        n = self.n_leaves
        place, base = np.zeros((2, 2 * n - 1))
        place[self.leaf_order()] = np.arange(n)
        base[n:] = self.height
        for join in range(n - 1):  # joins, children first
            place[n + join] = (place[self.left[join]] + place[self.right[join]]) / 2
        x = place[np.stack([self.left, self.left, self.right, self.right], axis=1)]
        y = np.stack([base[self.left], self.height, self.height, base[self.right]], axis=1)
        return np.stack([x, y], axis=2)


def average_linkage(distance: F64) -> Tree:
    """Cluster rows by their distances.

    Parameters
    ----------
    distance : (n, n) float64
        Symmetric, not negative; n is 1 at least. The diagonal is not looked at.

    Returns
    -------
    Tree
        n leaves.

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
    near = np.array(distance, np.float64)
    np.fill_diagonal(near, np.inf)
    node, size = np.arange(n), np.ones(n)
    height = np.zeros(2 * n - 1)
    joins: list[tuple[int, int]] = []
    chain: list[int] = []
    while len(joins) < n - 1:
        low, high = _nearest_pair(near, size, chain)
        pair = (int(node[low]), int(node[high]))
        joined = n + len(joins)
        height[joined] = max(near[low, high], height[pair[0]], height[pair[1]])
        joins.append(pair)
        weight = size[[low, high]] / size[[low, high]].sum()
        near[low] = weight @ near[[low, high]]
        near[:, low] = near[low]
        near[low, low] = np.inf
        near[high], near[:, high] = np.inf, np.inf
        size[low] += size[high]
        size[high] = 0  # gone
        node[low] = joined
    left, right = np.array(joins, np.int64).reshape(-1, 2).T
    return Tree(left.copy(), right.copy(), height[n:].copy())


def _nearest_pair(near: F64, size: F64, chain: list[int]) -> tuple[int, int]:
    """Follow nearest neighbours until two are each other's, and take those off the chain."""
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
