"""Inputs that are one JSON document of all that a container holds, packed with the right sums.

So a change of one value reaches the code behind the checks of digests, sizes and checksums. An
input is an object of parts, packed in its order. A part that is a string is these bytes (latin-1);
any other is written as JSON, in which a string `=digest PART` stands for the digest of a part
before it, `=size PART` for its length, and so on: see `_Parts`.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from tests.golden import GOLDEN_SMALL, golden_toc
from tests.image import samples
from tests.stores import copy_part
from vecache.errors import VecacheError
from vecache.image.manifest import OCI_IMAGE
from vecache.image.open import open_image
from vecache.image.toc import MANIFEST_CHECKSUM, MANIFEST_POSITION, TAR_SPLIT_POSITION, TOC_DIGEST
from vecache.index.layers_cache import LayersCache
from vecache.plan.pull import plan_image
from vecache.store.bigdata import CACHE_KEY
from vecache.store.fleet import node_path, open_fleet, pack_node, read_node
from vecache.store.graphroot import Store
from vecache.store.objects import object_name, object_path, read_object
from vecache.store.open import open_store
from vecache.store.packed import pack
from vecache.store.unpack import open_snapshot
from vecache.store.write_fleet import add_store
from vecache.store.write_snapshot import write_snapshot

if TYPE_CHECKING:
    from pathlib import Path

_DATA_BYTES: Final = 1 << 20  # of a layer's blob, before its TOC
_LAYER: Final = "3492096ae743e00b7132a26af22007b370bd99a9267f1432a887b36f819678cc"
_ESTARGZ_LAYER: Final = "8d1565eb6384e7d164f028459a7c4968bfe3ff0cc0a42329ca1c3bad774704ae"
_LARGE: Final = 1 << 30
_MAX_PARTS: Final = 200  # each is a file or two, which takes the time of the target, not the reader


class NotATreeError(VecacheError):
    """An input is no tree of parts."""


class _Parts:
    """The parts that were packed so far, by name."""

    def __init__(self) -> None:
        self.packed: dict[str, bytes] = {}

    def resolve(self, value: Any) -> Any:
        """Put what the strings with `=` stand for in their place."""
        if isinstance(value, dict):
            return {key: self.resolve(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.resolve(each) for each in value]
        if not isinstance(value, str) or not value.startswith("="):
            return value
        what, _, name = value[1:].partition(" ")
        data = self.packed.get(name, b"")
        match what:
            case "digest":
                return samples.digest_of(data)
            case "size":
                return len(data)
            case "position":
                return f"{_DATA_BYTES}:{len(samples.compress_zstd(data))}:{len(data)}:1"
            case "checksum":
                return samples.digest_of(samples.compress_zstd(data))
            case "item" | "cache":
                return object_name(CACHE_KEY if what == "cache" else "", data)
        return value

    def add(self, name: str, value: Any) -> bytes:
        if isinstance(value, str):
            data = value.encode("latin-1", "replace")
        else:
            data = json.dumps(self.resolve(value)).encode()
        self.packed[name] = data
        return data


def parse_tree(data: bytes) -> dict[str, Any]:
    """Parse an input."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict) or len(tree) > _MAX_PARTS:
        raise NotATreeError
    return tree


def _part(data: bytes) -> Any:
    """Return bytes as what stands for them in a tree."""
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("latin-1")


def use_store(store: Store) -> None:
    """Load the layers of a store, open its images, and plan a pull of each."""
    cache = LayersCache.load(store)
    for image in store.images()[:4]:
        for name in image.names[:1]:
            with suppress(VecacheError):
                check_plan(open_image(f"containers-storage:{name}", store=store), cache)


def check_plan(image: Any, cache: LayersCache) -> None:
    """Plan a pull; no figure may be negative or out of order."""
    plan = plan_image(image, cache, reflink=True)
    bounds = (plan.missing_bounds, plan.fetch_bounds)
    figures = (plan.total_bytes, plan.missing_bytes, plan.fetch_bytes, plan.slack_bytes)
    assert min(*figures, plan.toc_bytes, plan.requests, plan.best.missing_bytes) >= 0, plan
    assert all(0 <= least <= most for least, most in bounds), plan
    assert plan.missing_bytes <= plan.total_bytes, plan
    plan.to_arrow()
    repr(plan)


class Images:
    """An image with one layer, whose TOC, config, manifest and index are the parts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = LayersCache.load(open_store(GOLDEN_SMALL / "stores" / "dir"), build="never")
        zstd = {
            MANIFEST_CHECKSUM: "=checksum toc",
            MANIFEST_POSITION: "=position toc",
            TAR_SPLIT_POSITION: "1:1:1",
        }
        gzip = {TOC_DIGEST: "=digest toc"}
        self.seeds = [
            self._seed(golden_toc("dir", _LAYER), zstd),
            self._seed(golden_toc("estargz", _ESTARGZ_LAYER), gzip),
        ]

    def _seed(self, toc: bytes, annotations: dict[str, str]) -> bytes:
        layer = {
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": f"sha256:{'1' * 64}",
            "size": _DATA_BYTES + (1 << 18),
            "annotations": annotations,
        }
        config = {"mediaType": "c", "digest": "=digest config", "size": "=size config"}
        image = {
            "mediaType": OCI_IMAGE,
            "digest": "=digest manifest",
            "size": "=size manifest",
            "annotations": {"org.opencontainers.image.ref.name": "1"},
        }
        tree = {
            "toc": json.loads(toc),
            "config": {"rootfs": {"type": "layers", "diff_ids": [f"sha256:{'2' * 64}"]}},
            "manifest": {
                "schemaVersion": 2,
                "mediaType": OCI_IMAGE,
                "config": config,
                "layers": [layer],
            },
            "index": {"schemaVersion": 2, "manifests": [image]},
        }
        return json.dumps(tree).encode()

    def read(self, data: bytes) -> None:
        parts = _Parts()
        files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        for name, value in parse_tree(data).items():
            packed = parts.add(name, value)
            if name in ("config", "manifest"):
                files[f"blobs/{samples.digest_of(packed).replace(':', '/')}"] = packed
        files["index.json"] = parts.packed.get("index", b"")
        shutil.rmtree(self.folder, ignore_errors=True)
        samples.write_files(self.folder, files)
        toc = parts.packed.get("toc", b"")
        is_gzip = TOC_DIGEST.encode() in parts.packed.get("manifest", b"")
        self._write_blob(toc, is_gzip=is_gzip)
        check_plan(open_image(f"oci:{self.folder}:1"), self.cache)

    def _write_blob(self, toc: bytes, *, is_gzip: bool) -> None:
        path = self.folder / "blobs/sha256" / ("1" * 64)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            if is_gzip:
                file.seek(_DATA_BYTES + (1 << 18) - len(tail := self._gzip_tail(toc)))
                file.write(tail)
            else:
                file.seek(_DATA_BYTES)
                file.write(samples.compress_zstd(toc))
                file.truncate(_DATA_BYTES + (1 << 18))

    def _gzip_tail(self, toc: bytes) -> bytes:
        member = samples.toc_member(toc)
        offset = _DATA_BYTES + (1 << 18) - len(member) - len(samples.footer(0))
        return member + samples.footer(max(0, offset))


class SnapshotTrees:
    """A snapshot, whose members are the parts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.path, self.cache = folder / "snapshot", folder / "cache"
        store = copy_part(folder, [_LAYER], ["app1"])
        with self.path.open("wb") as file:
            write_snapshot(open_store(store), file)
        with (
            pa.CompressedInputStream(pa.BufferReader(self.path.read_bytes()), "zstd") as stream,
            tarfile.open(fileobj=io.BytesIO(stream.read())) as archive,
        ):
            members = {each.name: archive.extractfile(each) for each in archive}
            tree = {name: _part(file.read()) for name, file in members.items() if file is not None}
        self.seeds = [json.dumps(tree).encode()]

    def read(self, data: bytes) -> None:
        parts, members = _Parts(), []
        for name, value in parse_tree(data).items():
            member = tarfile.TarInfo(name)
            packed = parts.add(name, value)
            member.size = len(packed)
            try:
                head = member.tobuf(tarfile.USTAR_FORMAT)
            except ValueError:  # a name that no archive can have
                raise NotATreeError from None
            members.append(head + packed + bytes(-len(packed) % tarfile.BLOCKSIZE))
        self.path.write_bytes(pack(b"".join([*members, bytes(2 * tarfile.BLOCKSIZE)]), 1))
        try:
            use_store(
                Store.of_snapshot(open_snapshot(self.path, {"XDG_CACHE_HOME": str(self.cache)}))
            )
        finally:
            shutil.rmtree(self.cache, ignore_errors=True)


class FleetTrees:
    """A fleet of one node; the objects are the parts, and the last is the node's document."""

    def __init__(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True)
        add_store(folder, open_store(copy_part(folder.parent, [_LAYER], ["app1"])), "node")
        self.folder = folder
        self.node = node_path(folder, "node")
        document = json.loads(read_node(self.node))
        tree: dict[str, Any] = {}
        for root in document["roots"]:
            for items in (*root["layer_items"].values(), *root["image_items"].values()):
                for key, name in items.items():
                    data = read_object(object_path(folder, name), _LARGE)
                    if name.endswith("-dir.cache"):  # built from the TOC: without it, built anew
                        continue
                    kind = "cache" if name.endswith(".cache") else "item"
                    tree[key], items[key] = _part(data), f"={kind} {key}"
        self.seeds = [json.dumps({**tree, "node": document}).encode()]

    def read(self, data: bytes) -> None:
        parts = _Parts()
        shutil.rmtree(self.folder / "objects", ignore_errors=True)
        for name, value in parse_tree(data).items():
            packed = parts.add(name, value)
            for object_, stored in (
                (object_name("", packed), pack(packed, 1)),
                (object_name(CACHE_KEY, packed), packed),
            ):
                path = object_path(self.folder, object_)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(stored)
        self.node.write_bytes(pack_node(parts.packed.get("node", b"")))
        use_store(open_fleet(self.folder).open_node("node"))
