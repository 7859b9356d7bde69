"""A file of contents gives the tables it was made of, part by part; a damaged one is made again."""

from __future__ import annotations

import io
import os
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import golden_toc, layer_ids
from tests.sharing.strategies import TOCS
from tests.stores import copy_store, toc_path
from vecache.errors import FormatError, TocError
from vecache.sharing.content_file import ContentFile, pack_contents
from vecache.sharing.content_folder import StoredContents, use_contents
from vecache.sharing.content_table import ContentTable
from vecache.sharing.contents import GRAINS
from vecache.sharing.sources import content_tables
from vecache.store.open import open_store
from vecache.toc.parse import Toc

if TYPE_CHECKING:
    from pathlib import Path

NAME = "ab" * 32


def packed(toc: bytes) -> bytes:
    return pack_contents(NAME, *content_tables(Toc.parse(toc).entries))


def opened(data: bytes, name: str = NAME) -> ContentFile:
    return ContentFile(io.BytesIO(data), len(data), name)


def same(one: ContentTable, other: ContentTable) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("key", "size", "n_copies")
    )


@given(TOCS, st.lists(st.integers(0, 256), max_size=3))
def test_parts_are_the_rows_whose_keys_begin_with_some_bytes(toc: bytes, cuts: list[int]) -> None:
    tables = content_tables(Toc.parse(toc).entries)
    file = opened(packed(toc))
    assert file.n_bytes.tolist() == [table.n_bytes for table in tables]
    assert file.logical_bytes.tolist() == [table.logical_bytes for table in tables]
    edges = sorted({0, 256, *cuts})
    for number, (grain, table) in enumerate(zip(GRAINS, tables, strict=True)):
        assert file.n_rows[number].tolist() == np.bincount(table.key[:, 0], minlength=256).tolist()
        assert same(file.read(grain), table)
        parts = [file.read(grain, *each) for each in pairwise(edges)]
        assert np.concatenate([part.key for part in parts]).tolist() == table.key.tolist()
        for first, stop in pairwise(edges):
            begins = file.read(grain, first, stop).key[:, 0]
            assert ((begins >= first) & (begins < stop)).all()


def test_any_changed_byte_is_found() -> None:
    data = packed(golden_toc("dir", layer_ids("dir")[1]))
    rng = np.random.default_rng(1)
    for offset in [*range(0, 100, 3), *rng.integers(0, len(data), 300).tolist()]:
        broken = bytearray(data)
        broken[offset] ^= 0x10
        with pytest.raises(FormatError):
            read_all(opened(bytes(broken)))
    for n_bytes in (0, 7, 8_263, 8_264, len(data) - 1):
        with pytest.raises(FormatError):
            read_all(opened(data[:n_bytes]))
    with pytest.raises(FormatError, match="found a file of"):
        opened(data + b"\0")
    with pytest.raises(FormatError, match="another name"):
        opened(data, "another")


@pytest.mark.parametrize(
    ("column", "value"), [(32, -1), (32, 0), (32, 2**62), (40, 0), (40, 2**62)]
)
def test_forged_sizes_are_refused_though_the_checksums_fit(column: int, value: int) -> None:
    table, _ = content_tables(Toc.parse(golden_toc("dir", layer_ids("dir")[1])).entries)
    size, n_copies = table.size.copy(), table.n_copies.copy()
    sound = pack_contents(NAME, table, table)
    (size if column == 32 else n_copies)[3] = value
    forged = bytearray(pack_contents(NAME, ContentTable(table.key, size, n_copies), table))
    forged[40:56] = sound[40:56]  # what the header says of all files together
    forged[8:24] = xxhash.xxh3_128_digest(bytes(forged[24:8_264]))
    file = opened(bytes(forged))
    with pytest.raises(FormatError, match="out of range"):
        file.read("file")
    file.read("chunk")


def test_a_part_is_read_though_another_is_damaged() -> None:
    data = bytearray(packed(golden_toc("dir", layer_ids("dir")[1])))
    data[-1] ^= 1  # of the last chunk
    file = opened(bytes(data))
    file.read("file")
    file.read("chunk", 0, 128)
    with pytest.raises(FormatError, match="checksum of rows"):
        file.read("chunk", 128)


def read_all(file: ContentFile) -> list[ContentTable]:
    return [file.read(grain) for grain in GRAINS]


class Layer:
    """A layer of a store that a test may change, and two folders for the file of its contents."""

    def __init__(self, folder: Path) -> None:
        self.root = copy_store("dir", folder)
        self.id = layer_ids("dir")[1]
        record = next(each for each in open_store(self.root).layers() if each.id == self.id)
        self.path, self.second = folder / "first" / "contents" / NAME, folder / "second" / NAME
        self.stored = StoredContents(record, NAME, (str(self.path), str(self.second)))

    def read(self) -> list[ContentTable]:
        return use_contents(self.stored, read_all)


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    return Layer(tmp_path)


def test_the_file_is_derived_once(layer: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    first = layer.read()
    expected = golden_toc("dir", layer.id)
    assert layer.path.read_bytes() == packed(expected)
    toc_path(layer.root, layer.id).unlink()  # nothing but the file is read from now on
    assert all(map(same, layer.read(), first))
    assert sorted(layer.path.parent.iterdir()) == [layer.path]


@pytest.mark.parametrize("offset", [0, 30, 50, 100, 5_000, 8_264, -1])
def test_a_damaged_file_is_derived_again(layer: Layer, offset: int) -> None:
    first = layer.read()
    sound = layer.path.read_bytes()
    broken = bytearray(sound)
    broken[offset] ^= 1
    for data in (bytes(broken), sound[:-1], sound[:100], b"", b"x" * len(sound)):
        layer.path.write_bytes(data)
        assert all(map(same, layer.read(), first))
        assert layer.path.read_bytes() == sound


def test_what_cannot_be_written_is_derived_each_time(layer: Layer) -> None:
    first = layer.read()
    layer.path.unlink()
    layer.path.mkdir()  # no file can have this name
    assert all(map(same, layer.read(), first))
    second = layer.second
    assert second.read_bytes() == packed(golden_toc("dir", layer.id))
    second.unlink()
    os.mkfifo(second)  # replaced; and never waited for
    assert all(map(same, layer.read(), first))
    assert second.is_file()
    second.unlink()
    second.mkdir()
    assert all(map(same, layer.read(), first))


def test_a_broken_toc_is_an_error_only_without_a_file(layer: Layer) -> None:
    layer.read()
    toc_path(layer.root, layer.id).write_text("{")
    layer.read()
    layer.path.unlink()
    with pytest.raises(TocError):
        layer.read()


def test_a_linked_folder_is_not_written(layer: Layer, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    layer.path.parent.parent.mkdir()
    layer.path.parent.symlink_to(tmp_path / "elsewhere")
    layer.read()
    assert not list((tmp_path / "elsewhere").iterdir())
    assert layer.second.is_file()
