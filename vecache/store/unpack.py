"""Open a snapshot: unpack it into the user's cache folder, unless that was done before.

It stays there for the next time, in a folder named by the sha256 of the file. A lock shows that a
program uses it; the others may be deleted. Whenever a snapshot is added, those that were not used
for longest go, so that 4 GiB are left, and so does what a crash has left behind. Where the cache
folder cannot be written, the snapshot goes to a temporary folder until the program ends.

The archive is untrusted. Only members with the names in `snapshot.py` are taken, each within the
limits that reading it from a store has, and all together at most 16 GiB, and at most 256 times the
size of the file and 64 MiB. Names become paths by their parts alone.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import pyarrow as pa

from vecache.cache.writer import build_cache
from vecache.errors import StoreError, VecacheError
from vecache.files import (
    FolderLock,
    cache_folder,
    open_regular,
    read_bounded,
    store_error,
    sweep_folder,
)
from vecache.store.bigdata import (
    CACHE_KEY,
    TOC_KEY,
    big_data_file_name,
    layer_layout,
    read_big_data,
)
from vecache.store.records import IMAGES, LAYERS, MAX_LIST_BYTES, SAFE_ID, LayerRecord
from vecache.store.snapshot import (
    HEADER,
    IMAGE_ITEM,
    MAX_IMAGE_ITEM_BYTES,
    MAX_LAYER_ITEM_BYTES,
    Snapshot,
    additional_folder,
    max_unpacked_bytes,
    not_a_snapshot,
    parse_header,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["open_snapshot"]

_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_MAX_HEADER_BYTES: Final = 64 << 20
_MAX_MEMBERS: Final = 200_000
_MAX_UNPACKED_BYTES: Final = 4 << 30
_BLOCK_BYTES: Final = 1 << 20
_UNPACKED: Final = "unpacked.json"
_NO_FOLDER: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_MEMBER: Final = re.compile(
    rf"(?P<root>(?:additional/[0-9]{{1,3}}/)?)(?P<folder>{LAYERS}|{IMAGES})/"
    rf"(?:(?P<list>layers\.json|images\.json)|(?P<id>{SAFE_ID.pattern})/(?P<key>[^/]+))"
)
_LISTS: Final = {LAYERS: "layers.json", IMAGES: "images.json"}


def open_snapshot(path: Path, environ: Mapping[str, str]) -> Snapshot:
    """Unpack a snapshot, unless that was done before, and return what it says."""
    try:
        with open_regular(path) as (file, n_bytes):
            if file.read(4) != _ZSTD_MAGIC:
                raise not_a_snapshot(path, "it is not compressed with zstd")
            file.seek(0)
            digest = hashlib.sha256()
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
            file.seek(0)
            folder, lock = _unpacked_folder(path, file, n_bytes, digest.hexdigest(), environ)
        snapshot = parse_header(read_bounded(folder / HEADER, _MAX_HEADER_BYTES), path, folder)
        return replace(snapshot, lock=lock)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise store_error(error, path, "the snapshot cannot be unpacked") from error


def _unpacked_folder(
    path: Path, file: BinaryIO, n_bytes: int, digest: str, environ: Mapping[str, str]
) -> tuple[Path, FolderLock | None]:
    """Return the folder with the members, which other processes may be making too, and its lock."""
    snapshots = cache_folder(environ) / "snapshots"
    folder = snapshots / digest
    if (lock := _lock_complete(folder)) is not None:
        return folder, lock
    try:
        snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".tmp-", dir=snapshots))
        lock = FolderLock(scratch)
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
        scratch = Path(tempfile.mkdtemp(prefix="vecache-snapshot-"))
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        _unpack(path, file, n_bytes, scratch)
        return scratch, None
    try:
        _unpack(path, file, n_bytes, scratch)
        if folder.exists() and _lock_complete(folder) is None:  # a part of it was deleted
            with contextlib.suppress(OSError):
                os.rename(folder, scratch / "old")
        try:
            os.rename(scratch, folder)
        except OSError:  # another process was faster
            if (lock := _lock_complete(folder)) is None:
                raise
        shutil.rmtree(folder / "old", ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sweep_folder(snapshots, _MAX_UNPACKED_BYTES)
    return folder, lock


def _lock_complete(folder: Path) -> FolderLock | None:
    """Lock a folder that has all the files that were unpacked, each of its size."""
    # Nothing is synced: of a file that a crash or somebody who tidies up has cut, the size is
    # another, or the file is gone.
    try:
        lock = FolderLock(folder)
        sizes = json.loads(read_bounded(folder / _UNPACKED, _MAX_HEADER_BYTES))
        if all(os.stat(folder / name).st_size == size for name, size in sizes.items()):
            return lock
    except (OSError, ValueError, AttributeError):
        pass
    return None


def _unpack(path: Path, file: BinaryIO, n_bytes: int, folder: Path) -> None:
    """Write all members into an empty folder, build caches, and list what was written."""
    archive = _Archive(path, file, n_bytes)
    members = archive.members()
    name, size = next(members, ("", 0))
    if name != HEADER:
        raise not_a_snapshot(path, f"its first member is not {HEADER}")
    if size > _MAX_HEADER_BYTES:
        raise archive.damaged(f"{HEADER} has {size:,} bytes, wanted {_MAX_HEADER_BYTES:,} at most")
    header = b"".join(archive.blocks(size))
    (folder / HEADER).write_bytes(header)
    snapshot = parse_header(header, path, folder)
    for name, size in members:
        target = _member_path(archive, name, size, folder, len(snapshot.roots))
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with open(target, "xb") as out:
                out.writelines(archive.blocks(size))
        except FileExistsError:
            raise archive.damaged(f"two members are {name}") from None
    for root in snapshot.roots:
        for folder_name in (LAYERS, IMAGES):
            (root.folder / folder_name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for layer_id in root.built:
            _build_cache(LayerRecord(layer_id, store_root=root.folder))
    files = (each for each in folder.rglob("*") if each.is_file())
    sizes = {str(each.relative_to(folder)): each.stat().st_size for each in files}
    (folder / _UNPACKED).write_text(json.dumps(sizes))


def _member_path(archive: _Archive, name: str, size: int, folder: Path, n_roots: int) -> Path:
    """Return where a member belongs; an error for one that a snapshot does not have."""
    found = _MEMBER.fullmatch(name)
    roots = ("", *map(additional_folder, range(n_roots - 1)))
    if found is None or found["root"] not in roots:
        raise archive.damaged(f"found a member {name!r:.100}")
    root = folder / found["root"]
    is_layer = found["folder"] == LAYERS
    if found["list"]:
        max_bytes = MAX_LIST_BYTES if found["list"] == _LISTS[found["folder"]] else -1
        target = root / found["folder"] / found["list"]
    elif is_layer:
        max_bytes = MAX_LAYER_ITEM_BYTES.get(found["key"], -1)
        target = LayerRecord(found["id"], store_root=root).big_data_path(found["key"])
    else:
        max_bytes = MAX_IMAGE_ITEM_BYTES if IMAGE_ITEM.fullmatch(found["key"]) else -1
        target = root / IMAGES / found["id"] / big_data_file_name(found["key"])
    if max_bytes < 0:
        raise archive.damaged(f"found a member {name!r:.100}")
    if size > max_bytes:
        raise archive.damaged(f"{name} has {size:,} bytes, wanted {max_bytes:,} at most")
    return target


def _build_cache(layer: LayerRecord) -> None:
    """Write the cache file that a layer had on its machine."""
    toc_data = read_big_data(layer, TOC_KEY)
    path = layer.big_data_path(CACHE_KEY)
    if toc_data is not None and not path.exists():
        with contextlib.suppress(VecacheError):  # loading the layer finds the same, and says so
            path.write_bytes(build_cache(toc_data, layer_layout(layer)))


class _Archive:
    """The members of a compressed ustar archive, read from the front."""

    def __init__(self, path: Path, file: BinaryIO, n_bytes: int) -> None:
        self.path = path
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
        self._max_bytes = max_unpacked_bytes(n_bytes)
        self._rest = self._max_bytes

    def members(self) -> Iterator[tuple[str, int]]:
        """Yield the name and the size of each member; `blocks` must be read in between."""
        for _ in range(_MAX_MEMBERS):
            header = self._read(tarfile.BLOCKSIZE)
            if not any(header):
                return
            try:
                info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
            except (tarfile.HeaderError, ValueError) as error:
                raise self.damaged(f"a member's header: {error}") from None
            if info.type != tarfile.REGTYPE or info.size < 0:
                raise self.damaged(f"{info.name!r:.100} is not a regular file")
            yield info.name, info.size
            self._read(-info.size % tarfile.BLOCKSIZE)
        raise self.damaged(f"more than {_MAX_MEMBERS:,} members")

    def blocks(self, n_bytes: int) -> Iterator[bytes]:
        """Yield the bytes of the member."""
        while n_bytes > 0:
            block = self._read(min(n_bytes, _BLOCK_BYTES))
            n_bytes -= len(block)
            yield block

    def _read(self, n_bytes: int) -> bytes:
        if n_bytes > self._rest:
            raise self.damaged(
                f"more than {self._max_bytes:,} bytes when unpacked, too many for its size"
            )
        self._rest -= n_bytes
        parts: list[bytes] = []
        try:
            while n_bytes > 0:
                part = self._stream.read(n_bytes)  # ends early at the end of each frame
                if not part:
                    raise self.damaged("it ends too early")
                n_bytes -= len(part)
                parts.append(part)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, StoreError):
                raise
            raise self.damaged(str(error)) from error
        return b"".join(parts)

    def damaged(self, reason: str) -> StoreError:
        """Return the error of an archive that no snapshot can be."""
        return StoreError(f"{self.path}: a damaged snapshot: {reason}; copy or make it again")
