"""A fleet on a shared disk may be killed at any step, damaged, or made by somebody hostile."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import GOLDEN_SMALL
from tests.store.test_snapshot import HOSTILE
from tests.stores import copy_store, edit_images, edit_layers
from vecache.atomic import replace_file, staged_file
from vecache.cli.main import main
from vecache.errors import StoreError, VecacheError
from vecache.index.layers_cache import LayersCache
from vecache.sharing.sources import read_contents
from vecache.store import write_fleet
from vecache.store.bigdata import CACHE_KEY, LAYER_DATA_KEY, TOC_KEY, read_big_data
from vecache.store.fleet import open_fleet, pack_node, read_node
from vecache.store.open import open_store
from vecache.store.sweep_fleet import sweep
from vecache.store.write_fleet import add_snapshot, add_store
from vecache.store.write_snapshot import write_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from vecache.store.graphroot import Store
    from vecache.store.records import LayerRecord


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet of one node, which tests copy."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", "/dev/null")
        patch.setenv("CONTAINERS_STORAGE_CONF", "/dev/null")
        add_store(folder / "fleet", golden_dir(), "node")
    return folder / "fleet"


@pytest.fixture
def fleet(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "fleet")


def golden_dir() -> Store:
    return open_store(GOLDEN_SMALL / "stores" / "dir")


def pack(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def unpack(data: bytes) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        return bytes(stream.read())


# Processes that are killed, and a full disk


@pytest.mark.parametrize(
    ("what", "how"),
    [("make", "kill"), ("add", "kill"), ("remove", "kill"), ("make", "full"), ("add", "full")],
)
def test_stopped_at_any_step_it_is_as_before_or_as_after(
    what: str, how: str, tmp_path: Path
) -> None:
    for name, store in (("one", "dir"), ("two", "estargz"), ("other", "flat")):
        root = copy_store(store, tmp_path)
        edit_layers(root, lambda records: records.__delitem__(slice(2, None)))
        edit_images(root, lambda records: records.__delitem__(slice(2, None)))
        with (tmp_path / name).open("wb") as file:
            write_snapshot(open_store(root), file)
    found = subprocess.run(
        [sys.executable, "-m", "tests.store.fleet_kills", str(tmp_path), what, how],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) >= {"make": 20, "add": 20, "remove": 5}[what], "steps"


@pytest.mark.parametrize("step", ["write", "read"])
def test_a_cache_that_cannot_be_written_is_an_error_and_adds_no_node(
    step: str, fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the node was added without it, with exit code 0."""
    for path in fleet.rglob("*-dir.cache"):
        path.unlink()

    def replace(path: Path, **more: Any) -> Any:
        if step == "write" and path.suffix == ".cache":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return replace_file(path, **more)

    def read(layer: LayerRecord, key: str) -> bytes | None:
        if step == "read":
            error = OSError(errno.EIO, os.strerror(errno.EIO))
            raise StoreError("it cannot be read: Input/output error") from error
        return read_big_data(layer, key)

    command = ["fleet", "add", str(fleet), "--store", str(GOLDEN_SMALL / "stores" / "dir")]
    with monkeypatch.context() as patch:
        patch.setattr(write_fleet, "replace_file", replace)
        patch.setattr(write_fleet, "read_big_data", read)
        assert main([*command, "--name", "second"]) == 3
    assert open_fleet(fleet).nodes() == ("node",)
    assert main([*command, "--name", "second"]) == 0
    assert open_fleet(fleet).nodes() == ("node", "second")


def test_the_next_add_removes_what_a_killed_one_left(fleet: Path, tmp_path: Path) -> None:
    folders = [fleet, fleet / "nodes", *(fleet / "objects").iterdir()]
    for folder in folders:
        (folder / ".tmp-vecache-0123").write_bytes(b"half")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".tmp-vecache-0123").write_bytes(b"of somebody else")
    (fleet / "objects" / "link").symlink_to(tmp_path / "elsewhere")
    with staged_file(folders[-1]) as file:
        add_store(fleet, golden_dir(), "node")
        assert list(fleet.rglob(".tmp-*")) == [Path(file.name)], "of a process that still writes"
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


# Objects that are damaged


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": cut,
    "flipped": flip,
    "not compressed": lambda path: path.write_bytes(b'{"entries": []}'),
    "other content": lambda path: path.write_bytes(pack(b'{"version": 1, "entries": []}')),
    "more than is allowed": lambda path: path.write_bytes(pack(bytes(100 << 20))),
    "missing": lambda path: path.unlink(),
    "a link": link,
    "a pipe": fifo,
    "a folder": folder,
}


def items_of(store: Store, key: str, number: int = 0) -> Path:
    """Path of an item of a layer."""
    items = store.layers()[number].items
    assert items is not None
    return items[key]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_toc_is_named_and_nothing_is_taken_from_it(
    damage: Callable[[Path], object], fleet: Path
) -> None:
    store = open_store(f"{fleet}#node")
    wanted = [layer.cache.n_tags for layer in LayersCache.load(store).layers]
    path = items_of(store, TOC_KEY)
    damage(path)
    found = LayersCache.load(store)
    assert [layer.cache.n_tags for layer in found.layers] == wanted, "its cache is there"
    (excluded,) = read_contents(store).excluded
    assert excluded.is_unread
    assert str(path) in excluded.reason
    items_of(store, CACHE_KEY).unlink()
    (layer,) = LayersCache.load(store).excluded
    assert layer.is_unread
    assert "damaged object" in layer.reason or "cannot be read" in layer.reason


# What the header of a cache does not show is found later, or never, as in a store.
SHOWN = {name: damage for name, damage in DAMAGE.items() if damage not in (flip, cut)}


@pytest.mark.parametrize("damage", SHOWN.values(), ids=SHOWN)
def test_a_damaged_cache_is_built_again_in_memory(
    damage: Callable[[Path], object], fleet: Path
) -> None:
    store = open_store(f"{fleet}#node")
    wanted = [layer.cache.n_tags for layer in LayersCache.load(store).layers]
    damage(items_of(store, CACHE_KEY))
    found = LayersCache.load(store)
    assert [layer.cache.n_tags for layer in found.layers] == wanted
    assert found.layers[0].problem


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_layout_excludes_what_must_be_built(
    damage: Callable[[Path], object], fleet: Path
) -> None:
    store = open_store(f"{fleet}#node")
    damage(items_of(store, LAYER_DATA_KEY, 4))
    cached = LayersCache.load(store)
    assert all(layer.is_unread for layer in cached.excluded)
    assert 4 in [store.layers().index(layer.record) for layer in cached.excluded]


def test_an_object_that_was_deleted_comes_back_with_its_snapshot(fleet: Path) -> None:
    store = open_store(f"{fleet}#node")
    path = items_of(store, TOC_KEY)
    before = path.read_bytes()
    path.write_bytes(b"damaged")
    with pytest.raises(StoreError, match=r"delete .*\.zst, and add the snapshots of its"):
        read_big_data(store.layers()[0], TOC_KEY)
    path.unlink()
    add_store(fleet, golden_dir(), "node")
    assert path.read_bytes() == before


# Nodes that are damaged


def edit(fleet: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = fleet / "nodes" / "node.json.zst"
    document = json.loads(read_node(path))
    change(document)
    path.write_bytes(pack_node(json.dumps(document).encode()))


def first_items(document: dict[str, Any], what: str = "layer_items") -> dict[str, Any]:
    items: dict[str, Any] = next(iter(document["roots"][0][what].values()))
    return items


HEX = "0" * 64
NODES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "schema": (lambda node: node.update(schema="vecache.fleet-node/2"), "found schema"),
    "no schema": (lambda node: node.pop("schema"), "found schema"),
    "no snapshot": (lambda node: node.pop("snapshot"), "snapshot is missing"),
    "snapshot": (lambda node: node.update(snapshot={}), "#node: neither"),
    "time": (lambda node: node["snapshot"].update(time="noon"), "found 'noon'"),
    "no roots": (lambda node: node.update(roots=[]), "found 0, the snapshot has 1"),
    "more roots": (lambda node: node["roots"].append(node["roots"][0]), "found 2"),
    "root": (lambda node: node.update(roots=[1]), "wanted an object"),
    "layers": (lambda node: node["roots"][0].update(layers={}), "wanted an array of records"),
    "layer": (lambda node: node["roots"][0].update(layers=[1]), "wanted an object"),
    "too many layers": (
        lambda node: node["roots"][0].update(layers=[{}] * 70_000),
        "found 70,000 records, wanted 65,536",
    ),
    "layer id": (lambda node: node["roots"][0]["layers"][0].update(id="../x"), "the id of a"),
    "images": (lambda node: node["roots"][0].update(images=7), "wanted an array of records"),
    "image id": (lambda node: node["roots"][0]["images"][0].update(id=7), "wanted a string"),
    "no items": (lambda node: node["roots"][0].pop("layer_items"), "layer_items is missing"),
    "items": (lambda node: node["roots"][0].update(layer_items=[]), "wanted an object"),
    "items of a layer": (
        lambda node: node["roots"][0].update(
            layer_items={layer["id"]: 7 for layer in node["roots"][0]["layers"]}
        ),
        "wanted an object",
    ),
    "item": (lambda node: first_items(node).update({TOC_KEY: 7}), "found 7 as"),
    **{
        f"{key} is {name!r}": (
            lambda node, key=key, name=name: first_items(node).update({key: name}),  # type: ignore[misc]  # the values of this case
            "found",
        )
        for key, name in (
            (TOC_KEY, ""),
            (TOC_KEY, "../../../etc/passwd"),
            (TOC_KEY, f"{HEX}.zst/../../x"),
            (TOC_KEY, f"{HEX}.zst\n"),
            (TOC_KEY, f"{HEX}.cache"),
            (TOC_KEY, HEX),
            (TOC_KEY, HEX.replace("0", "A") + ".zst"),
            (CACHE_KEY, f"{HEX}.zst"),
            (CACHE_KEY, f"{HEX}-other.cache"),
            (LAYER_DATA_KEY, "/etc/passwd"),
            ("other", f"{HEX}.zst"),
            ("../x", f"{HEX}.zst"),
        )
    },
    "image item": (
        lambda node: first_items(node, "image_items").update({"signature": f"{HEX}.zst"}),
        "found",
    ),
}


@pytest.mark.parametrize(("change", "message"), NODES.values(), ids=NODES)
def test_a_node_that_no_snapshot_gives_is_an_error(
    change: Callable[[dict[str, Any]], object], message: str, fleet: Path
) -> None:
    edit(fleet, change)
    with pytest.raises(StoreError) as caught:
        open_store(f"{fleet}#node")
    assert message in str(caught.value)
    assert str(fleet) in str(caught.value)


NODE_FILES: dict[str, Callable[[Path], object]] = {
    **{name: damage for name, damage in DAMAGE.items() if name != "missing"},
    "no checksum": lambda path: path.write_bytes(pack(read_node(path))),
    "no JSON": lambda path: path.write_bytes(pack_node(b"{")),
    "nested": lambda path: path.write_bytes(pack_node(b'{"schema":' + b"[" * 200_000)),
    "large": lambda path: os.truncate(path, 1 << 40),
}


@pytest.mark.parametrize("damage", NODE_FILES.values(), ids=NODE_FILES)
def test_a_damaged_file_of_a_node_is_an_error(
    damage: Callable[[Path], object], fleet: Path
) -> None:
    damage(fleet / "nodes" / "node.json.zst")
    with pytest.raises(StoreError, match=r"node\.json\.zst"):
        open_store(f"{fleet}#node")
    assert sweep(fleet).problem, "what it has is not known"
    assert len(list(fleet.glob("objects/*/*"))) > 10


@given(data=st.data())
def test_a_node_with_any_bytes_is_a_store_or_an_error(
    data: st.DataObject, sound: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("any") / "fleet"
    (copy / "nodes").mkdir(parents=True)
    shutil.copy(sound / "fleet.json", copy)
    (copy / "objects").symlink_to(sound / "objects")
    document = bytearray(read_node(sound / "nodes" / "node.json.zst"))
    for _ in range(data.draw(st.integers(1, 3))):
        document[data.draw(st.integers(0, len(document) - 1))] = data.draw(st.integers(0, 255))
    (copy / "nodes" / "node.json.zst").write_bytes(pack_node(bytes(document)))
    try:
        store = open_store(f"{copy}#node")
        LayersCache.load(store)
        store.images()
    except VecacheError:
        pass


def test_files_of_others_are_no_nodes(fleet: Path) -> None:
    for name in ("x.json", ".hidden.json.zst", "a b.json.zst", ".tmp-vecache-1", "n#1.json.zst"):
        (fleet / "nodes" / name).write_bytes(b"x")
    (fleet / "objects" / "notes.txt").write_bytes(b"x")
    (fleet / "objects" / "00").mkdir(exist_ok=True)
    (fleet / "objects" / "00" / "notes.txt").write_bytes(b"x")
    assert open_fleet(fleet).nodes() == ("node",)
    assert sweep(fleet).n_files == 1, "the temporary one"
    assert (fleet / "objects" / "00" / "notes.txt").exists()


# What somebody hostile may have made


@pytest.mark.parametrize(
    ("data", "message"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE]
)
def test_a_hostile_snapshot_is_an_error_and_adds_no_node(
    data: bytes, message: str, tmp_path: Path
) -> None:
    file, fleet = tmp_path / "node", tmp_path / "fleet"
    file.write_bytes(data)
    with pytest.raises(StoreError) as caught:
        add_snapshot(fleet, file, "a")
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    if fleet.exists():
        assert open_fleet(fleet).nodes() == ()
        sweep(fleet)
        left = {each.name for each in fleet.rglob("*") if each.is_file()}
        assert left == {"fleet.json", "fleet.lock", "nodes.lock"}
    written = {each.name for each in tmp_path.iterdir()}
    assert written <= {"node", "fleet", "home"}


@given(data=st.data())
def test_a_damaged_snapshot_is_a_node_or_an_error(
    data: st.DataObject, small_snapshot: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    archive = bytearray(unpack(small_snapshot))
    for _ in range(data.draw(st.integers(1, 3))):
        offset = data.draw(st.integers(0, len(archive) - 1) | st.integers(0, 2000))
        archive[offset] = data.draw(st.integers(0, 255))
    (folder / "file").write_bytes(pack(bytes(archive)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: None)
        try:
            add_snapshot(folder / "fleet", folder / "file", "a")
        except StoreError:
            if (folder / "fleet").exists():
                assert open_fleet(folder / "fleet").nodes() == ()
        else:
            store = open_store(f"{folder}/fleet#a")
            LayersCache.load(store, build="never")
            store.images()


@pytest.fixture(scope="module")
def small_snapshot(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = copy_store("dir", tmp_path_factory.mktemp("small"))
    edit_layers(root, lambda records: records.__delitem__(slice(1, None)))
    edit_images(root, lambda records: records.__delitem__(slice(1, None)))
    with pytest.MonkeyPatch.context() as patch, (root / "file").open("w+b") as file:
        patch.setenv("CONTAINERS_CONF", "/dev/null")
        patch.setenv("CONTAINERS_STORAGE_CONF", "/dev/null")
        write_snapshot(open_store(root), file)
        file.seek(0)
        return file.read()


def test_a_sweep_follows_no_link(fleet: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    victim = other / f"{HEX}.zst"
    victim.write_bytes(b"x")
    (fleet / "objects" / "00").symlink_to(other)
    assert "cannot be written" in sweep(fleet).problem
    assert victim.exists()
    (fleet / "objects" / "00").unlink()
    shutil.rmtree(fleet / "objects")
    (fleet / "objects").symlink_to(tmp_path)
    (tmp_path / "00").mkdir()
    shutil.move(victim, tmp_path / "00")
    assert "cannot be written" in sweep(fleet).problem
    assert (tmp_path / "00" / victim.name).exists()


def test_nothing_is_written_through_a_link(fleet: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    store = open_store(f"{fleet}#node")
    path = items_of(store, TOC_KEY)
    shutil.rmtree(path.parent)
    path.parent.symlink_to(other)
    with pytest.raises(StoreError, match="found a symbolic link"):
        add_store(fleet, golden_dir(), "node")
    assert list(other.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"{}", b'{"schema": 7}', b"x" * 99_999])
def test_a_damaged_fleet_file_is_an_error(content: bytes, fleet: Path) -> None:
    (fleet / "fleet.json").write_bytes(content)
    for use in (open_fleet, lambda path: add_store(path, golden_dir(), "b")):
        with pytest.raises(StoreError, match=r"fleet\.json"):
            use(fleet)


def test_names_of_objects_are_those_of_their_content(sound: Path) -> None:
    for path in sound.glob("objects/*/*.zst"):
        assert hashlib.sha256(unpack(path.read_bytes())).hexdigest() == path.stem
        assert path.parent.name == path.name[:2]
