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
"""

from __future__ import annotations

import re
import tarfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vecache.errors import ImageError, TocError
from vecache.image.integrity import check_digest
from vecache.toc.document import MAX_TOC_BYTES
from vecache.toc.merge import TocFormat

if TYPE_CHECKING:
    from vecache.image.blob import Blob

__all__ = ["FOOTER_BYTES", "GZIP", "TOC_DIGEST", "EstargzToc", "parse_footer", "unpack_toc"]

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
    """A TOC that stands in a blob as a gzip member.

    Attributes
    ----------
    blob : Blob
        The layer's bytes.
    digest : str
        Of the uncompressed TOC.
    """

    blob: Blob
    digest: str

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
        """Read the JSON.

        Returns
        -------
        bytes
            At most MAX_TOC_BYTES, vouched for by the digest.

        Raises
        ------
        TocError
            If the digest is another, or the TOC's member is damaged.
        ImageError
            If the footer is malformed, or the blob cannot be read.
        """
        where = f"{self.blob.where}, TOC at byte {self._toc_start}"
        packed = self.blob.read(self._toc_start, self.wire_bytes() - FOOTER_BYTES)
        toc = unpack_toc(packed, where)
        check_digest(toc, self.digest, where, TocError)
        return toc


def parse_footer(footer: bytes, where: str) -> int:
    """Read the TOC's offset from the last bytes of a blob.

    Parameters
    ----------
    footer : bytes
        FOOTER_BYTES of them.
    where : str
        The blob, for the message.

    Returns
    -------
    int
        The TOC's offset in the blob, 0 to 2**64 - 1.

    Raises
    ------
    ImageError
        If it is no such footer.
    """
    match = _FOOTER.fullmatch(footer)
    if match is None:
        raise ImageError(
            f"{where}: the last {FOOTER_BYTES} bytes are not an eStargz footer, though the "
            "manifest says that the layer is eStargz"
        )
    return int(match[1], 16)


def unpack_toc(packed: bytes, where: str) -> bytes:
    """Take the JSON out of the TOC's gzip member.

    Parameters
    ----------
    packed : bytes
        The member.
    where : str
        What it is, for messages.

    Returns
    -------
    bytes
        As many as the tar header states, at most MAX_TOC_BYTES.

    Raises
    ------
    TocError
        If it is no gzip, no tar, or too short.
    """
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
