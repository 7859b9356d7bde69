"""Protects the filter: Podman's bits, Go's answers for any numbers, and zlib's CRC of each row."""

from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import oracle
from tests.golden import golden_cache, small_layers
from vecache.cache.bloom import BloomFilter, crc32_rows, random_hashes
from vecache.cache.reader import CacheFile

PREFIXES = (b"sha256:", b"sha512:", b"")


def as_rows(digests: list[bytes]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), len(digests[0]))


@st.composite
def same_length_digests(draw: st.DrawFn) -> list[bytes]:
    n_bytes = draw(st.sampled_from([1, 3, 7, 8, 39, 55, 71]))
    prefixes = draw(st.sampled_from([PREFIXES, PREFIXES[:1]]))
    digest = st.builds(
        lambda prefix, raw: (prefix + raw)[:n_bytes],
        st.sampled_from(prefixes),
        st.binary(min_size=n_bytes, max_size=n_bytes),
    )
    return draw(st.lists(digest, min_size=1, max_size=8))


@pytest.mark.parametrize(("store", "layer"), small_layers())
def test_builds_the_bits_that_podman_wrote(store: str, layer: str) -> None:
    cache = CacheFile.parse(golden_cache(store, layer))
    assert BloomFilter.build(cache.packed).bits.tobytes() == cache.bloom.bits.tobytes()


@given(
    same_length_digests(),
    st.sampled_from([0, 1, 2, 3, 7, 8, 9, 40, 2**32 - 1]),
    st.binary(min_size=8, max_size=64).map(lambda bits: bits[: len(bits) // 8 * 8]),
)
def test_answers_as_the_oracle(digests: list[bytes], n_hashes: int, bits: bytes) -> None:
    bloom = BloomFilter(np.frombuffer(bits, np.uint8), n_hashes)
    wanted = [oracle.may_contain(bits, n_hashes, digest) for digest in digests]
    assert bloom.may_contain(as_rows(digests)).tolist() == wanted


@given(same_length_digests())
def test_admits_all_that_it_was_built_from(digests: list[bytes]) -> None:
    bloom = BloomFilter.build(as_rows(digests))
    assert bloom.bits.tobytes() == oracle.build_bloom(digests, bloom.n_words)
    assert bloom.may_contain(as_rows(digests)).all()


@pytest.mark.parametrize(
    ("n_tags", "n_words"), [(0, 1), (1, 1), (6, 1), (7, 2), (32, 5), (33, 6), (10_000, 1563)]
)
def test_words_are_ten_bits_a_tag_rounded_up(n_tags: int, n_words: int) -> None:
    assert BloomFilter.words_for(n_tags) == n_words


def test_an_empty_digest_is_the_first_bit() -> None:
    nothing = np.empty((2, 0), np.uint8)
    assert BloomFilter(np.array([1] + [0] * 7, np.uint8)).may_contain(nothing).all()
    assert not BloomFilter(np.array([254] + [255] * 7, np.uint8)).may_contain(nothing).any()


def test_bits_are_counted_in_32_bits_as_upstream_does() -> None:
    bits = np.zeros(
        8 * (2**26 + 1), np.uint8
    )  # 512 MiB of address space, of which 8 bytes are used
    bits[:8] = 255
    digests = np.random.default_rng(0).integers(0, 256, (500, 39), np.uint8)
    assert BloomFilter(bits).may_contain(digests).all()


def test_the_filter_is_a_view_of_the_file() -> None:
    data = np.frombuffer(bytes(3) + bytes(range(16)), np.uint8)
    bloom = BloomFilter(data[3:])
    assert np.shares_memory(bloom.bits, data)
    assert bloom.n_words == 2
    assert bloom.bits.tolist() == list(range(16))
    assert not bloom.bits.flags.writeable


def test_fill_is_the_share_of_set_bits() -> None:
    assert BloomFilter(np.array([0xFF, 0x0F, 0, 0, 0, 0, 0, 0], np.uint8)).fill == 12 / 64


@pytest.mark.parametrize(
    ("n_tags", "least", "most"),
    [(1_638, 0.08, 0.16), (1_630, 0.0, 0.05)],  # 256 words, a power of two; 255 words
)
def test_far_more_digests_pass_where_the_words_are_a_power_of_two(
    n_tags: int, least: float, most: float
) -> None:
    packed = np.random.default_rng(1).integers(0, 256, (n_tags, 39), np.uint8)
    packed[:, :7] = np.frombuffer(b"sha256:", np.uint8)
    bloom = BloomFilter.build(packed)
    rate = bloom.false_positive_rate()
    assert least <= rate <= most
    assert rate == bloom.false_positive_rate(random_hashes(3, 1 << 16))


def test_repr_shows_size_and_fill() -> None:
    assert repr(BloomFilter(np.zeros(16, np.uint8))) == "<BloomFilter: 2 words, 3 hashes, 0% set>"


ROWS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(0, 75)))


@given(ROWS)
def test_the_crc_of_each_row_equals_zlibs(
    rows: np.ndarray[tuple[int, int], np.dtype[np.uint8]],
) -> None:
    assert crc32_rows(rows).tolist() == [zlib.crc32(row.tobytes()) for row in rows]


@given(ROWS, st.data())
def test_the_crc_may_skip_shared_columns(
    rows: np.ndarray[tuple[int, int], np.dtype[np.uint8]], data: st.DataObject
) -> None:
    n_shared = data.draw(st.integers(0, rows.shape[1]))
    rows[:, :n_shared] = rows[0, :n_shared]
    assert crc32_rows(rows, n_shared).tolist() == crc32_rows(rows).tolist()


@pytest.mark.parametrize("n_rows", [0, 1, 8_191, 8_192, 8_193])
def test_the_crc_of_many_strided_rows_equals_zlibs(n_rows: int) -> None:
    tags = np.random.default_rng(0).integers(0, 256, (n_rows, 55), np.uint8)
    digests = tags[:, :39]
    assert crc32_rows(digests).tolist() == [zlib.crc32(row.tobytes()) for row in digests]


def test_the_fill_of_a_large_filter_is_counted_in_blocks() -> None:
    bits = np.zeros((1 << 24) + 8, np.uint8)
    bits[[0, -1]] = 0x81
    assert BloomFilter(bits).fill == 4 / (8 * len(bits))
    tracemalloc.start()
    try:
        BloomFilter(np.zeros(8 << 24, np.uint8)[: 7 << 24]).fill  # noqa: B018 - measured
        assert tracemalloc.get_traced_memory()[1] < 11 << 24
    finally:
        tracemalloc.stop()
