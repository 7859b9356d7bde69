"""Protects the look-ups of fleets: they find what an index over the node's own layers finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import STORES, golden_cache, layer_ids
from tests.index.test_lookup import stuffed
from tests.oracle import read_cache
from tests.strategies import as_text, cache_files, queries
from vecache.cache.reader import CacheFile
from vecache.digest import Digests, parse_digests
from vecache.index import matches as matches_module
from vecache.index.lookup import LayerIndex
from vecache.index.matches import DigestTable, find_matches
from vecache.index.ranked import RankedIndex
from vecache.index.result import LookupResult, LookupState

if TYPE_CHECKING:
    from collections.abc import Sequence


def check(
    datas: Sequence[bytes], columns: Sequence[Digests], order: Sequence[int], appended: int = 0
) -> None:
    """Look up in the files of a node, of which the last ones are appended."""
    files = [CacheFile.parse(data) for data in datas]
    table = DigestTable([*columns, parse_digests([""])])
    everywhere = find_matches(files, table)
    for number, column in enumerate(columns):
        # Of one image alone, or of several.
        part = everywhere.limited_to(DigestTable([column]), [column]) if number % 2 else everywhere
        n_loaded = len(order) - appended
        ranked: LayerIndex = RankedIndex.of_layers(part, np.array(order[:n_loaded], np.int64))
        plain = LayerIndex.build([files[n] for n in order[:n_loaded]])
        for n in order[n_loaded:]:
            before = ranked
            ranked, plain = ranked.append(files[n]), plain.append(files[n])
            assert_equal(before, LayerIndex.build(before.files), column)
        assert_equal(ranked, plain, column)
        rows = np.arange(len(column))[::-2]
        assert_equal(ranked, plain, column.take(rows))
        assert_equal(ranked, plain, column.take(rows).take(rows % 3 == 0))


def assert_equal(ranked: LayerIndex, plain: LayerIndex, digests: Digests) -> None:
    found, wanted = (
        LookupResult(digests, *index.find_first(digests), index.tags, [])
        for index in (ranked, plain)
    )
    for name in ("layer", "state", "offset", "length"):
        assert getattr(found, name).tolist() == getattr(wanted, name).tolist(), name
    assert found.paths().to_pylist() == wanted.paths().to_pylist()
    rows = np.flatnonzero(wanted.state == LookupState.CORRUPT).tolist()
    assert [ranked.tags.row_in_file(int(found.tag[row])) for row in rows] == [
        wanted.tag[row] for row in rows
    ]
    assert found.at_file_start().layer.tolist() == wanted.at_file_start().layer.tolist()


@st.composite
def orders(draw: st.DrawFn, n_files: int) -> list[int]:
    """Some of the files in some order; layers of one node may have the same file."""
    return draw(st.lists(st.integers(0, n_files - 1), max_size=6)) if n_files else []


@given(st.data())
def test_a_look_up_equals_that_of_the_nodes_own_index(data: st.DataObject) -> None:
    datas = data.draw(st.lists(cache_files(), max_size=6))
    texts = [[as_text(each) for each in data.draw(queries())] + ["", "bad"] for _ in range(3)]
    order = data.draw(orders(len(datas)))
    appended = data.draw(st.integers(0, min(2, len(order))))
    check(datas, [parse_digests(each) for each in texts], order, appended)


@given(st.data())
def test_so_it_does_in_sound_files(data: st.DataObject) -> None:
    datas = data.draw(st.lists(cache_files(sound=True), min_size=1, max_size=6))
    texts = [as_text(each) for each in data.draw(queries())]
    check(datas, [parse_digests(texts)], data.draw(orders(len(datas))))


@pytest.mark.parametrize("store", STORES)
def test_look_ups_in_golden_stores(store: str) -> None:
    datas = [golden_cache(store, layer) for layer in layer_ids(store)]
    raw = b"".join(tag[7:39] for data in datas for tag in read_cache(data).tags)
    columns = [Digests.from_raw(np.frombuffer(raw, np.uint8).reshape(-1, 32))]
    numbers = list(range(len(datas)))
    for order in (numbers, numbers[::-1], numbers[1::2]):
        check(datas, columns, order, len(order) // 2)


def test_digests_that_share_one_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    datas = stuffed(200, 3)
    texts = ["sha256:" + (bytes(8) + n.to_bytes(24, "big")).hex() for n in range(0, 300, 3)]
    for rounds in (2, 1000):
        monkeypatch.setattr(matches_module, "_MAX_ROUNDS", rounds)
        check(datas, [parse_digests(texts)], [2, 0, 1], 1)


def test_an_index_that_is_appended_to_twice_stays_as_it_is() -> None:
    files = [CacheFile.parse(data) for data in stuffed(30, 3)]
    column = parse_digests(
        ["sha256:" + (bytes(8) + n.to_bytes(24, "big")).hex() for n in range(30)]
    )
    ranked = RankedIndex.of_layers(find_matches(files, DigestTable([column])), np.array([0]))
    both = ranked.append(files[1]).append(files[2])
    other = ranked.append(files[2])
    for index in (ranked, both, other):
        assert_equal(index, LayerIndex.build(index.files), column)


def test_digests_of_another_image_are_refused() -> None:
    column = parse_digests(["sha256:" + "0" * 64])
    ranked = RankedIndex.of_layers(find_matches([], DigestTable([column])), np.empty(0, np.int64))
    with pytest.raises(ValueError, match="not made of"):
        ranked.find_first(parse_digests(["sha256:" + "0" * 64]))
