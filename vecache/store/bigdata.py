"""Find and read the larger items of a layer or an image: cache, TOC, manifest.

A big-data item is a file in the folder of its layer or image. Its name is its key, or `=` and the
key in base64 where the key has other letters than `.`, `0-9`, `a-z`. The files are replaced by
rename, never written in place, so reading one needs no lock; a layer may vanish at any time, and
then its items are missing like any other.

Source: containers/storage store.go makeBigDataBaseName; pkg/chunked/storage_linux.go.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final, Protocol

from vecache.errors import StoreError
from vecache.files import read_bounded, store_error
from vecache.json_fields import load_json, parse_fields
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CACHE_KEY",
    "LAYER_DATA_KEY",
    "MAX_BIG_DATA_BYTES",
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
"""Key of the item that names the layout (upstream: chunkedLayerDataKey)."""

MAX_BIG_DATA_BYTES: Final = 1 << 30
"""More than any cache file or TOC that containers/storage itself would take."""

_MAX_LAYER_DATA_BYTES: Final = 1 << 16
_LAYOUTS: Final = {0: Layout.DIR, 1: Layout.FLAT}  # upstream: DifferOutputFormat


class BigDataOwner(Protocol):
    """What has big data: a `LayerRecord` or an `ImageRecord`."""

    def big_data_path(self, key: str) -> Path:
        """Return the path of an item, whether it is there or not."""
        ...


def big_data_file_name(key: str) -> str:
    """Name the file of a big-data item.

    Upstream looks at all letters but stops before the end only where one is left to read: a key
    whose last letter alone is odd keeps its name. So does it here, to find the same files.

    Examples
    --------
    >>> big_data_file_name("manifest"), big_data_file_name("chunked-manifest-cache")
    ('manifest', '=Y2h1bmtlZC1tYW5pZmVzdC1jYWNoZQ==')
    """
    name = key
    if not re.fullmatch("[.0-9a-z]*", key[:-1]):
        name = "=" + base64.b64encode(key.encode()).decode()
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"big data: {key!r} cannot be the key of a file")
    return name


def read_big_data(
    owner: BigDataOwner, key: str, max_bytes: int = MAX_BIG_DATA_BYTES
) -> bytes | None:
    """Read one big-data item whole."""
    path = owner.big_data_path(key)
    try:
        return read_bounded(path, max_bytes)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise store_error(error, path, f"{key} cannot be read") from error


def layer_layout(layer: BigDataOwner) -> Layout:
    """Say in which layout a layer's files stand."""
    data = read_big_data(layer, LAYER_DATA_KEY, _MAX_LAYER_DATA_BYTES)
    if data is None:
        return Layout.DIR
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
