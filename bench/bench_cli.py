"""From the shell: how long does a command take in all, start-up of Python included?

Run as tests in CI. To measure: `pytest bench/bench_cli.py --benchmark-enable`.

`python -m bench.bench_cli FOLDER` measures a store of 1,000 layers of 20,000 tags, which it makes
there once: 10,000 digests looked up and a small image planned by new processes, against the same
with a small store. The least of ten runs each, and their processor time.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.bench_plan import Sizes, write_image, write_store
from bench.data import contents
from tests.golden import GOLDEN_DEBIAN, GOLDEN_SMALL, needs_debian, pulls
from tests.layouts import debian_layers_by_image, write_layout
from tests.stores import debian_store
from vecache.digest import format_digests

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


def run(benchmark: BenchmarkFixture, *words: str) -> str:
    command = [sys.executable, "-m", "vecache", *words]
    return str(benchmark(subprocess.check_output, command, text=True))


def bench_help(benchmark: BenchmarkFixture) -> None:
    assert "vecache VERB" in run(benchmark, "--help")


def bench_demo(benchmark: BenchmarkFixture) -> None:
    assert "27.5 %" in run(benchmark, "demo")


@pytest.mark.parametrize("verb", ["layers", "overlap"])
@needs_debian
def bench_debian_store(benchmark: BenchmarkFixture, verb: str, tmp_path: Path) -> None:
    assert "2ae19c62c05a" in run(benchmark, verb, "--store", str(debian_store(tmp_path)))


@needs_debian
def bench_plan_debian(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    last = pulls(GOLDEN_DEBIAN)[-1]
    layers = [debian_layers_by_image()[last["image"]]]
    image = f"oci:{write_layout(tmp_path / 'oci', {'last': layers})}:last"
    store = str(debian_store(tmp_path))
    words = ["plan", image, "--store", store, "--reflink", "yes"]
    assert "partial" in run(benchmark, *words, "--present", *last["layers_before"])


def bench_plan_small(benchmark: BenchmarkFixture) -> None:
    words = ["plan", f"oci:{GOLDEN_SMALL / 'oci'}:app2", "--present"]
    assert "partial" in run(benchmark, *words, "--store", str(GOLDEN_SMALL / "stores" / "dir"))


_IMAGE = Sizes(n_files=3_000, n_chunks=10_000, n_layers=1_000, n_tags=20_000)


def queries(sizes: Sizes, n_queries: int) -> str:
    """Digests, one a line: half of them may be in a store of these sizes, half are not."""
    n_known = sizes.n_layers * max(sizes.n_tags // 3, 2)
    rng = np.random.default_rng(3)
    known = rng.integers(0, n_known, n_queries // 2)
    unknown = 2**50 + np.arange(n_queries - len(known))
    numbers = rng.permutation(np.concatenate([known, unknown]))
    return "\n".join(format_digests(contents(numbers).raw).to_pylist())


def bench_lookup_many(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    sizes = Sizes.of(0.0001)
    write_store(tmp_path / "store", sizes)
    asked = queries(sizes, 1_000)
    command = [sys.executable, "-m", "vecache", "lookup", "-", "--store", str(tmp_path / "store")]
    done = benchmark(subprocess.run, command, input=asked, text=True, capture_output=True)
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == asked.split()


def main(folder: Path) -> None:
    """Make the stores once, then print what each command takes."""
    large = Sizes.of(1.0)
    if not folder.exists():
        write_store(folder / "store", large)
        write_store(folder / "small", Sizes.of(0.0001))
        write_image(folder / "image", _IMAGE)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    asked = queries(large, 10_000)
    for store in ("small", "store"):
        for words in (["lookup", "-"], ["plan", f"oci:{folder / 'image'}"]):
            _measure([*words, "--store", str(folder / store)], asked)
    _measure(["layers", "--store", str(folder / "store")], "")


def _measure(words: list[str], asked: str) -> None:
    command = [sys.executable, "-m", "vecache", *words]
    wall, cpu = [], []
    for _ in range(11):  # the first one builds the index
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run(command, input=asked, text=True, stdout=subprocess.DEVNULL, check=False)
        wall.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    line = f"{wall[0]:6.2f} s first, then {min(wall[1:]):.3f} s (processor {min(cpu[1:]):.3f} s)"
    sys.stdout.write(f"{line}  vecache {' '.join(words)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
