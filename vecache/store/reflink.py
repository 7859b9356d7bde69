"""Find out whether the file system of a folder can share blocks between files.

It is tried: two unnamed files (`O_TMPFILE`) in the folder, 4,096 bytes in one, `FICLONE` to the
other. Nothing is ever visible or left behind. Where that cannot be tried (a folder without write
permission, a file system without unnamed files) the type of the file system decides. That is a
guess: xfs can be made without reflinks.

Source: ioctl_ficlone(2); proc_pid_mountinfo(5).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path
from typing import Final

from vecache.files import store_error

__all__ = ["can_reflink", "file_system_type"]

_FICLONE: Final = 0x40049409  # _IOW(0x94, 9, int)
_REFLINK_TYPES: Final = frozenset({"bcachefs", "btrfs", "ocfs2", "xfs"})
_CANNOT_TRY: Final = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS),  # no permission to write
        *(errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT),  # no O_TMPFILE here
        *(errno.ENOSPC, errno.EDQUOT),  # no room for 4,096 bytes
    }
)


def can_reflink(path: str | os.PathLike[str]) -> bool:
    """Return whether files in a folder, or in the folder of a file, can share blocks."""
    folder = Path(path)
    try:
        folder = folder.resolve(strict=True)
        if not folder.is_dir():
            folder = folder.parent
    except OSError as error:
        raise store_error(error, folder, "cannot find out whether reflinks work") from error
    tried = _try_reflink(folder)
    return file_system_type(folder) in _REFLINK_TYPES if tried is None else tried


def _try_reflink(folder: Path) -> bool | None:
    """Reflink one unnamed file to another; None where that cannot be tried."""
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
    try:
        with (
            open(os.open(folder, flags, 0o600), "wb", buffering=0) as source,
            open(os.open(folder, flags, 0o600), "wb", buffering=0) as target,
        ):
            source.write(bytes(4096))
            try:
                fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
            except OSError:
                return False
            return True
    except OSError as error:
        if error.errno in _CANNOT_TRY:
            return None
        raise store_error(error, folder, "cannot find out whether reflinks work") from error


def file_system_type(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the type of a folder's file system, such as `ext4`; empty where it is unknown."""
    try:
        lines = os.fsencode(mounts.read_text("utf-8", "surrogateescape")).splitlines()
    except OSError:
        return ""
    found, depth = "", -1
    for line in lines:  # a few dozen mounts; of two on one folder the later one covers the other
        before, _, after = line.partition(b" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind:
            continue
        octal = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8) & 255]), fields[4])
        point = Path(os.fsdecode(octal))
        if folder.is_relative_to(point) and len(point.parts) >= depth:
            found, depth = os.fsdecode(kind[0]), len(point.parts)
    return found
