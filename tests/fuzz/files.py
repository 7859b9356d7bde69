"""Files that are read from a disk: blobs, archives, records, snapshots, nodes, indexes."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import xxhash

from tests.fuzz.documents import run_each
from tests.image import samples
from tests.index.disk_store import StoreOfLayers, check_answers
from vecache.image.blob import FileBlob
from vecache.image.local import OciLayout, TarFiles
from vecache.image.manifest import Descriptor
from vecache.image.source import load_image
from vecache.image.toc import MANIFEST_CHECKSUM, MANIFEST_POSITION, TOC_DIGEST, find_toc, read_toc
from vecache.index.disk import HEAD, SUMMED_FROM, RunLayout, open_run
from vecache.index.disk_folder import IndexFolder
from vecache.store.fleet import node_path, open_fleet, pack_node, read_node
from vecache.store.open import open_store
from vecache.store.packed import pack
from vecache.store.records import list_images, list_layers
from vecache.store.unpack import open_snapshot
from vecache.store.write_fleet import add_store
from vecache.store.write_snapshot import write_snapshot
from vecache.toc.parse import Toc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ZSTD = b"\x28\xb5\x2f\xfd"


class Blobs:
    """A layer's blob; the first line of an input is the position of its zstd:chunked TOC."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.path = folder / "blob"
        zstd, gzip = samples.zstd_layer(), samples.estargz_layer()
        position = zstd.annotations[MANIFEST_POSITION].encode()
        self.seeds = [position + b"\n" + zstd.blob, b"\n" + gzip.blob]

    def read(self, data: bytes) -> None:
        position, _, blob = data.partition(b"\n")
        self.path.write_bytes(blob)
        annotations = {TOC_DIGEST: samples.digest_of(samples.TOC)}
        if position:
            start, length = (*position.split(b":"), b"", b"")[:2]
            frame = b""
            if start.isdigit() and length.isdigit() and len(start + length) < 30:
                frame = blob[int(start) : int(start) + int(length)]
            annotations = {
                MANIFEST_POSITION: position.decode("latin-1"),
                MANIFEST_CHECKSUM: samples.digest_of(frame),
            }
        digest = samples.digest_of(blob)
        layer = Descriptor(digest, len(blob), "", annotations, where="layer")
        reader = find_toc(layer, FileBlob(self.path, len(blob)))
        if reader is not None:
            Toc.parse(read_toc(reader))


class Archives:
    """An image in a tar archive."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.path = folder / "image.tar"
        images = [
            samples.make_image([samples.zstd_layer(), samples.plain_layer()]),
            samples.make_image([samples.estargz_layer()]),
        ]
        self.seeds = [
            samples.write_archive(self.path, samples.layout_files({"1": image})).read_bytes()
            for image in images
        ]

    def read(self, data: bytes) -> None:
        self.path.write_bytes(data)
        image = load_image(OciLayout(TarFiles(self.path), "1"), "here", None)
        for layer in image.layers:
            if layer.toc_digest is not None:
                assert layer.toc.n_bytes


class Records:
    """The lists of layers and images of a graph root."""

    def __init__(self, folder: Path, stores: Sequence[Path]) -> None:
        self.root = folder
        names = ("overlay-layers/layers.json", "overlay-images/images.json")
        self.paths = [folder / name for name in names]
        for path in self.paths:
            path.parent.mkdir(parents=True)
        self.seeds = [(store / name).read_bytes() for name in names for store in stores]

    def read(self, data: bytes) -> None:
        for path in self.paths:
            path.write_bytes(data)
        run_each(
            lambda: list_layers(self.root, None, is_read_only=True, wait_seconds=1),
            lambda: list_images(self.root, is_read_only=True, wait_seconds=1),
        )


class Snapshots:
    """A snapshot; an input that is not compressed is the archive in it."""

    def __init__(self, folder: Path, store: Path) -> None:
        folder.mkdir(parents=True)
        self.path, self.cache = folder / "snapshot", folder / "cache"
        with self.path.open("wb") as file:
            write_snapshot(open_store(store), file)
        packed = self.path.read_bytes()
        with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
            self.seeds = [packed, bytes(stream.read())]

    def read(self, data: bytes) -> None:
        self.path.write_bytes(data if data.startswith(_ZSTD) else pack(data, 1))
        try:
            snapshot = open_snapshot(self.path, {"XDG_CACHE_HOME": str(self.cache)})
            for root in snapshot.roots:
                root.list_layers(wait_seconds=1)
                root.list_images(wait_seconds=1)
        finally:
            shutil.rmtree(self.cache, ignore_errors=True)


class Nodes:
    """A node of a fleet; an input that is not compressed is its document."""

    def __init__(self, folder: Path, store: Path) -> None:
        add_store(folder, open_store(store), "node")
        self.fleet, self.path = open_fleet(folder), node_path(folder, "node")
        self.seeds = [self.path.read_bytes(), read_node(self.path)]

    def read(self, data: bytes) -> None:
        self.path.write_bytes(data if data.startswith(_ZSTD) else pack_node(data))
        node = self.fleet.open_node("node")
        node.layers()
        node.images()
        node.pull_settings()


class Indexes:
    """The index on disk: no damage changes an answer, and a damaged head is never a crash."""

    def __init__(self, folder: Path, caches: Sequence[bytes]) -> None:
        self.store = StoreOfLayers(folder)
        self.layers = [self.store.put(f"layer-{n}", data) for n, data in enumerate(caches)]
        self.store.folder.open(self.layers, always=True)
        (self.path,) = [path for path in self.store.files() if path.suffix != ".lock"]
        self.seeds = [self.path.read_bytes()]
        self.reader = IndexFolder(self.store.index, self.store.root, is_read_only=True)

    def read(self, data: bytes) -> None:
        self.path.write_bytes(data)
        check_answers(self.reader.open(self.layers), self.layers)
        self.path.write_bytes(_with_checksum(data))
        open_run(os.fspath(self.path), self.reader.key).guard.count_damaged()


def _with_checksum(data: bytes) -> bytes:
    """Put the checksum of the head right, if its counts are possible."""
    if len(data) < HEAD.itemsize:
        return data
    head = np.frombuffer(data[: HEAD.itemsize], HEAD).copy()
    names = ("n_layers", "n_tags", "n_located", "bucket_bits")
    n_layers, n_tags, n_located, bits = (int(head[name][0]) for name in names)
    layout = RunLayout(n_layers, n_tags, n_located, min(bits, 16))
    if layout.n_bytes != len(data):
        return data
    head["checksum"] = xxhash.xxh3_64_intdigest(data[SUMMED_FROM : layout.head_bytes])
    return head.tobytes() + data[HEAD.itemsize :]
