"""From the shell: how long does a command take in all, start-up of Python included?

Run as tests in CI. To measure: `pytest bench/bench_cli.py --benchmark-enable`.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.golden import GOLDEN_DEBIAN, GOLDEN_SMALL, needs_debian, pulls
from tests.layouts import debian_layers_by_image, write_layout
from tests.stores import debian_store

if TYPE_CHECKING:
    from pathlib import Path

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
