"""Protects that damage of an index on disk, and a write that fails, change no answer."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from tests.index.disk_store import (
    QUERIES,
    StoreOfLayers,
    are_mapped,
    check_answers,
    rows_of,
    temporary_store,
)
from tests.oracle import pack_rows
from tests.strategies import POOL, cache_files
from vecache import atomic
from vecache.index import disk_folder, disk_write, lookup
from vecache.index.disk import HEAD, LAYER, SUMMED_FROM, RunLayout, open_run
from vecache.index.disk_write import write_run
from vecache.index.location_table import LOCATION_ROW
from vecache.index.run import build_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from hypothesis.strategies import DataObject

    from vecache.index.run import Run


@pytest.fixture
def store(tmp_path: Path) -> StoreOfLayers:
    return StoreOfLayers(tmp_path)


@pytest.fixture(autouse=True)
def every_store_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_folder, "_LARGE_STORE_TAGS", 1)


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


def test_a_row_that_ends_in_a_damaged_page_is_not_believed(store: StoreOfLayers) -> None:
    rng = np.random.default_rng(4)
    digests = [b"sha256:" + row.tobytes() for row in rng.integers(0, 256, (400, 32), np.uint8)]
    layers = [store.put("a", pack_rows([(digest, b"name", 5, 7) for digest in digests]))]
    store.check(layers)
    (run,) = store.folder.find_runs()
    damaged = bytearray(Path(run.path).read_bytes())
    damaged[RunLayout.of_layers(run.layers).offset("locations") + 4096] ^= 1
    Path(run.path).unlink()
    Path(run.path).write_bytes(damaged)
    row = 4096 // LOCATION_ROW.itemsize
    assert 4096 % LOCATION_ROW.itemsize
    index = store.folder.open(layers)
    located = index.tags.locate(np.array([0]), np.array([row]))
    assert (located.offset.tolist(), located.length.tolist()) == ([5], [7])
    assert not store.files()


def test_damage_found_by_two_threads_at_once_changes_no_answer(
    store: StoreOfLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [store.put("a", rows_of(range(24)))]
    store.check(layers)
    (run,) = store.folder.find_runs()
    damaged = bytearray(Path(run.path).read_bytes())
    damaged[RunLayout.of_layers(run.layers).offset("rows")] ^= 1
    Path(run.path).write_bytes(damaged)
    index = store.folder.open(layers)
    both_are_here = Barrier(2)

    def build(*arguments: Any) -> Run:
        both_are_here.wait(timeout=60)
        return build_run(*arguments)

    with ThreadPoolExecutor(2) as pool, monkeypatch.context() as patch:
        patch.setattr(lookup, "build_run", build)
        list(pool.map(index.find_all, [QUERIES] * 2))
    assert len(index.runs) == 1
    check_answers(index, layers)
    runs = index.runs
    index._rebuild_mapped()  # a third one finds that there is nothing to do
    assert index.runs == runs
    assert not store.files()


@pytest.mark.parametrize("field", ["magic", "version", "page_bytes", "store"])
def test_a_foreign_file_is_made_again(store: StoreOfLayers, field: str) -> None:
    layers = [store.put("a", rows_of(range(24)))]
    store.check(layers)
    (path,) = store.files()
    content = np.fromfile(path, np.uint8)
    head = content[: HEAD.itemsize].view(HEAD)
    head[field] += 1
    end = RunLayout.of_layers(store.folder.find_runs()[0].layers).head_bytes
    head["checksum"] = xxhash.xxh3_64_intdigest(content[SUMMED_FROM:end].tobytes())
    path.unlink()
    content.tofile(path)
    assert not store.folder.find_runs()
    assert are_mapped(store.check(layers))
    assert store.files() != [path]


def test_no_byte_of_the_head_can_change(store: StoreOfLayers) -> None:
    """A layer that is called sound but is not would be searched in the wrong way."""
    out_of_order = [(POOL[number], b"name", 0, number) for number in (1, 2, 3)]
    unsound = pack_rows(out_of_order, is_sorted=False)
    store.check([store.put("a", rows_of(range(24))), store.put("b", unsound)])
    (run,) = store.folder.find_runs()
    path, layout = Path(run.path), RunLayout.of_layers(run.layers)
    content = path.read_bytes()
    for at in range(layout.head_bytes):
        path.unlink()
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert not store.folder.find_runs(), at


def test_the_file_of_another_user_is_not_believed(
    store: StoreOfLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [store.put("a", rows_of(range(24)))]
    store.check(layers)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert not store.folder.find_runs()


@pytest.mark.parametrize("n_good", range(8))
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

    real = atomic.replace_file

    @contextlib.contextmanager
    def replace_file(*args: Any, **options: Any) -> Iterator[Any]:
        with real(*args, **options) as file:
            yield FullDisk(file)

    monkeypatch.setattr(disk_write, "replace_file", replace_file)
    index = store.check(layers)
    if n_good < 6:
        assert not are_mapped(index)
        assert store.files() == before
        with pytest.raises(OSError, match="No space left"):
            store.folder.open(layers, always=True)
    else:
        assert are_mapped(index)


def test_a_limit_on_file_sizes_leaves_no_file_and_the_right_answers(tmp_path: Path) -> None:
    """The kernel stops the write in the middle, as on a full disk."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            store = StoreOfLayers(tmp_path)
            layers = [store.put("a", rows_of(range(24)))]
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
            assert not are_mapped(store.check(layers))
            assert not store.files()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_mapped_run_takes_next_to_no_memory_of_its_own(store: StoreOfLayers) -> None:
    rng = np.random.default_rng(2)
    digests = [b"sha256:" + row.tobytes() for row in rng.integers(0, 256, (20_000, 32), np.uint8)]
    layers = [store.put("a", pack_rows([(digest, b"name", 0, 1) for digest in digests]))]
    index = store.check(layers)
    assert index.nbytes == 0
    (run,) = store.folder.find_runs()
    assert run.n_bytes <= 72 * 20_000 + 5 * 4096
    assert len(run.guard._is_verified) <= 0.018 * 20_000 + 4


def test_a_run_without_tags_can_be_written_and_opened(tmp_path: Path) -> None:
    path = str(tmp_path / "run")
    write_run(path, 5, np.zeros(0, LAYER), [])
    run = open_run(path, 5).as_run(np.empty(0, np.int64))
    assert (len(run), run.find_prefixes(np.array([3], np.uint64)).tolist()) == (0, [-1])
