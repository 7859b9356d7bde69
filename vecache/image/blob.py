"""A blob: bytes of known number that can be read in parts, wherever they are.

`FileBlob` is one that is a file, or a stretch of a file (in a tar archive). Only the part asked for
is read, so a sparse file of many gigabytes costs no more than its TOC. The file is opened for each
read: there are one or two of them a layer, and nothing is left open.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vecache.errors import ImageError, ImageNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Blob", "FileBlob", "open_regular", "read_document"]


class Blob(Protocol):
    """Bytes that a manifest names."""

    @property
    def where(self) -> str:
        """What the blob is and where, for messages."""

    @property
    def n_bytes(self) -> int:
        """Its size, as the manifest says."""

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Read exactly `n_bytes` from `offset`, or raise ImageError."""


@dataclass(frozen=True, slots=True)
class FileBlob:
    """A blob in a local file."""

    path: Path  # the file
    n_bytes: int  # size of the blob, as the manifest says
    # where the blob starts in a file that holds more than the blob; None if it is all of it
    start: int | None = None

    @property
    def where(self) -> str:
        """The file, and the blob's start in it."""
        return str(self.path) if self.start is None else f"{self.path} from byte {self.start}"

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Read a part."""
        with open_regular(self.path) as (descriptor, file_bytes):
            wanted = (self.start or 0) + self.n_bytes
            if file_bytes < wanted or (self.start is None and file_bytes > wanted):
                raise ImageError(
                    f"{self.path}: the file has {file_bytes:,} bytes, wanted {wanted:,}; "
                    "the copy is incomplete or damaged"
                )
            return _read_part(descriptor, self.path, (self.start or 0) + offset, n_bytes)


def read_document(path: Path, max_bytes: int) -> bytes:
    """Read a small file as a whole."""
    with open_regular(path) as (descriptor, file_bytes):
        if file_bytes > max_bytes:
            raise ImageError(
                f"{path}: {file_bytes:,} bytes, but such a document has at most {max_bytes:,}"
            )
        return _read_part(descriptor, path, 0, file_bytes)


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[int, int]]:
    """Open a regular file, without waiting for anybody."""
    try:
        # Without O_NONBLOCK, opening a fifo would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ImageNotFoundError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path}: not a regular file")
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def _read_part(descriptor: int, path: Path, offset: int, n_bytes: int) -> bytes:
    parts = []
    n_left = n_bytes
    while n_left:
        try:
            part = os.pread(descriptor, n_left, offset)
        except OSError as error:
            raise ImageError(f"{path} at byte {offset}: {error.strerror}") from error
        if not part:
            raise ImageError(f"{path}: ends at byte {offset}, {n_left:,} bytes too early")
        parts.append(part)
        offset += len(part)
        n_left -= len(part)
    return b"".join(parts)
