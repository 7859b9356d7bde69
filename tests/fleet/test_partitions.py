"""Partitions cover each digest once, are bounded, and so is the memory of a task."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vecache.fleet import class_sets
from vecache.fleet.class_sets import pack_bits
from vecache.fleet.overlap import _Job, add_partition
from vecache.fleet.partitions import Partition, cut_partitions
from vecache.sharing.content_file import pack_contents
from vecache.sharing.content_folder import StoredContents
from vecache.sharing.content_table import ContentTable
from vecache.store.records import LayerRecord

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

BYTES_PER_ROW = 160  # as `fleet/overlap.py` and `fleet/partitions.py` say


@given(
    st.dictionaries(st.integers(0, 255), st.integers(1, 10_000), max_size=30),
    st.integers(1, 5_000),
)
def test_partitions_cover_each_row_once(rows: dict[int, int], max_rows: int) -> None:
    n_rows = np.zeros(256, np.int64)
    n_rows[list(rows)] = list(rows.values())
    parts = cut_partitions("file", n_rows, max_rows)
    edges = [edge for part in parts for edge in (part.first, part.stop)]
    assert edges == sorted(edges)
    covered = [number for part in parts for number in range(part.first, part.stop)]
    assert len(set(covered)) == len(covered)
    assert {256 * byte + second for byte in rows for second in range(256)} <= set(covered)
    for part in parts:
        whole = part.first % 256 == part.stop % 256 == 0
        if whole:
            assert n_rows[part.first // 256 : part.stop // 256].sum() <= max_rows
        else:  # evenly distributed, it has no more either, as long as there are enough parts
            share = rows[part.first // 256] * (part.stop - part.first) / 256
            assert share <= 2 * max_rows or part.stop - part.first == 1


def test_the_memory_of_a_task_is_bounded_by_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst case: sets of layers and of classes differ for each content."""
    n_layers, n_rows, n_classes = 60, 2_000, 100
    rng = np.random.default_rng(1)
    keys = rng.integers(0, 256, (n_layers * n_rows // 10, 32), dtype=np.uint8)
    none = np.zeros(0, np.int64)
    layers = []
    for number in range(n_layers):
        key = np.ascontiguousarray(keys[rng.choice(len(keys), n_rows, replace=False)])
        table = ContentTable.from_rows(key, np.full(n_rows, 1_000))
        path = tmp_path / str(number)
        empty = ContentTable(keys[:0].copy(), none, none)
        path.write_bytes(pack_contents(str(number), table, empty))
        layers.append(StoredContents(LayerRecord(str(number)), str(number), (str(path),)))
    class_no, layer = np.nonzero(rng.random((n_classes, n_layers)) < 0.1)
    job = _Job(
        layers=tuple(layers),
        most_contents=(len(keys), 0),
        most_bytes=(1_000 * len(keys), 0),
        class_bits=pack_bits(layer, class_no, n_layers, n_classes),
        class_sizes=np.ones(n_classes, np.int64),
        node_copies=np.bincount(layer, minlength=n_layers),
    )
    monkeypatch.setattr(class_sets, "_CELLS_PER_BLOCK", 1 << 16)
    tracemalloc.start()
    try:
        add_partition(job, Partition("file", 0, 65_536))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    fixed = 2 << 20  # blocks of sets, and what pairs of classes take
    assert peak <= BYTES_PER_ROW * n_layers * n_rows + fixed
    assert peak >= 60 * n_layers * n_rows  # or it was not traced
