"""The TOC of an eStargz layer: the blob's last file, found through its last 51 bytes.

An eStargz blob is a tar archive in many gzip members. The last member is empty; its extra field
says where the TOC's member starts, and that one holds a tar of one file, the JSON.

    footer, 51 bytes
     0  10  gzip header with an extra field; time, flags and system are not looked at
    10   2  length of the extra field: 26
    12   2  `SG`
    14   2  length of the subfield: 22
    16  16  the TOC's offset in the blob, hex
    32   6  `STARGZ`
    38   5  one empty stored block
    43   8  checksum and length of nothing: zeros

The digest in the annotation is that of the uncompressed JSON, so decompression comes before the
check and has to be bounded: first the 512 bytes of the tar header, then as many as it states.

Source: containers/storage pkg/chunked/compression_linux.go readEstargzChunkedManifest.

The TOC of a zstd:chunked layer: one zstd frame, at a place that annotations give.

    manifest-checksum   digest of the compressed TOC
    manifest-position   offset:length:uncompressed length:type, in bytes; the only type is 1
    tarsplit-position   offset:length:uncompressed length; may be missing

Podman fetches the TOC and the tar-split with one request. Only the TOC is read here, with one plain
range, since many a registry refuses a request for two.

The compressed bytes are hashed before they are decompressed, and decompression stops at the stated
length: a frame that holds more costs nothing.

Source: containers/storage pkg/chunked/compression_linux.go readZstdChunkedManifest.

Find a layer's TOC, and which of the two formats it has.

The layer's annotations in the manifest say so. A layer has one of two kinds of annotation, or none:
then it has no TOC and is pulled whole. Both at once is an error, as it is upstream.

Source: containers/storage pkg/chunked/toc/toc.go GetTOCDigest.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from vecache.digest import check_digest, require_digest
from vecache.errors import ImageError, TocError
from vecache.toc.files import TocFormat
from vecache.toc.parse import MAX_TOC_BYTES

if TYPE_CHECKING:
    from vecache.image.blob import Blob
    from vecache.image.manifest import Descriptor

__all__ = [
    "FOOTER_BYTES",
    "GZIP",
    "MANIFEST_CHECKSUM",
    "MANIFEST_POSITION",
    "TAR_SPLIT_POSITION",
    "TOC_DIGEST",
    "EstargzToc",
    "TocPlace",
    "TocReader",
    "ZstdChunkedToc",
    "decompress_zstd",
    "find_toc",
    "find_toc_digest",
    "parse_footer",
    "parse_place",
    "unpack_toc",
]

TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"  # upstream: tocJSONDigestAnnotation
FOOTER_BYTES = 51
_FOOTER = re.compile(
    rb"\x1f\x8b\x08\x04.{6}\x1a\x00SG\x16\x00([0-9a-fA-F]{16})STARGZ\x01\x00\x00\xff\xff\x00{8}",
    re.DOTALL,
)
_TAR_BLOCK = 512
GZIP = 31  # zlib's word for: a gzip header and the largest window


@dataclass(frozen=True)
class EstargzToc:
    """A TOC that stands in a blob as a gzip member."""

    blob: Blob  # the layer's bytes
    digest: str  # of the uncompressed TOC

    toc_format = TocFormat.ESTARGZ
    n_requests = 2

    @cached_property
    def _toc_start(self) -> int:
        n_bytes, where = self.blob.n_bytes, self.blob.where
        if n_bytes <= FOOTER_BYTES:
            raise ImageError(f"{where}: {n_bytes} bytes are too few for an eStargz blob")
        footer_start = n_bytes - FOOTER_BYTES
        start = parse_footer(self.blob.read(footer_start, FOOTER_BYTES), where)
        if not 0 < footer_start - start <= MAX_TOC_BYTES:
            raise ImageError(
                f"{where}: the footer puts the TOC at byte {start:,}; wanted it before "
                f"byte {footer_start:,} and no longer than {MAX_TOC_BYTES:,} bytes"
            )
        return start

    def offset(self) -> int:
        """Read the TOC's own offset in the blob from the footer, once."""
        return self._toc_start

    def wire_bytes(self) -> int:
        """Count the bytes of the footer and of the TOC."""
        return self.blob.n_bytes - self._toc_start

    def read(self) -> bytes:
        """Read the JSON."""
        where = f"{self.blob.where}, TOC at byte {self._toc_start}"
        packed = self.blob.read(self._toc_start, self.wire_bytes() - FOOTER_BYTES)
        toc = unpack_toc(packed, where)
        check_digest(toc, self.digest, where, TocError)
        return toc


def parse_footer(footer: bytes, where: str) -> int:
    """Read the TOC's offset from the last bytes of a blob."""
    match = _FOOTER.fullmatch(footer)
    if match is None:
        raise ImageError(
            f"{where}: the last {FOOTER_BYTES} bytes are not an eStargz footer, though the "
            "manifest says that the layer is eStargz"
        )
    return int(match[1], 16)


def unpack_toc(packed: bytes, where: str) -> bytes:
    """Take the JSON out of the TOC's gzip member."""
    inflater = zlib.decompressobj(GZIP)
    try:
        header = inflater.decompress(packed, _TAR_BLOCK)
        member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        if not (member.isreg() and 0 < member.size <= MAX_TOC_BYTES):
            raise TocError(
                f"{where}: the tar starts with an entry of type {member.type!r} and "
                f"{member.size:,} bytes; wanted a file of 1 to {MAX_TOC_BYTES:,}"
            )
        toc = inflater.decompress(inflater.unconsumed_tail, member.size)
    except (zlib.error, tarfile.TarError) as error:
        raise TocError(f"{where}: damaged gzip or tar: {error}") from error
    if len(toc) != member.size:
        raise TocError(f"{where}: ends after {len(toc):,} of {member.size:,} bytes")
    return toc


_PREFIX = "io.github.containers.zstd-chunked."
MANIFEST_CHECKSUM = f"{_PREFIX}manifest-checksum"  # upstream: ManifestChecksumKey
MANIFEST_POSITION = f"{_PREFIX}manifest-position"  # upstream: ManifestInfoKey
TAR_SPLIT_POSITION = f"{_PREFIX}tarsplit-position"  # upstream: TarSplitInfoKey
_TOC_TYPE = 1  # upstream: ManifestTypeCRFS


@dataclass(frozen=True, slots=True)
class TocPlace:
    """Where a TOC stands in its blob."""

    start: int  # its first byte
    compressed_bytes: int  # its length there, and decompressed
    uncompressed_bytes: int  # its length there, and decompressed
    tar_split_bytes: int  # compressed length of the tar-split; 0 if there is none

    @property
    def wire_bytes(self) -> int:
        """What Podman fetches: the TOC and the tar-split."""
        return self.compressed_bytes + self.tar_split_bytes


def parse_place(descriptor: Descriptor) -> TocPlace:
    """Read the positions from a layer's annotations."""
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
    """A TOC that stands in a blob as one zstd frame."""

    blob: Blob  # the layer's bytes
    digest: str  # of the compressed TOC
    place: TocPlace  # where the TOC stands

    toc_format = TocFormat.ZSTD_CHUNKED
    n_requests = 1

    def offset(self) -> int:
        """Give the TOC's own offset in the blob."""
        return self.place.start

    def wire_bytes(self) -> int:
        """Count the bytes of the TOC and of the tar-split."""
        return self.place.wire_bytes

    def read(self) -> bytes:
        """Read the JSON."""
        where = f"{self.blob.where}, TOC at byte {self.place.start}"
        packed = self.blob.read(self.place.start, self.place.compressed_bytes)
        check_digest(packed, self.digest, where, TocError)
        return decompress_zstd(packed, self.place.uncompressed_bytes, where)


def decompress_zstd(packed: bytes, n_bytes: int, where: str) -> bytes:
    """Decompress what must have a known length."""
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
    """Read the annotation that says a layer has a TOC."""
    found = [name for name in (MANIFEST_CHECKSUM, TOC_DIGEST) if name in descriptor.annotations]
    if len(found) == 2:
        raise ImageError(
            f"{descriptor.where}: annotations of both zstd:chunked and eStargz; wanted one of them"
        )
    if not found:
        return None
    name = found[0]
    return name, require_digest(descriptor.annotations[name], f"{descriptor.where}: {name}")


def find_toc(descriptor: Descriptor, blob: Blob) -> TocReader | None:
    """Find a layer's TOC, without reading anything of the blob."""
    found = find_toc_digest(descriptor)
    if found is None:
        return None
    name, digest = found
    if name == TOC_DIGEST:
        return EstargzToc(blob, digest)
    return ZstdChunkedToc(blob, digest, parse_place(descriptor))
