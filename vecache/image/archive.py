"""The files of an OCI layout inside a tar archive, read in place.

The headers are read once to learn where each file stands; then a blob is a stretch of the archive
and is read by seeking. That needs an archive that is not compressed, which is how Skopeo and Podman
write them.

About 300 bytes of memory a member, and no more than 100,000 of them.

Source: containers/image oci/archive/oci_transport.go.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vecache.errors import ImageError
from vecache.image.blob import FileBlob, open_regular
from vecache.image.manifest import MAX_DOCUMENT_BYTES

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TarFiles"]

_MAX_MEMBERS = 100_000
_MAX_HEADER_BYTES = 1 << 20
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
}


@dataclass(frozen=True)
class TarFiles:
    """A layout that is a tar archive.

    Attributes
    ----------
    path : Path
        The archive.
    """

    path: Path

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        return _find_members(self.path)

    def read_document(self, name: str) -> bytes:
        """Read a small member as a whole."""
        start, n_bytes = self._find(name)
        if n_bytes > MAX_DOCUMENT_BYTES:
            raise ImageError(
                f"{self.path}: {name} has {n_bytes:,} bytes, "
                f"but such a document has at most {MAX_DOCUMENT_BYTES:,}"
            )
        return FileBlob(self.path, n_bytes, start).read(0, n_bytes)

    def blob(self, name: str, n_bytes: int) -> FileBlob:
        """Give a member of known size, without reading it."""
        start, member_bytes = self._find(name)
        if member_bytes != n_bytes:
            raise ImageError(
                f"{self.path}: {name} has {member_bytes:,} bytes, the manifest says {n_bytes:,}"
            )
        return FileBlob(self.path, n_bytes, start)

    def _find(self, name: str) -> tuple[int, int]:
        place = self._places.get(name)
        if place is None:
            raise ImageError(f"{self.path}: the archive has no member {name}")
        return place


class _HeaderFile(io.FileIO):
    """A file that gives headers only, so that no header can ask for gigabytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size) or b""


def _find_members(path: Path) -> dict[str, tuple[int, int]]:
    """Find the start and the size of each regular file; of equal names the last."""
    places = {}
    last_offset, n_members = -1, 0
    try:
        with open_regular(path) as (handle, _), _HeaderFile(handle, closefd=False) as file:
            _refuse_compressed(file.read(8), path)
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    # A negative size would send tarfile back and forth for ever.
                    if member.offset <= last_offset or member.size < 0:
                        raise tarfile.ReadError("a header that points backwards")
                    last_offset = member.offset
                    if member.isreg():
                        name = posixpath.normpath(member.name)
                        places[name] = (member.offset_data, member.size)
                    n_members += 1
                    if n_members > _MAX_MEMBERS:
                        raise tarfile.ReadError(f"more than {_MAX_MEMBERS:,} members")
    except ImageError:
        raise
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        raise ImageError(f"{path}: not a tar archive that can be read: {error}") from error
    return places


def _refuse_compressed(start: bytes, path: Path) -> None:
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise ImageError(
                f"{path}: compressed with {name}; wanted a plain tar archive, decompress it first"
            )
