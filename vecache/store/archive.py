"""Read the members of a snapshot's archive, one after another.

The archive is untrusted. Only members with the names in `snapshot.py` are taken, each within the
limits that reading it from a store has, and all together within the bound of `packed.py`. A name
becomes a path by its parts alone, which are checked here.
"""

from __future__ import annotations

import contextlib
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from vecache.errors import StoreError
from vecache.files import open_regular, store_error
from vecache.store.packed import PackedReader
from vecache.store.records import IMAGES, LAYERS, MAX_LIST_BYTES, SAFE_ID
from vecache.store.snapshot import (
    HEADER,
    IMAGE_ITEM,
    MAX_IMAGE_ITEM_BYTES,
    MAX_LAYER_ITEM_BYTES,
    additional_folder,
    not_a_snapshot,
)
from vecache.text import ZSTD_MAGIC, describe_content

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["MAX_HEADER_BYTES", "Archive", "Member", "open_archive"]

MAX_HEADER_BYTES: Final = 64 << 20
_MAX_MEMBERS: Final = 200_000
_BLOCK_BYTES: Final = 1 << 20
_MEMBER: Final = re.compile(
    rf"(?P<root>(?:additional/[0-9]{{1,3}}/)?)(?P<folder>{LAYERS}|{IMAGES})/"
    rf"(?:(?P<list>layers\.json|images\.json)|(?P<id>{SAFE_ID.pattern})/(?P<key>[^/]+))"
)
_LISTS: Final = {LAYERS: "layers.json", IMAGES: "images.json"}


@dataclass(frozen=True, slots=True)
class Member:
    """What a member is, from its name."""

    name: str
    n_bytes: int
    root: int  # index of the graph root
    folder: str  # `overlay-layers` or `overlay-images`
    list_name: str | None  # of a list of records; else it is an item
    id: str  # of the layer or the image
    key: str  # of the item


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[tuple[BinaryIO, Archive]]:
    """Open a snapshot; yield its file and the archive in it, of which nothing was read yet."""
    try:
        with open_regular(path) as (file, n_bytes):
            if file.read(4) != ZSTD_MAGIC:
                raise not_a_snapshot(path, "it is not compressed with zstd")
            file.seek(0)
            yield file, Archive(path, file, n_bytes)
    except IsADirectoryError:
        raise StoreError(f"{path}: a folder; wanted a file of `vecache snapshot`") from None
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise store_error(error, path, "the snapshot cannot be unpacked") from error


class Archive:
    """The members of a compressed ustar archive, read from the front."""

    def __init__(self, path: Path, file: BinaryIO, n_bytes: int) -> None:
        self.path = path
        self._reader = PackedReader(file, n_bytes, self.damaged)
        self._n_members = 0

    def read_header(self) -> bytes:
        """Read the first member, `snapshot.json`."""
        name, size = next(self._members(), ("", 0))
        if name != HEADER:
            raise not_a_snapshot(self.path, f"its first member is not {HEADER}")
        if size > MAX_HEADER_BYTES:
            raise self.damaged(f"{HEADER} has {size:,} bytes, wanted {MAX_HEADER_BYTES:,} at most")
        data = self._read(size)
        self._read(-size % tarfile.BLOCKSIZE)
        return data

    def members(self, n_roots: int) -> Iterator[Member]:
        """Yield the members after the header; `blocks` must be read in between."""
        for name, size in self._members():
            yield self._parse(name, size, n_roots)
            self._read(-size % tarfile.BLOCKSIZE)

    def blocks(self, member: Member) -> Iterator[bytes]:
        """Yield the bytes of the member."""
        n_bytes = member.n_bytes
        while n_bytes > 0:
            block = self._read(min(n_bytes, _BLOCK_BYTES))
            n_bytes -= len(block)
            yield block

    def damaged(self, reason: str) -> StoreError:
        """Return the error of an archive that no snapshot can be."""
        return StoreError(f"{self.path}: a damaged snapshot: {reason}; copy or make it again")

    def _members(self) -> Iterator[tuple[str, int]]:
        """Yield the name and the size of each member."""
        while self._n_members < _MAX_MEMBERS:
            self._n_members += 1
            header = self._read(tarfile.BLOCKSIZE)
            if not any(header):
                return
            try:
                info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
            except (tarfile.HeaderError, ValueError) as error:
                if self._n_members == 1:
                    raise not_a_snapshot(self.path, describe_content(header)) from None
                raise self.damaged(f"a member's header: {error}") from None
            if info.type != tarfile.REGTYPE or info.size < 0:
                raise self.damaged(f"{info.name!r:.100} is not a regular file")
            yield info.name, info.size
        raise self.damaged(f"more than {_MAX_MEMBERS:,} members")

    def _parse(self, name: str, size: int, n_roots: int) -> Member:
        """Return what a member is; an error for one that a snapshot does not have."""
        found = _MEMBER.fullmatch(name)
        roots = ["", *map(additional_folder, range(n_roots - 1))]
        if found is None or found["root"] not in roots:
            raise self.damaged(f"found a member {name!r:.100}")
        if found["list"]:
            max_bytes = MAX_LIST_BYTES if found["list"] == _LISTS[found["folder"]] else -1
        elif found["folder"] == LAYERS:
            max_bytes = MAX_LAYER_ITEM_BYTES.get(found["key"], -1)
        else:
            max_bytes = MAX_IMAGE_ITEM_BYTES if IMAGE_ITEM.fullmatch(found["key"]) else -1
        if max_bytes < 0:
            raise self.damaged(f"found a member {name!r:.100}")
        if size > max_bytes:
            raise self.damaged(f"{name} has {size:,} bytes, wanted {max_bytes:,} at most")
        return Member(
            name=name,
            n_bytes=size,
            root=roots.index(found["root"]),
            folder=found["folder"],
            list_name=found["list"],
            id=found["id"] or "",
            key=found["key"] or "",
        )

    def _read(self, n_bytes: int) -> bytes:
        data = self._reader.read(n_bytes)
        if len(data) < n_bytes:
            raise self.damaged("it ends too early")
        return data
