"""The tree is that of average linkage, deterministic, and its order lists each leaf once."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.cluster import Tree, average_linkage


def symmetric(
    seed: int, n: int, n_values: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    random = np.random.default_rng(seed)
    distance = random.integers(0, n_values, (n, n)) / n_values
    return np.triu(distance, 1) + np.triu(distance, 1).T


def slow_groups(distance: np.ndarray) -> list[tuple[frozenset[int], float]]:
    """Merge the two nearest groups, as the definition says, until one is left."""
    groups = [frozenset([row]) for row in range(len(distance))]
    merged = []
    while len(groups) > 1:
        height, a, b = min(
            (float(np.mean([distance[i, j] for i in a for j in b])), a, b)
            for a, b in combinations(groups, 2)
        )
        groups = [group for group in groups if group not in (a, b)] + [a | b]
        merged.append((a | b, height))
    return merged


def tree_groups(tree: Tree) -> list[tuple[frozenset[int], float]]:
    groups = [frozenset([leaf]) for leaf in range(tree.n_leaves)]
    for left, right in zip(tree.left, tree.right, strict=True):
        groups.append(groups[left] | groups[right])
    return list(zip(groups[tree.n_leaves :], tree.height.tolist(), strict=True))


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_the_groups_are_those_of_the_definition(seed: int, n: int) -> None:
    distance = symmetric(seed, n, 10**9)  # so many values that no two distances are equal
    found = dict(tree_groups(average_linkage(distance)))
    wanted = dict(slow_groups(distance))
    assert found.keys() == wanted.keys()
    assert all(found[group] == pytest.approx(height) for group, height in wanted.items())


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 4))
def test_the_tree_is_valid_where_many_distances_are_equal(seed: int, n: int, n_values: int) -> None:
    distance = symmetric(seed, n, n_values)
    tree = average_linkage(distance)
    assert sorted(tree.leaf_order().tolist()) == list(range(n))
    height = np.concatenate([np.zeros(n), tree.height])
    assert (tree.height >= height[tree.left]).all()
    assert (tree.height >= height[tree.right]).all()
    again = average_linkage(distance)
    assert (again.left == tree.left).all()
    assert (again.right == tree.right).all()
    lowest = [min(group) for group, _ in tree_groups(tree)]
    firsts = np.concatenate([np.arange(n), lowest]).astype(np.int64)
    assert (firsts[tree.left] < firsts[tree.right]).all()


def test_brackets_stand_over_their_leaves() -> None:
    tree = average_linkage(np.array([[0, 8, 1], [8, 0, 6], [1, 6, 0.0]]))
    assert tree.leaf_order().tolist() == [0, 2, 1]
    assert tree.brackets().tolist() == [
        [[0, 0], [0, 1], [1, 1], [1, 0]],
        [[0.5, 1], [0.5, 7], [2, 7], [2, 0]],
    ]


def test_the_diagonal_is_ignored() -> None:
    assert average_linkage(np.zeros((1, 1))).leaf_order().tolist() == [0]
    distance = np.array([[np.nan, 0.5], [0.5, np.nan]])
    assert average_linkage(distance).height.tolist() == [0.5]


def test_a_matrix_that_is_not_square_is_refused() -> None:
    for wrong in (np.zeros((0, 0)), np.zeros((2, 3))):
        with pytest.raises(ValueError, match="wanted a square"):
            average_linkage(wrong)
