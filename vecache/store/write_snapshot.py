"""Write a snapshot: one file with all of a store that plans need; `snapshot.py` has the format.

Records are read under the store's locks, as always; the items of layers without any. So after the
items the records are read once more, and what is no longer listed is left out of them. What cannot
be read stays listed, with the reason, and plans with the snapshot name it as those with the store
do.

Members are compressed together, in frames of 32 MiB, so that what layers share is found.
"""

from __future__ import annotations

import json
import platform
import shutil
import tarfile
import tempfile
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final

from vecache.cache.writer import build_cache
from vecache.errors import StoreError, VecacheError
from vecache.store.bigdata import (
    CACHE_KEY,
    LAYER_DATA_KEY,
    TOC_KEY,
    layer_layout,
    read_big_data,
)
from vecache.store.packed import max_unpacked_bytes, pack
from vecache.store.records import (
    IMAGES,
    LAYERS,
    is_incomplete,
    parse_images,
    parse_layers,
    parse_records,
    read_image_list,
    read_layer_lists,
)
from vecache.store.snapshot import (
    HEADER,
    IMAGE_ITEM,
    MAX_IMAGE_ITEM_BYTES,
    MAX_LAYER_ITEM_BYTES,
    SCHEMA,
    additional_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from vecache.store.graphroot import Store
    from vecache.store.records import ImageRecord, LayerRecord

__all__ = ["WrittenSnapshot", "write_snapshot"]

_FRAME_BYTES: Final = 32 << 20
_LEVEL: Final = 6
_SPOOLED_BYTES: Final = 64 << 20


@dataclass(slots=True)
class WrittenSnapshot:
    """What a snapshot holds; a record says why not all of it could be read (`unreadable`)."""

    layers: list[LayerRecord] = field(default_factory=list)
    images: list[ImageRecord] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)  # ids of what was removed meanwhile


def write_snapshot(
    store: Store, out: BinaryIO, *, progress: Callable[[], object] | None = None
) -> WrittenSnapshot:
    """Write the snapshot of a store; `progress` is called after each layer."""
    if store.snapshot is not None:
        what = "copy the file" if store.path.is_file() else "`fleet list` shows of what host"
        raise StoreError(f"{store.path}: is a snapshot already; {what}")
    settings = store.pull_settings()
    written = WrittenSnapshot()
    # The header comes first and says what was found, so it is written last: frames of zstd can
    # simply follow each other.
    with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as body:
        archive = _Archive(body)
        roots = [
            _write_root(store, root, prefix, archive, written, progress)
            for root, prefix in _roots(store)
        ]
        archive.finish()
        header = {
            "schema": SCHEMA,
            "host": platform.node(),
            "time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "versions": {
                "vecache": metadata.version("vecache"),
                "python": platform.python_version(),
                "kernel": platform.release(),
            },
            "driver": store.config.driver,
            "storage_conf": str(store.config.path or ""),
            "is_own": store.is_own,
            "settings": asdict(settings),
            "blob_info": _matching_pairs(store, written.layers),
            "roots": roots,
            "removed": written.removed,
        }
        head = _Archive(out)
        head.add(HEADER, json.dumps(header, indent=1).encode())
        head.flush()
        n_bytes, n_packed = head.n_bytes + archive.n_bytes, head.n_packed + archive.n_packed
        if n_bytes > max_unpacked_bytes(n_packed):
            raise StoreError(f"{store.root}: {n_bytes:,} bytes are too many for a snapshot")
        body.seek(0)
        shutil.copyfileobj(body, out)
    return written


def _roots(store: Store) -> list[tuple[Path, str]]:
    """Return all graph roots of a store, each with its folder in the archive."""
    additional = enumerate(store.additional_stores)
    return [(store.root, ""), *((root, additional_folder(number)) for number, root in additional)]


def _matching_pairs(store: Store, layers: Iterable[LayerRecord]) -> dict[str, dict[str, str]]:
    """Return the pairs of Podman's blob-info cache in which a digest of a layer occurs."""
    known = {
        digest
        for layer in layers
        for digest in (layer.diff_digest, layer.compressed_diff_digest, layer.toc_digest)
    }
    info = store.blob_info()
    return {
        name: {key: value for key, value in pairs.items() if value and {key, value} & known}
        for name, pairs in (("blobs", info.blobs), ("tocs", info.tocs))
    }


def _write_root(
    store: Store,
    root: Path,
    prefix: str,
    archive: _Archive,
    written: WrittenSnapshot,
    progress: Callable[[], object] | None,
) -> dict[str, Any]:
    """Write all members of one graph root, and return what the header says about it."""
    image_store = store.image_store if root == store.root else None
    layers, images = _list(store, root, image_store)
    unreadable: dict[str, str] = {}
    built: list[str] = []
    for _, layer in layers.values():
        try:
            if _write_layer(layer, f"{prefix}{LAYERS}/{layer.id}/", archive):
                built.append(layer.id)
        except StoreError as error:
            unreadable[layer.id] = str(error)
        if progress is not None:
            progress()
    for _, image in images.values():
        try:
            _write_image(image, f"{prefix}{IMAGES}/{image.id}/", archive)
        except StoreError as error:
            unreadable[image.id] = str(error)
    layers_now, images_now = _list(store, root, image_store)
    removed = (layers.keys() - layers_now.keys()) | (images.keys() - images_now.keys())
    for name, records in (
        (f"{prefix}{LAYERS}/layers.json", layers),
        (f"{prefix}{IMAGES}/images.json", images),
    ):
        rest = [values for each, (values, _) in records.items() if each not in removed]
        archive.add(name, json.dumps(rest).encode())
    unreadable = {each: why for each, why in unreadable.items() if each not in removed}
    written.layers += [
        replace(layer, unreadable=unreadable.get(each, ""))
        for each, (_, layer) in layers.items()
        if each not in removed
    ]
    written.images += [
        replace(image, unreadable=unreadable.get(each, ""))
        for each, (_, image) in images.items()
        if each not in removed
    ]
    written.removed += sorted(removed)
    return {
        "path": str(root),
        "image_store": None if image_store is None else str(image_store),
        "image_store_layers": [
            layer.id for _, layer in layers.values() if layer.files_root == image_store
        ],
        "built": built,
        "unreadable": unreadable,
    }


def _list(
    store: Store, root: Path, image_store: Path | None
) -> tuple[dict[str, tuple[Any, LayerRecord]], dict[str, tuple[Any, ImageRecord]]]:
    """Return the layers and images of a graph root by id: as they are listed, and parsed."""
    layers: dict[str, tuple[Any, LayerRecord]] = {}
    images: dict[str, tuple[Any, ImageRecord]] = {}
    wait = store.lock_wait_seconds
    for text, path, files_root in read_layer_lists(root, image_store, wait_seconds=wait):
        listed = [r.values for r in parse_records(text, path, "layer") if not is_incomplete(r)]
        for values, layer in zip(
            listed,
            parse_layers(text, path, store_root=root, files_root=files_root, is_read_only=True),
            strict=True,
        ):
            layers.setdefault(layer.id, (values, layer))
    for each in filter(None, (image_store, root)):
        text, path = read_image_list(each, wait_seconds=wait)
        for record, image in zip(
            parse_records(text, path, "image"),
            parse_images(text, path, store_root=each, is_read_only=True),
            strict=True,
        ):
            images.setdefault(image.id, (record.values, image))
    return layers, images


def _write_layer(layer: LayerRecord, folder: str, archive: _Archive) -> bool:
    """Write the items of a layer; return whether its cache can be built instead."""
    errors: list[StoreError] = []
    items: dict[str, bytes] = {}
    for key in (TOC_KEY, LAYER_DATA_KEY, CACHE_KEY):
        try:
            data = read_big_data(layer, key, MAX_LAYER_ITEM_BYTES[key])
        except StoreError as error:  # the others may be enough
            errors.append(error)
            continue
        if data is not None:
            items[key] = data
    is_built = CACHE_KEY in items and items[CACHE_KEY] == _build(layer, items.get(TOC_KEY))
    if is_built:
        del items[CACHE_KEY]
    for key, data in items.items():
        archive.add(folder + key, data)
    if errors:
        raise errors[0]
    return is_built


def _build(layer: LayerRecord, toc_data: bytes | None) -> bytes | None:
    """Return the cache that a TOC gives; None where it gives none."""
    if toc_data is None:
        return None
    try:
        return build_cache(toc_data, layer_layout(layer))
    except VecacheError:
        return None


def _write_image(image: ImageRecord, folder: str, archive: _Archive) -> None:
    """Write the manifests and the config of an image."""
    for key in image.big_data_names:
        if IMAGE_ITEM.fullmatch(key):
            data = read_big_data(image, key, MAX_IMAGE_ITEM_BYTES)
            if data is not None:
                archive.add(folder + key, data)


class _Archive:
    """A ustar archive that is written in frames of zstd."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._frame = bytearray()
        self.n_bytes = 0
        self.n_packed = 0

    def add(self, name: str, data: bytes) -> None:
        """Add one member."""
        member = tarfile.TarInfo(name)
        member.size = len(data)
        try:
            header = member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
        except ValueError as error:
            raise StoreError(f"{name}: {error}: it has no place in a snapshot") from None
        for part in (header, data, bytes(-len(data) % tarfile.BLOCKSIZE)):
            self._write(part)

    def finish(self) -> None:
        """Write the end of the archive."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self.flush()

    def _write(self, part: bytes) -> None:
        self._frame += part
        self.n_bytes += len(part)
        if len(self._frame) >= _FRAME_BYTES:
            self.flush()

    def flush(self) -> None:
        """End the frame."""
        packed = pack(bytes(self._frame), _LEVEL)
        self._out.write(packed)
        self.n_packed += len(packed)
        self._frame.clear()
