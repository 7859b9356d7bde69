"""Read the small files of a store without surprise, and replace them without a gap.

Reading is bounded: the size is asked first, and a pipe or a device is refused rather than waited
for. Replacing goes through a temporary file in the same folder (mode 0600, synced, renamed over
the old one), so a reader sees the old bytes or the new ones, and a failure leaves no trace.

Raises plain `OSError`; the callers know what the file was for and say so.

A regular file as read-only bytes, without reading it.

Whoever writes a cache file puts a new one in place by renaming, so a file that is mapped does not
shrink under its reader. The map ends when the last view of it is dropped.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vecache.errors import StoreError, TruncatedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecache.arrays import U8

__all__ = ["map_file", "read_bounded", "release_pages", "staged_file", "store_error", "sync_folder"]

_FORBIDDEN = (errno.EACCES, errno.EPERM)


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Read a regular file whole."""
    # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        if status.st_size > max_bytes:
            reason = f"File of {status.st_size:,} bytes, more than the {max_bytes:,} allowed"
            raise OSError(errno.EFBIG, reason)
        return file.read(status.st_size)


@contextlib.contextmanager
def staged_file(folder: Path, data: bytes | memoryview, *, owner: Path) -> Iterator[Path]:
    """Hold synced bytes in a temporary file, for the caller to rename."""
    descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, 0o600)
            status = os.stat(owner)
            if os.geteuid() == 0 and (status.st_uid, status.st_gid) != (0, 0):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fsync(descriptor)
        yield Path(name)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def store_error(error: OSError, path: Path, what: str) -> StoreError:
    """Say what failed where, and what may help."""
    hint = ""
    if error.errno in _FORBIDDEN:
        hint = "; run as the owner of the store (sudo, or podman unshare for a user's store)"
    return StoreError(f"{path}: {what}: {error.strerror or error}{hint}")


def map_file(path: str | os.PathLike[str]) -> U8:
    """Map a file.

    Parameters
    ----------
    path : str or os.PathLike
        A regular file.

    Returns
    -------
    (n_bytes,) uint8
        Its bytes, not writeable, at least one.

    Raises
    ------
    StoreError
        If it cannot be opened, or is no regular file.
    TruncatedError
        If it is empty.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size:
                return np.memmap(file, np.uint8, mode="r").view(np.ndarray)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    if stat.S_ISREG(status.st_mode):
        raise TruncatedError("the file is empty", section="header", offset=0, path=path)
    raise StoreError(f"{path}: this is no regular file; wanted a cache file")


def release_pages(data: U8) -> None:
    """Let go of the memory of a mapped file: it stays in the page cache, and comes back when read.

    A page that was read counts as this process's memory until then.

    Parameters
    ----------
    data : (n_bytes,) uint8
        A view of it. For any other bytes nothing happens.
    """
    owner: object = data
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap):
        owner.madvise(mmap.MADV_DONTNEED)  # safe: the map is read-only and has a file behind it


def _open_without_waiting(path: str, flags: int) -> int:
    """Open as always, but do not wait for a writer where `path` is a fifo."""
    return os.open(path, flags | os.O_NONBLOCK)
