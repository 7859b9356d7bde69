"""Name and read the objects of a fleet: content that is stored once for all of its nodes.

=============================  =====================================================================
`objects/AB/SHA256.zst`        a TOC, a layout, a manifest or a config, compressed with zstd
`objects/AB/SHA256.cache`      a cache file as it is, since it is mapped
`objects/AB/TOC-LAYOUT.cache`  the cache file that the TOC of this sha256 gives in this layout
=============================  =====================================================================

SHA256 is that of the content, AB are its first two digits. An object is never changed. What is
compressed is checked against its name when it is read; a cache file as those of stores are.

Another file whose name begins with the 64 digits of an object may be beside it: what was derived
from it. It goes when no node has the object any more.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from vecache.errors import StoreError
from vecache.files import read_bounded
from vecache.store.bigdata import CACHE_KEY
from vecache.store.packed import unpack_bytes
from vecache.store.snapshot import IMAGE_ITEM, MAX_LAYER_ITEM_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.toc.layout import Layout

__all__ = [
    "OBJECTS",
    "built_name",
    "is_object_name",
    "object_name",
    "object_path",
    "read_object",
    "required_name",
]

OBJECTS: Final = "objects"
_CACHE: Final = ".cache"
_PACKED: Final = ".zst"
_CACHE_NAME: Final = re.compile(r"[0-9a-f]{64}(-dir|-flat)?\.cache")
_PACKED_NAME: Final = re.compile(r"[0-9a-f]{64}\.zst")
_DERIVED_NAME: Final = re.compile(r"([0-9a-f]{64})[.-].*", re.DOTALL)


def object_name(key: str, data: bytes) -> str:
    """Return the name of the object that holds a big-data item."""
    return hashlib.sha256(data).hexdigest() + (_CACHE if key == CACHE_KEY else _PACKED)


def built_name(toc_name: str, layout: Layout) -> str:
    """Return the name of the cache file that the TOC in another object gives."""
    return f"{toc_name.removesuffix(_PACKED)}-{layout}{_CACHE}"


def is_object_name(key: str, name: str) -> bool:
    """Return whether an object may have this name and hold this item."""
    if key == CACHE_KEY:
        return _CACHE_NAME.fullmatch(name) is not None
    is_known = key in MAX_LAYER_ITEM_BYTES or IMAGE_ITEM.fullmatch(key) is not None
    return is_known and _PACKED_NAME.fullmatch(name) is not None


def required_name(file_name: str) -> str | None:
    """Return what a node must have for a file to stay: the object, or the sha256 of its source.

    None for a file that belongs to no object.
    """
    if _CACHE_NAME.fullmatch(file_name) or _PACKED_NAME.fullmatch(file_name):
        return file_name
    found = _DERIVED_NAME.fullmatch(file_name)
    return found[1] if found else None


def object_path(fleet: Path, name: str) -> Path:
    """Return where an object is."""
    return fleet / OBJECTS / name[:2] / name


def read_object(path: Path, max_bytes: int) -> bytes:
    """Read an object, and check that it is what its name says."""

    def damaged(reason: str) -> StoreError:
        return StoreError(
            f"{path}: a damaged object of the fleet: {reason}; delete {path.name}, and add the "
            "snapshots of its nodes again"
        )

    try:
        data = read_bounded(path, max_bytes)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise damaged("it is missing") from error
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    if path.suffix == _CACHE:
        return data
    data = unpack_bytes(data, max_bytes, damaged)
    found = hashlib.sha256(data).hexdigest()
    if found != path.name.removesuffix(_PACKED):
        raise damaged(f"found content of the sha256 {found}")
    return data
