"""Protects memory on large stores: pages of maps are released, and answers stay the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import GOLDEN_SMALL
from vecache.files import open_mapped, release_pages
from vecache.index import merge as merge_module
from vecache.index import tags as tags_module
from vecache.index.layers_cache import LayersCache
from vecache.index.tags import AddressView
from vecache.store.open import open_store

if TYPE_CHECKING:
    from vecache.arrays import I64


def look_up_everything() -> list[list[object]]:
    cache = LayersCache.load(open_store(GOLDEN_SMALL / "stores" / "dir"))
    tags = [layer.cache.packed[:, 7:] for layer in cache.layers if layer.cache.n_tags]
    hits = cache.lookup(np.ascontiguousarray(np.concatenate(tags)[::-1]))
    columns = (hits.layer, hits.tag, hits.state, hits.offset, hits.length)
    return [*(column.tolist() for column in columns), hits.paths().to_pylist()]


def test_a_store_read_in_blocks_gives_the_same_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_once = look_up_everything()
    monkeypatch.setattr(tags_module, "RESIDENT_BYTES", 4096)
    monkeypatch.setattr(merge_module, "RESIDENT_BYTES", 4096)
    assert look_up_everything() == at_once


@given(st.lists(st.integers(0, 99), max_size=20))
def test_blocks_hold_every_row_once(offsets: list[int]) -> None:
    view = AddressView.over([np.zeros(100, np.uint8)])
    view._is_large = True
    rows: list[I64] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tags_module, "RESIDENT_BYTES", 16)
        view.read_blocks(
            np.array(offsets, int), lambda block: rows.append(np.arange(len(offsets))[block]), 1
        )
    assert sorted(np.concatenate([np.empty(0, int), *rows]).tolist()) == list(range(len(offsets)))
    assert all(len({offsets[row] // 16 for row in block}) <= 1 for block in rows)


def resident_file_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("RssFile:"))
    return 1024 * int(line.split()[1])


def test_a_released_map_takes_no_memory_and_reads_the_same(tmp_path: Path) -> None:
    n_bytes = 16 << 20
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * (n_bytes // 256))
    with open_mapped(path) as (_, data, _):
        pass
    total = int(data.sum(dtype=np.int64))
    before = resident_file_bytes()
    release_pages(data[100:200])  # any view of it releases the whole map
    assert resident_file_bytes() <= before - n_bytes // 2
    assert int(data.sum(dtype=np.int64)) == total


def test_memory_that_is_not_mapped_stays_as_it_is() -> None:
    """The kernel would hand out zeros for it."""
    for data in (np.arange(2**20, dtype=np.uint8), np.frombuffer(b"abc" * 10**6, np.uint8)):
        before = data.copy()
        release_pages(data)
        assert (data == before).all()
