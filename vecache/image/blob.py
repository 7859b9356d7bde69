"""A blob: bytes of known number that can be read in parts, wherever they are.

`FileBlob` is one that is a file, or a stretch of a file (in a tar archive). Only the part asked for
is read, so a sparse file of many gigabytes costs no more than its TOC. The file is opened for each
read: there are one or two of them a layer, and nothing is left open.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from vecache.errors import ImageError, ImageNotFoundError
from vecache.files import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Blob", "FileBlob", "open_file", "read_document"]


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
        start = (self.start or 0) + offset
        with open_file(self.path) as (file, file_bytes):
            wanted = (self.start or 0) + self.n_bytes
            if file_bytes < wanted or (self.start is None and file_bytes > wanted):
                raise ImageError(
                    f"{self.path}: the file has {file_bytes:,} bytes, wanted {wanted:,}; "
                    "the copy is incomplete or damaged"
                )
            file.seek(start)
            data = file.read(n_bytes)
        n_missing = n_bytes - len(data)
        if n_missing:
            raise ImageError(
                f"{self.path}: ends at byte {start + len(data)}, {n_missing:,} bytes too early"
            )
        return data


def read_document(path: Path, max_bytes: int) -> bytes:
    """Read a small file whole."""
    with open_file(path) as (file, file_bytes):
        if file_bytes > max_bytes:
            raise ImageError(
                f"{path}: {file_bytes:,} bytes, but such a document has at most {max_bytes:,}"
            )
        return file.read(file_bytes)


@contextmanager
def open_file(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file of an image; yield it and its size in bytes."""
    try:
        with open_regular(path) as opened:
            yield opened
    except FileNotFoundError:
        raise ImageNotFoundError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from error
