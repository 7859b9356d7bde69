"""The TOC of a layer that is in a store: the JSON is there, the blob is not.

- zstd:chunked: the JSON is checked by its stated length, since the digest is that of the compressed
  TOC, which is gone.
- eStargz: the JSON is checked by its digest. The footer is gone, and with it the TOC's offset in
  the blob, so that is an estimate: the JSON is compressed again, which gives its length within a
  tenth. It only moves the end of the layer's last file.
"""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vecache.errors import ImageError, TocError
from vecache.image.estargz import FOOTER_BYTES, GZIP
from vecache.image.integrity import check_digest
from vecache.store.bigdata import TOC_KEY, read_big_data
from vecache.toc.document import MAX_TOC_BYTES
from vecache.toc.merge import TocFormat

if TYPE_CHECKING:
    from vecache.image.zstd_chunked import TocPlace
    from vecache.store.records import LayerRecord

__all__ = ["StoredEstargzToc", "StoredZstdChunkedToc"]


@dataclass(frozen=True, slots=True)
class StoredZstdChunkedToc:
    """What a store kept of a zstd:chunked TOC.

    Attributes
    ----------
    layer : LayerRecord
        The store's layer.
    digest : str
        Of the compressed TOC.
    place : TocPlace
        Where the TOC stood in the blob.
    """

    layer: LayerRecord
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
        """Read the JSON; TocError if its length is not the stated one."""
        data = _read_stored(self.layer)
        if len(data) != self.place.uncompressed_bytes:
            raise TocError(
                f"{self.layer.big_data_path(TOC_KEY)}: {len(data):,} bytes, the manifest says "
                f"{self.place.uncompressed_bytes:,}; the store's copy is damaged, pull it again"
            )
        return data


@dataclass(frozen=True)
class StoredEstargzToc:
    """What a store kept of an eStargz TOC.

    Attributes
    ----------
    layer : LayerRecord
        The store's layer.
    blob_bytes : int
        Size of the blob, as the manifest says.
    digest : str
        Of the JSON.
    """

    layer: LayerRecord
    blob_bytes: int
    digest: str

    toc_format = TocFormat.ESTARGZ
    n_requests = 2

    @cached_property
    def _compressed_bytes(self) -> int:
        toc = self.read()
        member = tarfile.TarInfo("stargz.index.json")
        member.size = len(toc)
        deflater = zlib.compressobj(zlib.Z_BEST_COMPRESSION, zlib.DEFLATED, GZIP)
        padding = bytes(-len(toc) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)
        parts = (member.tobuf(), toc, padding)
        return sum(len(deflater.compress(part)) for part in parts) + len(deflater.flush())

    def offset(self) -> int:
        """Estimate the TOC's own offset in the blob."""
        return max(0, self.blob_bytes - self.wire_bytes())

    def wire_bytes(self) -> int:
        """Estimate the bytes of the footer and of the TOC."""
        return FOOTER_BYTES + self._compressed_bytes

    def read(self) -> bytes:
        """Read the JSON; TocError if its digest is another."""
        data = _read_stored(self.layer)
        check_digest(data, self.digest, str(self.layer.big_data_path(TOC_KEY)), TocError)
        return data


def _read_stored(layer: LayerRecord) -> bytes:
    data = read_big_data(layer, TOC_KEY, MAX_TOC_BYTES)
    if data is None:
        raise ImageError(
            f"{layer.big_data_path(TOC_KEY)}: there is no such file; the layer is gone, or the "
            "store damaged"
        )
    return data
