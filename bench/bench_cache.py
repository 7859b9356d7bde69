"""Time to read, query, validate and build one cache file.

Synthetic files of random digests, and the real Debian layers where available. They run as tests in
CI. To measure: `pytest bench/bench_cache.py --benchmark-enable`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.golden import GOLDEN_DEBIAN, debian_cache, debian_layers, debian_toc, needs_debian
from vecache.cache.bloom import BloomFilter
from vecache.cache.format import Header, tag_dtype
from vecache.cache.locations import pack_locations
from vecache.cache.reader import CacheFile
from vecache.cache.validate import validate
from vecache.cache.writer import build_cache, pack_cache
from vecache.toc.layout import Layout
from vecache.toc.parse import Toc

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from vecache.arrays import I64, U8

SIZES = [10_000, 1_000_000]
NAME_BYTES = 60


def random_digests(n_rows: int, seed: int) -> U8:
    packed = np.random.default_rng(seed).integers(0, 256, (n_rows, 39), np.uint8)
    packed[:, :7] = np.frombuffer(b"sha256:", np.uint8)
    return packed


def make_cache(n_tags: int) -> CacheFile:
    """A sound file: every tag has a location and a name of its own, in random order."""
    packed = random_digests(n_tags, seed=1)
    packed = np.sort(packed.view("S39")[:, 0]).view(np.uint8).reshape(n_tags, 39)
    rng = np.random.default_rng(2)
    name_offset = (np.arange(n_tags) * (4 + NAME_BYTES)).astype(np.uint64)
    sizes = rng.integers(0, 1 << 17, n_tags).astype(np.uint64)
    vdata, starts = pack_locations(name_offset, np.where(sizes % 4 == 0, sizes, 0), sizes)
    order = rng.permutation(n_tags)
    tags = np.empty(n_tags, tag_dtype(39, 55))
    tags["digest"] = packed.view("V39")[:, 0]
    tags["location_offset"] = starts[:-1][order]
    tags["location_length"] = np.diff(starts)[order]
    fnames = np.full((n_tags, 4 + NAME_BYTES), ord("n"), np.uint8)
    fnames[:, :4] = np.frombuffer(np.uint32(NAME_BYTES).tobytes(), np.uint8)
    bloom = BloomFilter.build(packed)
    numbers = Header(3, 55, 39, bloom.n_words, 3, tags.nbytes, vdata.nbytes, fnames.nbytes)
    start, behind = numbers.pack()
    columns = [bloom.bits.tobytes(), behind, tags.tobytes(), vdata.tobytes(), fnames.tobytes()]
    return CacheFile.parse(b"".join([start, *columns]))


@pytest.fixture(params=SIZES, scope="module")
def cache(request: pytest.FixtureRequest) -> CacheFile:
    return make_cache(request.param)


@pytest.fixture(scope="module")
def rows(cache: CacheFile) -> I64:
    """As many rows as there are tags, in random order, as the results of queries are."""
    return np.random.default_rng(3).integers(0, cache.n_tags, cache.n_tags)


@needs_debian
def bench_open(benchmark: BenchmarkFixture) -> None:
    path = GOLDEN_DEBIAN / "layers" / f"{debian_layers()[0]}.cache"
    assert benchmark(CacheFile.open, path).n_tags == 16_894


def bench_is_sound(benchmark: BenchmarkFixture, cache: CacheFile) -> None:
    assert benchmark(lambda: CacheFile.parse(cache.data).is_sound())


def bench_build_bloom(benchmark: BenchmarkFixture, cache: CacheFile) -> None:
    bloom = benchmark(BloomFilter.build, cache.packed)
    assert bloom.bits.tobytes() == cache.bloom.bits.tobytes()


@pytest.mark.parametrize("known", [0.0, 1.0])
def bench_may_contain(benchmark: BenchmarkFixture, cache: CacheFile, known: float) -> None:
    packed = cache.packed if known else random_digests(cache.n_tags, seed=4)
    assert benchmark(cache.bloom.may_contain, packed).mean() == pytest.approx(known, abs=0.2)


@pytest.mark.parametrize("known", [0.0, 1.0])
def bench_find_tags(benchmark: BenchmarkFixture, cache: CacheFile, known: float) -> None:
    wanted = np.random.default_rng(5).permutation(cache.n_tags)[:10_000]
    packed = cache.packed[wanted] if known else random_digests(len(wanted), seed=4)
    expected = wanted if known else np.full(len(wanted), -1)
    assert (benchmark(cache.find_tags, packed) == expected).all()


def bench_locate(benchmark: BenchmarkFixture, cache: CacheFile, rows: I64) -> None:
    found = benchmark(cache.locate, rows)
    assert not found.is_corrupt.any()
    assert (found.length < 1 << 17).all()


def bench_names(benchmark: BenchmarkFixture, cache: CacheFile, rows: I64) -> None:
    names = benchmark(cache.names, cache.locate(rows).name_offset)
    assert names[0].as_py() == b"n" * NAME_BYTES


def bench_validate(benchmark: BenchmarkFixture, cache: CacheFile) -> None:
    assert benchmark(validate, cache) == []


@needs_debian
@pytest.mark.parametrize("layer", debian_layers())
def bench_build_cache(benchmark: BenchmarkFixture, layer: str) -> None:
    """From the TOC's JSON to the file; the figure wanted is milliseconds a megabyte of JSON."""
    document = debian_toc(layer)
    benchmark.extra_info["toc_bytes"] = len(document)
    assert benchmark(build_cache, document) == debian_cache(layer)


@needs_debian
@pytest.mark.parametrize("layer", debian_layers()[:1])
def bench_pack_cache(benchmark: BenchmarkFixture, layer: str) -> None:
    """The same without parsing."""
    entries = Toc.parse(debian_toc(layer)).entries
    assert benchmark(pack_cache, entries, Layout.DIR) == debian_cache(layer)
