"""Sets of classes as bits give the sums that loops over sets do."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.fleet import class_sets
from vecache.fleet.class_sets import ClassSets, pack_bits, unpack_bits
from vecache.sharing.intersections import Intersections
from vecache.sharing.pairs import PairSums

MANY = 70  # classes: two words


class Case(NamedTuple):
    layers: list[set[int]]  # the classes of each layer
    contents: list[tuple[set[int], int]]  # the layers of each content, and its bytes


@st.composite
def cases(draw: st.DrawFn) -> Case:
    few = st.sets(st.integers(0, MANY - 1), min_size=1, max_size=3)
    many = st.sets(st.integers(0, MANY - 1), min_size=40)
    layers = draw(st.lists(few | many, min_size=1, max_size=8))
    some = st.sets(st.integers(0, len(layers) - 1), min_size=1, max_size=4)
    sizes = st.integers(1, 100) | st.integers(2**40, 2**45)
    return Case(layers, draw(st.lists(st.tuples(some, sizes), max_size=30)))


def sets_of(case: Case) -> ClassSets:
    pairs = [(layer, each) for layer, classes in enumerate(case.layers) for each in classes]
    layer, class_no = np.array(pairs, np.int64).T
    bits = pack_bits(layer, class_no, len(case.layers), MANY)
    sets = Intersections(
        len(case.layers),
        np.cumsum([0, *(len(members) for members, _ in case.contents)]),
        np.array([each for members, _ in case.contents for each in sorted(members)], np.int64),
        np.ones(len(case.contents), np.int64),
        np.array([size for _, size in case.contents], np.int64),
    )
    return ClassSets.from_layers(sets, bits, MANY)


def check(case: Case, sets: ClassSets) -> None:
    counts, n_bytes = np.zeros((2, MANY, MANY), np.int64)
    exclusive = np.zeros(MANY, np.int64)
    for members, size in case.contents:
        classes = sorted(set().union(*(case.layers[layer] for layer in members)))
        counts[np.ix_(classes, classes)] += 1
        n_bytes[np.ix_(classes, classes)] += size
        if len(classes) == 1:
            exclusive[classes[0]] += size
    sums = PairSums(MANY, len(case.contents), sum(size for _, size in case.contents))
    sets.add_to(sums)
    found = sums.matrices()
    assert (found[0] == counts).all()
    assert (found[1] == n_bytes).all()
    assert (sets.exclusive_bytes() == exclusive).all()


@given(cases())
def test_sums_are_those_of_loops(case: Case) -> None:
    sets = sets_of(case)
    check(case, sets)
    rows = [bytes(row) for row in np.asarray(sets.bits)]
    assert len(set(rows)) == len(rows)
    assert sets.set_sizes.tolist() == [sum(row) for row in unpack_bits(sets.bits, MANY).tolist()]


@given(cases())
def test_sets_with_equal_hashes_stay_apart(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_sets, "_MIXER", np.uint64(0))
        sets = sets_of(case)
    check(case, sets)


@given(cases())
def test_large_sums_are_cut_into_blocks(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_sets, "_CELLS_PER_BLOCK", 3 * MANY)
        check(case, sets_of(case))


def test_no_sets_are_no_sums() -> None:
    case = Case([{0}], [])
    check(case, sets_of(case))
