"""Writing never loses or breaks anything that Podman relies on, and writes all or nothing."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecache.errors import LayerNotFoundError, StoreError
from vecache.store.bigdata import CACHE_KEY, read_big_data
from vecache.store.open import open_store
from vecache.store.write import insert_key, write_big_data

if TYPE_CHECKING:
    from pathlib import Path

    from tests.store.conftest import MakeStore

A, B = "a" * 64, "b" * 64
# Numbers, order, spaces and unknown fields as no JSON writer would write them again.
ODD = (
    f'[ {{"id":"{A}", "big-data-names":[ "x" ] ,"zz":1.50, "n":12345678901234567890123,\n'
    ' "e":1E+2,"s":"\\u00e9\\/ é","created":"2026-11-24T02:55:49.5570152Z","a":{"b":[]}},\n'
    f'\t{{"uidset":[0],"id":"{B}"}}\n]\n'
)


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_a_new_item_is_listed_signed_and_nothing_else_changes(golden_copy: Path) -> None:
    store = open_store(golden_copy)
    layer = store.layers()[-1]
    assert CACHE_KEY not in layer.big_data_names
    before, earliest = files_of(golden_copy), time.time_ns()
    write_big_data(store, layer, CACHE_KEY, b"cache")
    after = files_of(golden_copy)

    item = layer.big_data_path(CACHE_KEY)
    lists = golden_copy / "overlay-layers" / "layers.json"
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {
        str(path.relative_to(golden_copy))
        for path in (item, lists, golden_copy / "overlay-layers" / "layers.lock")
    }
    assert item.read_bytes() == b"cache"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (item, lists)] == [0o600, 0o600]

    was = json.loads(before["overlay-layers/layers.json"])
    was[-1]["big-data-names"].append(CACHE_KEY)
    assert json.loads(lists.read_text()) == was
    assert store.layers()[-1].big_data_names == (*layer.big_data_names, CACHE_KEY)

    lock = after["overlay-layers/layers.lock"]
    moment, count, pid, noise = struct.unpack("<QQI44s", lock)
    assert earliest <= moment <= time.time_ns()
    assert (count, pid) == (1, os.getpid())
    assert len(set(noise)) > 10


def test_a_listed_item_is_replaced_without_touching_the_list(golden_copy: Path) -> None:
    store = open_store(golden_copy)
    layer = store.layers()[0]
    before = files_of(golden_copy)
    write_big_data(store, layer, CACHE_KEY, memoryview(b"better"))
    after = files_of(golden_copy)
    assert {name for name in after if after[name] != before[name]} == {
        str(layer.big_data_path(CACHE_KEY).relative_to(golden_copy))
    }
    assert read_big_data(layer, CACHE_KEY) == b"better"


def test_only_the_first_64_bytes_of_the_lock_are_written(golden_copy: Path) -> None:
    lock = golden_copy / "overlay-layers" / "layers.lock"
    lock.write_bytes(b"x" * 70)
    store = open_store(golden_copy)
    write_big_data(store, store.layers()[-1], CACHE_KEY, b"")
    assert len(lock.read_bytes()) == 70
    assert lock.read_bytes()[64:] == b"x" * 6


@pytest.mark.parametrize("layer_no", [0, 1])
def test_every_other_byte_of_the_list_stays(make_store: MakeStore, layer_no: int) -> None:
    root = make_store(ODD)
    store = open_store(root)
    write_big_data(store, store.layers()[layer_no], "new-key", b"1")
    text = (root / "overlay-layers" / "layers.json").read_text()
    added = (',"new-key"', ',"big-data-names":["new-key"]')[layer_no]
    assert text.replace(added, "") == ODD
    assert "new-key" in store.layers()[layer_no].big_data_names


def test_a_volatile_layer_is_updated_in_its_own_list(make_store: MakeStore) -> None:
    root = make_store([{"id": A}])
    lists = root / "overlay-layers" / "layers.json"
    volatile = lists.with_name("volatile-layers.json")
    volatile.write_text(json.dumps([{"id": B, "big-data-names": None}]))
    before = lists.read_bytes()
    store = open_store(root)
    write_big_data(store, store.layers()[1], "key", b"1")
    assert lists.read_bytes() == before
    assert json.loads(volatile.read_text())[0]["big-data-names"] == ["key"]


def test_an_image_store_is_locked_and_signed_too(make_store: MakeStore, tmp_path: Path) -> None:
    root, images = make_store([{"id": A}]), make_store([{"id": B}], name="images")
    (tmp_path / "home" / "storage.conf").write_text(
        f"[storage]\ngraphroot='{root}'\nimagestore='{images}'\n"
    )
    store = open_store()
    write_big_data(store, store.layers()[1], "key", b"1")
    assert (root / "overlay-layers" / B / "key").read_bytes() == b"1"
    assert store.layers()[1].big_data_names == ("key",)
    assert json.loads((root / "overlay-layers" / "layers.json").read_text()) == [{"id": A}]
    for each in (root, images):
        assert len((each / "overlay-layers" / "layers.lock").read_bytes()) == 64


def test_nothing_is_written_to_another_store_or_under_a_bad_key(
    golden_copy: Path, make_store: MakeStore
) -> None:
    other = open_store(make_store([{"id": A}]))
    store = open_store(golden_copy)
    before = files_of(golden_copy)
    with pytest.raises(StoreError, match="read-only store"):
        write_big_data(other, store.layers()[0], CACHE_KEY, b"x")
    for key in ("", "..", "--?"):
        with pytest.raises(ValueError, match="big data"):
            write_big_data(store, store.layers()[0], key, b"x")
    with pytest.raises(TypeError):
        write_big_data(store, store.layers()[0], CACHE_KEY, "text")  # type: ignore[arg-type]
    assert files_of(golden_copy) == before


def test_additional_stores_are_never_written(
    golden_copy: Path, make_store: MakeStore, tmp_path: Path
) -> None:
    root = make_store([])
    (tmp_path / "home" / "storage.conf").write_text(
        f"[storage]\ngraphroot='{root}'\n"
        f"[storage.options]\nadditionalimagestores=['{golden_copy}']\n"
    )
    before = files_of(golden_copy)
    store = open_store()
    with pytest.raises(StoreError, match="read-only store"):
        write_big_data(store, store.layers()[0], CACHE_KEY, b"x")
    assert files_of(golden_copy) == before


def test_a_layer_folder_that_is_a_symbolic_link_is_never_written(
    golden_copy: Path, tmp_path: Path
) -> None:
    store = open_store(golden_copy)
    layer = store.layers()[-1]
    folder = layer.big_data_path(CACHE_KEY).parent
    target = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(target)
    before = files_of(tmp_path)
    with pytest.raises(StoreError, match="symbolic link in a store is not followed"):
        write_big_data(store, layer, CACHE_KEY, b"x")
    assert files_of(tmp_path) == before


def test_a_layer_that_was_removed_meanwhile_is_not_restored(golden_copy: Path) -> None:
    store = open_store(golden_copy)
    layer = store.layers()[-1]
    lists = golden_copy / "overlay-layers" / "layers.json"
    records = json.loads(lists.read_text())
    for gone in (records[:-1], [*records[:-1], {**records[-1], "flags": {"incomplete": True}}]):
        lists.write_text(json.dumps(gone))
        before = files_of(golden_copy)
        with pytest.raises(LayerNotFoundError, match="no longer in the store"):
            write_big_data(store, layer, "key", b"x")
        assert files_of(golden_copy) == before


def test_a_broken_list_is_not_changed(golden_copy: Path) -> None:
    store = open_store(golden_copy)
    layer = store.layers()[0]
    for broken in ("[{", f'[{{"id":"{layer.id}","big-data-names":7}}]'):
        (golden_copy / "overlay-layers" / "layers.json").write_text(broken)
        before = files_of(golden_copy)
        with pytest.raises(StoreError):
            write_big_data(store, layer, "key", b"x")
        assert files_of(golden_copy) == before


@pytest.mark.parametrize("call", ["fsync", "replace", "pwrite", "fchmod"])
@pytest.mark.parametrize("nth", [0, 1, 2])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_step_leaves_the_store_as_it_was(
    golden_copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    nth: int,
    error: BaseException,
) -> None:
    store = open_store(golden_copy)
    layer = store.layers()[-1]
    before = files_of(golden_copy)
    works, calls = getattr(os, call), 0

    def fail(*arguments: Any, **folders: int) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth + 1:
            raise error
        return works(*arguments, **folders)

    monkeypatch.setattr(os, call, fail)
    try:
        write_big_data(store, layer, CACHE_KEY, b"x" * 1000)
    except (StoreError, KeyboardInterrupt):
        after = files_of(golden_copy)
        after["overlay-layers/layers.lock"] = b""  # a signature alone only makes Podman look again
        assert after == before
    else:
        assert calls <= nth, "the failure was swallowed"
        assert read_big_data(layer, CACHE_KEY) == b"x" * 1000


def test_a_failed_replacement_keeps_the_old_item(
    golden_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(golden_copy)
    before = files_of(golden_copy)

    def refuse(*_: object, **folders: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StoreError, match="cannot be written: Input/output error"):
        write_big_data(store, store.layers()[0], CACHE_KEY, b"x")
    assert files_of(golden_copy) == before


def test_a_writer_waits_for_the_lock_until_the_deadline(golden_copy: Path) -> None:
    store = open_store(golden_copy, lock_wait_seconds=0.01)
    layer = store.layers()[-1]
    before = files_of(golden_copy)
    holder = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(golden_copy / "overlay-layers" / "layers.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match=f"process {process.pid}"):
            write_big_data(store, layer, CACHE_KEY, b"x")
        with pytest.raises(StoreError, match="still holds the lock"):
            store.layers()
        process.communicate()
    assert files_of(golden_copy) == before


def test_concurrent_writers_lose_nothing(golden_copy: Path) -> None:
    # Threads and processes at once, each adding other keys to the same layers.
    script = (
        "import sys\n"
        "from vecache.store.open import open_store\n"
        "from vecache.store.write import write_big_data\n"
        "store = open_store(sys.argv[1])\n"
        "for n in range(8):\n"
        "    layer = store.layers()[n % 5]\n"
        "    write_big_data(store, layer, f'{sys.argv[2]}-{n}', sys.argv[2].encode())\n"
    )
    names = [f"process{n}" for n in range(2)]
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(golden_copy), name]) for name in names
    ]
    store = open_store(golden_copy)

    def work(name: str) -> None:
        for n in range(8):
            write_big_data(store, store.layers()[n % 5], f"{name}-{n}", name.encode())

    threads = [threading.Thread(target=work, args=(f"thread{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    layers = store.layers()
    for name in (*names, "thread0", "thread1"):
        for n in range(8):
            layer = layers[n % 5]
            assert f"{name}-{n}" in layer.big_data_names
            assert read_big_data(layer, f"{name}-{n}") == name.encode()
    assert not list(golden_copy.rglob(".tmp-*"))


def test_a_kill_at_any_moment_leaves_a_sound_store(golden_copy: Path) -> None:
    script = (
        "import itertools, sys\n"
        "from vecache.store.open import open_store\n"
        "from vecache.store.write import write_big_data\n"
        "store = open_store(sys.argv[1])\n"
        "print('on', flush=True)\n"
        "for n in itertools.count():\n"
        "    write_big_data(store, store.layers()[-1], f'{sys.argv[2]}-{n}', b'x' * 5000)\n"
    )
    store = open_store(golden_copy, lock_wait_seconds=5)
    pause = random.Random(7)
    for round_ in range(5):
        command = [sys.executable, "-c", script, str(golden_copy), f"round{round_}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"on\n"
            time.sleep(pause.uniform(0.01, 0.06))
            process.send_signal(signal.SIGKILL)
        layers = store.layers()
        assert len(layers) == 5
        for key in layers[-1].big_data_names:
            data = read_big_data(layers[-1], key)
            assert data, f"{key} is listed but is not there"
            assert not key.startswith("round") or data == b"x" * 5000
    write_big_data(store, store.layers()[-1], "after-all", b"1")  # the kernel released the lock
    assert "after-all" in store.layers()[-1].big_data_names


def test_the_new_files_belong_to_the_stores_owner(golden_copy: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can write into the store of another user")
    for path in (golden_copy, *golden_copy.rglob("*")):
        os.chown(path, 1234, 1235)
    store = open_store(golden_copy)
    write_big_data(store, store.layers()[-1], CACHE_KEY, b"x")
    owners = {(p.stat().st_uid, p.stat().st_gid) for p in golden_copy.rglob("*")}
    assert owners == {(1234, 1235)}


NAMES = st.lists(st.text(max_size=4), max_size=3)


@given(
    records=st.lists(
        st.fixed_dictionaries(
            {"id": st.sampled_from([A, B])},
            optional={
                "big-data-names": st.none() | NAMES,
                "x": st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                "flags": st.dictionaries(st.text(max_size=3), st.lists(st.integers())),
            },
        ),
        max_size=4,
    ),
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
    indent=st.sampled_from([None, 0, 3]),
)
def test_inserting_is_appending(
    records: list[dict[str, Any]], key: str, indent: int | None
) -> None:
    text = json.dumps([*records, {"id": A}], indent=indent)
    wanted = json.loads(text)
    first = next(record for record in wanted if record["id"] == A)
    names = first.get("big-data-names") or []
    if key not in names:
        first["big-data-names"] = [*names, key]
    new = insert_key(text, A, key)
    assert json.loads(new) == wanted
    assert insert_key(new, A, key) == new


def test_of_repeated_members_the_last_one_counts() -> None:
    text = '[{"id":"a","big-data-names":["x"],"big-data-names":["y"]}]'
    assert insert_key(text, "a", "x") == (
        '[{"id":"a","big-data-names":["x"],"big-data-names":["y","x"]}]'
    )
    with pytest.raises(KeyError):
        insert_key(text, "b", "x")


def test_the_lock_is_held_while_the_list_is_replaced(
    golden_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(golden_copy)
    lock = golden_copy / "overlay-layers" / "layers.lock"
    replace, tries = os.replace, []

    def check(source: str, target: str, **folders: int) -> None:
        with lock.open("r+b") as file:
            flock = struct.pack("@hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            with pytest.raises(OSError, match="Resource temporarily unavailable"):
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, flock)
        tries.append(target)
        replace(source, target, **folders)

    monkeypatch.setattr(os, "replace", check)
    write_big_data(store, store.layers()[-1], "key", b"1")
    assert tries == ["key", "layers.json"]
