"""Protects the search: where Go's binary search ends, on tags in order and out of order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.cache.test_bloom import as_rows
from vecache.cache.reader import find_first, is_ascending

# Few letters, so that digests repeat; the lowest and highest byte, so that NULs at the end and
# bytes over 127 are seen.
DIGEST = st.text("\x00\x01\x7f\x80\xff", min_size=3, max_size=3).map(lambda t: t.encode("latin-1"))


@given(st.lists(DIGEST, min_size=1, max_size=40), st.lists(DIGEST, min_size=1, max_size=20))
def test_ends_where_go_ends(have: list[bytes], wanted: list[bytes]) -> None:
    found = find_first(as_rows(have), as_rows(wanted))
    assert found.tolist() == [oracle.go_search(have, digest) for digest in wanted]


@given(st.lists(DIGEST, min_size=1, max_size=40).map(sorted))
def test_finds_the_first_of_equals_in_order(have: list[bytes]) -> None:
    assert find_first(as_rows(have), as_rows(have)).tolist() == [have.index(d) for d in have]
    assert is_ascending(as_rows(have)).all()


@given(st.lists(DIGEST, min_size=1, max_size=10))
def test_rows_compare_as_memcmp(have: list[bytes]) -> None:
    wanted = [a <= b for a, b in pairwise(have)]
    assert is_ascending(as_rows(have)).tolist() == wanted


def test_rows_may_be_strided_and_empty() -> None:
    tags = np.arange(20, dtype=np.uint8).reshape(4, 5)
    assert find_first(tags[:, :3], np.ascontiguousarray(tags[2:, :3])).tolist() == [2, 3]
    assert is_ascending(tags[:, :0]).tolist() == [True] * 3
