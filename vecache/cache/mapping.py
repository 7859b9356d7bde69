"""A regular file as read-only bytes, without reading it.

Whoever writes a cache file puts a new one in place by renaming, so a file that is mapped does not
shrink under its reader. The map ends when the last view of it is dropped.
"""

from __future__ import annotations

import mmap
import os
import stat
from typing import TYPE_CHECKING

import numpy as np

from vecache.errors import StoreError, TruncatedError

if TYPE_CHECKING:
    from vecache.arrays import U8

__all__ = ["map_file", "release_pages"]


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
