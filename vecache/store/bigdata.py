"""Find and read the big data of a layer or an image: its cache, its TOC, its manifest.

A big-data item is a file in the folder of its layer or image. The file's name is the item's key, or
`=` and the key in base64 where the key has characters other than `.`, `0-9`, `a-z`. The files are
replaced by renaming, never written in place, so reading one needs no lock. A layer may be removed
at any time; its items are missing then. A node of a fleet has its items elsewhere (`objects.py`).

Source: containers/storage store.go makeBigDataBaseName; pkg/chunked/storage_linux.go.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final, Protocol

from vecache.errors import StoreError
from vecache.files import read_bounded, store_error
from vecache.json_fields import load_json, parse_fields
from vecache.toc.layout import MAX_TOC_BYTES, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "CACHE_FILE_NAME",
    "CACHE_KEY",
    "LAYER_DATA_KEY",
    "MAX_BIG_DATA_BYTES",
    "MAX_LAYER_DATA_BYTES",
    "TOC_KEY",
    "BigDataOwner",
    "big_data_file_name",
    "layer_layout",
    "read_big_data",
]

CACHE_KEY: Final = "chunked-manifest-cache"
"""Key of a layer's cache file (upstream: cacheKey)."""

TOC_KEY: Final = "zstd-chunked-manifest"
"""Key of a layer's TOC, for both formats (upstream: bigDataKey)."""

LAYER_DATA_KEY: Final = "zstd-chunked-layer-data"
"""Key of the item that holds the layout (upstream: chunkedLayerDataKey)."""

MAX_BIG_DATA_BYTES: Final = 1 << 30
"""More than containers/storage itself would accept of a cache file."""

MAX_LAYER_DATA_BYTES: Final = 1 << 16
_LAYOUTS: Final = {0: Layout.DIR, 1: Layout.FLAT}  # upstream: DifferOutputFormat


class BigDataOwner(Protocol):
    """An owner of big data: a `LayerRecord` or an `ImageRecord`."""

    @property
    def unreadable(self) -> str:
        """Why a snapshot lacks some of its big data; empty where it has all."""
        ...

    @property
    def store_root(self) -> Path:
        """Graph root that holds its big data."""
        ...

    @property
    def items(self) -> Mapping[str, Path] | None:
        """Where the items of a node of a fleet are, by key; None for another store."""
        ...

    def big_data_path(self, key: str) -> Path:
        """Return the path of an item, which may not exist."""
        ...


def big_data_file_name(key: str) -> str:
    """Return the name of the file of a big-data item.

    Examples
    --------
    >>> big_data_file_name("manifest"), big_data_file_name("chunked-manifest-cache")
    ('manifest', '=Y2h1bmtlZC1tYW5pZmVzdC1jYWNoZQ==')
    """
    name = key
    # Not the last character: upstream's loop has ended when it could count it.
    if not re.fullmatch("[.0-9a-z]*", key[:-1]):
        name = "=" + base64.b64encode(key.encode()).decode()
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"big data: found key {key!r}, which cannot name a file")
    return name


CACHE_FILE_NAME: Final = big_data_file_name(CACHE_KEY)
"""Name of the file of a layer's cache."""


def read_big_data(owner: BigDataOwner, key: str, max_bytes: int | None = None) -> bytes | None:
    """Read a whole big-data item; None where it is missing, or its layer was removed.

    One of more than `max_bytes`, by default what its key allows, is not read.
    """
    if max_bytes is None:
        max_bytes = MAX_TOC_BYTES if key == TOC_KEY else MAX_BIG_DATA_BYTES
    path = owner.big_data_path(key)
    if owner.items is not None and key in owner.items:
        from vecache.store.objects import read_object  # noqa: PLC0415 - only fleets have them

        return read_object(path, max_bytes)
    try:
        return read_bounded(path, max_bytes, beneath=owner.store_root)
    except (FileNotFoundError, NotADirectoryError):
        if owner.unreadable:
            raise StoreError(f"when the snapshot was made: {owner.unreadable}") from None
        return None
    except OSError as error:
        raise store_error(error, path, f"{key} cannot be read") from error


def layer_layout(layer: BigDataOwner) -> Layout:
    """Return the layout of a layer's files."""
    data = read_big_data(layer, LAYER_DATA_KEY, MAX_LAYER_DATA_BYTES)
    if data is None:
        return Layout.DIR  # a layer from before composefs
    path = str(layer.big_data_path(LAYER_DATA_KEY))
    try:
        if load_json(data, path, StoreError) is None:  # as Go reads `null`
            return Layout.DIR
        return _LAYOUTS[parse_fields(data, path, StoreError).integer("format", 0)]
    except (StoreError, KeyError):
        found = data[:60].decode(errors="replace")
        raise StoreError(
            f"{path}: found {found!r}, "
            'wanted {"format": 0} (dir) or {"format": 1} (flat); pull the layer again'
        ) from None
