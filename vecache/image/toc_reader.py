"""Find a layer's TOC, and which of the two formats it has.

The layer's annotations in the manifest say so. A layer has one of two kinds of annotation, or none:
then it has no TOC and is pulled whole. Both at once is an error, as it is upstream.

Source: containers/storage pkg/chunked/toc/toc.go GetTOCDigest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from vecache.errors import ImageError
from vecache.image.estargz import TOC_DIGEST, EstargzToc
from vecache.image.integrity import parse_digest
from vecache.image.zstd_chunked import MANIFEST_CHECKSUM, ZstdChunkedToc, parse_place

if TYPE_CHECKING:
    from vecache.image.blob import Blob
    from vecache.image.manifest import Descriptor
    from vecache.toc.merge import TocFormat

__all__ = ["TocReader", "find_toc", "find_toc_digest"]


class TocReader(Protocol):
    """The TOC of one layer, not read yet."""

    @property
    def toc_format(self) -> TocFormat:
        """Which of the two it is."""

    @property
    def digest(self) -> str:
        """The digest in the annotation."""

    @property
    def n_requests(self) -> int:
        """Requests that Podman needs for it."""

    def offset(self) -> int:
        """Find the TOC's own offset in the blob."""

    def wire_bytes(self) -> int:
        """Count the bytes that Podman fetches for it, tar-split and footer included."""

    def read(self) -> bytes:
        """Read the JSON, checked."""


def find_toc_digest(descriptor: Descriptor) -> tuple[str, str] | None:
    """Read the annotation that says a layer has a TOC.

    Parameters
    ----------
    descriptor : Descriptor
        The layer in the manifest.

    Returns
    -------
    (str, str) or None
        The annotation's name and the digest; None if the layer has no TOC.

    Raises
    ------
    ImageError
        If it has both kinds.
    DigestError
        If the annotation is no digest.
    """
    found = [name for name in (MANIFEST_CHECKSUM, TOC_DIGEST) if name in descriptor.annotations]
    if len(found) == 2:
        raise ImageError(
            f"{descriptor.where}: annotations of both zstd:chunked and eStargz; wanted one of them"
        )
    if not found:
        return None
    name = found[0]
    return name, parse_digest(descriptor.annotations[name], f"{descriptor.where}: {name}")


def find_toc(descriptor: Descriptor, blob: Blob) -> TocReader | None:
    """Find a layer's TOC, without reading anything of the blob.

    Parameters
    ----------
    descriptor : Descriptor
        The layer in the manifest.
    blob : Blob
        The layer's bytes.

    Returns
    -------
    TocReader or None
        What reads it; None if the layer has none.

    Raises
    ------
    ImageError
        If the annotations contradict each other or are malformed.
    DigestError
        If an annotation that must be a digest is none.
    """
    found = find_toc_digest(descriptor)
    if found is None:
        return None
    name, digest = found
    if name == TOC_DIGEST:
        return EstargzToc(blob, digest)
    return ZstdChunkedToc(blob, digest, parse_place(descriptor))
