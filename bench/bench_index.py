"""The index: built, appended to and looked up in, for known and unknown digests and many layers.

Run as tests in CI. To measure: `pytest bench/bench_index.py --benchmark-enable`; the sizes of the
figures in the README need `VECACHE_BENCH_TAGS=1000000`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.data import make_layers
from tests.golden import GOLDEN_DEBIAN, debian_layers, needs_debian
from vecache.cache.reader import CacheFile
from vecache.digest import Digests
from vecache.index.layers_cache import LayersCache
from vecache.index.load import CachedLayer, CacheSource
from vecache.index.lookup import LayerIndex
from vecache.store.records import LayerRecord

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

N_TAGS = int(os.environ.get("VECACHE_BENCH_TAGS", "10000"))
N_QUERIES = 100_000


def cached_layer(number: int, file: CacheFile) -> CachedLayer:
    return CachedLayer(LayerRecord(f"{number:064x}"), file, CacheSource.APPENDED)


@pytest.mark.parametrize("known", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_layers", [10, 1000])
def bench_find_first(benchmark: BenchmarkFixture, n_layers: int, known: float) -> None:
    files, raw = make_layers(N_TAGS, n_layers)
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
    files, raw = make_layers(N_TAGS, n_layers)
    index = LayerIndex.build(files)
    found = index.find_first(Digests.from_raw(raw))
    located = benchmark(index.tags.locate, *found)
    benchmark.extra_info["ns_a_query"] = _ns(benchmark, N_TAGS)
    assert (located.length > 0).all()


@pytest.mark.parametrize("n_layers", [10, 1000])
def bench_build(benchmark: BenchmarkFixture, n_layers: int) -> None:
    files, _ = make_layers(N_TAGS, n_layers)
    for file in files:
        file.is_sound()  # checked once a file, not once an index
    index = benchmark(LayerIndex.build, files)
    benchmark.extra_info["ns_a_tag"] = _ns(benchmark, N_TAGS)
    assert len(index.files) == n_layers


@pytest.mark.parametrize("n_layers", [10, 1000])
def bench_append(benchmark: BenchmarkFixture, n_layers: int) -> None:
    files, _ = make_layers(N_TAGS, n_layers)
    layers = [cached_layer(number, file) for number, file in enumerate(files)]
    cache = LayersCache([layer.record for layer in layers], layers)
    more = cached_layer(n_layers, make_layers(N_TAGS, 10, seed=9)[0][0])
    cache.lookup([])  # builds the index
    longer = benchmark(cache.append, more)
    assert len(longer.index.files) == len(longer.layers) == n_layers + 1


@pytest.mark.parametrize("known", [0.0, 1.0])
def bench_find_first_after_100_appends(benchmark: BenchmarkFixture, known: float) -> None:
    files, raw = make_layers(N_TAGS, 1000)
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


@pytest.mark.parametrize("n_layers", [10, 1000])
def bench_to_arrow(benchmark: BenchmarkFixture, n_layers: int) -> None:
    files, _ = make_layers(N_TAGS, n_layers)
    layers = [cached_layer(number, file) for number, file in enumerate(files)]
    table = benchmark(LayersCache([layer.record for layer in layers], layers).to_arrow)
    benchmark.extra_info["ns_a_tag"] = _ns(benchmark, N_TAGS)
    assert len(table) == N_TAGS
    assert table["path"].null_count == 0


@needs_debian
def bench_load_debian(benchmark: BenchmarkFixture) -> None:
    paths = [GOLDEN_DEBIAN / "layers" / f"{layer}.cache" for layer in debian_layers()]
    files = benchmark(lambda: [CacheFile.open(path) for path in paths])
    assert sum(file.n_tags for file in files) == 54_377


def _ns(benchmark: Any, n_rows: int) -> float | None:
    stats = benchmark.stats
    return round(stats.stats.min * 1e9 / n_rows, 1) if stats else None
