"""What many layers share: merging, pairs, gather and what-if.

Run as tests in CI, at a fiftieth of the layers. To measure a large store, 1,000 layers of
20,000 contents: `VECACHE_BENCH_LAYERS=1000 pytest bench/bench_sharing.py --benchmark-enable`.
`python -m bench.bench_sharing MEMBERS` measures the time and memory of one case in a new process.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.golden import needs_debian
from tests.stores import debian_store
from vecache.sharing.content_table import ContentTable
from vecache.sharing.contents import Contents
from vecache.sharing.exclusive import shares
from vecache.sharing.export import export_dataset
from vecache.sharing.free import what_to_remove
from vecache.sharing.gather import gather
from vecache.sharing.intersections import Intersections
from vecache.sharing.matrix import overlap
from vecache.sharing.members import ContentImage, ContentLayer
from vecache.sharing.removal import what_if
from vecache.sharing.sources import read_contents
from vecache.store.records import ImageRecord, LayerRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

N_LAYERS = int(os.environ.get("VECACHE_BENCH_LAYERS", "20"))
N_CONTENTS = 20_000 if N_LAYERS >= 1000 else 2_000
MEMBERS = (1, 3, 20, 60, 1000)
"""Layers that have each content: no content shared, small sets, large sets, one set of all."""


def make_contents(n_members: int) -> Contents:
    """Layers that each draw the same number of contents from one pool, at random."""
    rng = np.random.default_rng(n_members)
    n_pool = max(N_LAYERS * N_CONTENTS // min(n_members, N_LAYERS), N_CONTENTS)
    key = rng.integers(0, 256, (n_pool, 32), np.uint8)
    size = rng.integers(1, 1 << 20, n_pool)
    order = rng.permutation(n_pool)
    layers = []
    for number in range(N_LAYERS):
        rows = (
            order[number * N_CONTENTS : (number + 1) * N_CONTENTS]
            if n_members == 1
            else rng.choice(n_pool, N_CONTENTS, replace=False)
        )
        held = ContentTable.from_rows(key[rows], size[rows])
        layers.append(ContentLayer(LayerRecord(f"{number:064x}"), held, held))
    return Contents(tuple(layers))


@pytest.fixture(params=MEMBERS, scope="module")
def contents(request: pytest.FixtureRequest) -> Contents:
    return make_contents(request.param)


def bench_overlap(benchmark: BenchmarkFixture, contents: Contents) -> None:
    """From the keys of all layers to the matrix."""
    n_bytes = benchmark(lambda: overlap(contents).bytes)
    assert n_bytes.diagonal().tolist() == [layer.files.n_bytes for layer in contents.layers]


def bench_shares(benchmark: BenchmarkFixture, contents: Contents) -> None:
    found = benchmark(shares, contents)
    assert found.new_bytes.sum() == found.sets.n_bytes.sum()


def bench_gather(benchmark: BenchmarkFixture, contents: Contents) -> None:
    """An image of five of the layers, against all others."""
    image, local = Contents(contents.layers[:5]), Contents(contents.layers[5:])
    found = benchmark(gather, image, local)
    assert found.covered_bytes == found.added_bytes.sum() <= found.total_bytes


def bench_what_if(benchmark: BenchmarkFixture, contents: Contents) -> None:
    names = [layer.id for layer in contents.layers[::2]]
    found = benchmark(what_if, contents, names)
    assert 0 <= found.freed_bytes <= found.stored_bytes
    assert len(found.layer_ids) == len(names)


def bench_what_to_remove(benchmark: BenchmarkFixture, contents: Contents) -> None:
    """One image a layer: all of them go."""
    images = tuple(
        ContentImage(
            ImageRecord(layer.id, None, (), layer.id, (), Path(), is_read_only=True), (layer.id,)
        )
        for layer in contents.layers
    )
    found = benchmark(what_to_remove, replace(contents, images=images), 1 << 62)
    assert (
        found.total_bytes
        == Intersections.from_tables(contents.content_tables("file")).n_bytes.sum()
    )


@needs_debian
def bench_read_debian(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Five real TOCs, from JSON to content tables."""
    found = benchmark(read_contents, debian_store(tmp_path))
    assert len(found.layers) == 5


@needs_debian
def bench_export_debian(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    found = read_contents(debian_store(tmp_path))
    benchmark(export_dataset, found, tmp_path / "set")
    assert len(read_contents(tmp_path / "set").layers) == 5


def main(n_members: int) -> None:
    """Write seconds and peak memory of one case; the process should have done nothing else."""
    contents = make_contents(n_members)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(
        f"{N_LAYERS} layers of {N_CONTENTS} contents, {n_members} members each; "
        f"{before / 1e6:.2f} GB\n"
    )
    cases: dict[str, Callable[[], object]] = {
        "overlap": lambda: overlap(contents).bytes,
        "sets": lambda: Intersections.from_tables(contents.content_tables("file")),
    }
    for name, work in cases.items():
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sys.stdout.write(f"{name}: {seconds:.1f} s, processor {cpu:.1f} s, {peak / 1e6:.2f} GB\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
