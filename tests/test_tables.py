"""The tables of tags, entries and contents have each row that a slow reader finds."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given

import vecache
from tests import oracle
from tests.golden import golden_cache, golden_toc, layer_ids, small_layers
from tests.sharing import oracle as sharing_oracle
from tests.strategies import as_text, cache_files
from vecache.cache.reader import CacheFile
from vecache.digest import EMPTY_SHA256
from vecache.index.layers_cache import LayersCache
from vecache.index.load import CachedLayer, CacheSource
from vecache.sharing.sources import read_contents
from vecache.store.records import LayerRecord
from vecache.toc.parse import Toc


def slow_tags(data: bytes) -> list[dict[str, Any]]:
    """The tags of a cache file, one by one."""
    cache = oracle.read_cache(data)
    rows = []
    for row, digest in enumerate(cache.digests()):
        located = oracle.locate(cache, row)
        path, offset, length = None, None, None
        if located is not None:
            name = oracle.read_name(cache.fnames, located[0])
            assert name is not None
            path, offset, length = name.decode(errors="backslashreplace"), *located[1:]
        digest_text = as_text(digest)
        rows.append({"digest": digest_text, "path": path, "offset": offset, "length": length})
    return rows


@pytest.mark.parametrize(("store", "layer"), small_layers())
def test_the_tags_of_a_cache_file_are_a_table(store: str, layer: str) -> None:
    data = golden_cache(store, layer)
    assert CacheFile.parse(data).to_arrow().to_pylist() == slow_tags(data)


@given(cache_files())
def test_locations_that_are_corrupt_are_null(data: bytes) -> None:
    found = CacheFile.parse(data).to_arrow().to_pylist()
    wanted = slow_tags(data)
    for row in (*found, *wanted):
        row.pop("digest")  # not of a known length, or without the name of the algorithm
    assert found == wanted


def test_digests_of_another_length_are_spelled_too() -> None:
    rows = [(b"sha512:" + bytes(range(64)), b"a", 0, 5)]
    table = CacheFile.parse(oracle.pack_rows(rows, digest_len=71)).to_arrow()
    assert table["digest"].to_pylist() == [f"sha512:{bytes(range(64)).hex()}"]
    table = CacheFile.parse(oracle.pack_rows([(b"odd", b"a", 0, 5)], digest_len=3)).to_arrow()
    assert table.to_pylist() == [{"digest": None, "path": "a", "offset": 0, "length": 5}]


def test_the_tags_of_all_layers_are_one_table() -> None:
    ids = layer_ids("dir")
    files = [CacheFile.parse(golden_cache("dir", layer)) for layer in ids]
    records = [LayerRecord(layer) for layer in ids]
    layers = [
        CachedLayer(record, file, CacheSource.MAPPED)
        for record, file in zip(records, files, strict=True)
    ]
    table = pa.table(LayersCache(records, layers))
    wanted = [
        {"layer": number, "layer_id": ids[number], **row}
        for number, file in enumerate(files)
        for row in file.to_arrow().to_pylist()
    ]
    assert table.to_pylist() == wanted
    empty = LayersCache().to_arrow()
    assert empty.schema == table.schema
    assert len(empty) == 0


@pytest.mark.parametrize(("store", "layer"), small_layers())
def test_the_entries_of_a_toc_are_a_table(store: str, layer: str) -> None:
    data = golden_toc(store, layer)
    table = pa.table(Toc.parse(data))
    entries = json.loads(data)["entries"] or []
    keys = {
        "kind": "type",
        "name": "name",
        "link_name": "linkName",
        "digest": "digest",
        "chunk_digest": "chunkDigest",
    }
    for entry in entries:
        if entry["type"] == "reg" and not entry.get("size"):
            entry.setdefault("digest", EMPTY_SHA256)  # as containers/storage takes it to be
    for column, key in keys.items():
        assert table[column].to_pylist() == [each.get(key) or None for each in entries]
    for column, key in {"size": "size", "mode": "mode", "uid": "uid", "offset": "offset"}.items():
        assert table[column].to_pylist() == [each.get(key, 0) for each in entries]
    kinds = {"": "data", "zeros": "zeros"}
    wanted = [kinds[each.get("chunkType", "")] for each in entries]
    assert table["chunk_kind"].to_pylist() == wanted


def test_a_name_that_is_not_utf8_is_escaped() -> None:
    entries = b'[{"type":"reg","name":"caf\xe9","size":1},{"type":"odd","name":""}]'
    table = Toc.parse(b'{"version":1,"entries":%s}' % entries).to_arrow()
    assert table["kind"].to_pylist() == ["reg", "other"]
    assert table["name"].to_pylist() == ["caf\\xe9", None]


def test_the_contents_of_all_layers_are_one_table() -> None:
    named = {layer: Toc.parse(golden_toc("dir", layer)) for layer in layer_ids("dir")}
    contents = read_contents(named)
    wanted = [
        (number, layer, grain, digest, size)
        for number, layer in enumerate(named)
        for grain, rows in zip(
            ("file", "chunk"), sharing_oracle.grains(golden_toc("dir", layer)), strict=True
        )
        for digest, size in sorted(sharing_oracle.held(rows).items())
    ]
    rows = pa.table(contents).to_pylist()
    n_copies = [row.pop("n_copies") for row in rows]
    assert [tuple(row.values()) for row in rows] == wanted
    assert sum(n > 1 for n in n_copies) > 10
    several = read_contents({"a": contents, "b": contents}).to_arrow()
    assert several["host"].to_pylist() == ["a"] * len(rows) + ["b"] * len(rows)
    assert len(read_contents({}).to_arrow()) == 0


def test_the_order_of_the_heat_map_and_its_tree_are_values() -> None:
    over = vecache.overlap(vecache.open_sample(), by="image")
    assert sorted(over.order().tolist()) == list(range(5))
    table = pa.table(over.tree())
    assert table["n_leaves"].to_pylist()[-1] == 5
    leaves = set(range(5)) | {5 + row for row in range(3)}
    assert set(table["left"].to_pylist()) | set(table["right"].to_pylist()) == leaves
    assert vecache.overlap({}).order().tolist() == []
    assert "<td" in over.tree()._repr_html_()
