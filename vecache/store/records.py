"""Say what a graph root records of a layer and of an image.

Of the records in `layers.json` and `images.json` this reads what a plan needs. A layer flagged
`incomplete` was never finished, and is left out.

Source: containers/storage layers.go Layer; images.go Image.

Read the lists of a graph root under its locks.

A graph root lists its layers in `layers.json` and, for throw-away ones, in `volatile-layers.json`;
with a separate image store the layers of images are listed there, between the two. Their files then
are in the image store, their big data is not. A list that is missing is empty.

Source: containers/storage layers.go newLayerStore, load.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vecache.errors import StoreError
from vecache.files import read_bounded, store_error
from vecache.store.bigdata import big_data_file_name
from vecache.store.fields import Fields, parse_array
from vecache.store.lock import read_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "IMAGES",
    "LAYERS",
    "ImageRecord",
    "LayerRecord",
    "is_incomplete",
    "layer_lists",
    "layer_locks",
    "list_images",
    "list_layers",
    "parse_images",
    "parse_layers",
    "read_text",
]

_OVERLAY: Final = "overlay"
LAYERS: Final = "overlay-layers"
IMAGES: Final = "overlay-images"


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One layer of a store; what is left out is unknown, as for a layer that no store has."""

    id: str  # its id, 64 hexadecimal digits unless somebody chose another
    parent: str | None = None  # id of the layer below
    names: tuple[str, ...] = ()  # names given to the layer; rare
    # digests of the tar, of the blob and of the TOC, as far as the store knows them
    diff_digest: str | None = None
    # digests of the tar, of the blob and of the TOC, as far as the store knows them
    compressed_diff_digest: str | None = None
    # digests of the tar, of the blob and of the TOC, as far as the store knows them
    toc_digest: str | None = None
    # what the image says the digest of the tar is, where the store could not compute it
    expected_diff_digest: str | None = None
    diff_size: int = -1  # bytes of the tar; -1 where unknown
    big_data_names: tuple[str, ...] = ()  # keys of its big data
    store_root: Path = Path()  # the graph root that lists the layer and keeps its big data
    # the graph root that keeps its files: another one only with a separate `imagestore`
    files_root: Path = Path()
    is_read_only: bool = True  # whether nothing may be written there

    @property
    def target(self) -> Path:
        """Folder of the layer's own files."""
        return self.files_root / _OVERLAY / self.id / "diff"

    def big_data_path(self, key: str) -> Path:
        """Return the path of a big-data item, whether it is there or not."""
        return self.store_root / LAYERS / self.id / big_data_file_name(key)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a store."""

    id: str  # its id: the digest of its config, or what Podman made of it
    digest: str | None  # digest of its manifest
    names: tuple[str, ...]  # its full names, such as `localhost/app:latest`
    top_layer: str | None  # id of its topmost layer; None for an image without layers
    big_data_names: tuple[str, ...]  # keys of its big data
    store_root: Path  # the graph root that lists it and keeps its big data
    is_read_only: bool  # whether nothing may be written there

    def big_data_path(self, key: str) -> Path:
        """Return the path of a big-data item, whether it is there or not."""
        return self.store_root / IMAGES / self.id / big_data_file_name(key)


def parse_layers(
    text: str, path: Path, *, store_root: Path, files_root: Path, is_read_only: bool
) -> Iterator[LayerRecord]:
    """Parse a list of layers, without the incomplete ones."""
    for number, values in enumerate(parse_array(text, path)):
        record = Fields(values, f"{path}: layer {number}")
        if is_incomplete(record.values):
            continue
        flags = Fields(record.take("flags", dict, "an object") or {}, f"{record.where} flags")
        yield LayerRecord(
            id=record.safe_id(),
            parent=record.text("parent"),
            names=record.texts("names"),
            diff_digest=record.text("diff-digest"),
            compressed_diff_digest=record.text("compressed-diff-digest"),
            toc_digest=record.text("toc-digest"),
            expected_diff_digest=flags.text("expected-layer-diffid"),
            diff_size=record.whole("diff-size", default=-1),
            big_data_names=record.texts("big-data-names"),
            store_root=store_root,
            files_root=files_root,
            is_read_only=is_read_only,
        )


def parse_images(
    text: str, path: Path, *, store_root: Path, is_read_only: bool
) -> Iterator[ImageRecord]:
    """Parse a list of images."""
    for number, values in enumerate(parse_array(text, path)):
        record = Fields(values, f"{path}: image {number}")
        yield ImageRecord(
            id=record.safe_id(),
            digest=record.text("digest"),
            names=record.texts("names"),
            top_layer=record.text("layer"),
            big_data_names=record.texts("big-data-names"),
            store_root=store_root,
            is_read_only=is_read_only,
        )


def is_incomplete(record: dict[str, Any]) -> bool:
    """Say whether a layer's record is flagged as one that was never finished."""
    flags = record.get("flags")
    return isinstance(flags, dict) and flags.get("incomplete") is True


_MAX_LIST_BYTES: Final = 16 << 20  # some 30,000 layers


def layer_lists(root: Path, image_store: Path | None) -> list[tuple[Path, Path]]:
    """Name the files that list a store's layers."""
    lists = [(root / LAYERS / "layers.json", root)]
    if image_store is not None:
        lists.append((image_store / LAYERS / "layers.json", image_store))
    return [*lists, (root / LAYERS / "volatile-layers.json", root)]


def layer_locks(root: Path, image_store: Path | None) -> list[Path]:
    """Name the lock files that guard a store's lists of layers, in the order to take them."""
    return [each / LAYERS / "layers.lock" for each in (root, image_store) if each is not None]


def list_layers(
    root: Path, image_store: Path | None, *, is_read_only: bool, wait_seconds: float
) -> tuple[LayerRecord, ...]:
    """Read a store's layers under its lock."""
    with contextlib.ExitStack() as held:
        for lock in layer_locks(root, image_store):
            held.enter_context(read_lock(lock, wait_seconds=wait_seconds))
        texts = [(read_text(path), path, files) for path, files in layer_lists(root, image_store)]
    return tuple(
        record
        for text, path, files in texts
        for record in parse_layers(
            text, path, store_root=root, files_root=files, is_read_only=is_read_only
        )
    )


def list_images(root: Path, *, is_read_only: bool, wait_seconds: float) -> tuple[ImageRecord, ...]:
    """Read a store's images under their lock."""
    path = root / IMAGES / "images.json"
    with read_lock(root / IMAGES / "images.lock", wait_seconds=wait_seconds):
        text = read_text(path)
    return tuple(parse_images(text, path, store_root=root, is_read_only=is_read_only))


def read_text(path: Path) -> str:
    """Read a file of records."""
    try:
        return read_bounded(path, _MAX_LIST_BYTES).decode()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise store_error(error, path, "the records cannot be read") from error
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: no UTF-8 at byte {error.start}") from error
