"""Protects `holds`, appended layers, every match, and the names of many hits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from hypothesis import given

from tests.golden import GOLDEN_SMALL, layer_ids
from tests.plan.strategies import CONTENTS, StoredLayer, load_layers, make_record, stored_layers
from tests.stores import copy_store, toc_path
from vecache.cache.reader import CacheFile
from vecache.index import lookup
from vecache.index.layers_cache import LayersCache
from vecache.index.load import CachedLayer, CacheSource, ExcludedLayer
from vecache.index.result import LookupState
from vecache.store.open import open_store

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def load(root: Path, **options: object) -> LayersCache:
    return LayersCache.load(open_store(root), **options)  # type: ignore[arg-type]


def made_layer(number: int, data: bytes) -> CachedLayer:
    return CachedLayer(make_record(number), CacheFile.parse(data), CacheSource.APPENDED)


def sound_queries(cache: LayersCache, digests: list[str]) -> list[bool]:
    """The same from every match, which nothing bounds."""
    found = cache.lookup_all(digests)
    is_sound = ~cache.index.tags.locate(found.layer, found.tag).is_corrupt
    rows = set(found.query[is_sound].tolist())
    return [row in rows for row in range(len(digests))]


@given(stored_layers())
def test_layers_hold_what_any_of_their_sound_tags_has(layers: list[StoredLayer]) -> None:
    cache = load_layers(layers)
    digests = [*CONTENTS, "", "not a digest", *CONTENTS]
    assert cache.holds(digests).tolist() == sound_queries(cache, digests)


def test_blocks_of_one_match_give_the_same_as_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = load(GOLDEN_SMALL / "stores" / "dir")
    raw = [layer.cache.packed[::7, 7:] for layer in cache.layers if layer.cache.n_tags]
    digests = np.ascontiguousarray(np.concatenate(raw))
    at_once = cache.lookup_all(digests)
    monkeypatch.setattr(lookup, "_MATCHES_PER_BLOCK", 1)
    one_by_one = cache.lookup_all(digests)
    for name in ("query", "layer", "tag"):
        assert getattr(at_once, name).tolist() == getattr(one_by_one, name).tolist()
    assert len(at_once) > len(digests)


def test_a_corrupt_first_match_does_not_hide_a_sound_one(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    cache = load(root, present=layer_ids("dir")[:1])
    first = cache.layers[0]
    broken = bytearray(first.cache.data.tobytes())
    digest = first.cache.packed[:1, 7:].copy()
    pointer = first.cache.header.tags_offset + first.cache.digest_len
    broken[pointer : pointer + 8] = (2**50).to_bytes(8, "little")
    broken_only = LayersCache().append(made_layer(0, bytes(broken)))
    both = broken_only.append(first)
    assert both.lookup(digest).state.tolist() == [LookupState.CORRUPT]
    assert both.holds(digest).tolist() == [True]
    assert broken_only.holds(digest).tolist() == [False]


def test_append_keeps_the_store_and_counts_excluded_layers_as_present() -> None:
    cache = load(GOLDEN_SMALL / "stores" / "dir")
    excluded = ExcludedLayer(make_record(1), "no TOC")
    longer = cache.append(made_layer(0, cache.layers[0].cache.data.tobytes())).append(excluded)
    assert longer.store is cache.store
    assert len(longer.layers) == len(cache.layers) + 1
    assert longer.excluded == (excluded,)
    assert longer.records == (*cache.records, make_record(0), make_record(1))


def test_a_flat_layer_whose_toc_is_missing_is_named_as_unread(tmp_path: Path) -> None:
    root = copy_store("flat", tmp_path)
    ids = layer_ids("flat")
    toc_path(root, ids[1]).unlink()
    cache = load(root)
    complete = cache.with_all_chunks()
    (unread,) = complete.unread
    assert unread.id == ids[1]
    assert "no TOC" in unread.reason
    assert complete.append(ExcludedLayer(make_record(1), "whole")).unread == (unread,)
    assert complete.layers[1].cache is cache.layers[1].cache
    assert complete.layers[0].cache.n_tags > cache.layers[0].cache.n_tags
    assert cache.unread == ()


def test_names_of_hits_are_read_once_each() -> None:
    """A file's chunks all lie in the same file, and so does the file itself."""
    cache = load(GOLDEN_SMALL / "stores" / "dir", present=layer_ids("dir")[:1])
    layer = cache.layers[0].cache
    hits = cache.lookup(np.ascontiguousarray(layer.packed[:, 7:]))
    names = hits.path_dictionary()
    assert len(names.dictionary) < len(names) // 2
    assert len(set(names.dictionary.to_pylist())) == len(names.dictionary)
    located = layer.locate(hits.tag)
    assert names.dictionary_decode().to_pylist() == layer.names(located.name_offset).to_pylist()


def test_matches_export_to_arrow_and_as_a_stream() -> None:
    cache = load(GOLDEN_SMALL / "stores" / "dir")
    digests = np.ascontiguousarray(cache.layers[0].cache.packed[:3, 7:])
    matches = cache.lookup_all(digests)
    table = matches.to_arrow()
    assert table.column_names == ["query", "layer", "tag"]
    assert table["layer"].to_pylist() == matches.layer.tolist()
    assert pa.table(matches) == table
    assert f"{len(matches)} rows" in matches._repr_html_()
    hits = cache.lookup(digests)
    assert pa.table(hits) == hits.to_arrow()
