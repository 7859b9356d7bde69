"""Protects locations that are read from a table: they are those of the files."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import golden_cache, layer_ids
from tests.oracle import pack_rows
from tests.strategies import POOL, cache_files
from vecache.cache.locations import Locations
from vecache.cache.reader import CacheFile
from vecache.errors import IndexDamagedError
from vecache.index import location_table
from vecache.index.location_table import LOCATION_ROW, LocationTable, pack_location_rows
from vecache.index.tags import LayerTags


def make_table(files: list[CacheFile], in_table: list[bool]) -> LocationTable:
    rows = [
        pack_location_rows(file) if take else None
        for file, take in zip(files, in_table, strict=True)
    ]
    start, n_rows = [], 0
    for part in rows:
        start.append(-1 if part is None else n_rows)
        n_rows += 0 if part is None else len(part)
    table = np.concatenate(
        [np.empty(0, LOCATION_ROW), *(part for part in rows if part is not None)]
    )
    return LocationTable(table, np.array(start, np.int64))


def equal(found: Locations, wanted: Locations) -> bool:
    names = [field.name for field in fields(Locations)]
    return all((getattr(found, name) == getattr(wanted, name)).all() for name in names)


class Guard:
    """Refuses to let a column be read, or only counts that it was asked."""

    def __init__(self, *, is_damaged: bool) -> None:
        self.is_damaged, self.n_rows, self.n_released = is_damaged, 0, 0

    def check(self, column: str, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        assert column == "locations"
        self.n_rows += len(rows)
        if self.is_damaged:
            raise IndexDamagedError("damaged")

    def release(self) -> None:
        self.n_released += 1


@given(st.data())
def test_a_table_has_the_locations_of_the_files(data: st.DataObject) -> None:
    files = [CacheFile.parse(file) for file in data.draw(st.lists(cache_files(), max_size=5))]
    in_table = data.draw(st.lists(st.booleans(), min_size=len(files), max_size=len(files)))
    addresses = [(layer, tag) for layer, file in enumerate(files) for tag in range(file.n_tags)]
    picked = data.draw(st.lists(st.sampled_from(addresses), max_size=30)) if addresses else []
    layer_no, tag_row = np.array(picked, np.int64).reshape(-1, 2).T
    wanted = LayerTags.of_files(files).locate(layer_no, tag_row)
    table = make_table(files, in_table)
    assert equal(LayerTags.of_files(files, [table]).locate(layer_no, tag_row), wanted)
    if files:  # the last layer is appended, and in no table
        tags = LayerTags.of_files(files[:-1], [make_table(files[:-1], in_table[:-1])])
        assert equal(tags.append(files[-1]).locate(layer_no, tag_row), wanted)


@given(st.lists(cache_files(), min_size=1, max_size=4), st.booleans())
def test_a_damaged_table_is_not_believed(datas: list[bytes], is_long: bool) -> None:
    files = [CacheFile.parse(data) for data in datas]
    addresses = [(layer, tag) for layer, file in enumerate(files) for tag in range(file.n_tags)]
    layer_no, tag_row = np.array(addresses, np.int64).reshape(-1, 2).T[:, ::-1]
    wanted = LayerTags.of_files(files).locate(layer_no, tag_row)
    sound = make_table(files, [True] * len(files))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(location_table, "MAPPED_BYTES", 0 if is_long else 10**6)
        for is_damaged in (False, True):
            guard = Guard(is_damaged=is_damaged)
            rows = np.zeros_like(sound.rows) if is_damaged else sound.rows
            tags = LayerTags.of_files(files, [LocationTable(rows, sound.start, guard)])
            assert equal(tags.locate(layer_no, tag_row), wanted)
            assert guard.n_rows == len(addresses)
            assert (guard.n_released > 0) == (is_long and bool(addresses) and not is_damaged)
            assert equal(tags.locate(layer_no, tag_row), wanted)


def test_tables_that_another_thread_drops_meanwhile_change_no_answer() -> None:
    files = [CacheFile.parse(pack_rows([(POOL[n], b"name", n, 1) for n in range(24)]))] * 2

    class Dropping(Guard):
        def check(self, column: str, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
            super().check(column, rows)
            tags._tables = ()

    table = make_table(files, [True, False])
    tags = LayerTags.of_files(
        files, [LocationTable(table.rows, table.start, Dropping(is_damaged=False))]
    )
    layer_no, tag_row = np.array([0, 1, 1, 0]), np.array([3, 4, 5, 6])
    wanted = LayerTags.of_files(files).locate(layer_no, tag_row)
    assert equal(tags.locate(layer_no, tag_row), wanted)


def test_locations_that_are_asked_for_often_are_kept_and_stay_the_same() -> None:
    files = [CacheFile.parse(golden_cache("dir", layer)) for layer in layer_ids("dir")]
    addresses = [(layer, tag) for layer, file in enumerate(files) for tag in range(file.n_tags)]
    layer_no, tag_row = np.array(addresses, np.int64).T
    tags = LayerTags.of_files(files)
    wanted = tags.locate(layer_no, tag_row)
    assert not tags._tables
    tags.locate(layer_no[:1], tag_row[:1])
    assert equal(tags.locate(layer_no, tag_row), wanted)
    assert len(tags._tables[0].rows) == len(addresses)
    longer = tags.append(files[0])
    last = np.full(len(addresses), len(files))
    assert equal(longer.locate(last[:3], tag_row[:3]), tags.locate(layer_no[:3], tag_row[:3]))
    assert equal(longer.locate(layer_no, tag_row), wanted)
