"""Read an image from local files: an OCI layout, in a folder or a tar archive, or a `dir:` folder.

An OCI layout, as `skopeo copy ... oci:DIR` writes it:

    index.json             a list; each entry may carry its tag as an annotation
    blobs/ALGORITHM/HEX    manifests, configs, layers

Without a tag there must be one image only. The entries of `index.json` are not chosen from by
platform: what the tag points to may be a list, and that one is.

In an archive a layout is read in place: the tar headers are read once to learn where each member
is, and a blob is then a range of the archive. The archive must not be compressed; Skopeo and Podman
write it so. Memory: about 300 bytes per member. All headers have 16 MiB at most together, so there
are at most 32,000 members.

A `dir:` folder, as `skopeo copy ... dir:DIR` writes it:

    version                `Directory Transport Version: 1.1`
    manifest.json          the manifest, or a list
    HEX.manifest.json      a manifest that the list names
    HEX                    configs and layers; for other algorithms than sha256: ALGORITHM-HEX

Source: containers/image oci/layout/oci_transport.go getManifestDescriptor;
oci/archive/oci_transport.go; directory/directory_transport.go layerPath, manifestPath.
"""

from __future__ import annotations

import io
import posixpath
import re
import tarfile
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vecache.errors import ImageError, ImageNotFoundError
from vecache.image.blob import FileBlob, open_file, read_document
from vecache.image.manifest import MAX_DOCUMENT_BYTES, ImageManifest, parse_manifest
from vecache.image.source import Document
from vecache.image.toc import find_toc

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.image.manifest import Descriptor
    from vecache.image.toc import TocReader

__all__ = ["DirFolder", "FolderFiles", "OciLayout", "TarFiles"]

_INDEX_NAME = "index.json"
_TAG = "org.opencontainers.image.ref.name"
_MAX_SHOWN = 20

_MAX_HEADER_BYTES = 16 << 20  # 0.3 s a MiB, if they are full of PAX keywords
_MAX_MEMBER_HEADER_BYTES = 1 << 20
_MAX_KEYWORDS = 100  # of global PAX headers, which tarfile copies for each member
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
}

_VERSION = b"Directory Transport Version: 1."
_MAX_VERSION_BYTES = 4096


@dataclass(frozen=True, slots=True)
class OciLayout:
    """One image of a layout."""

    files: FolderFiles | TarFiles
    tag: str  # the image's tag, `@N` for the Nth image from 0, or empty for the only image

    @property
    def name(self) -> str:
        """The tag, or the name of the folder or archive."""
        return self.tag or self.files.path.name

    def read_root(self) -> Document:
        """Read the manifest or list that the tag points to."""
        path = self.files.path
        index = self.files.read_document(_INDEX_NAME)
        root = _find_tagged(index, self.tag, f"{path}: {_INDEX_NAME}")
        name = _blob_path(root.digest)
        data = self.files.read_document(name)
        return Document(data, root.media_type, f"{path}: {name}", root.digest)

    def tags(self) -> tuple[str, ...]:
        """List the tags of the layout, in its order."""
        where = f"{self.files.path}: {_INDEX_NAME}"
        choices = _parse_index(self.files.read_document(_INDEX_NAME), where)
        tags = (each.annotations.get(_TAG, "") for each in choices)
        return tuple(dict.fromkeys(filter(None, tags)))

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        """Read a manifest that a list names."""
        return self._blob(descriptor).read(0, descriptor.n_bytes)

    def read_config(self, descriptor: Descriptor) -> bytes:
        """Read the config."""
        return self._blob(descriptor).read(0, descriptor.n_bytes)

    def find_toc(self, layer_no: int, descriptor: Descriptor) -> TocReader | None:
        """Find a layer's TOC through its annotations."""
        return find_toc(descriptor, self._blob(descriptor))

    def _blob(self, descriptor: Descriptor) -> FileBlob:
        return self.files.blob(_blob_path(descriptor.digest), descriptor.n_bytes)


def _blob_path(digest: str) -> str:
    """Return a blob's path in a layout; a valid digest is safe there."""
    algorithm, _, text = digest.partition(":")
    return f"blobs/{algorithm}/{text}"


def _parse_index(index: bytes, where: str) -> tuple[Descriptor, ...]:
    choices = parse_manifest(index, "", where)
    if isinstance(choices, ImageManifest):
        raise ImageError(f"{where}: an image, wanted a list of images")
    return choices


def _find_tagged(index: bytes, tag: str, where: str) -> Descriptor:
    """Find the first entry of an `index.json` with a tag; the error lists the tags."""
    choices = _parse_index(index, where)
    if tag.startswith("@"):
        index_no = int(tag[1:]) if re.fullmatch(r"[0-9]{1,9}", tag[1:]) else len(choices)
        found = choices[index_no : index_no + 1]
    elif tag:
        found = tuple(each for each in choices if each.annotations.get(_TAG) == tag)[:1]
    else:
        found = choices
    if len(found) == 1:
        return found[0]
    tags = [repr(each.annotations.get(_TAG, f"@{i}")) for i, each in enumerate(choices)]
    shown = ", ".join(tags[:_MAX_SHOWN]) + (", ..." if len(tags) > _MAX_SHOWN else "")
    problem = f"no image {tag!r}" if tag else f"{len(choices)} images and no tag given"
    raise ImageNotFoundError(f"{where}: {problem}; tags there: {shown or 'none'}")


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """The files of a layout that is a folder."""

    path: Path

    def read_document(self, name: str) -> bytes:
        """Read a small file whole."""
        return read_document(self.path / name, MAX_DOCUMENT_BYTES)

    def blob(self, name: str, n_bytes: int) -> FileBlob:
        """Return a file of known size, without opening it."""
        return FileBlob(self.path / name, n_bytes)


@dataclass(frozen=True)
class TarFiles:
    """The files of a layout that is a tar archive."""

    path: Path

    @cached_property
    def _members(self) -> dict[str, tuple[int, int]]:
        return _find_members(self.path)

    def read_document(self, name: str) -> bytes:
        """Read a small member whole."""
        start, n_bytes = self._find(name)
        if n_bytes > MAX_DOCUMENT_BYTES:
            raise ImageError(
                f"{self.path}: {name} has {n_bytes:,} bytes, "
                f"but such a document has at most {MAX_DOCUMENT_BYTES:,}"
            )
        return FileBlob(self.path, n_bytes, start).read(0, n_bytes)

    def blob(self, name: str, n_bytes: int) -> FileBlob:
        """Return a member of known size, without reading it."""
        start, member_bytes = self._find(name)
        if member_bytes != n_bytes:
            raise ImageError(
                f"{self.path}: {name} has {member_bytes:,} bytes, the manifest says {n_bytes:,}"
            )
        return FileBlob(self.path, n_bytes, start)

    def _find(self, name: str) -> tuple[int, int]:
        member = self._members.get(name)
        if member is None:
            raise ImageError(f"{self.path}: the archive has no member {name}")
        return member


def _find_members(path: Path) -> dict[str, tuple[int, int]]:
    """Find the start and the size of each regular file; of equal names the last."""
    members = {}
    last_offset = -1
    try:
        with (
            open_file(path) as (opened, _),
            _HeaderFile(opened.fileno(), closefd=False) as file,
        ):
            _refuse_compressed(file.read(8), path)
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while (member := archive.next()) is not None:
                    # A negative size would send tarfile back and forth for ever.
                    if member.offset <= last_offset or member.size < 0:
                        raise tarfile.ReadError("a header that points backwards")
                    last_offset = member.offset
                    if len(archive.pax_headers) > _MAX_KEYWORDS:
                        raise tarfile.ReadError(f"more than {_MAX_KEYWORDS} global keywords")
                    if member.isreg():
                        name = posixpath.normpath(member.name)
                        members[name] = (member.offset_data, member.size)
                    # Or it keeps them all, with their keywords.
                    archive.members.clear()  # type: ignore[attr-defined]
                    file.member_bytes = 0
    except ImageError:
        raise
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        raise ImageError(f"{path}: not a tar archive that can be read: {error}") from error
    return members


class _HeaderFile(io.FileIO):
    """A file of which only headers are read, and not too many bytes of them."""

    all_bytes = 0
    member_bytes = 0  # since it was last set to 0

    def read(self, size: int | None = -1, /) -> bytes:
        n_bytes = _MAX_HEADER_BYTES + 1 if size is None or size < 0 else size
        self.all_bytes += n_bytes
        self.member_bytes += n_bytes
        if self.member_bytes > _MAX_MEMBER_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of more than {_MAX_MEMBER_HEADER_BYTES:,} bytes")
        if self.all_bytes > _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"more than {_MAX_HEADER_BYTES:,} bytes of headers")
        return super().read(n_bytes) or b""


def _refuse_compressed(start: bytes, path: Path) -> None:
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise ImageError(
                f"{path}: compressed with {name}; wanted a plain tar archive, decompress it first"
            )


@dataclass(frozen=True, slots=True)
class DirFolder:
    """The image in a `dir:` folder."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def read_root(self) -> Document:
        """Read `manifest.json`; a folder of an unknown version is refused."""
        path = self.folder / "manifest.json"
        data = read_document(path, MAX_DOCUMENT_BYTES)
        version = self.folder / "version"
        if version.exists():  # Skopeo writes it, and reads folders without it
            found = read_document(version, _MAX_VERSION_BYTES)
            if not found.startswith(_VERSION):
                # What it holds is not shown: it may be a link to a file that others must not see.
                raise ImageError(f"{version}: found another text, wanted version 1 of the format")
        return Document(data, "", str(path))

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        """Read a manifest that a list names."""
        path = self.folder / f"{_file_name(descriptor.digest)}.manifest.json"
        return FileBlob(path, descriptor.n_bytes).read(0, descriptor.n_bytes)

    def read_config(self, descriptor: Descriptor) -> bytes:
        """Read the config."""
        return self._blob(descriptor).read(0, descriptor.n_bytes)

    def find_toc(self, layer_no: int, descriptor: Descriptor) -> TocReader | None:
        """Find a layer's TOC through its annotations."""
        return find_toc(descriptor, self._blob(descriptor))

    def _blob(self, descriptor: Descriptor) -> FileBlob:
        return FileBlob(self.folder / _file_name(descriptor.digest), descriptor.n_bytes)


def _file_name(digest: str) -> str:
    algorithm, _, text = digest.partition(":")
    return text if algorithm == "sha256" else f"{algorithm}-{text}"
