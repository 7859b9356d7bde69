"""An image in a `dir:` folder, as `skopeo copy ... dir:DIR` writes it.

    DIR/version                 `Directory Transport Version: 1.1`
    DIR/manifest.json           the manifest, or a list
    DIR/HEX.manifest.json       a manifest that the list names
    DIR/HEX                     configs and layers; other algorithms than sha256: ALGORITHM-HEX

Source: containers/image directory/directory_transport.go layerPath, manifestPath.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecache.errors import ImageError
from vecache.image.blob import FileBlob, read_document
from vecache.image.manifest import MAX_DOCUMENT_BYTES
from vecache.image.source import Document
from vecache.image.toc_reader import find_toc

if TYPE_CHECKING:
    from pathlib import Path

    from vecache.image.manifest import Descriptor
    from vecache.image.toc_reader import TocReader

__all__ = ["DirFolder"]

_VERSION = b"Directory Transport Version: 1."
_MAX_VERSION_BYTES = 4096


@dataclass(frozen=True, slots=True)
class DirFolder:
    """The image in a folder.

    Attributes
    ----------
    folder : Path
        The folder.
    """

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
                raise ImageError(f"{version}: {found[:60]!r}, wanted version 1 of the dir format")
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
