"""Open regular files without surprises, map them, and read them within bounds.

Every file that is read is opened by `open_regular`: it never waits for the writer of a fifo,
refuses whatever is not a regular file, and knows the size before anything is read.

These functions raise plain `OSError`, except `open_mapped`: the callers know what the file was for.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import mmap
import os
import resource
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from vecache.errors import StoreError, TruncatedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vecache.arrays import U8

__all__ = [
    "COPIED_BYTES",
    "OWNER_ADVICE",
    "RESIDENT_BYTES",
    "FileState",
    "allow_open_files",
    "cache_folder",
    "is_system_error",
    "open_beneath",
    "open_mapped",
    "open_regular",
    "read_bounded",
    "release_pages",
    "require_whole",
    "store_error",
]

RESIDENT_BYTES = 512 << 20
"""Most that the process holds in memory of mapped cache files while many rows are read."""

COPIED_BYTES: Final = 1 << 16
"""Largest cache file that is read instead of mapped: up to four times that, reading is faster."""

OWNER_ADVICE = "run as the owner of the store (sudo, or podman unshare for a user's store)"
"""What to do where the permission to read a file is missing."""

_FORBIDDEN = (errno.EACCES, errno.EPERM)
_FOLDER_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class FileState(NamedTuple):
    """What tells a file from any other, and from itself before it was replaced."""

    device: int
    inode: int
    n_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileState:
        """Take it from what the system says of a file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@contextlib.contextmanager
def open_regular(
    path: str | os.PathLike[str], beneath: str | os.PathLike[str] | None = None
) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for reading, as `open_beneath` does; yield it and its size in bytes."""
    opener = functools.partial(open_beneath, beneath=beneath)
    with open(path, "rb", opener=opener) as file:
        yield file, _regular_status(file.fileno(), path).st_size


def open_beneath(
    path: str | os.PathLike[str],
    flags: int,
    *,
    beneath: str | os.PathLike[str] | None,
    mode: int = 0o600,
) -> int:
    """Open a file or a folder without waiting; return its descriptor.

    The owner of a store could let a part of a path point somewhere else, and another user read or
    write there. So no part of `path` below the folder `beneath`, which it begins with, may be a
    symbolic link. The folder itself may.
    """
    # Without O_NONBLOCK, opening a fifo would wait for a writer forever.
    flags |= os.O_NONBLOCK | os.O_CLOEXEC
    if beneath is None:
        return os.open(path, flags, mode)
    *folders, name = os.fspath(path).removeprefix(os.fspath(beneath)).lstrip("/").split("/")
    try:
        parent = os.open(beneath, _FOLDER_FLAGS)
        try:
            for folder in folders:
                outer = parent
                parent = os.open(folder, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=outer)
                os.close(outer)
            return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=parent)
        finally:
            os.close(parent)
    except OSError as error:
        error.filename = os.fspath(path)
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and _has_link(beneath, (*folders, name)):
            text = "A symbolic link in a store is not followed"
            raise OSError(errno.ELOOP, text, os.fspath(path)) from error
        raise


def _has_link(folder: str | os.PathLike[str], parts: Iterable[str]) -> bool:
    paths = itertools.accumulate(parts, os.path.join, initial=os.fspath(folder))
    return any(os.path.islink(path) for path in itertools.islice(paths, 1, None))


def _regular_status(descriptor: int, path: str | os.PathLike[str]) -> os.stat_result:
    """Return the status of an open file; OSError unless it is a regular file."""
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return status


def read_bounded(
    path: str | os.PathLike[str],
    max_bytes: int,
    beneath: str | os.PathLike[str] | None = None,
) -> bytes:
    """Read a whole regular file; a larger one is refused before anything is read."""
    with open_regular(path, beneath) as (file, n_bytes):
        if n_bytes > max_bytes:
            reason = f"File of {n_bytes:,} bytes, more than the {max_bytes:,} allowed"
            raise OSError(errno.EFBIG, reason, os.fspath(path))
        return file.read(n_bytes)


@contextlib.contextmanager
def open_mapped(
    path: str | os.PathLike[str], beneath: str | os.PathLike[str] | None = None
) -> Iterator[tuple[int, U8, FileState]]:
    """Open and map a cache file, and know which file it is.

    Parameters
    ----------
    path : str or os.PathLike
        A regular file. Cache files are replaced by renaming, never written in place, so a mapped
        one does not shrink; see `require_whole`. One of up to `COPIED_BYTES` is read.
    beneath : str or os.PathLike, optional
        No part of the path below this folder may be a symbolic link.

    Yields
    ------
    descriptor : int
        Open until the end of the `with` statement. To read a few bytes with `os.pread` takes a
        fifth of what the first touch of a mapped page does.
    data : (n_bytes,) uint8
        Its bytes, not writeable, at least one. The map ends when the last view of it is dropped.
    state : FileState
        Of the very file that is mapped.

    Raises
    ------
    StoreError
        If it cannot be opened or read, or is not a regular file.
    TruncatedError
        If it is empty.
    """
    import numpy as np  # noqa: PLC0415 - the command line writes files before it needs numpy

    try:
        descriptor = open_beneath(path, os.O_RDONLY, beneath=beneath)
        try:
            status = _regular_status(descriptor, path)
            if not status.st_size:
                raise TruncatedError("the file is empty", section="header", offset=0, path=path)
            if status.st_size <= COPIED_BYTES:
                data = np.frombuffer(os.pread(descriptor, status.st_size, 0), np.uint8)
            else:
                with open(descriptor, "rb", buffering=0, closefd=False) as file:
                    data = np.memmap(file, np.uint8, mode="r").view(np.ndarray)
            yield descriptor, data, FileState.of(status)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise store_error(error, path, "cannot be read as a cache file") from error


def allow_open_files(n_files: int) -> None:
    """Raise the soft limit of open files, as far as the hard one lets it, to hold so many maps.

    A map keeps its file open (in Python before 3.13), and the soft limit is 1,024 on most systems.
    Source: Go's os package does the same at the start of every program, and so Podman.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or n_files <= soft // 2:
        return
    wanted = soft + n_files  # whatever else the program opens has as much room as before
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def release_pages(data: U8) -> None:
    """Return the memory of a mapped file to the system.

    A page that was read counts as this process's memory until then. It stays in the page cache and
    is mapped again when it is next read.

    Parameters
    ----------
    data : (n_bytes,) uint8
        A view of the file. Nothing happens for bytes that are not mapped.
    """
    owner = _owner_of(data)
    if isinstance(owner, mmap.mmap):
        owner.madvise(mmap.MADV_DONTNEED)  # safe: the map is read-only and backed by a file


def require_whole(data: U8, path: str | os.PathLike[str] | None) -> None:
    """Check that nobody has cut a mapped file since: to read what is gone would end the process.

    Raises TruncatedError. Nothing is checked for bytes that are not mapped. A file that is cut
    between this check and the reading still ends the process; Podman never cuts one.
    """
    owner = _owner_of(data)
    if isinstance(owner, mmap.mmap) and owner.size() < len(owner):
        raise TruncatedError(
            f"found {owner.size():,} bytes, {len(owner):,} when it was opened: another process has "
            "cut the file; load the store again",
            section="header",
            offset=0,
            path=path,
        )


def _owner_of(data: U8) -> Any:
    """Return what holds the bytes of an array."""
    owner: Any = data
    while (base := getattr(owner, "base", None)) is not None:
        owner = base
    return owner


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the user's cache folder, `$XDG_CACHE_HOME/vecache` or `~/.cache/vecache`.

    A relative path in the environment counts as none, as the XDG rules have it. A user without a
    home has a folder that cannot be written.
    """
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        home = environ.get("HOME") or os.path.expanduser("~")  # asks the password file
        base = os.path.join(home, ".cache") if os.path.isabs(home) else os.devnull
    return Path(base) / "vecache"


def store_error(error: OSError, path: str | os.PathLike[str], what: str) -> StoreError:
    """Return an error that names the file, what failed (`what`) and, if it helps, what to do."""
    hint = f"; {OWNER_ADVICE}" if error.errno in _FORBIDDEN else ""
    return StoreError(f"{path}: {what}: {error.strerror or error}{hint}")


def is_system_error(error: BaseException) -> bool:
    """Return whether an error of ours comes from the system: trying again may give another."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno is not None
