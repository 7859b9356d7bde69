"""What a power cut does to files: bytes that were not synced are lost, and renames may be.

A file that was written and not synced since has lost its end, or all of it, or its bytes are zeros.
A rename whose folder was not synced since may not have happened. Everything else is on the disk.
"""

from __future__ import annotations

import os
import random
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class _Rename(NamedTuple):
    """A rename that is not on the disk yet, and a second name of what it replaced."""

    source: str
    target: str
    folder: tuple[int, int]
    old: str | None


class PowerCut:
    """Follows the writes below a folder, and cuts the power."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._draw = folder, random.Random(seed)
        self._aside = folder.with_name("aside")
        self._aside.mkdir(exist_ok=True)
        self._synced = {_key(os.lstat(path)) for path in folder.rglob("*")}
        self._renames: list[_Rename] = []

    def note(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Note a call that is made next."""
        if name == "fsync":
            key = _key(os.fstat(args[0]))
            self._synced.add(key)
            self._renames = [each for each in self._renames if each.folder != key]
        elif name in ("write", "pwrite"):
            self._synced.discard(_key(os.fstat(args[0])))
        elif name in ("replace", "rename"):
            source = _path(args[0], named.get("src_dir_fd"))
            self._note_rename(source, _path(args[1], named.get("dst_dir_fd")))

    def happen(self) -> None:
        """Lose what may be lost."""
        kept: set[str] = set()
        for source, target, _, old in reversed(self._renames):
            if target in kept or self._draw.random() < 0.5 or not os.path.lexists(target):
                kept.add(target)  # and so are those before it
                continue
            if not os.path.lexists(source):
                _plain["rename"](target, source)
            if old is not None:
                _plain["replace"](old, target)
        for path in sorted(self._folder.rglob("*")):
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and _key(status) not in self._synced:
                n_left = self._draw.choice((0, status.st_size // 2, status.st_size))
                os.truncate(path, n_left)
                if "snapshots" not in path.parts and self._draw.random() < 0.5:
                    os.truncate(path, 0)
                    os.truncate(path, n_left)  # zeros

    def _note_rename(self, source: str, target: str) -> None:
        old = None
        if os.path.isfile(target):
            old = str(self._aside / f"{os.getpid()}-{len(self._renames)}")
            os.link(target, old)
        folder = _key(os.stat(os.path.dirname(target)))
        self._renames.append(_Rename(source, target, folder, old))


_plain = {"rename": os.rename, "replace": os.replace}


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _path(name: Any, dir_fd: int | None) -> str:
    folder = "" if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
    return os.path.join(folder, os.fspath(name))
