"""Open a snapshot: unpack it into the user's cache folder, unless that was done before.

It stays there for the next time, in a folder named by the sha256 of the file. A lock shows that a
program uses it; the others may be deleted. Whenever a snapshot is added, those that were not used
for longest go, so that 4 GiB are left, and so does what a crash has left behind. Where the cache
folder cannot be written, the snapshot goes to a temporary folder until the program ends.

The archive is untrusted; `archive.py` checks what is taken of it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vecache.atomic import FolderLock, staged_folder, sweep_folder
from vecache.cache.writer import build_cache
from vecache.errors import VecacheError
from vecache.files import cache_folder, is_system_error, read_bounded
from vecache.store.archive import MAX_HEADER_BYTES, Archive, open_archive
from vecache.store.bigdata import (
    CACHE_KEY,
    TOC_KEY,
    big_data_file_name,
    layer_layout,
    read_big_data,
)
from vecache.store.records import IMAGES, LAYERS, LayerRecord
from vecache.store.snapshot import HEADER, Snapshot, parse_header

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vecache.store.archive import Member

__all__ = ["open_snapshot"]

_MAX_UNPACKED_BYTES: Final = 4 << 30
_BLOCK_BYTES: Final = 1 << 20
_UNPACKED: Final = "unpacked.json"
_NO_FOLDER: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


def open_snapshot(path: Path, environ: Mapping[str, str]) -> Snapshot:
    """Unpack a snapshot, unless that was done before, and return what it says."""
    with open_archive(path) as (file, archive):
        digest = hashlib.sha256()
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
        file.seek(0)
        folder, lock = _unpacked_folder(archive, digest.hexdigest(), environ)
        header = read_bounded(folder / HEADER, MAX_HEADER_BYTES)
        return replace(parse_header(header, path, folder), lock=lock)


def _unpacked_folder(
    archive: Archive, digest: str, environ: Mapping[str, str]
) -> tuple[Path, FolderLock | None]:
    """Return the folder with the members, which other processes may be making too, and its lock."""
    snapshots = cache_folder(environ) / "snapshots"
    folder = snapshots / digest
    if (lock := _lock_complete(folder)) is not None:
        return folder, lock
    with contextlib.ExitStack() as held:
        try:
            snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
            scratch, lock = held.enter_context(staged_folder(snapshots, 0o700))
        except OSError as error:
            if error.errno not in _NO_FOLDER:
                raise
            scratch, lock = held.enter_context(staged_folder(tempfile.gettempdir(), 0o700))
            _unpack(archive, scratch)
            atexit.register(held.pop_all().close)
            return scratch, lock
        _unpack(archive, scratch)
        if folder.exists() and _lock_complete(folder) is None:  # a part of it was deleted
            with contextlib.suppress(OSError):
                os.rename(folder, scratch / "old")
        try:
            os.rename(scratch, folder)
        except OSError:  # another process was faster
            if (lock := _lock_complete(folder)) is None:
                raise
        shutil.rmtree(folder / "old", ignore_errors=True)
    sweep_folder(snapshots, _MAX_UNPACKED_BYTES)
    return folder, lock


def _lock_complete(folder: Path) -> FolderLock | None:
    """Lock a folder that has all the files that were unpacked, each of its size."""
    # Nothing is synced: of a file that a crash or somebody who tidies up has cut, the size is
    # another, or the file is gone.
    try:
        lock = FolderLock(folder)
        sizes = json.loads(read_bounded(folder / _UNPACKED, MAX_HEADER_BYTES))
        if all(os.stat(folder / name).st_size == size for name, size in sizes.items()):
            return lock
    except (OSError, ValueError, AttributeError):
        pass
    return None


def _unpack(archive: Archive, folder: Path) -> None:
    """Write all members into an empty folder, build caches, and list what was written."""
    header = archive.read_header()
    (folder / HEADER).write_bytes(header)
    snapshot = parse_header(header, archive.path, folder)
    for member in archive.members(len(snapshot.roots)):
        target = _member_path(member, snapshot.roots[member.root].folder)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with open(target, "xb") as out:
                out.writelines(archive.blocks(member))
        except FileExistsError:
            raise archive.damaged(f"two members are {member.name}") from None
    for root in snapshot.roots:
        for folder_name in (LAYERS, IMAGES):
            (root.folder / folder_name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for layer_id in root.built:
            _build_cache(LayerRecord(layer_id, store_root=root.folder))
    files = (each for each in folder.rglob("*") if each.is_file())
    sizes = {str(each.relative_to(folder)): each.stat().st_size for each in files}
    (folder / _UNPACKED).write_text(json.dumps(sizes))


def _member_path(member: Member, root: Path) -> Path:
    """Return where a member of a graph root belongs."""
    if member.list_name:
        return root / member.folder / member.list_name
    return root / member.folder / member.id / big_data_file_name(member.key)


def _build_cache(layer: LayerRecord) -> None:
    """Write the cache file that a layer had on its machine."""
    path = layer.big_data_path(CACHE_KEY)
    if path.exists():
        return
    try:
        toc_data = read_big_data(layer, TOC_KEY)
        packed = None if toc_data is None else build_cache(toc_data, layer_layout(layer))
    except VecacheError as error:
        if is_system_error(error):
            raise  # it is no fault of the layer
        return  # loading the layer finds the same, and says so
    if packed is not None:
        path.write_bytes(packed)
