"""A store of cache files and its index on disk, to change and to break."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import astuple
from typing import TYPE_CHECKING

import numpy as np

from tests.oracle import pack_rows
from tests.strategies import POOL, POOLS, as_text
from vecache.cache.reader import CacheFile
from vecache.digest import parse_digests
from vecache.index.disk import LAYER, RunLayout
from vecache.index.disk_folder import IndexFolder
from vecache.index.load import CachedLayer, CacheSource
from vecache.index.lookup import LayerIndex
from vecache.store.records import LayerRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import pytest

    from vecache.arrays import I64


QUERIES = parse_digests([as_text(query) for pool in POOLS.values() for query in pool])


class StoreOfLayers:
    """Cache files in a folder, and the index of them in another."""

    def __init__(self, folder: Path) -> None:
        self.root, self.index = folder / "store", folder / "cache" / "index"
        self.root.mkdir(parents=True, exist_ok=True)
        self.folder = IndexFolder(self.index, self.root)

    def put(self, name: str, data: bytes) -> CachedLayer:
        """Write a cache file as Podman does, by renaming."""
        path = self.root / name
        (self.root / "new").write_bytes(data)
        os.rename(self.root / "new", path)
        return CachedLayer(LayerRecord(name), CacheFile.open(path), CacheSource.MAPPED)

    def files(self) -> list[Path]:
        return sorted(self.index.glob("*")) if self.index.is_dir() else []

    def check(self, layers: Sequence[CachedLayer], folder: IndexFolder | None = None) -> LayerIndex:
        """Open the index, compare its answers with those in memory, and return it."""
        index = (folder or self.folder).open(layers)
        check_answers(index, layers)
        return index


@contextlib.contextmanager
def temporary_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreOfLayers]:
    """For one of many examples."""
    folder = tmp_path_factory.mktemp("disk")
    try:
        yield StoreOfLayers(folder)
    finally:
        shutil.rmtree(folder)


def check_answers(index: LayerIndex, layers: Sequence[CachedLayer]) -> None:
    """Hold an index against one that is built in memory."""
    wanted = LayerIndex.build([layer.cache for layer in layers])
    layer_no, tag_row = wanted.find_first(QUERIES)
    assert same_columns(index.find_first(QUERIES), (layer_no, tag_row))
    _, layer_no, tag_row = matches = wanted.find_all(QUERIES)
    assert same_columns(index.find_all(QUERIES), matches)
    located = [each.tags.locate(layer_no, tag_row) for each in (index, wanted)]
    assert same_columns(*(map(np.asarray, astuple(each)) for each in located))
    for number, layer in enumerate(layers):
        assert index.is_sound[number] == wanted.is_sound[number] or not layer.cache.n_tags


def same_columns(found: Iterable[I64], wanted: Iterable[I64]) -> bool:
    return [column.tolist() for column in found] == [column.tolist() for column in wanted]


def run_bytes(n_tags: int) -> int:
    """Size of the file of one sound layer."""
    table = np.zeros(1, LAYER)
    table["n_tags"], table["is_sound"] = n_tags, 1
    return RunLayout.of_layers(table).n_bytes


def rows_of(numbers: Sequence[int]) -> bytes:
    return pack_rows([(POOL[number], b"name", 0, number) for number in numbers])


def are_mapped(index: LayerIndex) -> bool:
    return all(run.guard is not None for run in index.runs)
