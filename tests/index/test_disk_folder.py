"""Protects the answers of an index on disk, whatever comes, goes and runs at once."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.index.disk_store import (
    StoreOfLayers,
    are_mapped,
    check_answers,
    rows_of,
    run_bytes,
    temporary_store,
)
from tests.stores import nobody, readable_folder
from tests.strategies import cache_files
from vecache.cache.reader import CacheFile
from vecache.index import disk_folder, location_table, lookup, run
from vecache.index.disk_folder import IndexFolder
from vecache.index.disk_write import write_run
from vecache.index.load import CachedLayer, CacheSource
from vecache.store.records import LayerRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DataObject


@pytest.fixture
def store(tmp_path: Path) -> StoreOfLayers:
    return StoreOfLayers(tmp_path)


@pytest.fixture(autouse=True)
def every_store_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_folder, "_LARGE_STORE_TAGS", 1)


def in_memory(name: str, content: bytes) -> CachedLayer:
    return CachedLayer(LayerRecord(name), CacheFile.parse(content), CacheSource.BUILT)


STEPS = st.sampled_from(["add", "add", "add", "insert", "remove", "replace", "swap", "in memory"])


@given(st.data())
def test_layers_that_come_go_and_change_give_the_answers_of_memory(
    tmp_path_factory: pytest.TempPathFactory, data: DataObject
) -> None:
    with temporary_store(tmp_path_factory) as store:
        layers: list[CachedLayer] = []
        for number in range(data.draw(st.integers(1, 12))):
            step = data.draw(STEPS)
            at = data.draw(st.integers(0, max(len(layers) - 1, 0)))
            content = data.draw(cache_files() | cache_files(sound=True))
            if step in ("add", "insert"):
                at = len(layers) if step == "add" else at
                layers.insert(at, store.put(f"layer-{number}", content))
            elif step == "in memory":
                layers.append(in_memory(f"memory-{number}", content))
            elif step == "remove" and layers:
                del layers[at]
            elif step == "replace" and layers:
                layers[at] = store.put(layers[at].id, content)
            elif layers:
                layers.append(layers.pop(at))
            if data.draw(st.booleans()):
                index = store.check(layers)
                assert are_mapped(index)
                assert len(index.runs) == len(store.files())
        part = IndexFolder(store.index, store.root, is_read_only=True)
        before = store.files()
        store.check(layers[::2], part)
        assert store.files() == before
        store.check(layers)


def test_a_small_store_is_not_written_unasked(
    store: StoreOfLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_folder, "_LARGE_STORE_TAGS", 100)
    layers = [store.put("a", rows_of([1, 2]))]
    assert not are_mapped(store.check(layers))
    assert not store.files()
    check_answers(store.folder.open(layers, always=True), layers)
    assert len(store.files()) == 1
    layers.append(store.put("b", rows_of([3])))
    assert are_mapped(store.check(layers))  # once there, it is kept up to date
    assert len(store.folder.find_runs()) == 1


def test_runs_stay_few_and_each_tag_is_written_a_few_times(
    store: StoreOfLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write(path: str, key: int, table: Any, caches: Sequence[CacheFile]) -> None:
        written.append(len(caches))
        write_run(path, key, table, caches)

    monkeypatch.setattr(disk_folder, "write_run", write)
    layers = []
    for number in range(64):
        layers.append(store.put(f"layer-{number}", rows_of([number % 24])))
        index = store.folder.open(layers)
        assert len(index.runs) == len(store.files()) <= 6
    check_answers(index, layers)
    assert sum(written) <= 64 * 6


def test_a_run_is_made_anew_when_half_of_it_is_masked(store: StoreOfLayers) -> None:
    layers = [store.put(f"layer-{number}", rows_of([number])) for number in range(8)]
    store.check(layers)
    (before,) = store.files()
    store.check(layers[4:])
    assert store.files() == [before]
    store.check(layers[5:])
    (after,) = store.folder.find_runs()
    assert len(after.layers) == 3
    store.check([])
    assert store.files() == []


def test_a_reader_of_an_old_file_goes_on(store: StoreOfLayers) -> None:
    layers = [store.put("a", rows_of(range(10)))]
    old = store.folder.open(layers)
    before = store.files()
    more = [*layers, store.put("b", rows_of(range(10, 24)))]
    store.check(more)
    assert not set(before) & set(store.files())
    check_answers(old, layers)


def test_two_stores_do_not_share_an_index(tmp_path: Path) -> None:
    one, two = StoreOfLayers(tmp_path / "one"), StoreOfLayers(tmp_path / "two")
    other = IndexFolder(one.index, two.root)
    layers, others = [one.put("a", rows_of(range(9)))], [two.put("a", rows_of(range(5, 24)))]
    one.check(layers)
    two.check(others, other)
    assert len(one.files()) == 2
    assert are_mapped(one.check(layers))
    assert other.remove() == 1
    assert len(one.files()) == 1


def test_a_store_that_was_made_again_at_the_same_path_is_another(store: StoreOfLayers) -> None:
    key = store.folder.key
    store.root.rename(store.root.with_name("old"))
    store.root.mkdir()
    assert store.folder.key != key


def test_the_folder_is_bounded_and_the_least_recently_used_index_goes(tmp_path: Path) -> None:
    one, two = StoreOfLayers(tmp_path / "one"), StoreOfLayers(tmp_path / "two")
    layers = [one.put("a", rows_of(range(24)))]
    n_bytes = run_bytes(24)
    one.check(layers, replace(one.folder, max_bytes=n_bytes))
    (old,) = one.files()
    os.utime(old, (1, 1))
    two.check([two.put("a", rows_of(range(24)))], IndexFolder(one.index, two.root, n_bytes))
    assert len(one.files()) == 1
    assert not old.exists()


def test_an_index_that_is_larger_than_the_folder_may_be_is_not_written(
    store: StoreOfLayers,
) -> None:
    layers = [store.put("a", rows_of(range(24)))]
    small = replace(store.folder, max_bytes=run_bytes(24) - 1)
    assert not are_mapped(store.check(layers, small))
    with pytest.raises(OSError, match="more than the"):
        small.open(layers, always=True)
    assert not store.files()


def test_a_disk_that_is_nearly_full_is_left_alone(
    store: StoreOfLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [store.put("a", rows_of(range(24)))]
    free = shutil.disk_usage(store.root)._replace(free=2 * run_bytes(24) - 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    assert not are_mapped(store.check(layers))
    assert not store.files()


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_what_is_no_folder_leaves_the_answers_to_memory(store: StoreOfLayers, kind: str) -> None:
    store.index.parent.mkdir()
    if kind == "file":
        store.index.write_bytes(b"not a folder")
    else:
        store.index.symlink_to("nowhere")
    layers = [store.put("a", rows_of(range(24)))]
    assert not are_mapped(store.check(layers))
    with pytest.raises(OSError):  # noqa: PT011 - several, and their texts are the system's
        store.folder.open(layers, always=True)


def test_a_folder_of_another_user_leaves_the_answers_to_memory() -> None:
    with readable_folder() as folder:
        store = StoreOfLayers(folder)
        layers = [store.put("a", rows_of(range(24)))]
        store.index.mkdir(parents=True)
        os.chmod(store.index, 0o555)
        with nobody():
            assert not are_mapped(store.check(layers))
            with pytest.raises(PermissionError):
                store.folder.open(layers, always=True)
        store.check(layers)
        assert len(store.files()) == (os.geteuid() == 0)


def test_a_link_in_the_folder_is_not_followed_for_writing(
    store: StoreOfLayers, tmp_path: Path
) -> None:
    layers = [store.put("a", rows_of(range(24)))]
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    store.index.mkdir(parents=True)
    (store.index / f"{store.folder._prefix}0123456789abcdef").symlink_to(victim)
    (store.index / "lock").symlink_to(tmp_path / "made")
    assert are_mapped(store.check(layers))
    assert victim.read_bytes() == b"mine"
    assert not (tmp_path / "made").exists()


def test_a_fifo_in_the_folder_does_not_stop_anything(store: StoreOfLayers) -> None:
    layers = [store.put("a", rows_of(range(24)))]
    store.index.mkdir(parents=True)
    os.mkfifo(store.index / f"{store.folder._prefix}fifo")
    assert are_mapped(store.check(layers))


def test_a_writer_that_never_ends_is_not_waited_for_forever(
    store: StoreOfLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_folder, "_LOCK_WAIT_SECONDS", 0.05)
    layers = [store.put("a", rows_of(range(24)))]
    store.index.mkdir(parents=True)
    with disk_folder._lock(store.index):
        assert not are_mapped(store.check(layers))
        with pytest.raises(TimeoutError, match="still writing"):
            store.folder.open(layers, always=True)
    assert are_mapped(store.check(layers))


PROGRAM = """
import sys
from pathlib import Path
from tests.index.disk_store import *
from vecache.index import disk_folder, location_table, lookup, run
disk_folder._LARGE_STORE_TAGS = 1
store = StoreOfLayers(Path(sys.argv[1]))
layers = [
    CachedLayer(LayerRecord(path.name), CacheFile.open(path), CacheSource.MAPPED)
    for path in sorted(store.root.iterdir())
]
for _ in range(int(sys.argv[2])):
    index = store.check(layers)
    if sys.argv[3] == "leave":
        assert are_mapped(index)
    else:
        for path in store.files():
            path.unlink(missing_ok=True)
"""


def start(store: StoreOfLayers, n_times: int, then: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", PROGRAM, str(store.root.parent), str(n_times), then]
    return subprocess.Popen(argv, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE)


def test_processes_that_write_at_once_leave_one_good_file(store: StoreOfLayers) -> None:
    layers = [store.put(f"layer-{n}", rows_of(range(n % 20, 24))) for n in range(30)]
    for process in [start(store, 1, "leave") for _ in range(4)]:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    assert len(store.files()) == 1
    assert are_mapped(store.check(layers))


def test_a_process_that_removes_what_another_writes_changes_no_answer(
    store: StoreOfLayers,
) -> None:
    for number in range(8):
        store.put(f"layer-{number}", rows_of(range(number, 24)))
    processes = [start(store, 30, "remove"), start(store, 30, "remove")]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()


def test_a_process_that_is_killed_while_it_writes_leaves_no_broken_file(
    store: StoreOfLayers,
) -> None:
    layers = [store.put(f"layer-{n}", rows_of(range(n % 20, 24))) for n in range(200)]
    rng = random.Random(3)
    for _ in range(3):
        process = start(store, 1_000, "remove")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1 + rng.random())
        process.kill()
        process.communicate()
        assert are_mapped(store.check(layers))


def test_the_largest_inode_and_a_time_before_1970_have_their_place(store: StoreOfLayers) -> None:
    layer = store.put("a", rows_of(range(24)))
    assert layer.cache.state is not None
    layer.cache.state = layer.cache.state._replace(inode=2**64 - 1, device=2**63, mtime_ns=-1)
    assert are_mapped(store.check([layer]))
    assert are_mapped(store.check([layer]))
    assert len(store.files()) == 1


def test_a_record_may_hold_text_that_is_no_utf_8(store: StoreOfLayers) -> None:
    layer = store.put("a", rows_of(range(24)))
    strange = replace(layer, record=replace(layer.record, toc_digest="\ud800"))
    assert are_mapped(store.check([strange]))
    before = store.files()
    store.check([layer])
    assert store.files() != before


def test_bytes_in_memory_are_told_apart_by_what_they_are(store: StoreOfLayers) -> None:
    store.check([in_memory("layer", rows_of([1, 2, 3]))])
    before = store.files()
    assert len(before) == 1
    store.check([in_memory("layer", rows_of([1, 2, 3]))])
    assert store.files() == before
    store.check([in_memory("layer", rows_of([4, 5, 6]))])
    assert store.files() != before


@given(st.lists(cache_files() | cache_files(sound=True), max_size=5), st.integers(1, 1 << 14))
def test_a_run_that_is_read_in_blocks_gives_the_same_answers(
    tmp_path_factory: pytest.TempPathFactory, datas: list[bytes], n_bytes: int
) -> None:
    with temporary_store(tmp_path_factory) as store, pytest.MonkeyPatch.context() as patch:
        for module in (location_table, lookup, run):
            patch.setattr(module, "MAPPED_BYTES", n_bytes)
        layers = [store.put(f"layer-{number}", data) for number, data in enumerate(datas)]
        assert are_mapped(store.check(layers))
