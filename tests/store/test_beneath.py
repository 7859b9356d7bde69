"""Nothing below a graph root is reached through a symbolic link, for reading or for writing.

Root may read, or write into, a store of another user, who can point any part of a path elsewhere.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.golden import GOLDEN_SMALL
from vecache.errors import StoreError, VecacheError
from vecache.files import open_beneath, read_bounded
from vecache.index.layers_cache import LayersCache
from vecache.store.bigdata import (
    CACHE_FILE_NAME,
    CACHE_KEY,
    TOC_KEY,
    big_data_file_name,
    read_big_data,
)
from vecache.store.lock import read_lock, write_lock
from vecache.store.open import open_store
from vecache.store.write import list_big_data, write_big_data

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.index.load import Build

NOT_FOLLOWED = "symbolic link in a store is not followed"


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def link_away(path: Path, elsewhere: Path) -> None:
    """Move a file or a folder, and let its name point there."""
    target = elsewhere / path.name
    shutil.move(path, target)
    path.symlink_to(target)


@pytest.mark.parametrize("part", ["layers", "layer", "item"])
def test_a_file_is_opened_beneath_its_folder_only(tmp_path: Path, part: str) -> None:
    path = tmp_path / "root" / "layers" / "layer" / "item"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"data")
    root = tmp_path / "root"
    assert read_bounded(path, 10, beneath=root) == b"data"
    (tmp_path / "link").symlink_to(root)  # the graph root itself may be one
    assert read_bounded(tmp_path / "link/layers/layer/item", 10, beneath=tmp_path / "link")
    (tmp_path / "away").mkdir()
    link_away(next(each for each in (path, *path.parents) if each.name == part), tmp_path / "away")
    assert read_bounded(path, 10) == b"data"
    with pytest.raises(OSError, match=NOT_FOLLOWED) as raised:
        read_bounded(path, 10, beneath=root)
    assert raised.value.filename == str(path)


def test_what_is_missing_or_no_folder_is_said_as_without_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, error in (("no/file", FileNotFoundError), ("file/in", NotADirectoryError)):
        with pytest.raises(error):
            open_beneath(tmp_path / name, os.O_RDONLY, beneath=tmp_path)
    n_open = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        open_beneath(tmp_path / "a/b/c", os.O_RDONLY, beneath=tmp_path)
    assert len(os.listdir("/proc/self/fd")) == n_open


# What is moved away and linked, and how a layer is then excluded. The last layer has no cache.
LINKS = {
    "cache": (f"{{layer}}/{CACHE_FILE_NAME}", 0),
    "TOC": (f"{{layer}}/{big_data_file_name(TOC_KEY)}", -1),
    "folder": ("{layer}", 0),
}


@pytest.mark.parametrize("case", LINKS)
def test_big_data_is_not_read_through_a_link(golden_copy: Path, tmp_path: Path, case: str) -> None:
    name, row = LINKS[case]
    layer = open_store(golden_copy).layers()[row]
    (tmp_path / "away").mkdir()
    link_away(golden_copy / "overlay-layers" / name.format(layer=layer.id), tmp_path / "away")
    key = TOC_KEY if case == "TOC" else CACHE_KEY
    with pytest.raises(StoreError, match=NOT_FOLLOWED):
        read_big_data(layer, key)
    cache = LayersCache.load(open_store(golden_copy))
    problems = [each.problem for each in cache.layers] + [each.reason for each in cache.excluded]
    assert sum(NOT_FOLLOWED in problem for problem in problems) == 1


@pytest.mark.parametrize("name", ["layers.json", "layers.lock", ""])
def test_records_and_locks_are_not_reached_through_a_link(
    golden_copy: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "away").mkdir()
    link_away(golden_copy / "overlay-layers" / name, tmp_path / "away")
    with pytest.raises(StoreError, match=NOT_FOLLOWED):
        open_store(golden_copy).layers()


@pytest.mark.parametrize("name", ["layers.lock", "layers.json", "layer"])
def test_nothing_is_written_through_a_link(golden_copy: Path, tmp_path: Path, name: str) -> None:
    """`layers.lock` was signed, and the item was written, wherever a link pointed."""
    store = open_store(golden_copy)
    layer = store.layers()[-1]
    away = tmp_path / "away"
    away.mkdir()
    path = golden_copy / "overlay-layers" / (layer.id if name == "layer" else name)
    link_away(path, away)
    before = files_of(tmp_path)
    with pytest.raises(StoreError, match=NOT_FOLLOWED):
        write_big_data(store, layer, CACHE_KEY, b"x")
    with pytest.raises(StoreError, match=NOT_FOLLOWED):
        list_big_data(store, layer, CACHE_KEY)
    assert files_of(tmp_path) == before
    # A load that would build it excludes the layer, or is refused as a whole.
    try:
        cache = LayersCache.load(open_store(golden_copy), build="store")
        reasons = [each.reason for each in cache.excluded]
    except VecacheError as error:
        reasons = [str(error)]
    assert any(NOT_FOLLOWED in reason for reason in reasons)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("lock", [read_lock, write_lock])
def test_a_lock_that_is_no_regular_file_is_refused_or_none(tmp_path: Path, lock: object) -> None:
    (tmp_path / "overlay-layers").mkdir()
    path = tmp_path / "overlay-layers" / "layers.lock"
    os.mkfifo(path)
    if lock is read_lock:
        with read_lock(path, beneath=tmp_path):
            pass  # opened without waiting for a writer
        return
    with pytest.raises(StoreError, match="not a regular file"), write_lock(path, beneath=tmp_path):
        pass


def test_leftovers_of_a_kill_are_removed_by_the_next_writer(golden_copy: Path) -> None:
    store = open_store(golden_copy)
    layer = store.layers()[-1]
    layers = golden_copy / "overlay-layers"
    left = [layers / ".tmp-vecache-0123", layers / layer.id / ".tmp-vecache-4567"]
    others = [layers / ".tmp-layers.json1", layers / layer.id / ".tmp-item2"]  # Podman's
    for path in (*left, *others):
        path.write_bytes(b"part")
    write_big_data(store, layer, CACHE_KEY, b"x")
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)


def test_an_item_that_a_crash_left_unlisted_is_listed_the_next_time(golden_copy: Path) -> None:
    record = open_store(golden_copy).layers()[-1]
    expected = GOLDEN_SMALL / "expected" / f"dir-{record.id[:12]}.cache"
    shutil.copy(expected, record.big_data_path(CACHE_KEY))
    assert CACHE_KEY not in record.big_data_names
    builds: tuple[tuple[Build, bool], ...] = (("memory", False), ("never", False), ("store", True))
    for build, is_listed in builds:
        cache = LayersCache.load(open_store(golden_copy), build=build)
        assert cache.layers[-1].id == record.id
        names = open_store(golden_copy).layers()[-1].big_data_names
        assert (CACHE_KEY in names) == is_listed
    assert record.big_data_path(CACHE_KEY).read_bytes() == expected.read_bytes()


def test_a_toc_over_the_limit_is_not_read(golden_copy: Path) -> None:
    """A sparse one of 1 GiB took 1 GiB of memory before its size was looked at."""
    record = open_store(golden_copy).layers()[-1]
    os.truncate(record.big_data_path(TOC_KEY), 1 << 30)
    with pytest.raises(StoreError, match="more than the 157,286,400 allowed"):
        read_big_data(record, TOC_KEY)
    (excluded,) = LayersCache.load(open_store(golden_copy)).excluded
    assert "more than the 157,286,400 allowed" in excluded.reason
