"""Read what a snapshot says: one file with all of a store that plans need, for other machines.

`write_snapshot.py` writes one, `unpack.py` opens it; this is the format.

A snapshot is a ustar archive compressed with zstd (`tar -tf FILE` lists it). Its members, all of
them regular files, are

=============================  =====================================================================
`snapshot.json`                the first member: whose store this is, and how it is pulled into
`overlay-layers/layers.json`   records of the layers, in store order
`overlay-layers/ID/KEY`        big data of a layer: its TOC, its layout, its cache file
`overlay-images/images.json`   records of the images
`overlay-images/ID/KEY`        big data of an image: its manifests, its config
`additional/N/overlay-...`     the same for additional store N
=============================  =====================================================================

where KEY is the item's key, not the name of its file. `snapshot.json` is one object:

=============================  =====================================================================
`schema`                       `vecache.snapshot/1`
`host`, `time`                 name of the machine, and when the store was read (ISO 8601, UTC)
`versions`                     of vecache, Python and the kernel
`driver`                       `overlay`
`storage_conf`                 the file that was read; empty where there was none
`is_own`                       whether it named this store, so that all settings are the store's
`settings`                     the fields of `PullSettings`
`blob_info`                    `blobs`, `tocs`: the pairs of `BlobInfo` that its layers could match
`roots`                        the graph root, then the additional stores
`removed`                      ids of layers and images that were removed while the store was read
=============================  =====================================================================

Each root has a `path`, an `image_store` (a path or null), `image_store_layers` (ids of the layers
whose files are there), `built` (ids of the layers whose cache file is what the TOC gives: it is not
in the archive, and is built when the snapshot is opened) and `unreadable` (id to reason).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vecache.digest import is_digest
from vecache.errors import StoreError
from vecache.json_fields import Fields, parse_fields
from vecache.store.bigdata import (
    CACHE_KEY,
    LAYER_DATA_KEY,
    MAX_BIG_DATA_BYTES,
    MAX_LAYER_DATA_BYTES,
    TOC_KEY,
)
from vecache.store.blob_info import BlobInfo
from vecache.store.config import StorageConfig
from vecache.store.records import (
    SAFE_ID,
    ImageRecord,
    LayerRecord,
    list_images,
    list_layers,
)
from vecache.store.settings import PullSettings
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vecache.atomic import FolderLock
    from vecache.store.fleet import FleetLock

__all__ = [
    "HEADER",
    "IMAGE_ITEM",
    "MAX_IMAGE_ITEM_BYTES",
    "MAX_LAYER_ITEM_BYTES",
    "SCHEMA",
    "Snapshot",
    "SnapshotRoot",
    "additional_folder",
    "header_snapshot",
    "not_a_snapshot",
    "parse_header",
]

SCHEMA: Final = "vecache.snapshot/1"
HEADER: Final = "snapshot.json"
IMAGE_ITEM: Final = re.compile(r"(manifest|(manifest-)?sha(256|384|512):[0-9a-f]{64,128})")
MAX_IMAGE_ITEM_BYTES: Final = 16 << 20
"""More than a manifest or a config may have."""
MAX_LAYER_ITEM_BYTES: Final = {
    TOC_KEY: MAX_BIG_DATA_BYTES,
    CACHE_KEY: MAX_BIG_DATA_BYTES,
    LAYER_DATA_KEY: MAX_LAYER_DATA_BYTES,
}


@dataclass(frozen=True, slots=True)
class SnapshotRoot:
    """One graph root of a snapshot."""

    folder: Path  # where it is unpacked
    path: Path  # where it was on its machine
    image_store: Path | None
    image_store_layers: frozenset[str]  # ids of the layers whose files were in the image store
    built: frozenset[str]  # ids of the layers whose cache file was built here
    unreadable: Mapping[str, str]  # id of a layer or an image -> why not all of it could be read
    # of a node of a fleet, which has no folder: what the lists in it would give
    layers: tuple[LayerRecord, ...] | None = None
    images: tuple[ImageRecord, ...] | None = None

    def list_layers(self, *, wait_seconds: float) -> tuple[LayerRecord, ...]:
        """Return the layers of this root, as they were on their machine."""
        if self.layers is not None:
            return self.layers
        records = list_layers(self.folder, None, is_read_only=True, wait_seconds=wait_seconds)
        return tuple(map(self.restore_layer, records))

    def list_images(self, *, wait_seconds: float) -> tuple[ImageRecord, ...]:
        """Return the images of this root, as they were on their machine."""
        if self.images is not None:
            return self.images
        records = list_images(self.folder, is_read_only=True, wait_seconds=wait_seconds)
        return tuple(map(self.restore_image, records))

    def restore_layer(
        self, record: LayerRecord, items: Mapping[str, Path] | None = None
    ) -> LayerRecord:
        """Add to a record what only its own machine knows, and where its items are."""
        files_root = self.image_store if record.id in self.image_store_layers else None
        return replace(
            record,
            files_root=files_root or self.path,
            unreadable=self.unreadable.get(record.id, ""),
            items=items,
        )

    def restore_image(
        self, record: ImageRecord, items: Mapping[str, Path] | None = None
    ) -> ImageRecord:
        """Add to a record what only its own machine knows, and where its items are."""
        return replace(record, unreadable=self.unreadable.get(record.id, ""), items=items)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot says about the store that it was made of."""

    path: Path  # the file, or FOLDER#NODE
    host: str
    time: datetime  # in UTC
    versions: Mapping[str, str]
    driver: str
    storage_conf: str  # path of the file on its machine; empty where there was none
    is_own: bool
    settings: PullSettings
    blob_info: BlobInfo
    roots: tuple[SnapshotRoot, ...]  # the graph root, then the additional stores
    removed: tuple[str, ...]
    # keeps others from removing what it was unpacked to, or the objects of its fleet
    lock: FolderLock | FleetLock | None = field(default=None, compare=False, repr=False)

    @property
    def config(self) -> StorageConfig:
        """What storage.conf said on the snapshot's machine."""
        root, *additional = self.roots
        return StorageConfig(
            driver=self.driver,
            graph_root=root.path,
            image_store=root.image_store,
            additional_stores=tuple(each.path for each in additional),
            use_hard_links=self.settings.hard_links,
            enable_partial_images=self.settings.partial,
            convert_images=self.settings.convert,
            allow_unpredictable=self.settings.estargz,
            use_composefs=self.settings.layout is Layout.FLAT,
            path=Path(self.storage_conf) if self.storage_conf else None,
        )

    def on_machine(self, text: str) -> str:
        """Return a path or a message with the paths of the snapshot's machine, not of this one."""
        for root in reversed(self.roots):  # folders of additional stores are within the first
            text = text.replace(str(root.folder), str(root.path))
        return text


def additional_folder(number: int) -> str:
    """Return the folder of an additional store in the archive."""
    return f"additional/{number}/"


def not_a_snapshot(path: Path, reason: str) -> StoreError:
    """Return the error of a file that is something else."""
    return StoreError(
        f"{path}: neither a graph root nor a snapshot: {reason}; `vecache snapshot -o FILE` "
        "makes one"
    )


def parse_header(data: bytes, path: Path, folder: Path) -> Snapshot:
    """Parse `snapshot.json`."""
    return header_snapshot(parse_fields(data, f"{path}: {HEADER}", StoreError), path, folder)


def header_snapshot(header: Fields, path: Path, folder: Path) -> Snapshot:
    """Return what the object in `snapshot.json` says."""
    schema = header.text("schema", "")
    if schema != SCHEMA:
        if re.fullmatch(r"vecache\.snapshot/[0-9]+", schema):
            raise StoreError(
                f"{path}: a snapshot of another version of vecache: found {schema}, wanted "
                f"{SCHEMA}; make it again with this version, or read it with the other one"
            )
        raise not_a_snapshot(path, f"found schema {schema!r:.60}, wanted {SCHEMA}")
    roots = header.objects("roots")
    if not 1 <= len(roots) <= 1000:
        raise StoreError(f"{header.where}: roots: found {len(roots)}, wanted 1 to 1,000")
    return Snapshot(
        path=path,
        host=header.text("host"),
        time=_time(header),
        versions=header.texts("versions"),
        driver=header.text("driver"),
        storage_conf=header.text("storage_conf"),
        is_own=header.boolean("is_own"),
        settings=_settings(header.object("settings")),
        blob_info=_blob_info(header.object("blob_info")),
        roots=tuple(
            _root(each, folder / additional_folder(number - 1) if number else folder)
            for number, each in enumerate(roots)
        ),
        removed=tuple(header.text_array("removed")),
    )


def _time(header: Fields) -> datetime:
    text = header.text("time")
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise StoreError(
            f"{header.where}: time: found {text!r:.60}, wanted a time as 2026-01-31T12:00:00Z"
        ) from None


def _settings(values: Fields) -> PullSettings:
    found: dict[str, Any] = {
        each.name: values.boolean(each.name)
        for each in fields(PullSettings)
        if each.name not in ("layout", "parallel")
    }
    layout, parallel = values.text("layout"), values.integer("parallel")
    if layout not in tuple(Layout) or parallel < 1:
        raise StoreError(
            f"{values.where}: found layout {layout!r:.20} and parallel {parallel}, wanted dir or "
            "flat and a number from 1"
        )
    return PullSettings(layout=Layout(layout), parallel=parallel, **found)


def _blob_info(values: Fields) -> BlobInfo:
    blobs, tocs = values.texts("blobs"), values.texts("tocs")
    for pair in (*blobs.items(), *tocs.items()):
        if not all(map(is_digest, pair)):
            raise StoreError(f"{values.where}: found {pair!r:.200}, wanted two digests")
    return BlobInfo(blobs, tocs)


def _root(values: Fields, folder: Path) -> SnapshotRoot:
    ids = partial(_ids, values)
    image_store = values.text("image_store", "")
    return SnapshotRoot(
        folder=folder,
        path=Path(values.text("path")),
        image_store=Path(image_store) if image_store else None,
        image_store_layers=ids("image_store_layers"),
        built=ids("built"),
        unreadable=values.texts("unreadable"),
    )


def _ids(values: Fields, name: str) -> frozenset[str]:
    found = values.text_array(name)
    for each in found:
        if not SAFE_ID.fullmatch(each):
            raise StoreError(f"{values.where}: {name}: found {each!r:.80}, wanted ids of records")
    return frozenset(found)
