"""Protects that an index on disk changes no answer, whatever comes, goes or breaks."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle import pack_rows
from tests.stores import nobody, readable_folder
from tests.strategies import POOL, POOLS, as_text, cache_files
from vecache import files
from vecache.cache.reader import CacheFile
from vecache.digest import parse_digests
from vecache.index import disk, disk_folder
from vecache.index.disk import LAYER, open_run, run_bytes, write_run
from vecache.index.disk_folder import IndexFolder
from vecache.index.load import CachedLayer, CacheSource
from vecache.index.lookup import LayerIndex
from vecache.store.records import LayerRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from hypothesis.strategies import DataObject

QUERIES = parse_digests([as_text(query) for pool in POOLS.values() for query in pool])


class StoreOfLayers:
    """Cache files in a folder, and the index of them in another."""

    def __init__(self, folder: Path) -> None:
        self.root, self.index = folder / "store", folder / "cache" / "index"
        self.root.mkdir()
        self.folder = IndexFolder(self.index, self.root)

    def put(self, name: str, data: bytes) -> CachedLayer:
        """Write a cache file as Podman does, by renaming."""
        path = self.root / name
        (self.root / "new").write_bytes(data)
        os.rename(self.root / "new", path)
        return CachedLayer(LayerRecord(name), CacheFile.open(path), CacheSource.MAPPED)

    def files(self) -> list[Path]:
        return sorted(self.index.glob("*")) if self.index.is_dir() else []

    def check(self, layers: Sequence[CachedLayer], folder: IndexFolder | None = None) -> LayerIndex:
        """Open the index, compare its answers with those in memory, and return it."""
        index = (folder or self.folder).open(layers)
        check_answers(index, layers)
        return index


@pytest.fixture
def store(tmp_path: Path) -> StoreOfLayers:
    return StoreOfLayers(tmp_path)


@pytest.fixture(autouse=True)
def every_store_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_folder, "_LARGE_STORE_TAGS", 1)


@contextlib.contextmanager
def temporary_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreOfLayers]:
    """For one of many examples."""
    folder = tmp_path_factory.mktemp("disk")
    try:
        yield StoreOfLayers(folder)
    finally:
        shutil.rmtree(folder)


def check_answers(index: LayerIndex, layers: Sequence[CachedLayer]) -> None:
    wanted = LayerIndex.build([layer.cache for layer in layers])
    for found, expected in (
        (index.find_first(QUERIES), wanted.find_first(QUERIES)),
        (index.find_all(QUERIES), wanted.find_all(QUERIES)),
    ):
        assert [column.tolist() for column in found] == [column.tolist() for column in expected]
    for number, layer in enumerate(layers):
        assert index.is_sound[number] == wanted.is_sound[number] or not layer.cache.n_tags


def rows_of(numbers: Sequence[int]) -> bytes:
    return pack_rows([(POOL[number], b"name", 0, number) for number in numbers])


def are_mapped(index: LayerIndex) -> bool:
    return all(run.guard is not None for run in index.runs)


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
                cache = CacheFile.parse(content)
                layers.append(CachedLayer(LayerRecord(f"m-{number}"), cache, CacheSource.BUILT))
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


@given(st.lists(cache_files(), max_size=5))
def test_what_was_written_is_there_the_next_time(
    tmp_path_factory: pytest.TempPathFactory, datas: list[bytes]
) -> None:
    with temporary_store(tmp_path_factory) as store:
        layers = [store.put(f"layer-{number}", data) for number, data in enumerate(datas)]
        store.check(layers)
        files = [(path, path.read_bytes()) for path in store.files()]
        assert are_mapped(store.check(layers))
        assert [(path, path.read_bytes()) for path in store.files()] == files
        assert all(len(data) % 4096 == 0 for _, data in files)


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


@given(st.data())
def test_no_damage_changes_an_answer(
    tmp_path_factory: pytest.TempPathFactory, data: DataObject
) -> None:
    with temporary_store(tmp_path_factory) as store:
        contents = data.draw(st.lists(cache_files(), min_size=1, max_size=4))
        layers = [store.put("0", rows_of(range(24))), store.put("1", rows_of(range(0, 24, 2)))]
        store.check(layers)
        layers += [store.put(f"layer-{n}", content) for n, content in enumerate(contents)]
        store.check(layers)
        path = sorted(store.files(), key=lambda path: path.stat().st_size)[-1]
        damage(path, store, data)
        store.check(layers)
        # Where the damage was found in the middle of a look-up, the file is gone.
        assert are_mapped(store.check(layers))


def damage(path: Path, store: StoreOfLayers, data: DataObject) -> None:
    content = bytearray(path.read_bytes())
    kind = data.draw(st.sampled_from(["byte", "byte", "byte", "cut", "longer", "page", "swap"]))
    at = data.draw(st.integers(0, 2**20) | st.integers(0, 200)) % len(content)
    if kind == "byte":
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        del content[at:]
    elif kind == "longer":
        content += bytes(data.draw(st.sampled_from([1, 4096])))
    elif kind == "page":
        page = at // 4096 * 4096
        content[page : page + 4096] = content[-4096:]
    else:
        other = min(store.files(), key=lambda path: path.stat().st_size)
        one, two = path.read_bytes(), other.read_bytes()
        content = bytearray(two)
        other.write_bytes(one)
    path.unlink()  # a file that is mapped is never written
    path.write_bytes(content)


def test_damage_found_by_several_threads_at_once_changes_no_answer(store: StoreOfLayers) -> None:
    layers = [store.put("a", rows_of(range(24)))]
    store.check(layers)
    (path,) = store.files()
    content = bytearray(path.read_bytes())
    content[-4096] ^= 1
    path.write_bytes(content)
    index = store.folder.open(layers)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: check_answers(index, layers), range(16)))
    assert not store.files()


@pytest.mark.parametrize("field", ["magic", "version", "page_bytes", "store"])
def test_a_foreign_file_is_made_again(store: StoreOfLayers, field: str) -> None:
    layers = [store.put("a", rows_of(range(24)))]
    store.check(layers)
    (path,) = store.files()
    content = bytearray(path.read_bytes())
    head = np.frombuffer(content, disk._HEAD, 1)
    head[field] += 1
    end = disk._Layout(1, 24, int(head["bucket_bits"][0])).head_bytes
    head["checksum"] = xxhash.xxh3_64_intdigest(content[16:end])
    path.write_bytes(content)
    assert not store.folder.find_runs()
    assert are_mapped(store.check(layers))
    assert store.files() != [path]


def test_the_file_of_another_user_is_not_believed(
    store: StoreOfLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [store.put("a", rows_of(range(24)))]
    store.check(layers)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert not store.folder.find_runs()


def test_two_stores_do_not_share_an_index(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
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
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = StoreOfLayers(tmp_path / "one"), StoreOfLayers(tmp_path / "two")
    layers = [one.put("a", rows_of(range(24)))]
    n_bytes = run_bytes(1, 24)
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
    small = replace(store.folder, max_bytes=run_bytes(1, 24) - 1)
    assert not are_mapped(store.check(layers, small))
    with pytest.raises(OSError, match="more than the"):
        small.open(layers, always=True)
    assert not store.files()


def test_a_disk_that_is_nearly_full_is_left_alone(
    store: StoreOfLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [store.put("a", rows_of(range(24)))]
    free = shutil.disk_usage(store.root)._replace(free=2 * run_bytes(1, 24) - 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    assert not are_mapped(store.check(layers))
    assert not store.files()


@pytest.mark.parametrize("n_good", range(6))
def test_a_full_disk_leaves_no_file_and_the_right_answers(
    store: StoreOfLayers, monkeypatch: pytest.MonkeyPatch, n_good: int
) -> None:
    layers = [store.put("a", rows_of(range(24)))]
    store.check(layers)
    before = store.files()
    layers.append(store.put("b", rows_of(range(24))))

    class FullDisk:
        """A file that takes so many writes."""

        def __init__(self, file: BinaryIO) -> None:
            self._file, self._left = file, n_good

        def write(self, data: bytes) -> int:
            self._left -= 1
            if self._left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self._file.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    real = files.replace_file

    @contextlib.contextmanager
    def replace_file(*args: Any, **options: Any) -> Iterator[Any]:
        with real(*args, **options) as file:
            yield FullDisk(file)

    monkeypatch.setattr(disk, "replace_file", replace_file)
    index = store.check(layers)
    if n_good < 4:
        assert not are_mapped(index)
        assert store.files() == before
        with pytest.raises(OSError, match="No space left"):
            store.folder.open(layers, always=True)
    else:
        assert are_mapped(index)


def test_a_limit_on_file_sizes_leaves_no_file_and_the_right_answers(tmp_path: Path) -> None:
    """The kernel stops the write in the middle, as on a full disk."""
    StoreOfLayers(tmp_path)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            store = object.__new__(StoreOfLayers)
            store.root, store.index = tmp_path / "store", tmp_path / "cache" / "index"
            store.folder = IndexFolder(store.index, store.root)
            layers = [store.put("a", rows_of(range(24)))]
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
            assert not are_mapped(store.check(layers))
            assert not store.files()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


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
from tests.index import test_disk
from tests.index.test_disk import *
disk_folder._LARGE_STORE_TAGS = 1
store = object.__new__(StoreOfLayers)
store.root, store.index = Path(sys.argv[1]) / "store", Path(sys.argv[1]) / "cache" / "index"
store.folder = IndexFolder(store.index, store.root)
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


def test_a_mapped_run_takes_next_to_no_memory_of_its_own(store: StoreOfLayers) -> None:
    rng = np.random.default_rng(2)
    digests = [b"sha256:" + row.tobytes() for row in rng.integers(0, 256, (20_000, 32), np.uint8)]
    layers = [store.put("a", pack_rows([(digest, b"name", 0, 1) for digest in digests]))]
    index = store.check(layers)
    assert index.nbytes == 0
    (run,) = store.folder.find_runs()
    assert run.n_bytes <= 48 * 20_000 + 3 * 4096
    assert len(run.guard._is_verified) <= 0.013 * 20_000 + 3


def test_the_largest_inode_and_a_time_before_1970_have_their_place(store: StoreOfLayers) -> None:
    layer = store.put("a", rows_of(range(24)))
    assert layer.cache.state is not None
    layer.cache.state = layer.cache.state._replace(inode=2**64 - 1, device=2**63, mtime_ns=-1)
    assert are_mapped(store.check([layer]))
    assert are_mapped(store.check([layer]))
    assert len(store.files()) == 1


def test_a_run_without_tags_can_be_written_and_opened(tmp_path: Path) -> None:
    path = str(tmp_path / "run")
    write_run(path, 5, np.zeros(0, LAYER), [])
    run = open_run(path, 5).as_run(np.empty(0, np.int64))
    assert (len(run), run.find_prefixes(np.array([3], np.uint64)).tolist()) == (0, [-1])
