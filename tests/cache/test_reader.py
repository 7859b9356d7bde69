"""Protects the reader: its answers equal those of a slow reader of the same bytes."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import oracle
from tests.cache.test_bloom import as_rows
from tests.golden import (
    big_data,
    debian_cache,
    debian_layers,
    golden_cache,
    needs_debian,
    small_layers,
)
from vecache.cache.reader import CacheFile
from vecache.cache.search import find_first, is_ascending
from vecache.digest import Algorithm
from vecache.errors import ColumnSizeError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

BASE = "cf738b6d7c37028f31fbb1bc5b00cb980bdea3d6e9f622736d3792487cf0aab8"


def unknown(n_rows: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    packed = np.random.default_rng(5).integers(0, 256, (n_rows, 39), np.uint8)
    packed[:, :7] = np.frombuffer(b"sha256:", np.uint8)
    return packed


def assert_equals_oracle(data: bytes) -> None:
    cache, slow = CacheFile.parse(data), oracle.read_cache(data)
    assert [tag.tobytes() for tag in cache.tags] == slow.tags
    assert cache.packed.tobytes() == b"".join(slow.digests())
    assert (cache.vdata.tobytes(), cache.fnames.tobytes()) == (slow.vdata, slow.fnames)
    queries = np.vstack([cache.packed, unknown(200)]) if cache.n_tags else unknown(200)
    tag_row = cache.find_tags(queries)
    assert tag_row.tolist() == [oracle.find_tag(slow, row.tobytes()) for row in queries]
    found = cache.locate(np.arange(cache.n_tags))
    wanted = [oracle.locate(slow, row) for row in range(cache.n_tags)]
    columns = (found.name_offset.tolist(), found.offset.tolist(), found.length.tolist())
    assert list(zip(*columns, strict=True)) == [row or (-1, -1, -1) for row in wanted]
    assert found.is_corrupt.tolist() == [row is None for row in wanted]
    names = cache.names(found.name_offset).to_pylist()
    assert names == [row and oracle.read_name(slow.fnames, row[0]) for row in wanted]


@pytest.mark.parametrize(("store", "layer"), small_layers())
def test_golden_files_equal_the_oracle(store: str, layer: str) -> None:
    data = golden_cache(store, layer)
    assert_equals_oracle(data)
    assert CacheFile.parse(data).is_sound()


@needs_debian
@pytest.mark.parametrize("layer", debian_layers()[:1])
def test_a_real_layer_equals_the_oracle(layer: str) -> None:
    assert_equals_oracle(debian_cache(layer))


def test_a_mapped_file_is_the_same_as_its_bytes() -> None:
    path = big_data("dir", BASE, "chunked-manifest-cache")
    mapped, parsed = CacheFile.open(path), CacheFile.parse(path.read_bytes())
    assert mapped.header == parsed.header
    assert mapped.tags.tobytes() == parsed.tags.tobytes()
    assert mapped.find_tags(mapped.packed).tolist() == parsed.find_tags(parsed.packed).tolist()
    assert (mapped.path, parsed.path) == (path, None)


def test_arrays_are_read_only_views() -> None:
    view = np.frombuffer(bytearray(golden_cache("dir", BASE)), np.uint8)
    cache = CacheFile.parse(view)
    for part in (cache.tags, cache.packed, cache.vdata, cache.fnames, cache.bloom.bits):
        assert np.shares_memory(part, view)
        assert not part.flags.writeable


def test_what_is_not_bytes_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError):
        CacheFile.parse("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="found int64 of shape"):
        CacheFile.parse(golden_cache("dir", BASE)).find_tags(np.zeros((1, 39), np.int64))


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="gone"):
        CacheFile.open(tmp_path / "gone")


def test_the_68_bytes_that_go_refuses_are_an_empty_cache() -> None:
    cache = CacheFile.parse(oracle.OracleCache().pack())
    assert cache.n_bytes == 68
    assert (cache.n_tags, len(cache.tags), cache.packed.shape) == (0, 0, (0, 0))
    assert cache.find_tags(unknown(3)).tolist() == [-1, -1, -1]
    assert len(cache.locate(np.empty(0, np.int64))) == 0
    assert cache.locate(np.array([-1])).name_offset.tolist() == [-1]
    assert cache.names(np.array([-1])).to_pylist() == [None]
    assert cache.is_sound()


@pytest.mark.parametrize(
    ("digest_len", "algorithm"),
    [
        (39, Algorithm.SHA256),
        (55, Algorithm.SHA384),
        (71, Algorithm.SHA512),
        (40, Algorithm.INVALID),
    ],
)
def test_the_length_determines_the_algorithm(digest_len: int, algorithm: Algorithm) -> None:
    data = oracle.OracleCache(digest_len=digest_len, tag_len=digest_len + 16).pack()
    assert CacheFile.parse(data).algorithm is algorithm


def test_digests_of_another_length_are_absent() -> None:
    cache = CacheFile.parse(golden_cache("dir", BASE))
    assert cache.find_tags(np.zeros((2, 55), np.uint8)).tolist() == [-1, -1]
    assert cache.find_tags(np.zeros((0, 39), np.uint8)).tolist() == []


def test_absent_rows_are_not_corrupt_and_have_no_name() -> None:
    cache = CacheFile.parse(golden_cache("dir", BASE))
    found = cache.locate(np.array([-1, 3, -1]))
    assert found.is_corrupt.tolist() == [False] * 3
    assert found.length.tolist() == [-1, found.length[1], -1]
    assert cache.names(found.name_offset).is_null().to_pylist() == [True, False, True]
    with pytest.raises(IndexError):
        cache.locate(np.array([cache.n_tags]))


def test_names_come_only_from_offsets_of_locate() -> None:
    cache = CacheFile.parse(golden_cache("dir", BASE))
    for offset in (1, len(cache.fnames), -2):
        with pytest.raises(ValueError, match=r"locate\(\)"):
            cache.names(np.array([offset]))


def test_names_over_two_gigabytes_are_refused_before_any_is_read() -> None:
    name = struct.pack("<I", 4095) + bytes(4095)
    tag = b"sha256:" + bytes(32) + struct.pack("<QQ", 0, 1)
    cache = CacheFile.parse(oracle.OracleCache([tag], b"\x00", name, 55, 39).pack())
    with pytest.raises(ColumnSizeError, match="fewer rows"):
        cache.names(np.zeros(1 << 20, np.int64))


# Two raw bytes matter, NUL among them at the end; all others are 0. Equal digests are common.
RAW = st.tuples(st.sampled_from([0, 1, 0x80, 0xFF]), st.sampled_from([0, 1, 2])).map(
    lambda ends: bytes([ends[0]]) + bytes(30) + bytes([ends[1]])
)
PREFIX = st.sampled_from([b"sha256:", b"sha256:", b"sha256:", b"SHA256:"])
TAG = st.builds(
    lambda prefix, raw, n: prefix + raw + n, PREFIX, RAW, st.binary(min_size=16, max_size=18)
)


@given(st.lists(TAG, min_size=1, max_size=12), st.integers(0, 3), st.booleans(), st.booleans())
def test_tags_in_any_order_with_any_filter(
    tags: list[bytes], n_hashes: int, in_order: bool, with_filter: bool
) -> None:
    tags = [tag[:55] for tag in tags]
    slow = oracle.OracleCache(sorted(tags) if in_order else tags, b"\0\0\0", bytes(4), 55, 39)
    slow.n_hashes = n_hashes
    if with_filter:
        slow.bloom = oracle.build_bloom(slow.digests(), 1)
    assert_equals_oracle(slow.pack())
    admitted = [oracle.may_contain(slow.bloom, n_hashes, digest) for digest in slow.digests()]
    has_prefix = all(digest.startswith(b"sha256:") for digest in slow.digests())
    is_sound = slow.digests() == sorted(slow.digests()) and has_prefix and all(admitted)
    cache = CacheFile.parse(slow.pack())
    assert cache.is_sound() == is_sound
    assert cache.is_sound() == is_sound  # the stored answer


def test_padding_behind_a_tag_is_skipped() -> None:
    tags = [b"sha256:" + bytes([i] * 32) + struct.pack("<QQ", 0, 3) + b"padding" for i in range(5)]
    slow = oracle.OracleCache(tags, b"\0\1\2", bytes(4), len(tags[0]), 39)
    slow.bloom = oracle.build_bloom(slow.digests(), 1)
    assert_equals_oracle(slow.pack())
    assert not CacheFile.parse(slow.pack()).locate(np.arange(5)).is_corrupt.any()


def test_digests_of_an_unknown_length_are_never_found() -> None:
    tags = [bytes([i]) + bytes(16) for i in range(3)]
    cache = CacheFile.parse(
        oracle.OracleCache(tags, b"\0\1\2", bytes(4), 17, 1, bytes([255] * 8)).pack()
    )
    assert cache.find_tags(as_rows([b"\1"])).tolist() == [-1]
    assert not cache.is_sound()


def test_repr_and_html_show_the_file() -> None:
    cache = CacheFile.parse(golden_cache("dir", BASE), path="some/file")
    assert repr(cache) == f"<CacheFile 'some/file': 355 tags, {cache.n_bytes:,} bytes>"
    assert '<td>tags</td><td style="text-align: right">355</td>' in cache._repr_html_()


# Few letters, so that digests repeat; the lowest and highest byte, so that NULs at the end and
# bytes over 127 are seen.
DIGEST = st.text("\x00\x01\x7f\x80\xff", min_size=3, max_size=3).map(lambda t: t.encode("latin-1"))


@given(st.lists(DIGEST, min_size=1, max_size=40), st.lists(DIGEST, min_size=1, max_size=20))
def test_the_search_ends_where_go_ends(have: list[bytes], wanted: list[bytes]) -> None:
    found = find_first(as_rows(have), as_rows(wanted))
    assert found.tolist() == [oracle.go_search(have, digest) for digest in wanted]


@given(st.lists(DIGEST, min_size=1, max_size=40).map(sorted))
def test_the_search_finds_the_first_of_equal_digests_in_order(have: list[bytes]) -> None:
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
