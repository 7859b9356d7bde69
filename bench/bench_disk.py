"""The index on disk: written, opened, and looked up in for the first time.

Run as tests in CI. To measure: `VECACHE_BENCH_TAGS=20000000 pytest bench/bench_disk.py
--benchmark-enable`, which takes 4 GB of memory and 1.5 GB in the temporary folder.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.data import make_layers, random_digests
from vecache.digest import Digests
from vecache.index.disk import LAYER, StoredRun, open_run
from vecache.index.disk_write import write_run
from vecache.index.lookup import LayerIndex
from vecache.index.tags import LayerTags

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from vecache.arrays import U8
    from vecache.cache.reader import CacheFile

N_TAGS = int(os.environ.get("VECACHE_BENCH_TAGS", "10000"))
N_LAYERS = 1000 if N_TAGS > 10**6 else 10
N_QUERIES = 10_000
KEY = 7


@cache
def layers() -> tuple[list[CacheFile], U8]:
    files, raw = make_layers(N_TAGS, N_LAYERS)
    assert all(file.is_sound() for file in files)  # checked once a file, not once a run
    return files, raw


def write(path: Path) -> None:
    files, _ = layers()
    table = np.zeros(len(files), LAYER)
    table["n_tags"], table["is_sound"] = [file.n_tags for file in files], 1
    write_run(str(path), KEY, table, files)


def bench_write(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    path = tmp_path / "run"
    benchmark.pedantic(write, (path,), rounds=3)  # type: ignore[no-untyped-call]
    run = open_run(str(path), KEY)
    run.guard.check_all()
    assert 68 * N_TAGS <= run.n_bytes <= 72 * N_TAGS + 6 * 4096 + 64 * (N_LAYERS + 2)


def bench_first_look_up(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Opens the file each time, so each page that is read is verified."""
    path = tmp_path / "run"
    write(path)
    files, raw = layers()
    rng = np.random.default_rng(3)
    known = raw[rng.integers(0, N_TAGS, N_QUERIES // 2)]
    queries = np.concatenate([known, random_digests(rng, N_QUERIES - len(known))])
    digests = Digests.from_raw(queries[rng.permutation(N_QUERIES)])

    def look_up() -> int:
        index = open_index(open_run(str(path), KEY), files)
        layer_no, tag_row = index.find_first(digests)
        hit = layer_no >= 0
        return len(index.tags.locate(layer_no[hit], tag_row[hit]))

    assert benchmark(look_up) == N_QUERIES // 2


@pytest.mark.parametrize("located", [False, True], ids=["found", "located"])
def bench_look_up(benchmark: BenchmarkFixture, tmp_path: Path, located: bool) -> None:
    """All pages are verified before: half of many queries known, with and without locations."""
    path = tmp_path / "run"
    write(path)
    files, raw = layers()
    rng = np.random.default_rng(4)
    n_queries = min(N_TAGS, 10**6)
    known = raw[rng.integers(0, N_TAGS, n_queries // 2)]
    queries = np.concatenate([known, random_digests(rng, n_queries - len(known))])
    digests = Digests.from_raw(queries[rng.permutation(n_queries)])
    run = open_run(str(path), KEY)
    run.guard.check_all()
    index = open_index(run, files)

    def look_up() -> int:
        layer_no, tag_row = index.find_first(digests)
        hit = layer_no >= 0
        if located:
            assert not index.tags.locate(layer_no[hit], tag_row[hit]).is_corrupt.any()
        return int(hit.sum())

    assert benchmark(look_up) == n_queries // 2
    if benchmark.stats:
        seconds = benchmark.stats.stats.min
        benchmark.extra_info["ns_a_query"] = round(seconds * 1e9 / n_queries, 1)


def open_index(run: StoredRun, files: list[CacheFile]) -> LayerIndex:
    layer_of = np.arange(len(files))
    tags = LayerTags.of_files(files, [run.as_table(layer_of, len(files))])
    return LayerIndex(files, [run.as_run(layer_of)], np.ones(len(files), np.bool_), tags)


def bench_verify_all_pages(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    write(tmp_path / "run")

    def verify() -> int:
        run = open_run(str(tmp_path / "run"), KEY)
        run.guard.check_all()
        return run.n_bytes

    assert benchmark(verify) > 68 * N_TAGS
