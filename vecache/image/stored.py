"""Read an image, and the TOCs of its layers, from a containers-storage graph root.

The manifest and the config are big data of the image, a TOC is big data of its layer. An image may
have several manifests: `manifest` is the one of the latest pull, `manifest-DIGEST` is each of them,
and each list that one was chosen from. The digest of the image's record is that of the first item
that was stored, which often is a list, so it says nothing about `manifest`.

A layer has a TOC here if the manifest says so and the store's layer was made from that very TOC
(the same digest). A layer that was pulled whole, or converted from gzip, has none: the next pull
would fetch it whole too.

The store has no blobs, so less can be checked and known:

- zstd:chunked: the JSON is checked by its stated length, since the digest is that of the compressed
  TOC.
- eStargz: the JSON is checked by its digest. The footer, which gives the TOC's offset in the blob,
  is gone, so the JSON is compressed again to estimate the offset, within a tenth of the TOC's
  length. It only moves the end of the layer's last file.

Source: containers/image storage/storage_src.go GetManifest, storage_dest.go CommitWithOptions;
containers/storage images.go recomputeDigests.
"""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vecache.digest import check_digest, has_digest, is_digest, require_digest
from vecache.errors import ImageError, TocError
from vecache.image.manifest import MAX_DOCUMENT_BYTES
from vecache.image.source import Document
from vecache.image.toc import (
    FOOTER_BYTES,
    GZIP,
    TOC_DIGEST,
    find_toc_digest,
    parse_position,
    read_toc,
)
from vecache.store.bigdata import TOC_KEY, read_big_data
from vecache.toc.files import TocFormat
from vecache.toc.parse import MAX_TOC_BYTES

if TYPE_CHECKING:
    from vecache.image.manifest import Descriptor
    from vecache.image.toc import TocPosition, TocReader
    from vecache.store.graphroot import Store
    from vecache.store.records import ImageRecord, LayerRecord

__all__ = ["StoreImage", "StoredEstargzToc", "StoredZstdChunkedToc"]


@dataclass(frozen=True)
class StoreImage:
    """One image of a store."""

    store: Store
    record: ImageRecord
    digest: str = ""  # of the manifest or list that was asked for; empty for the latest one

    @property
    def name(self) -> str:
        """Its first name, or its id."""
        return self.record.label

    @cached_property
    def _layers(self) -> tuple[LayerRecord, ...]:
        return self.store.image_layers(self.record)

    def read_root(self) -> Document:
        """Read the manifest that was asked for, or else that of the latest pull."""
        key = f"manifest-{self.digest}"
        if key in self.record.big_data_names:
            return Document(self._read(key), "", f"image {self.name}: {key}", self.digest)
        data = self._read("manifest")
        digests = self._manifest_digests()
        found = [digest for digest in digests if has_digest(data, digest)]
        return Document(
            data, "", f"image {self.name}: manifest", next(iter(found or digests), None)
        )

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        """Read a manifest that a list names."""
        return self._read(f"manifest-{descriptor.digest}")

    def read_config(self, descriptor: Descriptor) -> bytes:
        """Read the config."""
        return self._read(descriptor.digest)

    def find_toc(self, layer_no: int, descriptor: Descriptor) -> TocReader | None:
        """Find the TOC that the store has of a layer."""
        if layer_no >= len(self._layers):
            raise ImageError(
                f"image {self.name}: the store has {len(self._layers)} layers of it, the manifest "
                "names more; pull it again"
            )
        layer = self._layers[layer_no]
        found = find_toc_digest(descriptor)
        if found is None or found[1] != layer.toc_digest or TOC_KEY not in layer.big_data_names:
            return None
        if found[0] == TOC_DIGEST:
            return StoredEstargzToc(layer, descriptor.n_bytes, found[1])
        position = parse_position(descriptor)
        return None if position.is_too_large else StoredZstdChunkedToc(layer, found[1], position)

    def _manifest_digests(self) -> list[str]:
        """List the digests that the record allows the manifest to have, the likeliest first."""
        record, prefix = self.record, "manifest-"
        named = [
            key.removeprefix(prefix) for key in record.big_data_names if key.startswith(prefix)
        ]
        known = [*filter(None, [record.manifest_digest]), *filter(is_digest, named)]
        if not known and record.digest:  # stores of old versions have neither of them
            known = [record.digest]
        where = f"{record.store_root}: image {self.name}: digest"
        return [require_digest(digest, where) for digest in known]

    def _read(self, key: str) -> bytes:
        data = read_big_data(self.record, key)
        where = f"image {self.name}: {key}"
        if data is None:
            raise ImageError(f"{where} is missing in the store; pull the image again")
        if len(data) > MAX_DOCUMENT_BYTES:
            raise ImageError(
                f"{where}: {len(data):,} bytes, such a document has at most {MAX_DOCUMENT_BYTES:,}"
            )
        return data


@dataclass(frozen=True, slots=True)
class StoredZstdChunkedToc:
    """A zstd:chunked TOC in a store."""

    layer: LayerRecord
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
        """Read the JSON, which the store has uncompressed."""
        return _read_stored(self.layer)

    def unpack(self, packed: bytes) -> bytes:
        """Check the length of the JSON."""
        if len(packed) != self.position.uncompressed_bytes:
            raise TocError(
                f"{self.layer.big_data_path(TOC_KEY)}: {len(packed):,} bytes, the manifest says "
                f"{self.position.uncompressed_bytes:,}; the store's copy is damaged, pull it again"
            )
        return packed


@dataclass(frozen=True)
class StoredEstargzToc:
    """An eStargz TOC in a store."""

    layer: LayerRecord
    blob_bytes: int  # as the manifest says
    digest: str  # of the JSON

    toc_format = TocFormat.ESTARGZ

    @cached_property
    def _compressed_bytes(self) -> int:
        toc = read_toc(self)
        member = tarfile.TarInfo("stargz.index.json")
        member.size = len(toc)
        deflater = zlib.compressobj(zlib.Z_BEST_COMPRESSION, zlib.DEFLATED, GZIP)
        padding = bytes(-len(toc) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)
        parts = (member.tobuf(), toc, padding)
        return sum(len(deflater.compress(part)) for part in parts) + len(deflater.flush())

    def offset(self) -> int:
        """Estimate the offset of the TOC in the blob."""
        return max(0, self.blob_bytes - self.wire_bytes())

    def wire_bytes(self) -> int:
        """Estimate the bytes of the footer and of the TOC."""
        return FOOTER_BYTES + self._compressed_bytes

    def fetch(self) -> bytes:
        """Read the JSON, which the store has uncompressed."""
        return _read_stored(self.layer)

    def unpack(self, packed: bytes) -> bytes:
        """Check the digest of the JSON."""
        check_digest(packed, self.digest, str(self.layer.big_data_path(TOC_KEY)), TocError)
        return packed


def _read_stored(layer: LayerRecord) -> bytes:
    data = read_big_data(layer, TOC_KEY, MAX_TOC_BYTES)
    if data is None:
        raise ImageError(
            f"{layer.big_data_path(TOC_KEY)}: there is no such file; the layer is gone, or the "
            "store damaged"
        )
    return data
