"""Blocks and hashes bound memory and time, and never change a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sharing import oracle
from tests.sharing.build import contents_of
from tests.sharing.strategies import LAYERS
from vecache.sharing import content_table, intersections, keys, pairs
from vecache.sharing.exclusive import shares
from vecache.sharing.keys import find_keys, order_keys, order_words
from vecache.sharing.matrix import overlap
from vecache.threads import THREADS_VARIABLE

if TYPE_CHECKING:
    from tests.sharing.conftest import Golden
    from vecache.sharing.contents import By
    from vecache.sharing.intersections import Intersections


def as_dict(sets: Intersections) -> dict[tuple[int, ...], tuple[int, int]]:
    members = np.split(sets.member, sets.start[1:-1])
    sums = zip(sets.n_contents.tolist(), sets.n_bytes.tolist(), strict=True)
    if not len(sets):
        return {}
    return {tuple(each.tolist()): both for each, both in zip(members, sums, strict=True)}


@given(LAYERS)
def test_each_set_has_what_exactly_its_members_share(tocs: list[bytes]) -> None:
    held = [oracle.held(oracle.grains(toc)[0]) for toc in tocs]
    expected: dict[tuple[int, ...], tuple[int, int]] = {}
    for digest, size in oracle.union(held).items():
        who = tuple(number for number, layer in enumerate(held) if digest in layer)
        n_contents, n_bytes = expected.get(who, (0, 0))
        expected[who] = (n_contents + 1, n_bytes + size)
    assert as_dict(contents_of(tocs).intersections("layer", "file")) == expected


@pytest.mark.parametrize("n_rows", [1, 7, 50])
@pytest.mark.parametrize("by", ["layer", "image"])
def test_the_size_of_blocks_does_not_change_figures(
    golden: Golden, by: By, n_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = golden.contents.intersections(by, "chunk")
    sums = overlap(golden.contents, by, "chunk")
    expected = sums.chunks.tolist(), sums.bytes.tolist()
    monkeypatch.setattr(content_table, "_ROWS_PER_BLOCK", n_rows)
    monkeypatch.setattr(intersections, "_ROWS_PER_BLOCK", n_rows)
    monkeypatch.setattr(keys, "_ROWS_PER_BLOCK", n_rows)
    monkeypatch.setattr(pairs, "_PAIRS_PER_BLOCK", n_rows)
    monkeypatch.setattr(pairs, "_SETS_PER_BLOCK", n_rows)
    assert as_dict(golden.contents.intersections(by, "chunk")) == as_dict(whole)
    for few, share in ((0, 1), (0, 1000), (2, 3)):  # all pairs, all products, both
        monkeypatch.setattr(pairs, "_FEW", few)
        monkeypatch.setattr(pairs, "_DENSE_SHARE", share)
        for threads in ("1", "2"):
            monkeypatch.setenv(THREADS_VARIABLE, threads)
            again = overlap(golden.contents, by, "chunk")
            assert (again.chunks.tolist(), again.bytes.tolist()) == expected


def test_colliding_hashes_do_not_change_figures(
    golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = overlap(golden.contents).bytes.tolist()
    n_bytes = shares(golden.contents).exclusive_bytes.tolist()
    monkeypatch.setattr(intersections, "_member_hashes", lambda n: np.ones(n, np.uint64))
    monkeypatch.setattr(pairs, "_FEW", 0)
    assert overlap(golden.contents).bytes.tolist() == expected
    assert shares(golden.contents).exclusive_bytes.tolist() == n_bytes


@given(st.lists(st.integers(0, 5), max_size=40))
def test_numbers_that_differ_in_their_low_bits_are_ordered(numbers: list[int]) -> None:
    """Which a sort by the high bits alone leaves in the order of their rows."""
    words = np.array([number % 3 << 60 | number // 3 for number in numbers], np.uint64)
    order, is_first = order_words(words)
    assert order.tolist() == np.argsort(words, kind="stable").tolist()
    assert words[order[is_first]].tolist() == sorted(set(words.tolist()))


@given(st.lists(st.integers(0, 5), max_size=20), st.lists(st.integers(0, 7), max_size=9))
def test_keys_are_ordered_and_found(numbers: list[int], queries: list[int]) -> None:
    """Some keys differ in their last byte only."""

    def made_up(values: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
        key = np.zeros((len(values), 32), np.uint8)
        key[:, 31] = np.array(values, np.int64) % 4
        key[:, 0] = np.array(values, np.int64) // 4
        return key

    order, is_first = order_keys(made_up(numbers))
    rows = sorted(range(len(numbers)), key=numbers.__getitem__)
    assert order.tolist() == rows
    assert [numbers[row] for row in order[is_first]] == sorted(set(numbers))
    found = find_keys(made_up(numbers), made_up(queries)).tolist()
    assert found == [numbers.index(q) if q in numbers else -1 for q in queries]
