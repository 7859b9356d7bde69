"""Read parts of a blob: bytes of known number, in a local file or in a registry.

Only the part asked for is read, so a sparse file of many gigabytes costs no more than its TOC. A
file is opened for each read: there are one or two per layer, and nothing is left open.
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
    """A blob that is a local file, or a range of one (in a tar archive)."""

    path: Path
    n_bytes: int  # size of the blob, as the manifest says
    start: int | None = None  # the blob's offset in the file; None if it is the whole file

    @property
    def where(self) -> str:
        """The file, and the blob's start in it."""
        return str(self.path) if self.start is None else f"{self.path} from byte {self.start}"

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Read exactly `n_bytes` from `offset`, or raise ImageError."""
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
