"""Read the layers and the images that a graph root lists, under its locks.

A graph root lists its layers in `layers.json` and, throw-away ones, in `volatile-layers.json`. With
a separate image store the layers of images are listed there, between the two; their files are then
in the image store, their big data is not. A missing list is empty.

Only the fields that a plan needs are read. A layer flagged `incomplete` was never finished, and is
skipped. A broken list or a field of the wrong type is an error: half a list of layers would give a
wrong plan silently.

Source: containers/storage layers.go Layer, newLayerStore, load; images.go Image.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vecache.errors import StoreError
from vecache.files import read_bounded, store_error
from vecache.json_fields import Fields, kind_name, load_json
from vecache.store.bigdata import big_data_file_name
from vecache.store.lock import read_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "IMAGES",
    "LAYERS",
    "MAX_LAYERS",
    "MAX_LIST_BYTES",
    "SAFE_ID",
    "ImageRecord",
    "LayerRecord",
    "check_records",
    "image_records",
    "is_incomplete",
    "layer_chain",
    "layer_lists",
    "layer_locks",
    "layer_records",
    "list_images",
    "list_layers",
    "parse_images",
    "parse_layers",
    "parse_records",
    "read_image_list",
    "read_layer_lists",
    "read_text",
    "with_host",
]

_OVERLAY: Final = "overlay"
LAYERS: Final = "overlay-layers"
IMAGES: Final = "overlay-images"
MAX_LIST_BYTES: Final = 16 << 20  # some 30,000 layers
_MAX_RECORDS: Final = 1 << 16  # 2 s; a sound list of `MAX_LIST_BYTES` has half as many
MAX_LAYERS: Final = 500  # upstream: maxDepth of the overlay driver, which cannot mount more
# An id becomes part of a path, so it must not leave its folder.
SAFE_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,254}")


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """One layer of a store; the defaults mean unknown, as for a layer that is in no store."""

    id: str  # 64 hexadecimal digits, unless another id was chosen when it was made
    parent: str | None = None  # id of the layer below
    names: tuple[str, ...] = ()  # rarely given
    diff_digest: str | None = None  # of the tar
    compressed_diff_digest: str | None = None  # of the blob
    toc_digest: str | None = None
    # of the tar, according to the image's config, where the store could not compute it
    expected_diff_digest: str | None = None
    diff_size: int = -1  # bytes of the tar; -1 where unknown
    big_data_names: tuple[str, ...] = ()  # keys of its big data
    store_root: Path = Path()  # the graph root that lists the layer and holds its big data
    files_root: Path = Path()  # the graph root of its files: another one with an `imagestore`
    is_read_only: bool = True  # whether `store_root` must not be written
    unreadable: str = ""  # why a snapshot lacks some of its big data; empty where it has all
    # key -> path of its big data, for a node of a fleet, which has no folder of its own
    items: Mapping[str, Path] | None = field(default=None, compare=False)
    host: str = ""  # which store it is of, where several are compared

    @property
    def key(self) -> str:
        """The id, with the host where several stores are compared."""
        return with_host(self.host, self.id)

    @property
    def target(self) -> Path:
        """Folder of the layer's files."""
        return Path(f"{self.files_root}/{_OVERLAY}/{self.id}/diff")  # faster than to join four

    def big_data_path(self, key: str) -> Path:
        """Return the path of a big-data item, which may not exist."""
        if self.items is not None and key in self.items:
            return self.items[key]
        return self.store_root / LAYERS / self.id / big_data_file_name(key)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a store."""

    id: str  # usually the digest of its config
    digest: str | None  # of its first manifest, or of the list that it was chosen from
    names: tuple[str, ...]  # full names, such as `localhost/app:latest`
    top_layer: str | None  # id of its topmost layer; None for an image without layers
    big_data_names: tuple[str, ...]  # keys of its big data
    store_root: Path  # the graph root that lists the image and holds its big data
    is_read_only: bool  # whether `store_root` must not be written
    # What made each layer, from the bottom up, for an image without a config to read.
    created_by: tuple[str, ...] = field(default=(), compare=False)
    # Of the big-data item `manifest`, its latest manifest; not known to a data set.
    manifest_digest: str | None = field(default=None, compare=False)
    unreadable: str = ""  # why a snapshot lacks some of its big data; empty where it has all
    # key -> path of its big data, for a node of a fleet, which has no folder of its own
    items: Mapping[str, Path] | None = field(default=None, compare=False)
    host: str = ""  # which store it is of, where several are compared

    @property
    def key(self) -> str:
        """The id, with the host where several stores are compared."""
        return with_host(self.host, self.id)

    @property
    def label(self) -> str:
        """The image's first name, or its id."""
        return self.names[0] if self.names else self.id

    def big_data_path(self, key: str) -> Path:
        """Return the path of a big-data item, which may not exist."""
        if self.items is not None and key in self.items:
            return self.items[key]
        return self.store_root / IMAGES / self.id / big_data_file_name(key)


def with_host(host: str, label: str) -> str:
    """Put the host before a label, where there is one."""
    return f"{host}: {label}" if host else label


def layer_chain(top: str | None, parents: Mapping[str, str | None]) -> tuple[str, ...]:
    """List the layers of an image from the base up, given the parent of each layer.

    The list ends where a layer is missing from `parents`, or comes again, and at `MAX_LAYERS`.
    """
    chain: dict[str, None] = {}
    while top is not None and top in parents and top not in chain and len(chain) < MAX_LAYERS:
        chain[top] = None
        top = parents[top]
    return tuple(reversed(chain))


def list_layers(
    root: Path, image_store: Path | None, *, is_read_only: bool, wait_seconds: float
) -> tuple[LayerRecord, ...]:
    """Read a store's layers under its lock."""
    return tuple(
        record
        for text, path, files in read_layer_lists(root, image_store, wait_seconds=wait_seconds)
        for record in parse_layers(
            text, path, store_root=root, files_root=files, is_read_only=is_read_only
        )
    )


def list_images(root: Path, *, is_read_only: bool, wait_seconds: float) -> tuple[ImageRecord, ...]:
    """Read a store's images under their lock."""
    text, path = read_image_list(root, wait_seconds=wait_seconds)
    return tuple(parse_images(text, path, store_root=root, is_read_only=is_read_only))


def read_layer_lists(
    root: Path, image_store: Path | None, *, wait_seconds: float
) -> list[tuple[str, Path, Path]]:
    """Read a store's lists of layers, each with its path and the graph root of their files."""
    with contextlib.ExitStack() as held:
        for lock in layer_locks(root, image_store):
            beneath = lock.parent.parent
            held.enter_context(read_lock(lock, beneath=beneath, wait_seconds=wait_seconds))
        return [(read_text(path), path, files) for path, files in layer_lists(root, image_store)]


def read_image_list(root: Path, *, wait_seconds: float) -> tuple[str, Path]:
    """Read a store's list of images, with its path."""
    path = root / IMAGES / "images.json"
    with read_lock(root / IMAGES / "images.lock", beneath=root, wait_seconds=wait_seconds):
        return read_text(path), path


def layer_lists(root: Path, image_store: Path | None) -> list[tuple[Path, Path]]:
    """Return the files that list a store's layers, each with the graph root of their files."""
    lists = [(root / LAYERS / "layers.json", root)]
    if image_store is not None:
        lists.append((image_store / LAYERS / "layers.json", image_store))
    return [*lists, (root / LAYERS / "volatile-layers.json", root)]


def layer_locks(root: Path, image_store: Path | None) -> list[Path]:
    """Return the lock files of a store's lists of layers, in the order to take them."""
    return [each / LAYERS / "layers.lock" for each in (root, image_store) if each is not None]


def read_text(path: Path) -> str:
    """Read the text of a list; a missing list is empty, as for Podman."""
    try:
        return read_bounded(path, MAX_LIST_BYTES, beneath=path.parent.parent).decode()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise store_error(error, path, "the records cannot be read") from error
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: not UTF-8 at byte {error.start}") from error


def parse_layers(
    text: str, path: Path, *, store_root: Path, files_root: Path, is_read_only: bool
) -> Iterator[LayerRecord]:
    """Parse a list of layers, without the incomplete ones."""
    yield from layer_records(
        parse_records(text, path, "layer"),
        store_root=store_root,
        files_root=files_root,
        is_read_only=is_read_only,
    )


def layer_records(
    records: Iterable[Fields], *, store_root: Path, files_root: Path, is_read_only: bool
) -> Iterator[LayerRecord]:
    """Return the layers that a list has, without the incomplete ones."""
    for record in records:
        if is_incomplete(record):
            continue
        flags = record.object("flags", {})
        yield LayerRecord(
            id=_record_id(record),
            parent=record.text("parent", "") or None,
            names=tuple(record.text_array("names", [])),
            diff_digest=record.text("diff-digest", "") or None,
            compressed_diff_digest=record.text("compressed-diff-digest", "") or None,
            toc_digest=record.text("toc-digest", "") or None,
            expected_diff_digest=flags.text("expected-layer-diffid", "") or None,
            diff_size=record.integer("diff-size", -1),
            big_data_names=tuple(record.text_array("big-data-names", [])),
            store_root=store_root,
            files_root=files_root,
            is_read_only=is_read_only,
        )


def parse_images(
    text: str, path: Path, *, store_root: Path, is_read_only: bool
) -> Iterator[ImageRecord]:
    """Parse a list of images."""
    records = parse_records(text, path, "image")
    yield from image_records(records, store_root=store_root, is_read_only=is_read_only)


def image_records(
    records: Iterable[Fields], *, store_root: Path, is_read_only: bool
) -> Iterator[ImageRecord]:
    """Return the images that a list has."""
    for record in records:
        yield ImageRecord(
            id=_record_id(record),
            digest=record.text("digest", "") or None,
            names=tuple(record.text_array("names", [])),
            top_layer=record.text("layer", "") or None,
            big_data_names=tuple(record.text_array("big-data-names", [])),
            store_root=store_root,
            is_read_only=is_read_only,
            manifest_digest=record.texts("big-data-digests").get("manifest"),
        )


def parse_records(text: str, path: Path, what: str) -> list[Fields]:
    """Parse a list of `what`; an empty text and `null` are empty lists, as for Go."""
    try:
        records = load_json(text or "[]", str(path), StoreError)
    except StoreError as error:
        raise StoreError(f"{error}; Podman cannot read this list either") from None
    return check_records(records, str(path), what)


def check_records(records: Any, where: str, what: str) -> list[Fields]:
    """Return the objects of an array; None is an empty one."""
    if records is None:
        return []
    if not isinstance(records, list):
        raise StoreError(f"{where}: found {kind_name(records)}, wanted an array of records")
    if len(records) > _MAX_RECORDS:
        raise StoreError(
            f"{where}: found {len(records):,} records, wanted {_MAX_RECORDS:,} at most"
        )
    found = [Fields(record, f"{where}: {what} {n}", StoreError) for n, record in enumerate(records)]
    for record in found:
        if not isinstance(record.values, dict):
            raise StoreError(f"{record.where}: found {kind_name(record.values)}, wanted an object")
    return found


def is_incomplete(layer: Fields) -> bool:
    """Return whether a layer is flagged as never finished."""
    flags = layer.values.get("flags")  # not a typed read: a wrong type is found when it is parsed
    return isinstance(flags, dict) and flags.get("incomplete") is True


def _record_id(record: Fields) -> str:
    found = record.text("id", "")
    if not SAFE_ID.fullmatch(found):
        raise StoreError(f"{record.where}: id: found {found!r:.80}, wanted the id of a record")
    return found
