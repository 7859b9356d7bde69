"""Open regular files without surprises, and replace files atomically.

Every file that is read is opened by `open_regular`: it never waits for the writer of a fifo,
refuses whatever is not a regular file, and knows the size before anything is read. Every file that
is replaced is written by `staged_file`: to a temporary file in the same folder, renamed when
complete, so a reader sees the old bytes or the new ones, and a failure leaves no trace. Who writes
a temporary file or folder holds a lock on it. One without a lock is of a process that was killed,
and the next that writes into the folder removes it (not where the file system has no locks).

What a user's cache folder holds is bounded by `sweep_folder`.

These functions raise plain `OSError`, except `open_mapped`: the callers know what the file was for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import itertools
import mmap
import os
import resource
import stat
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from vecache.errors import StoreError, TruncatedError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Iterator, Mapping

    from vecache.arrays import U8

__all__ = [
    "COPIED_BYTES",
    "OWNER_ADVICE",
    "OWN_TEMPORARY",
    "RESIDENT_BYTES",
    "FileState",
    "FolderLock",
    "allow_open_files",
    "cache_folder",
    "folder_bytes",
    "open_beneath",
    "open_mapped",
    "open_regular",
    "read_bounded",
    "release_pages",
    "remove_leftovers",
    "replace_file",
    "require_whole",
    "staged_file",
    "staged_folder",
    "store_error",
    "sweep_folder",
    "sync_file",
    "sync_folder",
    "sync_tree",
]

RESIDENT_BYTES = 512 << 20
"""Most that the process holds in memory of mapped cache files while many rows are read."""

COPIED_BYTES: Final = 1 << 16
"""Largest cache file that is read instead of mapped: up to four times that, reading is faster."""

OWN_TEMPORARY: Final = ".tmp-vecache-"
"""How the names of temporary files of this package begin."""

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


@contextlib.contextmanager
def staged_file(
    folder: str | os.PathLike[str],
    *,
    mode: int | None = None,
    dir_fd: int | None = None,
    owner: int | None = None,
) -> Iterator[BinaryIO]:
    """Open a temporary file, for the caller to rename; remove it if that was not done.

    Its path is its `name`; with `dir_fd`, the open folder, that is relative to it. Its mode is
    `mode`, or what the umask leaves of 0666. It belongs to the owner of the open folder `owner`.
    """
    remove_leftovers((folder or ".") if dir_fd is None else dir_fd)
    with _create_locked(folder, 0o666 if mode is None else 0o600, dir_fd) as file:
        try:
            lock = os.dup(file.fileno())  # it is closed before it is renamed; this keeps its lock
            try:
                if mode is not None:
                    os.fchmod(lock, mode)
                if owner is not None:
                    _give_to_owner(lock, owner)
                yield file
            finally:
                os.close(lock)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(file.name, dir_fd=dir_fd)


def _create_locked(
    folder: str | os.PathLike[str], mode: int, dir_fd: int | None
) -> io.BufferedWriter:
    """Make a temporary file and lock it, before another process takes it for one left over."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, mode, dir_fd=dir_fd)

    while True:
        path = os.path.join(folder, _temporary_name())
        file = open(path, "xb", opener=opener)  # noqa: SIM115 - of the caller
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        except (BlockingIOError, FileNotFoundError):
            file.close()
            continue  # it is gone, or just going
        except OSError:  # a file system without locks
            return file
        if os.path.samestat(status, os.fstat(file.fileno())):
            return file
        file.close()


def _temporary_name() -> str:
    return f"{OWN_TEMPORARY}{os.urandom(8).hex()}"


def _give_to_owner(descriptor: int, owner: int) -> None:
    """Give a file the owner of another one."""
    # Root may write into the store of a user, whose Podman must still be able to read it.
    status = os.fstat(owner)
    if os.geteuid() == 0 and (status.st_uid, status.st_gid) != (0, 0):
        os.fchown(descriptor, status.st_uid, status.st_gid)


def remove_leftovers(folder: str | os.PathLike[str] | int) -> None:
    """Remove the temporary files and folders that no process writes; only files where it is open.

    Nothing is raised: what cannot be removed stays.
    """
    dir_fd = folder if isinstance(folder, int) else None  # of a store, in which no folder is ours
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(OWN_TEMPORARY):
                continue
            if entry.is_file(follow_symlinks=False):
                _remove_unlocked(entry.path, dir_fd)
            elif dir_fd is None and entry.is_dir(follow_symlinks=False):
                _remove_unused(entry.path)


def _remove_unlocked(path: str, dir_fd: int | None = None) -> None:
    """Remove a temporary file that nobody has locked."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        descriptor = os.open(path, flags, dir_fd=dir_fd)
        try:
            # A shared lock needs no right to write, and the lock of who writes excludes it too.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.unlink(path, dir_fd=dir_fd)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def replace_file(
    path: str | os.PathLike[str], *, mode: int | None = None, sync: bool = True
) -> Iterator[BinaryIO]:
    """Open a file that takes its name only when it is complete; `sync` makes its bytes last."""
    try:
        with staged_file(os.path.dirname(path), mode=mode) as file:
            yield file
            if sync:
                sync_file(file)
            file.close()  # a network file system may say only now that it has no space
            os.replace(file.name, path)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # as of `write`, `fsync`, `close`
            error.filename = os.fspath(path)
        raise


def sync_file(file: BinaryIO) -> None:
    """Write what is buffered, wait until it is on the disk, and close the file."""
    file.flush()
    os.fsync(file.fileno())
    file.close()


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make the renames in a folder last; one that is open is synced by `os.fsync`."""
    _sync(folder, os.O_DIRECTORY)


def sync_tree(folder: str | os.PathLike[str]) -> None:
    """Make all files below a folder last, and their names."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(os.path.join(parent, name))
        sync_folder(parent)


def _sync(path: str | os.PathLike[str], flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


class FolderLock:
    """Keeps a folder from `sweep_folder` while this object lives, and counts as a use of it."""

    __slots__ = ("__weakref__", "_close")

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Lock it; FileNotFoundError where it has gone, or is just going."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._close = weakref.finalize(self, os.close, descriptor)
        allow_open_files(descriptor)  # one may use many folders at the same time
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileNotFoundError(errno.ENOENT, "Being removed", os.fspath(folder)) from None
        except OSError:
            pass  # a file system without such locks lets no sweep take one either
        if not os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            raise FileNotFoundError(errno.ENOENT, "Replaced", os.fspath(folder))
        with contextlib.suppress(OSError):  # the folder of another user
            os.utime(descriptor)


@contextlib.contextmanager
def staged_folder(
    parent: str | os.PathLike[str], mode: int = 0o777
) -> Iterator[tuple[Path, FolderLock]]:
    """Make a temporary folder, for the caller to rename; remove what has its name in the end."""
    import shutil  # noqa: PLC0415 - 2 ms, and folders are rare

    remove_leftovers(parent)
    path, lock = "", None
    try:
        while lock is None:
            path = os.path.join(parent, _temporary_name())
            os.mkdir(path, mode)
            with contextlib.suppress(FileNotFoundError):  # another process took it for a leftover
                lock = FolderLock(path)
        yield Path(path), lock
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep_folder(folder: str | os.PathLike[str], max_bytes: int) -> None:
    """Remove the least recently used entries until `max_bytes` are left, and what was left over.

    An entry is a file or a folder. Its time of modification is its last use: the code that uses one
    sets it (`os.utime`, `FolderLock`). A file may be mapped still: that outlives its name. A
    folder that has a `FolderLock` stays. Nothing is raised: what cannot be removed stays.
    """
    remove_leftovers(folder)
    entries = []
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            with contextlib.suppress(OSError):  # another process has removed it
                if not entry.name.startswith(OWN_TEMPORARY):
                    entries.append((entry.stat(follow_symlinks=False).st_mtime, entry.path))
    rest = max_bytes
    for _, path in sorted(entries, reverse=True):  # the newest first
        rest -= folder_bytes(path)
        if rest < 0:
            _remove_unused(path)


def folder_bytes(path: str | os.PathLike[str]) -> int:
    """Return the bytes of a file, or of all files in a folder and of itself."""
    total = 0
    with contextlib.suppress(OSError):
        total = os.lstat(path).st_size
    for parent, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _remove_unused(path: str) -> None:
    """Remove a file, or a folder that nobody has locked."""
    import shutil  # noqa: PLC0415 - 2 ms, and sweeping is rare

    with contextlib.suppress(OSError):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Renamed first, and so gone at once: nobody finds a half of it under its name.
            gone = os.path.join(os.path.dirname(path), _temporary_name())
            os.rename(path, gone)
            shutil.rmtree(gone, ignore_errors=True)
        finally:
            os.close(descriptor)


def store_error(error: OSError, path: str | os.PathLike[str], what: str) -> StoreError:
    """Return an error that names the file, what failed (`what`) and, if it helps, what to do."""
    hint = f"; {OWNER_ADVICE}" if error.errno in _FORBIDDEN else ""
    return StoreError(f"{path}: {what}: {error.strerror or error}{hint}")
