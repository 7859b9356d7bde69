"""A node of a fleet is the store again, and shares what other nodes have."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from tests.golden import GOLDEN_SMALL, STORES, golden_cache, layer_ids
from tests.stores import cache_path, copy_store, edit_layers
from vecache.errors import NodeNotFoundError, StoreError
from vecache.index.layers_cache import LayersCache
from vecache.store import lock
from vecache.store.bigdata import CACHE_KEY, LAYER_DATA_KEY, TOC_KEY, read_big_data
from vecache.store.fleet import open_fleet
from vecache.store.open import open_store
from vecache.store.sweep_fleet import remove_nodes
from vecache.store.write_fleet import AddedNode, add_snapshot, add_store
from vecache.store.write_snapshot import write_snapshot

if TYPE_CHECKING:
    from tests.store.conftest import MakeStore
    from vecache.store.graphroot import Store

A, B, C, D = (digit * 64 for digit in "abcd")


def golden(name: str) -> Store:
    return open_store(GOLDEN_SMALL / "stores" / name)


def snapshot(root: Path, file: Path) -> Path:
    with file.open("wb") as out:
        write_snapshot(open_store(root), out)
    return file


def files_of(folder: Path) -> dict[str, bytes]:
    """All files of a fleet with their content, but for the locks."""
    files = (each for each in folder.rglob("*") if each.is_file() and each.suffix != ".lock")
    return {str(each.relative_to(folder)): each.read_bytes() for each in files}


# What comes back


@pytest.mark.parametrize("name", STORES)
def test_a_node_comes_back_with_all_that_plans_read(name: str, tmp_path: Path) -> None:
    store = golden(name)
    assert add_store(tmp_path / "fleet", store, "web1.example.com").change == "added"
    fleet = open_fleet(tmp_path / "fleet")
    assert fleet.nodes() == ("web1.example.com",)
    opened = open_store(f"{tmp_path}/fleet#web1.example.com")
    assert opened == fleet.open_node("web1.example.com")
    pairs: list[tuple[Any, Any]] = [
        *zip(opened.layers(), store.layers(), strict=True),
        *zip(opened.images(), store.images(), strict=True),
    ]
    for record, wanted in pairs:
        here = {"store_root": wanted.store_root, "is_read_only": wanted.is_read_only}
        assert replace(record, **here) == wanted
    for old, new in zip(store.layers(), opened.layers(), strict=True):
        assert new.target == old.target
        for key in (TOC_KEY, LAYER_DATA_KEY, CACHE_KEY):
            assert read_big_data(new, key) == read_big_data(old, key), (old.id, key)
    for image, copy in zip(store.images(), opened.images(), strict=True):
        for key in image.big_data_names:
            if not key.startswith("signature"):
                assert read_big_data(copy, key) == read_big_data(image, key)
    assert opened.pull_settings() == store.pull_settings()


def test_only_a_cache_that_its_toc_does_not_give_is_an_object_of_its_own(tmp_path: Path) -> None:
    root, ids = copy_store("dir", tmp_path), layer_ids("dir")
    damaged = golden_cache("dir", ids[1])[:-1] + b"?"
    fleet = tmp_path / "fleet"
    add_store(fleet, open_store(root), "a")
    before = files_of(fleet)
    cache_path(root, ids[1]).write_bytes(damaged)
    added = add_store(fleet, open_store(root), "b")
    assert added.n_new_bytes == len(damaged)
    new = files_of(fleet).keys() - before.keys()
    assert [each.endswith(".cache") for each in sorted(new)] == [False, True]
    sound, other = (open_store(f"{fleet}#{node}").layers() for node in "ab")
    for number, (one, two) in enumerate(zip(sound, other, strict=True)):
        assert (one.items == two.items) is (number != 1)
        assert one.items is not None
        assert (CACHE_KEY in one.items) is (number < 4), "Podman has not built the last one yet"
    assert read_big_data(other[1], CACHE_KEY) == damaged


def test_additional_and_image_stores_come_back_in_store_order(
    make_store: MakeStore, tmp_path: Path
) -> None:
    root = make_store([{"id": A}], [{"id": A}])
    images = make_store([{"id": B}], [{"id": B, "names": ["b:1"]}], name="images")
    more = make_store([{"id": A}, {"id": D}], [{"id": D, "names": ["d:1"]}], name="more")
    (root / "overlay-layers" / "volatile-layers.json").write_text(f'[{{"id":"{C}"}}]')
    Path(os.environ["CONTAINERS_STORAGE_CONF"]).write_text(
        f"[storage]\ngraphroot = '{root}'\nimagestore = '{images}'\n"
        f"[storage.options]\nadditionalimagestores = ['{more}']\n"
    )
    store = open_store()
    add_store(tmp_path / "fleet", store, "node")
    opened = open_fleet(tmp_path / "fleet").open_node("node")
    assert [layer.id for layer in opened.layers()] == [A, B, C, D]
    assert [layer.target for layer in opened.layers()] == [layer.target for layer in store.layers()]
    assert [layer.store_root == opened.root for layer in opened.layers()] == [True] * 3 + [False]
    assert [image.id for image in opened.images()] == [B, A, D]
    assert opened.find_image("d:1").store_root == opened.additional_stores[0]
    assert (opened.config.image_store, opened.config.additional_stores) == (images, (more,))
    cached = LayersCache.load(opened)
    assert "additional store" in {each.id: each.reason for each in cached.excluded}[D]


def test_the_node_is_never_written(tmp_path: Path) -> None:
    add_store(tmp_path / "fleet", golden("dir"), "node")
    before = files_of(tmp_path / "fleet")
    cache = LayersCache.load(open_store(f"{tmp_path}/fleet#node"), build="store")
    assert len(cache.layers) == 4
    assert "read-only store" in cache.excluded[0].reason
    assert files_of(tmp_path / "fleet") == before


# Names


def test_a_path_that_is_there_is_no_node(tmp_path: Path) -> None:
    add_store(tmp_path / "fleet", golden("dir"), "node")
    copy_store("flat", tmp_path).rename(tmp_path / "fleet#node")
    assert open_store(tmp_path / "fleet#node").snapshot is None
    other = tmp_path / "a#b"
    add_store(other, golden("dir"), "node")
    assert open_store(f"{other}#node").snapshot is not None


def test_a_missing_node_is_an_error_with_similar_names(tmp_path: Path) -> None:
    add_store(tmp_path / "fleet", golden("dir"), "web1.example.com")
    for name in ("web2.example.com", "web1.example.co"):
        with pytest.raises(NodeNotFoundError, match=r"similar names: web1\.example\.com") as caught:
            open_store(f"{tmp_path}/fleet#{name}")
        assert caught.value.exit_code == 1
    for name in ("", "../nodes/web1.example.com", "x\0", "zzz"):
        with pytest.raises(NodeNotFoundError, match=r"similar names|`vecache fleet list` lists"):
            open_fleet(tmp_path / "fleet").open_node(name)


@pytest.mark.parametrize(
    "name", ["", "a#b", "a/b", "..", ".a", "a b", "ä", "x" * 201, "a\n", "a\0"]
)
def test_a_name_that_no_node_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="choose another name"):
        add_store(tmp_path / "fleet", golden("dir"), name)
    assert not (tmp_path / "fleet").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    root = copy_store("dir", tmp_path)
    file = snapshot(root, tmp_path / "node")
    with pytest.raises(StoreError, match="neither a fleet nor an empty folder"):
        add_snapshot(root, file)
    for folder in (root, tmp_path / "none", file):
        with pytest.raises(StoreError, match=r"it has no fleet\.json"):
            open_fleet(folder)
    add_snapshot(tmp_path / "fleet", file)
    (tmp_path / "fleet" / "fleet.json").write_text('{"schema": "vecache.fleet/2"}')
    for use in (
        lambda: open_fleet(tmp_path / "fleet"),
        lambda: add_snapshot(tmp_path / "fleet", file),
    ):
        with pytest.raises(StoreError, match=r"found schema 'vecache\.fleet/2'"):
            use()


def test_a_fleet_is_not_taken_for_a_store(tmp_path: Path) -> None:
    add_store(tmp_path / "fleet", golden("dir"), "node")
    with pytest.raises(StoreError, match=r"it is a fleet: name a node of it, .*/fleet#NODE"):
        open_store(tmp_path / "fleet")


# Replacing and removing


def at(file: Path, time: str) -> Path:
    """Change the time of a snapshot."""
    with pa.CompressedInputStream(str(file), "zstd") as stream:
        data = bytearray(stream.read())
    start = data.index(b'"time": "') + 9
    data[start : start + 20] = time.encode()
    file.write_bytes(pa.Codec("zstd").compress(bytes(data), asbytes=True))
    return file


def add(fleet: Path, root: Path, time: str, name: str = "node") -> AddedNode:
    return add_snapshot(fleet, at(snapshot(root, fleet.parent / "file"), time), name)


def test_adding_again_changes_nothing(tmp_path: Path) -> None:
    fleet, file = tmp_path / "fleet", snapshot(golden("dir").root, tmp_path / "node")
    assert add_snapshot(fleet, file).name == os.uname().nodename
    before = files_of(fleet)
    inodes = {each: each.stat().st_ino for each in fleet.rglob("*")}
    added = add_snapshot(fleet, file)
    assert (added.change, added.n_new_bytes, added.leaves_objects) == ("unchanged", 0, False)
    assert files_of(fleet) == before
    assert {each: each.stat().st_ino for each in fleet.rglob("*")} == inodes


def test_a_newer_snapshot_replaces_an_older_one_and_never_the_other_way(tmp_path: Path) -> None:
    fleet, root = tmp_path / "fleet", copy_store("dir", tmp_path)
    assert add(fleet, root, "2026-01-02T00:00:00Z").change == "added"
    edit_layers(root, lambda records: records.pop())
    older = add(fleet, root, "2026-01-01T23:59:59Z")
    assert (older.change, older.n_new_bytes) == ("older", 0)
    assert len(open_store(f"{fleet}#node").layers()) == 5
    newer = add(fleet, root, "2026-01-02T00:00:01Z")
    assert (newer.change, newer.leaves_objects) == ("replaced", True)
    assert len(open_store(f"{fleet}#node").layers()) == 4


def test_a_removed_node_takes_with_it_what_no_other_has(tmp_path: Path) -> None:
    fleet, root = tmp_path / "fleet", copy_store("dir", tmp_path)
    add_store(fleet, open_store(root), "a")
    only_a = files_of(fleet)
    add_store(fleet, golden("flat"), "b")
    leftover = fleet / "objects" / "ab" / f"{'ab' * 32}.zst"
    leftover.parent.mkdir(exist_ok=True)
    leftover.write_bytes(b"x")
    for folder in (fleet, fleet / "nodes", leftover.parent):
        (folder / ".tmp-vecache-0").write_bytes(b"x")
    kept = next(iter(only_a.keys() & {name for name in only_a if name.startswith("objects")}))
    derived = fleet / f"{kept.partition('.')[0]}.derived"
    derived.write_bytes(b"y")
    assert files_of(fleet).keys() > only_a.keys()
    swept = remove_nodes(fleet, ["b"])
    assert (swept.problem, swept.n_bytes > 4) == ("", True)
    assert files_of(fleet) == {**only_a, str(derived.relative_to(fleet)): b"y"}
    remove_nodes(fleet, ["a"])
    assert files_of(fleet).keys() == {"fleet.json"}
    with pytest.raises(NodeNotFoundError, match="it has no nodes yet"):
        remove_nodes(fleet, ["a"])


def test_nothing_is_removed_while_somebody_reads(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet"
    add_store(fleet, golden("dir"), "a")
    store = open_store(f"{fleet}#a")
    before = files_of(fleet)
    swept = remove_nodes(fleet, ["a"])
    assert "still holds the lock" in swept.problem
    assert files_of(fleet).keys() == {each for each in before if not each.startswith("nodes/")}
    assert len(LayersCache.load(store).layers) == 5
    del store
    add_store(fleet, golden("flat"), "b")
    assert remove_nodes(fleet, ["b"]).problem == ""
    assert files_of(fleet).keys() == {"fleet.json"}


def test_without_locks_it_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = tmp_path / "fleet"
    add_store(fleet, golden("dir"), "a")
    monkeypatch.setattr(lock, "_acquire", lambda *_: False)
    with pytest.raises(StoreError, match="this file system has no locks; nothing was written"):
        add_store(fleet, golden("dir"), "b")
    assert "this file system has no locks" in remove_nodes(fleet, ["a"]).problem
    assert open_fleet(fleet).nodes() == ()


def test_a_node_that_is_damaged_is_replaced_and_stops_a_sweep(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet"
    add(fleet, golden("dir").root, "2026-01-02T00:00:00Z", "a")
    add_store(fleet, golden("flat"), "b")
    node = fleet / "nodes" / "a.json.zst"
    node.write_bytes(b"x")
    before = files_of(fleet)
    assert "a damaged node" in remove_nodes(fleet, ["b"]).problem
    assert files_of(fleet).keys() == before.keys() - {"nodes/b.json.zst"}
    assert add(fleet, golden("dir").root, "2026-01-01T00:00:00Z", "a").change == "replaced"
    assert json.dumps([layer.id for layer in open_store(f"{fleet}#a").layers()])
