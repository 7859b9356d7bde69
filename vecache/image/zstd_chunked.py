"""The TOC of a zstd:chunked layer: one zstd frame, at a place that annotations give.

    manifest-checksum   digest of the compressed TOC
    manifest-position   offset:length:uncompressed length:type, in bytes; the only type is 1
    tarsplit-position   offset:length:uncompressed length; may be missing

Podman fetches the TOC and the tar-split with one request. Only the TOC is read here, with one plain
range, since many a registry refuses a request for two.

The compressed bytes are hashed before they are decompressed, and decompression stops at the stated
length: a frame that holds more costs nothing.

Source: containers/storage pkg/chunked/compression_linux.go readZstdChunkedManifest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from vecache.errors import ImageError, TocError
from vecache.image.integrity import check_digest
from vecache.toc.document import MAX_TOC_BYTES
from vecache.toc.merge import TocFormat

if TYPE_CHECKING:
    from vecache.image.blob import Blob
    from vecache.image.manifest import Descriptor

__all__ = [
    "MANIFEST_CHECKSUM",
    "MANIFEST_POSITION",
    "TAR_SPLIT_POSITION",
    "TocPlace",
    "ZstdChunkedToc",
    "decompress_zstd",
    "parse_place",
]

_PREFIX = "io.github.containers.zstd-chunked."
MANIFEST_CHECKSUM = f"{_PREFIX}manifest-checksum"  # upstream: ManifestChecksumKey
MANIFEST_POSITION = f"{_PREFIX}manifest-position"  # upstream: ManifestInfoKey
TAR_SPLIT_POSITION = f"{_PREFIX}tarsplit-position"  # upstream: TarSplitInfoKey
_TOC_TYPE = 1  # upstream: ManifestTypeCRFS


@dataclass(frozen=True, slots=True)
class TocPlace:
    """Where a TOC stands in its blob.

    Attributes
    ----------
    start : int
        Its first byte.
    compressed_bytes, uncompressed_bytes : int
        Its length there, and decompressed.
    tar_split_bytes : int
        Compressed length of the tar-split; 0 if there is none.
    """

    start: int
    compressed_bytes: int
    uncompressed_bytes: int
    tar_split_bytes: int

    @property
    def wire_bytes(self) -> int:
        """What Podman fetches: the TOC and the tar-split."""
        return self.compressed_bytes + self.tar_split_bytes


def parse_place(descriptor: Descriptor) -> TocPlace:
    """Read the positions from a layer's annotations.

    Parameters
    ----------
    descriptor : Descriptor
        The layer in the manifest.

    Returns
    -------
    TocPlace
        Inside the blob.

    Raises
    ------
    ImageError
        If a position is missing, malformed, too large or outside the blob.
    """
    start, length, uncompressed, kind = _parse_position(descriptor, MANIFEST_POSITION, 4)
    where = f"{descriptor.where}: {MANIFEST_POSITION}"
    if kind != _TOC_TYPE:
        raise ImageError(f"{where}: a TOC of type {kind}, only type {_TOC_TYPE} is known")
    if not (0 < length <= MAX_TOC_BYTES and 0 < uncompressed <= MAX_TOC_BYTES):
        raise ImageError(
            f"{where}: a TOC of {length:,} bytes, {uncompressed:,} uncompressed; "
            f"wanted 1 to {MAX_TOC_BYTES:,}"
        )
    split_start, split_length = 0, 0
    if TAR_SPLIT_POSITION in descriptor.annotations:
        split_start, split_length, _ = _parse_position(descriptor, TAR_SPLIT_POSITION, 3)
    if not split_start:  # upstream fetches it only where its offset is not 0
        split_length = 0
    _require_inside(descriptor, MANIFEST_POSITION, start, length)
    _require_inside(descriptor, TAR_SPLIT_POSITION, split_start, split_length)
    return TocPlace(start, length, uncompressed, split_length)


@dataclass(frozen=True, slots=True)
class ZstdChunkedToc:
    """A TOC that stands in a blob as one zstd frame.

    Attributes
    ----------
    blob : Blob
        The layer's bytes.
    digest : str
        Of the compressed TOC.
    place : TocPlace
        Where the TOC stands.
    """

    blob: Blob
    digest: str
    place: TocPlace

    toc_format = TocFormat.ZSTD_CHUNKED
    n_requests = 1

    def offset(self) -> int:
        """Give the TOC's own offset in the blob."""
        return self.place.start

    def wire_bytes(self) -> int:
        """Count the bytes of the TOC and of the tar-split."""
        return self.place.wire_bytes

    def read(self) -> bytes:
        """Read the JSON.

        Returns
        -------
        bytes
            As many as stated, vouched for by the digest.

        Raises
        ------
        TocError
            If the digest or the length is another, or it is no zstd frame.
        ImageError
            If the blob cannot be read.
        """
        where = f"{self.blob.where}, TOC at byte {self.place.start}"
        packed = self.blob.read(self.place.start, self.place.compressed_bytes)
        check_digest(packed, self.digest, where, TocError)
        return decompress_zstd(packed, self.place.uncompressed_bytes, where)


def decompress_zstd(packed: bytes, n_bytes: int, where: str) -> bytes:
    """Decompress what must have a known length.

    Parameters
    ----------
    packed : bytes
        One or more zstd frames.
    n_bytes : int
        Stated length of the result, from 1.
    where : str
        What it is, for messages.

    Returns
    -------
    bytes
        Exactly so many.

    Raises
    ------
    TocError
        If it is no zstd, or gives fewer or more bytes.
    """
    try:
        with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
            data = stream.read(n_bytes)
            has_more = bool(stream.read(1))
    except (pa.ArrowException, OSError) as error:
        raise TocError(f"{where}: damaged zstd frame: {error}") from error
    if len(data) != n_bytes or has_more:
        found = f"more than {n_bytes:,}" if has_more else f"{len(data):,}"
        raise TocError(f"{where}: {found} bytes uncompressed, the manifest says {n_bytes:,}")
    return bytes(data)


def _parse_position(descriptor: Descriptor, name: str, n_numbers: int) -> tuple[int, ...]:
    text = descriptor.annotations.get(name)
    if text is None:
        raise ImageError(f"{descriptor.where}: the annotation {name} is missing")
    if not re.fullmatch(rf"[0-9]{{1,19}}(:[0-9]{{1,19}}){{{n_numbers - 1}}}", text):
        raise ImageError(
            f"{descriptor.where}: {name} is {text[:100]!r}, wanted {n_numbers} numbers "
            "with colons between them"
        )
    return tuple(int(number) for number in text.split(":"))


def _require_inside(descriptor: Descriptor, name: str, start: int, length: int) -> None:
    if start + length > descriptor.n_bytes:
        raise ImageError(
            f"{descriptor.where}: {name} ends at byte {start + length:,}, "
            f"but the blob has {descriptor.n_bytes:,}"
        )
