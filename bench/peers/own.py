"""The ways that need numpy alone: vecache, layer by layer as the Go original, and bare reads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from vecache import CacheFile, LayersCache
from vecache.digest import Algorithm, Digests
from vecache.index.load import CachedLayer, CacheSource
from vecache.store.records import LayerRecord

if TYPE_CHECKING:
    from bench.peers.case import Case
    from vecache.arrays import I64, U8
    from vecache.index.result import LookupResult

__all__ = ["LayerByLayer", "RandomReads", "Vecache", "VecacheLocations"]

_BLOCK = 1 << 15


class Vecache:
    """`LayersCache.lookup`: layer and tag of each query."""

    def __init__(self, case: Case, threads: int) -> None:
        self.paths, self.starts = case.layer_paths(), case.starts()
        self.threads = threads
        LayersCache().lookup([])  # imports

    def prepare(self, raw: U8) -> U8:
        return raw

    def build(self) -> None:
        files = [CacheFile.open(path) for path in self.paths]
        records = [LayerRecord(f"{number:064x}") for number in range(len(files))]
        layers = [
            CachedLayer(record, file, CacheSource.MAPPED)
            for record, file in zip(records, files, strict=True)
        ]
        self.cache = LayersCache(records, layers)
        self.cache.lookup([])  # the first look-up builds the index

    def ask(self, prepared: U8) -> LookupResult:
        return self.cache.lookup(prepared, threads=self.threads)

    def positions(self, answers: LookupResult) -> I64:
        return np.where(answers.layer >= 0, self.starts[answers.layer] + answers.tag, -1)


class VecacheLocations(Vecache):
    """The same, and where the content is."""

    def ask(self, prepared: U8) -> LookupResult:
        hits = super().ask(prepared)
        self.located = hits.offset, hits.length
        return hits

    def positions(self, answers: LookupResult) -> I64:
        for column in self.located:
            if not np.array_equal(column >= 0, answers.layer >= 0):
                raise AssertionError("a tag that was found has no location")
        return super().positions(answers)


class LayerByLayer:
    """What Go does, a batch at a time: bloom filter and binary search, layer after layer."""

    def __init__(self, case: Case, threads: int) -> None:
        self.paths, self.starts = case.layer_paths(), case.starts()

    def prepare(self, raw: U8) -> U8:
        _, packed = Digests.from_raw(raw).packed(Algorithm.SHA256)
        return packed

    def build(self) -> None:
        self.files = [CacheFile.open(path) for path in self.paths]

    def ask(self, prepared: U8) -> I64:
        position = np.full(len(prepared), -1, np.int64)
        rest = np.arange(len(prepared))
        for file, start in zip(self.files, self.starts.tolist(), strict=True):
            tag = file.find_tags(prepared[rest])
            is_found = tag >= 0
            position[rest[is_found]] = start + tag[is_found]
            rest = rest[~is_found]
        return position

    def positions(self, answers: I64) -> I64:
        return answers


class RandomReads:
    """No answer, but the reads that every exact answer needs.

    A query reads 4 bytes of a fan-out table and a row of 32 bytes of the digests, both at random,
    in blocks that stay in cache. Which ones is known beforehand, and nothing is compared.
    """

    def __init__(self, case: Case, threads: int) -> None:
        self.rows = case.digests().view("V32")[:, 0]
        self.threads = threads

    def prepare(self, raw: U8) -> tuple[I64, I64]:
        rng = np.random.default_rng(9)
        n_tags = len(self.rows)
        bucket = rng.integers(0, 1 << n_tags.bit_length(), len(raw))
        return bucket, rng.integers(0, n_tags, len(raw))

    def build(self) -> None:
        self.fan_out = np.arange(1 << len(self.rows).bit_length(), dtype=np.uint32)
        self.pool = ThreadPoolExecutor(self.threads)

    def ask(self, prepared: tuple[I64, I64]) -> None:
        bucket, row = prepared
        starts = range(0, len(row), _BLOCK)

        def read(start: int) -> None:
            block = slice(start, start + _BLOCK)
            self.fan_out.take(bucket[block], mode="clip")
            self.rows.take(row[block], mode="clip")

        list(map(read, starts) if self.threads == 1 else self.pool.map(read, starts))

    def positions(self, answers: None) -> None:
        return None
