"""A whole image against a large store: TOCs from bytes, the plan, the best possible, the table.

Run as tests in CI, at a thousandth of the size. `VECACHE_BENCH_SHARE=1 pytest bench/bench_plan.py
--benchmark-enable` plans an image of 200,000 files and 1,000,000 chunks against 1,000 layers of
20,000 tags; making them takes minutes and 2 GB in the temporary folder. `python -m bench.bench_plan
FOLDER` makes them once in a folder that stays, and writes the time and memory of each step.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

from bench.data import contents, toc_bytes
from tests.layouts import SparseLayer, write_layout
from vecache.cache.writer import pack_cache
from vecache.image.open import open_image
from vecache.index.layers_cache import LayersCache
from vecache.plan.pull import plan_image
from vecache.store.bigdata import CACHE_KEY, big_data_file_name
from vecache.store.open import open_store
from vecache.toc.entries import Entries, EntryKind, Xattrs
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from vecache.arrays import I64
    from vecache.plan.image_plan import ImagePlan

SHARE = float(os.environ.get("VECACHE_BENCH_SHARE", "0.001"))
KNOWN = 0.4
"""How many of the image's contents some layer has."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the made-up image and store."""

    n_files: int
    n_chunks: int
    n_layers: int
    n_tags: int
    n_image_layers: int = 5

    @classmethod
    def of(cls, share: float) -> Sizes:
        root = share**0.5
        return cls(int(2e5 * share), int(1e6 * share), max(int(1e3 * root), 2), int(2e4 * root))


def layer_entries(numbers: I64) -> Entries:
    """Entries of files of one chunk: a third of a layer's tags are digests of each kind."""
    n_rows = len(numbers)
    zero = np.zeros(n_rows, np.int64)
    digests = contents(numbers)
    names = [b"usr/share/made-up/%03d/file-%d" % (n % 500, n) for n in numbers.tolist()]
    return Entries(
        kind=np.full(n_rows, EntryKind.REG, np.uint8),
        name=pa.array(names, pa.binary()),
        link_name=pa.array([b""] * n_rows, pa.binary()),
        mode=np.full(n_rows, 0o644),
        size=np.full(n_rows, 5_000),
        uid=zero.copy(),
        gid=zero.copy(),
        offset=zero.copy(),
        end_offset=zero.copy(),
        chunk_size=np.full(n_rows, 5_000),
        chunk_offset=zero.copy(),
        chunk_kind=np.zeros(n_rows, np.uint8),
        digest=digests,
        chunk_digest=contents(numbers + 2**40),
        xattrs=Xattrs(np.empty(0, np.int64), pa.array([], pa.binary()), pa.array([], pa.binary())),
    )


def write_store(root: Path, sizes: Sizes) -> None:
    """A graph root of layers; half of what each holds is in others too."""
    layers = root / "overlay-layers"
    layers.mkdir(parents=True)
    (root / "overlay-images").mkdir()
    (root / "overlay-images" / "images.json").write_text("[]")
    (layers / "layers.lock").touch()
    rng = np.random.default_rng(5)
    n_rows = max(sizes.n_tags // 3, 2)
    records = []
    for number in range(sizes.n_layers):
        own = number * n_rows + np.arange(n_rows)
        shared = rng.integers(0, sizes.n_layers * n_rows, n_rows)
        rows = np.unique(np.where(rng.random(n_rows) < 0.5, own, shared))
        records.append({"id": f"{number:064x}", "big-data-names": [CACHE_KEY]})
        folder = layers / f"{number:064x}"
        folder.mkdir()
        packed = pack_cache(layer_entries(rows), Layout.DIR)
        (folder / big_data_file_name(CACHE_KEY)).write_bytes(packed)
    (layers / "layers.json").write_text(json.dumps(records))


def write_image(folder: Path, sizes: Sizes) -> None:
    """An OCI layout of one image, whose files have several chunks each."""
    rng = np.random.default_rng(6)
    n_known = sizes.n_layers * max(sizes.n_tags // 3, 2)
    layers = []
    for number in range(sizes.n_image_layers):
        n_files = sizes.n_files // sizes.n_image_layers
        n_chunks = sizes.n_chunks // sizes.n_image_layers
        is_known = rng.random(n_chunks) < KNOWN
        numbers = np.where(
            is_known, rng.integers(0, n_known, n_chunks), 2**32 * (number + 1) + np.arange(n_chunks)
        )
        toc = toc_bytes(numbers, n_files)
        layers.append(SparseLayer(toc, toc_offset=2_000 * (n_chunks + 1)))
    write_layout(folder, {"image": layers})


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("plan")
    sizes = Sizes.of(SHARE)
    write_store(folder / "store", sizes)
    write_image(folder / "image", sizes)
    return folder / "store", folder / "image"


def plan_from_disk(root: Path, layout: Path) -> ImagePlan:
    """From nothing loaded to a plan."""
    cache = LayersCache.load(open_store(root), build="never")
    return plan_image(open_image(f"oci:{layout}:image"), cache, reflink=True)


def bench_plan(benchmark: BenchmarkFixture, made_up: tuple[Path, Path]) -> None:
    plan = benchmark.pedantic(plan_from_disk, made_up, rounds=1)  # type: ignore[no-untyped-call]
    sizes = Sizes.of(SHARE)
    check(plan, sizes)


def bench_best(benchmark: BenchmarkFixture, made_up: tuple[Path, Path]) -> None:
    plan = plan_from_disk(*made_up)
    best = benchmark.pedantic(lambda: plan.best, rounds=1)  # type: ignore[no-untyped-call]
    assert best.missing_bytes + sum(best.excess.values()) == plan.missing_bytes


def bench_table(benchmark: BenchmarkFixture, made_up: tuple[Path, Path]) -> None:
    plan = plan_from_disk(*made_up)
    table = benchmark.pedantic(plan.to_arrow, rounds=1)  # type: ignore[no-untyped-call]
    sizes = Sizes.of(SHARE)
    assert table.num_rows == sizes.n_files + sizes.n_chunks


def check(plan: ImagePlan, sizes: Sizes) -> None:
    """All chunks were planned, and about as many found as the data has."""
    assert plan.total_bytes == 5_000 * sizes.n_chunks
    assert 0.3 < 1 - plan.missing_bytes / plan.total_bytes < 0.8


def main(folder: Path) -> None:
    """Make the full size once, then print the cost of each step."""
    sizes = Sizes.of(1.0)
    if not folder.exists():
        write_store(folder / "store", sizes)
        write_image(folder / "image", sizes)
    with _step("load the store"):
        cache = LayersCache.load(
            open_store(folder / "store"), build="never", build_cache=folder / "cache"
        )
    with _step("index, which the first run writes to disk"):
        cache.lookup(["sha256:" + "0" * 64])
    with _step("open the image and parse TOCs"):
        image = open_image(f"oci:{folder / 'image'}:image")
        n_entries = sum(len(layer.toc.entries) for layer in image.layers)
    with _step("plan"):
        plan = plan_image(image, cache, reflink=True)
    sys.stdout.write(f"{n_entries:,} entries, {cache.n_tags:,} tags, {plan!r}\n")
    check(plan, sizes)
    with _step("best"):
        best = plan.best
    with _step("table"):
        table = plan.to_arrow()
    sys.stdout.write(f"{best!r}, {table.num_rows:,} rows of {table.nbytes:,} bytes\n")


class _step:  # noqa: N801 - reads as a statement
    """Times a step and reads the memory afterwards."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self._start
        status = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        memory = ", ".join(f"{key} {status[key].strip()}" for key in ("VmHWM", "VmRSS", "RssAnon"))
        sys.stdout.write(f"{self._name}: {seconds:.2f} s; {memory}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
