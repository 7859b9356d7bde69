"""Protects that a look-up gives the same wherever a cache came from and whatever it goes through.

The same digests go to a mapped file, the same bytes in memory, a cache built from the TOC, an index
over one layer, and a layer that was appended: layer, tag, location and name must agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.golden import GOLDEN_SMALL, big_data, golden_toc, layer_ids
from vecache.cache.reader import CacheFile
from vecache.cache.writer import build_cache
from vecache.digest import Digests, parse_digests
from vecache.index.layers_cache import LayersCache
from vecache.index.lookup import LayerIndex
from vecache.index.result import LookupResult
from vecache.store.open import open_store

if TYPE_CHECKING:
    from vecache.arrays import I64, U8

LAYER = layer_ids("dir")[0]
PATH = big_data("dir", LAYER, "chunked-manifest-cache")


def queries() -> Digests:
    file = CacheFile.open(PATH)
    rng = np.random.default_rng(3)
    unknown = rng.integers(0, 256, (100, 32), np.uint8)
    raw: U8 = np.vstack([file.packed[:, 7:], unknown, np.zeros((1, 32), np.uint8)])
    return Digests.from_raw(raw[rng.permutation(len(raw))])


def look_up_in_file(file: CacheFile, digests: Digests) -> tuple[list[object], ...]:
    _, packed = digests.packed(file.algorithm)
    tag = file.find_tags(packed)
    located = file.locate(tag)
    names = file.names(located.name_offset).to_pylist()
    return tag.tolist(), located.offset.tolist(), located.length.tolist(), names


def look_up_in_index(index: LayerIndex, digests: Digests) -> tuple[list[object], ...]:
    hits = LookupResult(digests, *index.find_first(digests), index.tags, [])
    return hits.tag.tolist(), hits.offset.tolist(), hits.length.tolist(), hits.paths().to_pylist()


@pytest.mark.parametrize(
    "file",
    [
        CacheFile.parse(PATH.read_bytes()),
        CacheFile.parse(memoryview(bytearray(PATH.read_bytes()))),
        CacheFile.parse(build_cache(golden_toc("dir", LAYER))),
    ],
    ids=["bytes", "memoryview", "built"],
)
def test_one_file_gives_the_same_from_anywhere(file: CacheFile) -> None:
    digests = queries()
    wanted = look_up_in_file(CacheFile.open(PATH), digests)
    assert look_up_in_file(file, digests) == wanted
    assert look_up_in_index(LayerIndex.build([file]), digests) == wanted
    assert look_up_in_index(LayerIndex.build([]).append(file), digests) == wanted


def test_the_first_layer_of_a_set_wins() -> None:
    digests = queries()
    cache = LayersCache.load(open_store(GOLDEN_SMALL / "stores" / "dir"))
    hits, in_file = cache.lookup(digests), look_up_in_file(CacheFile.open(PATH), digests)
    in_first = hits.layer == 0
    assert hits.tag[in_first].tolist() == [tag for tag in in_file[0] if tag != -1]
    text = parse_digests(digests.to_text())
    assert cache.lookup(text).to_arrow() == hits.to_arrow()


def test_results_cannot_be_written_to() -> None:
    cache = LayersCache.load(open_store(GOLDEN_SMALL / "stores" / "dir"))
    hits = cache.lookup(queries())
    columns: list[I64 | U8] = [hits.layer, hits.tag, hits.offset, hits.length, hits.state]
    for column in columns:
        with pytest.raises(ValueError, match="read-only"):
            column[:1] = 0
