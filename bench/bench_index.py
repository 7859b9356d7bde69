"""The index: built, appended to and looked up in, for known and unknown digests and many layers.

Run as tests in CI. To measure: `pytest bench/bench_index.py --benchmark-enable`; the sizes of the
figures in the README need `VECACHE_BENCH_TAGS=1000000`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.golden import GOLDEN_DEBIAN, debian_layers, needs_debian
from vecache.cache.format import tag_dtype
from vecache.cache.reader import CacheFile
from vecache.digest import Digests
from vecache.index.layers_cache import LayersCache
from vecache.index.load import CachedLayer, CacheSource
from vecache.index.lookup import LayerIndex
from vecache.store.records import LayerRecord

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from vecache.arrays import U8

N_TAGS = int(os.environ.get("VECACHE_BENCH_TAGS", "10000"))
N_QUERIES = 100_000


def layer_file(raw: U8) -> CacheFile:
    """A cache file of sorted random digests, each of them a file of its own name."""
    n_tags = len(raw)
    tags = np.zeros(n_tags, tag_dtype(39, 55))
    packed = np.hstack([np.broadcast_to(np.frombuffer(b"sha256:", np.uint8), (n_tags, 7)), raw])
    tags["digest"] = np.ascontiguousarray(packed).view("V39")[:, 0]
    tags["location_length"] = 3  # all share one location: name 0, offset 0, length 1
    header = np.array([3, 55, 39, 1], "<u8").tobytes() + np.array([3], "<u4").tobytes()
    bloom = np.array([2**64 - 1], np.uint64).tobytes()  # admits everything
    sizes = np.array([tags.nbytes, 3, 8], "<u8").tobytes()
    names = np.array([4], "<u4").tobytes() + b"name"
    return CacheFile.parse(header + bloom + sizes + tags.tobytes() + b"\x00\x00\x01" + names)


def cached_layer(number: int, file: CacheFile) -> CachedLayer:
    return CachedLayer(LayerRecord(f"{number:064x}"), file, CacheSource.APPENDED)


def make_layers(n_layers: int, seed: int = 7) -> tuple[list[CacheFile], U8]:
    """Layers with N_TAGS tags in all, and their digests."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (N_TAGS, 32), np.uint8)
    shares = np.array_split(raw, n_layers)
    files = [layer_file(share[np.lexsort(share.T[::-1])]) for share in shares]
    return files, raw


@pytest.mark.parametrize("known", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_layers", [10, 1000])
def bench_find_first(benchmark: BenchmarkFixture, n_layers: int, known: float) -> None:
    files, raw = make_layers(n_layers)
    rng = np.random.default_rng(8)
    queries = rng.integers(0, 256, (N_QUERIES, 32), np.uint8)
    n_known = int(known * N_QUERIES)
    queries[:n_known] = raw[rng.integers(0, len(raw), n_known)]
    digests = Digests.from_raw(queries[rng.permutation(N_QUERIES)])
    index = LayerIndex.build(files)
    layer_no, _ = benchmark(index.find_first, digests)
    benchmark.extra_info["ns_a_query"] = _ns(benchmark, N_QUERIES)
    assert (layer_no >= 0).sum() == n_known
    assert index.nbytes <= 48 * N_TAGS + 4


@pytest.mark.parametrize("n_layers", [10, 1000])
def bench_locate(benchmark: BenchmarkFixture, n_layers: int) -> None:
    files, raw = make_layers(n_layers)
    index = LayerIndex.build(files)
    found = index.find_first(Digests.from_raw(raw))
    located = benchmark(index.tags.locate, *found)
    benchmark.extra_info["ns_a_query"] = _ns(benchmark, N_TAGS)
    assert (located.length == 1).all()


@pytest.mark.parametrize("n_layers", [10, 1000])
def bench_build(benchmark: BenchmarkFixture, n_layers: int) -> None:
    files, _ = make_layers(n_layers)
    for file in files:
        file.is_sound()  # checked once a file, not once an index
    index = benchmark(LayerIndex.build, files)
    benchmark.extra_info["ns_a_tag"] = _ns(benchmark, N_TAGS)
    assert len(index.files) == n_layers


@pytest.mark.parametrize("n_layers", [10, 1000])
def bench_append(benchmark: BenchmarkFixture, n_layers: int) -> None:
    files, _ = make_layers(n_layers)
    layers = [cached_layer(number, file) for number, file in enumerate(files)]
    cache = LayersCache([layer.record for layer in layers], layers)
    more = cached_layer(n_layers, make_layers(10, seed=9)[0][0])
    cache.lookup([])  # builds the index
    longer = benchmark(cache.append, more)
    assert len(longer.index.files) == len(longer.layers) == n_layers + 1


@pytest.mark.parametrize("known", [0.0, 1.0])
def bench_find_first_after_100_appends(benchmark: BenchmarkFixture, known: float) -> None:
    files, raw = make_layers(1000)
    index = LayerIndex.build(files[:900])
    for file in files[900:]:
        index = index.append(file)
    rng = np.random.default_rng(8)
    queries = rng.integers(0, 256, (N_QUERIES, 32), np.uint8)
    if known:
        queries = raw[rng.integers(0, len(raw), N_QUERIES)]
    layer_no, _ = benchmark(index.find_first, Digests.from_raw(queries))
    benchmark.extra_info["ns_a_query"] = _ns(benchmark, N_QUERIES)
    assert (layer_no >= 0).sum() == known * N_QUERIES


@needs_debian
def bench_load_debian(benchmark: BenchmarkFixture) -> None:
    paths = [GOLDEN_DEBIAN / "layers" / f"{layer}.cache" for layer in debian_layers()]
    files = benchmark(lambda: [CacheFile.open(path) for path in paths])
    assert sum(file.n_tags for file in files) == 54_377


def _ns(benchmark: Any, n_rows: int) -> float | None:
    stats = benchmark.stats
    return round(stats.stats.min * 1e9 / n_rows, 1) if stats else None
