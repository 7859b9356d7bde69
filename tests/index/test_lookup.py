"""Protects the answers: a batch over all layers finds what one look-up at a time would find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import (
    STORES,
    debian_cache,
    debian_layers,
    golden_cache,
    layer_ids,
    needs_debian,
)
from tests.oracle import find, find_all, locate, pack_rows, read_cache, read_name
from tests.strategies import as_text, cache_files, queries
from vecache.cache.reader import CacheFile
from vecache.digest import Digests, parse_digests
from vecache.index.keys import build_keys
from vecache.index.lookup import LayerIndex
from vecache.index.result import LookupResult, LookupState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecache.arrays import U64


def look_up(index: LayerIndex, texts: Sequence[str]) -> LookupResult:
    digests = parse_digests(texts)
    return LookupResult(digests, *index.find_first(digests), index.tags, [])


def check_against_oracle(
    datas: Sequence[bytes], packed: Sequence[bytes], n_appended: int = 0
) -> None:
    index = LayerIndex.build([CacheFile.parse(data) for data in datas[: len(datas) - n_appended]])
    for data in datas[len(datas) - n_appended :]:
        index = index.append(CacheFile.parse(data))
    slow = [read_cache(data) for data in datas]
    texts = [as_text(query) for query in packed]
    hits = look_up(index, texts)
    paths = hits.paths().to_pylist()
    everything = index.find_all(parse_digests(texts))
    matches = list(zip(*(column.tolist() for column in everything), strict=True))
    wanted_matches = []
    for row, query in enumerate(packed):
        layer, tag = find(slow, query)
        assert (hits.layer[row], hits.tag[row]) == (layer, tag), texts[row]
        location = locate(slow[layer], tag) if layer >= 0 else None
        found = (paths[row], hits.offset[row], hits.length[row])
        if location is None:
            assert found == (None, -1, -1)
            wanted = LookupState.CORRUPT if layer >= 0 else LookupState.ABSENT
            assert hits.state[row] == wanted
        else:
            assert found == (read_name(slow[layer].fnames, location[0]), *location[1:])
            assert hits.state[row] == LookupState.FOUND
        wanted_matches += [(row, *match) for match in find_all(slow, query)]
    assert matches == wanted_matches


@given(st.lists(cache_files(), max_size=6), queries(), st.integers(0, 3))
def test_a_look_up_in_any_layers_equals_the_oracle(
    datas: list[bytes], packed: list[bytes], n_appended: int
) -> None:
    check_against_oracle(datas, packed, min(n_appended, len(datas)))


@given(st.lists(cache_files(sound=True), min_size=1, max_size=6), queries())
def test_a_look_up_in_sound_layers_equals_the_oracle(
    datas: list[bytes], packed: list[bytes]
) -> None:
    assert all(CacheFile.parse(data).is_sound() for data in datas)
    check_against_oracle(datas, packed)


@pytest.mark.parametrize("store", STORES)
def test_a_look_up_in_golden_stores_equals_the_oracle(store: str) -> None:
    datas = [golden_cache(store, layer) for layer in layer_ids(store)]
    packed = {tag[:39] for data in datas for tag in read_cache(data).tags}
    check_against_oracle(datas, [*sorted(packed)[::3], b"sha256:" + bytes(32)])


@needs_debian
def test_a_look_up_in_debian_layers_equals_a_dict() -> None:
    datas = [debian_cache(layer) for layer in debian_layers()]
    first: dict[bytes, tuple[int, int]] = {}
    for layer, data in enumerate(datas):
        for row, tag in enumerate(read_cache(data).tags):
            first.setdefault(tag[7:39], (layer, row))
    raw = np.frombuffer(b"".join(first), np.uint8).reshape(-1, 32)
    index = LayerIndex.build([CacheFile.parse(data) for data in datas])
    layer_no, tag_row = index.find_first(Digests.from_raw(raw))
    assert list(zip(layer_no.tolist(), tag_row.tolist(), strict=True)) == list(first.values())


def stuffed(n_tags: int, n_layers: int) -> list[bytes]:
    """Layers whose digests all share their first 8 bytes: the worst case for the keys."""
    digests = [b"sha256:" + bytes(8) + row.to_bytes(24, "big") for row in range(n_tags)]
    return [
        pack_rows([(digest, b"x", 0, row) for row, digest in enumerate(digests[i::n_layers])])
        for i in range(n_layers)
    ]


def test_digests_that_share_one_prefix_are_found() -> None:
    datas = stuffed(600, 3)
    packed = [b"sha256:" + bytes(8) + row.to_bytes(24, "big") for row in range(0, 700, 7)]
    check_against_oracle(datas, packed)
    check_against_oracle(datas, packed, n_appended=2)


@given(
    st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=40), max_size=9),
    st.integers(0, 9),
)
def test_appended_keys_equal_keys_that_were_built_at_once(
    layers: list[list[int]], n_built: int
) -> None:
    columns = [np.array(layer, np.uint64) for layer in layers]
    built = build_keys(columns, [len(column) for column in columns])
    appended = build_keys(columns[:n_built], [len(column) for column in columns[:n_built]])
    before = appended.keys.copy()
    first = appended
    for layer_no, column in enumerate(columns[n_built:], n_built):
        appended = appended.append(layer_no, column)
    rows = np.arange(len(built))
    queries = np.concatenate([np.empty(0, np.uint64), *columns])
    for keys in (built, appended):
        assert len(keys) == len(queries)
        assert (keys.find_first(keys.prefix(queries)) >= 0).all()
        assert (np.diff(keys.keys.astype(object)) > 0).all()
    # Where the last layer is empty, a key's bits are divided otherwise.
    tags = [set(zip(*map(list, c.unpack(rows)), strict=True)) for c in (built, appended)]
    assert tags[0] == tags[1]
    assert (first.keys == before).all()


def test_many_appended_layers_share_one_column_of_keys() -> None:
    datas = stuffed(300, 60)
    files = [CacheFile.parse(data) for data in datas]
    index = LayerIndex.build(files[:2])
    for file in files[2:]:
        index = index.append(file)
    assert [len(column) for column in index.columns] == [10, 290]
    assert index.columns[0] is LayerIndex.append(index, files[0]).columns[0]
    digests = parse_digests(
        [as_text(digest) for data in datas for digest in read_cache(data).digests()]
    )
    at_once = LayerIndex.build(files).find_first(digests)
    for found, wanted in zip(index.find_first(digests), at_once, strict=True):
        assert found.tolist() == wanted.tolist()


def test_keys_take_at_most_12_bytes_a_tag() -> None:
    rng = np.random.default_rng(1)
    for n_tags in (1, 2, 3, 1000, 65_535, 65_536, 100_000):
        layers: list[U64] = [rng.integers(0, 2**64, n_tags, np.uint64)]
        # the table's closing entry, which shows below some tens of tags
        assert build_keys(layers, [len(layer) for layer in layers]).nbytes <= 12 * n_tags + 16


def test_no_layers_or_no_queries_give_empty_answers() -> None:
    assert look_up(LayerIndex.build([]), [as_text(b"sha256:" + bytes(32))]).state.tolist() == [0]
    assert len(look_up(LayerIndex.build([CacheFile.parse(stuffed(5, 1)[0])]), [])) == 0


def test_a_text_that_is_not_a_digest_is_marked_invalid() -> None:
    hits = look_up(LayerIndex.build([]), ["", "sha256:zz", "md5:00", "nonsense"])
    assert hits.state.tolist() == [
        LookupState.ABSENT,
        LookupState.INVALID,
        LookupState.INVALID,
        LookupState.INVALID,
    ]
