"""A snapshot is the store again, whoever made the file."""

from __future__ import annotations

import atexit
import fcntl
import gc
import io
import json
import os
import shutil
import tarfile
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import GOLDEN_SMALL, STORES, golden_cache, layer_ids
from tests.store.test_blob_info import BLOB, OTHER, SCHEMA, TOC
from tests.store.test_blob_info import write as write_blob_info
from tests.stores import cache_path, copy_store, edit_layers, toc_path
from vecache.atomic import remove_leftovers
from vecache.errors import StoreError
from vecache.index.layers_cache import LayersCache
from vecache.sharing.export import tag_tables
from vecache.sharing.sources import read_contents
from vecache.store import archive, blob_info, unpack, write_snapshot
from vecache.store.bigdata import CACHE_KEY, LAYER_DATA_KEY, TOC_KEY, read_big_data
from vecache.store.open import open_store
from vecache.store.settings import PullSettings
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.store.conftest import MakeStore
    from vecache.store.graphroot import Store

A, B, C, D, E, F = (digit * 64 for digit in "abcdef")
TOC_NAME = "overlay-layers/1/zstd-chunked-manifest"


def write(store: Store, file: Path) -> write_snapshot.WrittenSnapshot:
    with file.open("wb") as out:
        return write_snapshot.write_snapshot(store, out)


def round_trip(root: Path, folder: Path) -> Store:
    write(open_store(root), folder / "node")
    return open_store(folder / "node")


def unpacked_folder() -> Path:
    return Path(os.environ["XDG_CACHE_HOME"], "vecache", "snapshots")


# What comes back


@pytest.mark.parametrize("name", STORES)
def test_a_store_comes_back_with_all_that_plans_read(name: str, tmp_path: Path) -> None:
    store = open_store(GOLDEN_SMALL / "stores" / name)
    opened = round_trip(store.root, tmp_path)
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


def test_a_cache_that_its_toc_gives_is_not_in_the_file(tmp_path: Path) -> None:
    root, ids = copy_store("dir", tmp_path), layer_ids("dir")
    damaged = bytearray(golden_cache("dir", ids[1]))
    damaged[40] ^= 1
    cache_path(root, ids[1]).write_bytes(damaged)
    opened = round_trip(root, tmp_path)
    with pa.CompressedInputStream(str(tmp_path / "node"), "zstd") as stream:
        data = io.BytesIO(stream.read())
    with tarfile.open(fileobj=data) as archive:
        names = archive.getnames()
    assert names[0] == "snapshot.json"
    assert [each for each in names if "cache" in each] == [
        f"overlay-layers/{ids[1]}/chunked-manifest-cache"
    ]
    assert cache_path(opened.root, ids[0]).read_bytes() == golden_cache("dir", ids[0])
    assert cache_path(opened.root, ids[1]).read_bytes() == damaged
    assert not cache_path(opened.root, ids[4]).exists(), "Podman has not built it yet"


def test_the_settings_and_the_blob_info_are_those_of_its_machine(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_store([{"id": A, "diff-digest": OTHER}, {"id": B, "toc-digest": TOC}])
    conf = Path(os.environ["CONTAINERS_STORAGE_CONF"])
    conf.write_text(
        f"[storage]\ngraphroot = '{root}'\n[storage.options]\n"
        'pull_options = {use_hard_links="true", convert_images="true"}\n'
        '[storage.options.overlay]\nuse_composefs = "true"\n'
    )
    containers = tmp_path / "containers.conf"
    containers.write_text("[engine]\nimage_parallel_copies = 3\n")
    monkeypatch.setenv("CONTAINERS_CONF", str(containers))
    machine = tmp_path / "machine"
    monkeypatch.setattr(blob_info, "_MACHINE_FOLDER", str(machine))
    other = f"INSERT INTO DigestUncompressedPairs VALUES ('sha256:{E}', 'sha256:{F}')"
    mine = f"INSERT INTO DigestUncompressedPairs VALUES ('{BLOB}', '{OTHER}')"
    toc = f"INSERT INTO DigestTOCUncompressedPairs VALUES ('{TOC}', '{BLOB}')"
    write_blob_info(machine / "blob-info-cache-v1.sqlite", [*SCHEMA, mine, other, toc])
    store = open_store()
    assert store.blob_info().uncompressed(f"sha256:{E}") == f"sha256:{F}"
    write(replace(store, lock_wait_seconds=0.1), tmp_path / "node")
    wanted = store.pull_settings()
    conf.write_text("[storage\n")
    containers.write_text("[engine\n")
    shutil.rmtree(machine)
    opened = open_store(tmp_path / "node")
    assert opened.is_own
    assert opened.pull_settings() == wanted
    assert wanted == PullSettings(
        reflink=wanted.reflink,
        hard_links=True,
        layout=Layout.FLAT,
        parallel=3,
        partial=False,
        estargz=False,
        convert=True,
    )
    assert opened.pull_settings(reflink=not wanted.reflink).reflink is not wanted.reflink
    assert opened.blob_info().uncompressed(BLOB) == OTHER
    assert opened.blob_info().uncompressed_for_toc(TOC) == BLOB
    assert opened.blob_info().uncompressed(f"sha256:{E}") is None, "no layer of the store has it"
    assert (opened.config.graph_root, opened.config.use_composefs) == (root, True)
    assert opened.config.path == conf


def test_additional_and_image_stores_come_back_in_store_order(
    make_store: MakeStore, tmp_path: Path
) -> None:
    root = make_store([{"id": A}, {"id": "x", "flags": {"incomplete": True}}], [{"id": A}])
    images = make_store([{"id": B}], [{"id": B, "names": ["b:1"]}], name="images")
    more = make_store([{"id": A}, {"id": D}], [{"id": D, "names": ["d:1"]}], name="more")
    (root / "overlay-layers" / "volatile-layers.json").write_text(f'[{{"id":"{C}"}}]')
    (images / "overlay-images" / B).mkdir()
    (images / "overlay-images" / B / "manifest").write_text("{}")
    edit = [{"id": B, "names": ["b:1"], "big-data-names": ["manifest"]}]
    (images / "overlay-images" / "images.json").write_text(json.dumps(edit))
    Path(os.environ["CONTAINERS_STORAGE_CONF"]).write_text(
        f"[storage]\ngraphroot = '{root}'\nimagestore = '{images}'\n"
        f"[storage.options]\nadditionalimagestores = ['{more}']\n"
    )
    store = open_store()
    opened = round_trip(root, tmp_path)
    assert [layer.id for layer in opened.layers()] == [A, B, C, D]
    assert [layer.target for layer in opened.layers()] == [layer.target for layer in store.layers()]
    assert [layer.store_root == opened.root for layer in opened.layers()] == [True] * 3 + [False]
    assert [image.id for image in opened.images()] == [B, A, D]
    assert read_big_data(opened.find_image("b:1"), "manifest") == b"{}"
    assert opened.find_image("d:1").store_root == opened.additional_stores[0]
    assert (opened.config.image_store, opened.config.additional_stores) == (images, (more,))


def test_the_store_that_comes_back_is_never_written(tmp_path: Path) -> None:
    opened = round_trip(GOLDEN_SMALL / "stores" / "dir", tmp_path)
    cache = LayersCache.load(opened, build="store")
    assert len(cache.layers) == 4
    assert "read-only store" in cache.excluded[0].reason
    assert repr(opened).startswith(
        f"<Store {tmp_path / 'node'} (snapshot of {os.uname().nodename})"
    )


def test_a_layer_that_goes_while_it_is_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, ids = copy_store("dir", tmp_path), layer_ids("dir")
    write_layer = write_snapshot._write_layer

    def remove_and_write(layer: Any, *rest: Any) -> bool:
        if layer.id == ids[4]:
            edit_layers(root, lambda records: records.pop())
            shutil.rmtree(root / "overlay-layers" / ids[4])
        return write_layer(layer, *rest)

    monkeypatch.setattr(write_snapshot, "_write_layer", remove_and_write)
    written = write(open_store(root), tmp_path / "node")
    assert written.removed == [ids[4]]
    assert not any(layer.unreadable for layer in written.layers)
    assert not any(image.unreadable for image in written.images)
    opened = open_store(tmp_path / "node")
    assert [layer.id for layer in opened.layers()] == ids[:4]
    assert opened.snapshot is not None
    assert opened.snapshot.removed == (ids[4],)


def test_an_id_too_long_for_an_archive_is_named(make_store: MakeStore, tmp_path: Path) -> None:
    long = "a" * 200
    root = make_store([{"id": long}])
    (root / "overlay-layers" / long).mkdir()
    toc = next((GOLDEN_SMALL / "stores" / "dir").rglob("=enN0ZC1jaHVua2VkLW1hbmlmZXN0"))
    shutil.copy(toc, root / "overlay-layers" / long)
    written = write(open_store(root), tmp_path / "node")
    (reason,) = (each.unreadable for each in written.layers if each.id == long)
    assert "name is too long" in reason
    (layer,) = LayersCache.load(open_store(tmp_path / "node")).excluded
    assert "name is too long" in layer.reason


# Where it is unpacked


def test_it_is_unpacked_once_and_again_if_a_part_of_it_goes(tmp_path: Path) -> None:
    opened = round_trip(GOLDEN_SMALL / "stores" / "dir", tmp_path)
    toc = toc_path(opened.root, layer_ids("dir")[0])
    inode = toc.stat().st_ino
    shutil.copy(tmp_path / "node", tmp_path / "copy")
    again = open_store(tmp_path / "copy")
    assert (again.root, again.path) == (opened.root, tmp_path / "copy")
    assert toc.stat().st_ino == inode
    toc.unlink()
    assert open_store(tmp_path / "node").root == opened.root
    assert toc.exists()
    toc.write_bytes(b"")
    open_store(tmp_path / "node")
    assert toc.stat().st_size > 0
    (opened.root / "unpacked.json").write_bytes(b"[1]")
    open_store(tmp_path / "node")
    assert os.listdir(unpacked_folder()) == [opened.root.name]
    assert not (opened.root / "old").exists()


def test_those_not_used_for_longest_go_but_none_that_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, used = (round_trip(GOLDEN_SMALL / "stores" / name, tmp_path) for name in ("dir", "flat"))
    contents = read_contents(used)  # reads TOCs later, without a store at hand
    folders = {old.root, used.root}
    for path in folders:
        os.utime(path, (0, 0))
    crashed = unpacked_folder() / ".tmp-crashed"
    crashed.mkdir()
    os.utime(crashed, (0, 0))
    monkeypatch.setattr(unpack, "_MAX_UNPACKED_BYTES", 1)
    kept = old.root
    del old, used
    gc.collect()
    new = round_trip(GOLDEN_SMALL / "stores" / "estargz", tmp_path)
    assert not kept.exists()
    assert set(os.listdir(unpacked_folder())) == {path.name for path in folders - {kept}} | {
        new.root.name
    }
    assert sum(map(len, tag_tables(contents))) > 0


def test_a_use_is_remembered(tmp_path: Path) -> None:
    opened = round_trip(GOLDEN_SMALL / "stores" / "dir", tmp_path)
    os.utime(opened.root, (0, 0))
    open_store(tmp_path / "node")
    assert opened.root.stat().st_mtime > 0


def test_one_that_another_process_is_removing_is_unpacked_again(tmp_path: Path) -> None:
    root = round_trip(GOLDEN_SMALL / "stores" / "dir", tmp_path).root
    gc.collect()
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # and the next thing it does is to rename it
        again = open_store(tmp_path / "node")
        assert len(LayersCache.load(again).layers) == 5
        assert not os.path.samestat(os.fstat(descriptor), again.root.stat())
    finally:
        os.close(descriptor)


def test_where_the_cache_folder_cannot_be_written_it_is_unpacked_for_this_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_exit: list[Any] = []
    monkeypatch.setattr(atexit, "register", lambda *call, **_: at_exit.append(call))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    opened = round_trip(GOLDEN_SMALL / "stores" / "dir", tmp_path)
    assert len(opened.layers()) == 5
    assert opened.root.parent == tmp_path / "tmp"
    remove_leftovers(tmp_path / "tmp")
    assert opened.root.exists(), "another process does not take it for one left over"
    at_exit[0][0]()
    assert not opened.root.exists()


def test_several_may_open_it_at_the_same_time(tmp_path: Path) -> None:
    write(open_store(GOLDEN_SMALL / "stores" / "dir"), tmp_path / "node")
    barrier = threading.Barrier(4)
    found: list[Any] = []

    def open_it() -> None:
        barrier.wait()
        try:
            store = open_store(tmp_path / "node")
            found.append((store.root, len(LayersCache.load(store).layers)))
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each[1] for each in found] == [5] * 4
    assert len({each[0] for each in found}) == 1
    assert len(os.listdir(unpacked_folder())) == 1


# What others may have made


def header(**changes: Any) -> bytes:
    root: dict[str, Any] = {
        "path": "/graph",
        "image_store": None,
        "image_store_layers": [],
        "built": [],
        "unreadable": {},
    }
    values = {
        "schema": "vecache.snapshot/1",
        "host": "node",
        "time": "2026-01-31T12:00:00Z",
        "versions": {},
        "driver": "overlay",
        "storage_conf": "",
        "is_own": True,
        "settings": {
            "reflink": True,
            "hard_links": False,
            "layout": "dir",
            "parallel": 6,
            "partial": True,
            "estargz": False,
            "convert": False,
        },
        "blob_info": {"blobs": {}, "tocs": {}},
        "roots": [root | changes.pop("root", {})],
        "removed": [],
    }
    return json.dumps(values | changes).encode()


def pack(members: Iterable[tuple[str, bytes] | tarfile.TarInfo], end: bytes = bytes(1024)) -> bytes:
    data = b""
    for member in members:
        if isinstance(member, tarfile.TarInfo):
            data += member.tobuf(tarfile.GNU_FORMAT)
            continue
        info = tarfile.TarInfo(member[0])
        info.size = len(member[1])
        data += info.tobuf(tarfile.USTAR_FORMAT) + member[1] + bytes(-info.size % 512)
    return compress(data + end)


def compress(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def member(name: str, **changes: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    return info


HEADER = ("snapshot.json", header())
HOSTILE: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "neither a graph root nor a snapshot"),
    ("text", b"hello" * 99, "neither a graph root nor a snapshot"),
    ("magic alone", b"\x28\xb5\x2f\xfd", "damaged snapshot"),
    ("no zstd", b"\x28\xb5\x2f\xfd" + bytes(2000), "damaged snapshot"),
    ("another archive", pack([("README", b"hello")]), "its first member is not snapshot.json"),
    ("empty archive", pack([]), "its first member is not snapshot.json"),
    ("no end", pack([HEADER], b""), "it ends too early"),
    ("no tar", pack([], b"x" * 2048), "nor a snapshot: it begins with 'xxxxxxxx'"),
    ("no second tar", pack([HEADER], b"x" * 2048), "a member's header"),
    ("header is no JSON", pack([("snapshot.json", b"{")]), "not JSON"),
    ("header is a list", pack([("snapshot.json", b"[]")]), "wanted an object"),
    (
        "another version",
        pack([("snapshot.json", header(schema="vecache.snapshot/2"))]),
        "of another version of vecache: found vecache.snapshot/2",
    ),
    ("another schema", pack([("snapshot.json", header(schema="x"))]), "found schema 'x'"),
    ("time", pack([("snapshot.json", header(time="noon"))]), "found 'noon'"),
    ("last time", pack([("snapshot.json", header(time="9999-12-31T23:00:00-20:00"))]), "time"),
    ("no roots", pack([("snapshot.json", header(roots=[]))]), "found 0, wanted 1"),
    ("settings", pack([("snapshot.json", header(settings={}))]), "reflink is missing"),
    (
        "parallel",
        pack([("snapshot.json", header().replace(b'"parallel": 6', b'"parallel": 0'))]),
        "parallel 0",
    ),
    (
        "blob info",
        pack([("snapshot.json", header(blob_info={"blobs": {BLOB: "x"}, "tocs": {}}))]),
        "wanted two digests",
    ),
    (
        "built outside",
        pack([("snapshot.json", header(root={"built": ["../../x"]}))]),
        "wanted ids of records",
    ),
    ("path", pack([("snapshot.json", header(root={"path": 7}))]), "found an integer"),
    *(
        (f"name {name}", pack([HEADER, (name, b"x")]), "found a member")
        for name in (
            "../x",
            "/etc/x",
            "x",
            "snapshot.json",
            "unpacked.json",
            "overlay-layers/../x",
            "overlay-layers/..",
            "overlay-layers/../../x/zstd-chunked-manifest",
            f"overlay-layers/{A}/../../x",
            f"overlay-layers/{A}/other",
            f"overlay-layers/{A}/manifest",
            f"overlay-layers/{A}",
            "overlay-layers/images.json",
            "overlay-images/layers.json",
            "overlay-layers/volatile-layers.json",
            f"overlay-images/{A}/signature-x",
            f"overlay-images/{A}/zstd-chunked-manifest",
            f"overlay/{A}/diff",
            "additional/0/overlay-layers/layers.json",
            "additional/-1/overlay-layers/layers.json",
            "overlay-layers/layers.json\n",
        )
    ),
    *(
        (f"type {kind!r}", pack([HEADER, member(TOC_NAME, type=kind, linkname="/etc/passwd")]), why)
        for kind, why in (
            (tarfile.SYMTYPE, "is not a regular file"),
            (tarfile.LNKTYPE, "is not a regular file"),
            (tarfile.CHRTYPE, "is not a regular file"),
            (tarfile.FIFOTYPE, "is not a regular file"),
            (tarfile.DIRTYPE, "is not a regular file"),
            (tarfile.CONTTYPE, "is not a regular file"),
            (tarfile.GNUTYPE_SPARSE, "is not a regular file"),
            (tarfile.GNUTYPE_LONGNAME, "is not a regular file"),
            (tarfile.XHDTYPE, "is not a regular file"),
        )
    ),
    ("twice", pack([HEADER, (TOC_NAME, b"{}"), (TOC_NAME, b"{}")]), "two members are"),
    ("size below 0", pack([HEADER, member(TOC_NAME, size=-5)]), "is not a regular file"),
    ("large item", pack([HEADER, member(TOC_NAME, size=(1 << 30) + 1)]), "wanted 1,073,741,824"),
    ("large layout", pack([HEADER, member("overlay-layers/1/zstd-chunked-layer-data",
                                          size=1 << 20)]), "wanted 65,536 at most"),
    ("large list", pack([HEADER, member("overlay-layers/layers.json", size=1 << 30)]), "at most"),
    ("large image item", pack([HEADER, member("overlay-images/1/manifest", size=1 << 30)]), "most"),
    ("large header", pack([member("snapshot.json", size=1 << 40)]), "wanted 67,108,864 at most"),
    ("cut item", pack([HEADER, member(TOC_NAME, size=5000)]), "it ends too early"),
    (
        "bomb",
        pack([HEADER, (TOC_NAME, bytes(80 << 20))]),
        "too many for its size",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), [case[1:] for case in HOSTILE],
                         ids=[case[0] for case in HOSTILE])  # fmt: skip
def test_a_hostile_file_is_an_error_and_leaves_nothing(
    data: bytes, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "where"
    folder.mkdir()
    file = folder / "node"
    file.write_bytes(data)
    with pytest.raises(StoreError) as caught:
        open_store(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert caught.value.exit_code == 3
    written = sorted(each for each in tmp_path.rglob("*") if each.is_file())
    assert written == sorted([file, tmp_path / "home" / "storage.conf"])


def test_a_small_archive_of_others_is_a_store(tmp_path: Path) -> None:
    file = tmp_path / "node"
    root = {"built": [A, B], "unreadable": {A: "why"}}
    file.write_bytes(
        pack(
            [
                ("snapshot.json", header(root=root)),
                ("overlay-layers/layers.json", json.dumps([{"id": A}, {"id": B}]).encode()),
                (f"overlay-layers/{B}/zstd-chunked-manifest", b"no JSON"),
            ]
        )
    )
    store = open_store(file)
    assert [layer.id for layer in store.layers()] == [A, B]
    assert store.images() == ()
    assert store.layers()[0].target == Path("/graph/overlay", A, "diff")
    reasons = [each.reason for each in LayersCache.load(store).excluded]
    assert reasons[0] == "when the snapshot was made: why"
    assert "JSON" in reasons[1]


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MAX_MEMBERS", 10)
    file = tmp_path / "node"
    file.write_bytes(pack([HEADER, *((TOC_NAME.replace("1", str(n)), b"") for n in range(10))]))
    with pytest.raises(StoreError, match="more than 10 members"):
        open_store(file)


def test_a_snapshot_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "node"
    file.touch()
    monkeypatch.setattr(archive, "open_regular", refuse)
    with pytest.raises(StoreError, match=r"node: the snapshot cannot be unpacked: Permission"):
        open_store(file)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A snapshot of two layers, in small frames."""
    root = tmp_path_factory.mktemp("sound") / "dir"
    shutil.copytree(GOLDEN_SMALL / "stores" / "dir", root)
    edit_layers(root, lambda records: records.__delitem__(slice(2, None)))
    file = root.parent / "node"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write_snapshot, "_FRAME_BYTES", 20_000)
        patch.setenv("CONTAINERS_CONF", "/dev/null")
        patch.setenv("CONTAINERS_STORAGE_CONF", "/dev/null")
        write(open_store(root), file)
    return file.read_bytes()


def test_a_file_that_was_cut_anywhere_is_an_error(sound: bytes, tmp_path: Path) -> None:
    for cut in (*range(0, len(sound), 997), *range(len(sound) - 40, len(sound))):
        file = tmp_path / str(cut)
        file.write_bytes(sound[:cut])
        with pytest.raises(StoreError):
            open_store(file)
    assert os.listdir(unpacked_folder()) == []


@given(data=st.data())
def test_a_damaged_file_is_a_store_or_an_error(
    data: st.DataObject, sound: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    with pa.CompressedInputStream(pa.BufferReader(sound), "zstd") as stream:
        archive = bytearray(stream.read())
    for _ in range(data.draw(st.integers(1, 3))):
        offset = data.draw(st.integers(0, len(archive) - 1) | st.integers(0, 2000))
        archive[offset] = data.draw(st.integers(0, 255))
    file = folder / "node"
    file.write_bytes(compress(bytes(archive)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        try:
            store = open_store(file)
            LayersCache.load(store)
            store.images()
        except StoreError:
            pass
    assert {each.name for each in folder.iterdir()} <= {"node", "cache"}
