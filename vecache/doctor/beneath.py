"""Open files beneath a folder, and follow no symbolic link: none leads out of it."""

from __future__ import annotations

import errno
import os
import stat

from vecache.doctor.rules import Rule
from vecache.text import printable

__all__ = ["NotOpenedError", "OpenFolder"]


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
                self._enter(folders)
            status = os.stat(last, dir_fd=self._descriptor, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no regular file"
                raise NotOpenedError(Rule.FILE_MISSING, f"it is {kind}")
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
            return os.open(last, flags, dir_fd=self._descriptor)
        except OSError as error:
            reason = "it is missing" if error.errno == errno.ENOENT else error.strerror or ""
            raise NotOpenedError(Rule.FILE_MISSING, reason) from None

    def _enter(self, folders: list[bytes]) -> None:
        """Open a folder, one step at a time."""
        descriptor = os.dup(self._root)
        try:
            for part in folders:
                if stat.S_ISLNK(os.stat(part, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    text = f"the folder {printable(part)} on its path is a symbolic link"
                    raise NotOpenedError(Rule.FILE_LINK, text)
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
                below = os.open(part, flags, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            descriptor, self._descriptor = self._descriptor, descriptor
            self._path = folders
        finally:
            os.close(descriptor)
