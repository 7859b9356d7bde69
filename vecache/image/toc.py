"""Find, read and check the TOC of a layer, in either of two formats.

A layer's annotations in the manifest say which format it has. A layer without them has no TOC and
is pulled whole, and so is one whose zstd:chunked TOC is too large; both kinds of annotation at once
are an error, as they are upstream.

zstd:chunked: one zstd frame, at an offset that annotations give.

    manifest-checksum   digest of the compressed TOC
    manifest-position   offset:length:uncompressed length:type, in bytes; the only type is 1
    tarsplit-position   offset:length:uncompressed length; may be missing

Podman fetches the TOC and the tar-split in one request. Only the TOC is read here, as one plain
range, since many registries refuse a request for two. The compressed bytes are hashed before they
are decompressed, and decompression stops at the stated length.

eStargz: the blob is a tar archive in many gzip members. The last member is empty, and its extra
field gives the offset of the TOC's member, which is a tar of one file, the JSON.

    footer, 51 bytes
     0  10  gzip header with an extra field; time, flags and system are ignored
    10   2  length of the extra field: 26
    12   2  `SG`
    14   2  length of the subfield: 22
    16  16  the TOC's offset in the blob, hex
    32   6  `STARGZ`
    38   5  one empty stored block
    43   8  checksum and length of nothing: zeros

The digest in the annotation is that of the uncompressed JSON, so decompression comes before the
check and is bounded: 512 bytes of tar header, then as many bytes as that states.

Source: containers/storage pkg/chunked/toc/toc.go GetTOCDigest; pkg/chunked/compression_linux.go
readZstdChunkedManifest, readEstargzChunkedManifest.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from dataclasses import dataclass
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
    "TocPosition",
    "TocReader",
    "ZstdChunkedToc",
    "decompress_zstd",
    "find_toc",
    "find_toc_digest",
    "parse_footer",
    "parse_position",
    "read_toc",
    "unpack_toc",
]

_PREFIX = "io.github.containers.zstd-chunked."
MANIFEST_CHECKSUM = f"{_PREFIX}manifest-checksum"  # upstream: ManifestChecksumKey
MANIFEST_POSITION = f"{_PREFIX}manifest-position"  # upstream: ManifestInfoKey
TAR_SPLIT_POSITION = f"{_PREFIX}tarsplit-position"  # upstream: TarSplitInfoKey
TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"  # upstream: tocJSONDigestAnnotation

_TOC_TYPE = 1  # upstream: ManifestTypeCRFS
FOOTER_BYTES = 51
_FOOTER = re.compile(
    rb"\x1f\x8b\x08\x04.{6}\x1a\x00SG\x16\x00([0-9a-fA-F]{16})STARGZ\x01\x00\x00\xff\xff\x00{8}",
    re.DOTALL,
)
GZIP = 31  # zlib's `wbits` for a gzip header and the largest window


class TocReader(Protocol):
    """The TOC of one layer, not read yet. All methods may be called from several threads."""

    @property
    def toc_format(self) -> TocFormat:
        """Its format."""

    @property
    def digest(self) -> str:
        """The digest in the annotation."""

    def offset(self) -> int:
        """Return the offset of the TOC in the blob."""

    def wire_bytes(self) -> int:
        """Count the bytes that Podman fetches for it, tar-split and footer included."""

    def fetch(self) -> bytes:
        """Fetch the TOC as it is stored, compressed or not, with nothing checked."""

    def unpack(self, packed: bytes) -> bytes:
        """Check what was fetched, and decompress it to the JSON, at most MAX_TOC_BYTES."""


def read_toc(reader: TocReader) -> bytes:
    """Read and check the JSON of a TOC."""
    return reader.unpack(reader.fetch())


def find_toc(descriptor: Descriptor, blob: Blob) -> TocReader | None:
    """Find a layer's TOC, without reading anything of the blob; None if Podman uses none."""
    found = find_toc_digest(descriptor)
    if found is None:
        return None
    name, digest = found
    if name == TOC_DIGEST:
        return EstargzToc(blob, digest)
    position = parse_position(descriptor)
    return None if position.is_too_large else ZstdChunkedToc(blob, digest, position)


def find_toc_digest(descriptor: Descriptor) -> tuple[str, str] | None:
    """Return the annotation that says a layer has a TOC, and the digest in it."""
    found = [name for name in (MANIFEST_CHECKSUM, TOC_DIGEST) if name in descriptor.annotations]
    if len(found) == 2:
        raise ImageError(
            f"{descriptor.where}: annotations of both zstd:chunked and eStargz; wanted one of them"
        )
    if not found:
        return None
    name = found[0]
    return name, require_digest(descriptor.annotations[name], f"{descriptor.where}: {name}")


@dataclass(frozen=True, slots=True)
class TocPosition:
    """Where a zstd:chunked TOC is in its blob."""

    offset: int
    compressed_bytes: int
    uncompressed_bytes: int
    tar_split_bytes: int  # compressed; 0 if there is none

    @property
    def wire_bytes(self) -> int:
        """What Podman fetches: the TOC and the tar-split."""
        return self.compressed_bytes + self.tar_split_bytes

    @property
    def is_too_large(self) -> bool:
        """Whether Podman does not read the TOC, and takes the layer as one without."""
        return max(self.compressed_bytes, self.uncompressed_bytes) > MAX_TOC_BYTES


@dataclass(frozen=True, slots=True)
class ZstdChunkedToc:
    """A TOC that is one zstd frame of a blob."""

    blob: Blob
    digest: str  # of the compressed TOC
    position: TocPosition

    toc_format = TocFormat.ZSTD_CHUNKED

    def offset(self) -> int:
        """Return the offset of the TOC in the blob."""
        return self.position.offset

    def wire_bytes(self) -> int:
        """Count the bytes of the TOC and of the tar-split."""
        return self.position.wire_bytes

    def fetch(self) -> bytes:
        """Fetch the zstd frame."""
        return self.blob.read(self.position.offset, self.position.compressed_bytes)

    def unpack(self, packed: bytes) -> bytes:
        """Check the digest of the frame, and decompress it."""
        where = f"{self.blob.where}, TOC at byte {self.position.offset}"
        check_digest(packed, self.digest, where, TocError)
        return decompress_zstd(packed, self.position.uncompressed_bytes, where)


def parse_position(descriptor: Descriptor) -> TocPosition:
    """Parse the position in a layer's annotations, and check that it is inside the blob."""
    offset, length, uncompressed, kind = _parse_numbers(descriptor, MANIFEST_POSITION, 4)
    where = f"{descriptor.where}: {MANIFEST_POSITION}"
    if kind != _TOC_TYPE:
        raise ImageError(f"{where}: a TOC of type {kind}, only type {_TOC_TYPE} is known")
    if not (length and uncompressed):
        raise ImageError(
            f"{where}: a TOC of {length:,} bytes, {uncompressed:,} uncompressed; wanted at least 1"
        )
    split_offset, split_length = 0, 0
    if TAR_SPLIT_POSITION in descriptor.annotations:
        split_offset, split_length, _ = _parse_numbers(descriptor, TAR_SPLIT_POSITION, 3)
    if not split_offset:  # upstream fetches it only where its offset is not 0
        split_length = 0
    _require_inside(descriptor, MANIFEST_POSITION, offset + length)
    _require_inside(descriptor, TAR_SPLIT_POSITION, split_offset + split_length)
    return TocPosition(offset, length, uncompressed, split_length)


def decompress_zstd(packed: bytes, n_bytes: int, where: str) -> bytes:
    """Decompress zstd frames that must give exactly `n_bytes`."""
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


def _parse_numbers(descriptor: Descriptor, name: str, n_numbers: int) -> tuple[int, ...]:
    text = descriptor.annotations.get(name)
    if text is None:
        raise ImageError(f"{descriptor.where}: the annotation {name} is missing")
    if not re.fullmatch(rf"[0-9]{{1,19}}(:[0-9]{{1,19}}){{{n_numbers - 1}}}", text):
        raise ImageError(
            f"{descriptor.where}: {name} is {text[:100]!r}, wanted {n_numbers} numbers "
            "with colons between them"
        )
    return tuple(int(number) for number in text.split(":"))


def _require_inside(descriptor: Descriptor, name: str, end: int) -> None:
    if end > descriptor.n_bytes:
        raise ImageError(
            f"{descriptor.where}: {name} ends at byte {end:,}, "
            f"but the blob has {descriptor.n_bytes:,}"
        )


@dataclass(eq=False, slots=True)
class EstargzToc:
    """A TOC that is one gzip member of a blob."""

    blob: Blob
    digest: str  # of the uncompressed TOC
    # The offset once it is known. No `cached_property`: before Python 3.12 that holds one lock for
    # all instances, and the footers of several layers are read side by side.
    _offset: int = -1

    toc_format = TocFormat.ESTARGZ

    def offset(self) -> int:
        """Return the offset of the TOC in the blob; reads the footer once."""
        if self._offset < 0:
            self._offset = self._read_offset()
        return self._offset

    def wire_bytes(self) -> int:
        """Count the bytes of the footer and of the TOC."""
        return self.blob.n_bytes - self.offset()

    def fetch(self) -> bytes:
        """Fetch the gzip member; reads the footer first."""
        return self.blob.read(self.offset(), self.wire_bytes() - FOOTER_BYTES)

    def unpack(self, packed: bytes) -> bytes:
        """Decompress the member, and check the digest of the JSON."""
        where = f"{self.blob.where}, TOC at byte {self.offset()}"
        toc = unpack_toc(packed, where)
        check_digest(toc, self.digest, where, TocError)
        return toc

    def _read_offset(self) -> int:
        n_bytes, where = self.blob.n_bytes, self.blob.where
        if n_bytes <= FOOTER_BYTES:
            raise ImageError(f"{where}: {n_bytes} bytes are too few for an eStargz blob")
        footer_offset = n_bytes - FOOTER_BYTES
        offset = parse_footer(self.blob.read(footer_offset, FOOTER_BYTES), where)
        if not 0 < footer_offset - offset <= MAX_TOC_BYTES:
            raise ImageError(
                f"{where}: the footer puts the TOC at byte {offset:,}; wanted it before "
                f"byte {footer_offset:,} and no longer than {MAX_TOC_BYTES:,} bytes"
            )
        return offset


def parse_footer(footer: bytes, where: str) -> int:
    """Parse the TOC's offset in the last bytes of a blob; any 64-bit number, not checked."""
    match = _FOOTER.fullmatch(footer)
    if match is None:
        raise ImageError(
            f"{where}: the last {FOOTER_BYTES} bytes are not an eStargz footer, though the "
            "manifest says that the layer is eStargz"
        )
    return int(match[1], 16)


def unpack_toc(packed: bytes, where: str) -> bytes:
    """Unpack the JSON from the TOC's gzip member, at most MAX_TOC_BYTES."""
    inflater = zlib.decompressobj(GZIP)
    try:
        header = inflater.decompress(packed, tarfile.BLOCKSIZE)
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
