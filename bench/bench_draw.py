"""Measure how long it takes to order the rows of a heat map, and to draw it.

Run as tests in CI. To measure: `pytest bench/bench_draw.py --benchmark-enable`.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.draw.samples import many_layers
from vecache.cluster import average_linkage
from vecache.draw.heatmap import heatmap

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.parametrize("n_rows", [200, 1_000])
def bench_average_linkage(benchmark: BenchmarkFixture, n_rows: int) -> None:
    distance = np.random.default_rng(0).random((n_rows, n_rows))
    tree = benchmark(average_linkage, distance + distance.T)
    assert sorted(tree.leaf_order().tolist()) == list(range(n_rows))


@pytest.mark.parametrize("n_layers", [5, 200])
def bench_heatmap(benchmark: BenchmarkFixture, n_layers: int) -> None:
    sets = many_layers(n_layers)
    share, total = sets.jaccard, sets.total_bytes

    def draw() -> bytes:
        picture = heatmap(share, 1 - share, total, sets.labels, title="Alike", note="Per cent.")
        file = io.BytesIO()
        picture.write(file, "svg")
        return file.getvalue()

    assert benchmark(draw).startswith(b"<?xml")
