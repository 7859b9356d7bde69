"""Protects the order of a run, which every look-up in it relies on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle import pack_rows, read_cache
from tests.strategies import cache_files
from vecache.cache.reader import CacheFile
from vecache.index import merge
from vecache.index.merge import indexed_only, sorted_blocks
from vecache.index.run import bucket_bits, count_buckets, fan_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@pytest.fixture(params=[1, 3, 1 << 19], autouse=True, scope="module")
def block_size(request: pytest.FixtureRequest) -> Iterator[None]:
    before, merge._TAGS_PER_BLOCK = merge._TAGS_PER_BLOCK, request.param
    yield
    merge._TAGS_PER_BLOCK = before


def check(datas: Sequence[bytes]) -> None:
    members = indexed_only([CacheFile.parse(data) for data in datas])
    wanted = sorted(
        (digest[7:15], number, row, digest[15:])
        for number, data in enumerate(datas)
        if members[number] is not None
        for row, digest in enumerate(read_cache(data).digests())
    )
    blocks = list(sorted_blocks(members))
    prefixes = np.concatenate([np.empty(0, np.uint64), *(block for block, _ in blocks)])
    rows = np.concatenate([np.empty((0, 4), np.uint64), *(block for _, block in blocks)])
    found = [
        (
            prefix.to_bytes(8, "big"),
            row[0] >> 32,
            row[0] & 0xFFFFFFFF,
            np.array(row[1:], np.uint64).tobytes(),
        )
        for prefix, row in zip(prefixes.tolist(), rows.tolist(), strict=True)
    ]
    assert found == wanted
    counts = np.zeros((1 << bucket_bits(len(prefixes))) + 1, np.uint32)
    for block, _ in blocks:
        count_buckets(counts, block)
    assert (np.cumsum(counts) == fan_out(prefixes)).all()


@given(st.lists(cache_files() | cache_files(sound=True), max_size=6))
def test_blocks_have_the_tags_of_all_sound_layers_in_order(datas: list[bytes]) -> None:
    check(datas)


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from([0, 1, 2**40, 2**63]), st.integers(0, 40)), max_size=20),
        max_size=5,
    )
)
def test_prefixes_that_differ_in_their_last_bits_only_are_in_order(
    layers: list[list[tuple[int, int]]],
) -> None:
    """A sort key has no room for them."""
    check(
        [
            pack_rows(
                [
                    (b"sha256:" + (high + low).to_bytes(8, "big") + bytes(24), b"name", 0, 1)
                    for high, low in rows
                ]
            )
            for rows in layers
        ]
    )
