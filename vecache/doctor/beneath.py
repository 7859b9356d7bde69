"""Open files beneath a folder, and follow no symbolic link: none leads out of it."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from vecache.doctor.rules import Rule
from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NotOpenedError", "OpenFolder", "open_folder"]


class NotOpenedError(Exception):
    """Why a file cannot be opened."""

    def __init__(self, rule: Rule, reason: str) -> None:
        self.rule = rule
        super().__init__(reason)


class OpenFolder:
    """Opens files beneath a folder; keeps the folder of the last one open for the next."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._path: list[bytes] = []
        self._descriptor = os.dup(root)

    def close(self) -> None:
        """Close the folder."""
        os.close(self._descriptor)

    def open(self, name: bytes) -> int:
        """Open a regular file; raise `NotOpenedError` where that fails."""
        if b"\0" in name:
            raise NotOpenedError(Rule.FILE_MISSING, "no file can have this name")
        # As at the root of a file system: `..` at the top stays there.
        *folders, last = os.path.normpath(b"/" + name).lstrip(b"/").split(b"/")
        try:
            if folders != self._path:
                descriptor = open_folder(self._root, folders)
                os.close(self._descriptor)
                self._descriptor, self._path = descriptor, folders
            status = os.stat(last, dir_fd=self._descriptor, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no regular file"
                raise NotOpenedError(Rule.FILE_MISSING, f"it is {kind}")
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
            return os.open(last, flags, dir_fd=self._descriptor)
        except OSError as error:
            reason = "it is missing" if error.errno == errno.ENOENT else error.strerror or ""
            raise NotOpenedError(Rule.FILE_MISSING, reason) from None


def open_folder(root: int, folders: Iterable[bytes]) -> int:
    """Open a folder beneath another, a step at a time; raise `NotOpenedError` at a link."""
    descriptor = os.dup(root)
    for part in folders:
        try:
            below = _step(descriptor, part)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _step(descriptor: int, part: bytes) -> int:
    if stat.S_ISLNK(os.stat(part, dir_fd=descriptor, follow_symlinks=False).st_mode):
        text = f"the folder {printable(part)} on its path is a symbolic link"
        raise NotOpenedError(Rule.FILE_LINK, text)
    return os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
