"""An image in an OCI layout, which is a folder or (see `archive`) a tar archive of one.

    index.json             a list; each entry may carry its tag as an annotation
    blobs/ALGORITHM/HEX    manifests, configs, layers

Without a tag there must be one image only. `@N` in the place of a tag is the Nth entry, from 0. The
entries of `index.json` are not chosen from by platform: what the tag points to may be a list, and
that one is.

Source: containers/image oci/layout/oci_transport.go getManifestDescriptor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vecache.errors import ImageError, ImageNotFoundError
from vecache.image.blob import FileBlob, read_document
from vecache.image.manifest import MAX_DOCUMENT_BYTES, ManifestList, parse_manifest
from vecache.image.source import Document
from vecache.image.toc_reader import find_toc

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.image.blob import Blob
    from vecache.image.manifest import Descriptor
    from vecache.image.toc_reader import TocReader

__all__ = ["FolderFiles", "LayoutFiles", "OciLayout"]

_INDEX_NAME = "index.json"
_REF_NAME = "org.opencontainers.image.ref.name"
_MAX_SHOWN = 20


class LayoutFiles(Protocol):
    """The files of a layout, by their names in it."""

    @property
    def path(self) -> Path:
        """The folder or archive."""

    def read_document(self, name: str) -> bytes:
        """Read a small file as a whole."""

    def blob(self, name: str, n_bytes: int) -> Blob:
        """Give a file of known size, without reading it."""


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """A layout that is a folder."""

    path: Path

    def read_document(self, name: str) -> bytes:
        """Read a small file as a whole."""
        return read_document(self.path / name, MAX_DOCUMENT_BYTES)

    def blob(self, name: str, n_bytes: int) -> FileBlob:
        """Give a file of known size, without looking at it."""
        return FileBlob(self.path / name, n_bytes)


@dataclass(frozen=True, slots=True)
class OciLayout:
    """One image of a layout.

    Attributes
    ----------
    files : LayoutFiles
        The layout.
    tag : str
        The image's tag, `@N`, or nothing for the only image.
    """

    files: LayoutFiles
    tag: str

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

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        """Read a manifest that a list names."""
        return self._blob(descriptor).read(0, descriptor.n_bytes)

    def read_config(self, descriptor: Descriptor) -> bytes:
        """Read the config."""
        return self._blob(descriptor).read(0, descriptor.n_bytes)

    def find_toc(self, layer_no: int, descriptor: Descriptor) -> TocReader | None:
        """Find a layer's TOC through its annotations."""
        return find_toc(descriptor, self._blob(descriptor))

    def _blob(self, descriptor: Descriptor) -> Blob:
        return self.files.blob(_blob_path(descriptor.digest), descriptor.n_bytes)


def _blob_path(digest: str) -> str:
    """Give a blob's path in a layout; a valid digest is safe there."""
    algorithm, _, text = digest.partition(":")
    return f"blobs/{algorithm}/{text}"


def _find_tagged(index: bytes, tag: str, where: str) -> Descriptor:
    """Find the first entry of an `index.json` with a tag; the message lists the tags."""
    manifest = parse_manifest(index, "", where)
    if not isinstance(manifest, ManifestList):
        raise ImageError(f"{where}: an image, wanted a list of images")
    choices = manifest.choices
    if tag.startswith("@"):
        position = int(tag[1:]) if re.fullmatch(r"[0-9]{1,9}", tag[1:]) else len(choices)
        found = choices[position : position + 1]
    elif tag:
        found = tuple(each for each in choices if each.annotations.get(_REF_NAME) == tag)[:1]
    else:
        found = choices
    if len(found) == 1:
        return found[0]
    tags = [repr(each.annotations.get(_REF_NAME, f"@{i}")) for i, each in enumerate(choices)]
    shown = ", ".join(tags[:_MAX_SHOWN]) + (", ..." if len(tags) > _MAX_SHOWN else "")
    problem = f"no image {tag!r}" if tag else f"{len(choices)} images and no tag given"
    raise ImageNotFoundError(f"{where}: {problem}; tags there: {shown or 'none'}")
