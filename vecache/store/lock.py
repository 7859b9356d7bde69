"""Lock a store against writers while it is read, and against all others while it is written.

A store's lock is a record lock over all of `layers.lock` (or `images.lock`): shared for readers,
exclusive for writers. It is taken as an *open file description* lock. Such a lock conflicts with
the plain POSIX locks that Podman takes, but belongs to one descriptor: two threads of this process
exclude each other, and closing another descriptor of the same file does not release it.

Waiting ends at a deadline, with an error that names the process that holds the lock.

Source: containers/storage pkg/lockfile/lockfile_unix.go.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vecache.errors import StoreError, StoreLockedError
from vecache.files import open_beneath, store_error
from vecache.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LOCK_WAIT_SECONDS", "read_lock", "write_lock"]

LOCK_WAIT_SECONDS: Final = 30.0
"""How long to wait for a lock that another process holds."""

_FLOCK: Final = struct.Struct("@hhqqi4x")  # struct flock: type, whence, start, length, pid
_HELD: Final = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS: Final = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_FIRST_PAUSE_SECONDS: Final = 0.002
_LONGEST_PAUSE_SECONDS: Final = 0.1


@contextlib.contextmanager
def read_lock(
    path: Path, *, beneath: Path | None = None, wait_seconds: float = LOCK_WAIT_SECONDS
) -> Iterator[bool]:
    """Hold a store's lock as a reader; yield False where there is no lock to hold."""
    try:
        descriptor = open_beneath(path, os.O_RDONLY, beneath=beneath)
    except FileNotFoundError:  # a store that was copied, or that Podman has not used yet
        yield False
        return
    except OSError as error:
        raise store_error(error, path, "the store cannot be locked for reading") from error
    try:
        yield _acquire(descriptor, fcntl.F_RDLCK, path, wait_seconds)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def write_lock(
    path: Path, *, beneath: Path | None = None, wait_seconds: float = LOCK_WAIT_SECONDS
) -> Iterator[int]:
    """Hold a store's lock as the only writer; yield the descriptor of its file."""
    try:
        # O_NOFOLLOW: root may write into a store whose owner could point the lock at another file.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        descriptor = open_beneath(path, flags, beneath=beneath, mode=0o644)
    except OSError as error:
        raise store_error(error, path, "the store cannot be locked for writing") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreError(f"{path}: not a regular file; nothing was written")
        if not _acquire(descriptor, fcntl.F_WRLCK, path, wait_seconds):
            raise StoreError(f"{path}: this file system has no locks; nothing was written")
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, kind: int, path: Path, wait_seconds: float) -> bool:
    """Try to take the lock until the deadline; False where the file system has no locks."""
    deadline = time.monotonic() + wait_seconds
    pause = _FIRST_PAUSE_SECONDS
    with waiting(f"the lock {path}"):
        while (is_taken := _try_once(descriptor, kind, path)) is None:
            if time.monotonic() >= deadline:
                raise StoreLockedError(
                    f"{path}: {_locking_process(descriptor, kind)} still holds the lock of the "
                    f"store after {wait_seconds:g} s; try again when it has finished"
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    return is_taken


def _try_once(descriptor: int, kind: int, path: Path) -> bool | None:
    """Try to take the lock; None where another holds it, False where there are no locks."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        if error.errno in _HELD:
            return None
        raise store_error(error, path, "the lock cannot be taken") from error
    return True


def _locking_process(descriptor: int, kind: int) -> str:
    """Describe the process that holds the lock, as far as the kernel knows it."""
    asked = _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0)
    try:
        pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))[-1]
        if pid > 0:
            name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
            return f"process {pid} ({name})"
    except OSError:
        pass
    return "another process"
