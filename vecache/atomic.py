"""Replace files and folders atomically, and remove what killed processes left.

1. A file that is replaced is written to a temporary file in the same folder, renamed when complete,
   so a reader sees the old bytes or the new ones, and a failure leaves no trace. So is a folder.
2. Who writes a temporary file or folder holds a lock on it. One without a lock is of a process that
   was killed, and the next that writes into the folder removes it (not where the file system has no
   locks).
3. What has to outlive a power cut is synced before it is renamed, and its folder after that.

What a user's cache folder holds is bounded by `sweep_folder`. These functions raise plain
`OSError`: the callers know what the file was for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from vecache.files import allow_open_files

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

__all__ = [
    "OWN_TEMPORARY",
    "FolderLock",
    "folder_bytes",
    "remove_leftovers",
    "replace_file",
    "staged_file",
    "staged_folder",
    "sweep_folder",
    "sync_file",
    "sync_folder",
    "sync_tree",
]

OWN_TEMPORARY: Final = ".tmp-vecache-"
"""How the names of temporary files and folders of this package begin."""


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
