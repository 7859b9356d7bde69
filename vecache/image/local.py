"""An image in a containers-storage graph root, with the TOCs that the store keeps.

The manifest and the config are the image's big data; the TOC of a layer is the layer's. There is no
blob any more; see `stored_toc` for what that costs.

A layer has a TOC here if the manifest says so and the store's layer was made from that very TOC
(the same digest). So a layer that was pulled whole, or converted from gzip, has none: the next
pull would fetch it whole as well.

Source: containers/image storage/storage_src.go, storage/storage_transport.go ParseStoreReference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.errors import ImageError
from vecache.image.estargz import TOC_DIGEST
from vecache.image.integrity import parse_digest
from vecache.image.manifest import MAX_DOCUMENT_BYTES
from vecache.image.source import Document
from vecache.image.stored_toc import StoredEstargzToc, StoredZstdChunkedToc
from vecache.image.toc_reader import find_toc_digest
from vecache.image.zstd_chunked import parse_place
from vecache.store.bigdata import TOC_KEY, read_big_data

if TYPE_CHECKING:
    from vecache.image.manifest import Descriptor
    from vecache.image.toc_reader import TocReader
    from vecache.store.graphroot import Store
    from vecache.store.records import ImageRecord, LayerRecord

__all__ = ["StoreImage", "StoreName", "parse_store_name"]

_SPECIFIER = re.compile(
    r"\[(?:[^@\]]*@)?(?P<root>/[^+:\]]*)(?:\+[^:\]]*)?(?::[^\]]*)?\](?P<name>.*)"
)
_NAME_AND_ID = re.compile(r"(?:.*@)?(?P<id>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class StoreName:
    """An image in a store.

    Attributes
    ----------
    graph_root : Path or None
        The store; None for the one that the caller has.
    name : str
        What the store is asked for.
    """

    graph_root: Path | None
    name: str


def parse_store_name(text: str) -> StoreName:
    """Read `[[DRIVER@]GRAPHROOT[+RUNROOT][:OPTIONS]]NAME`; `@ID` and `NAME@ID` are names too.

    Parameters
    ----------
    text : str
        What stands behind `containers-storage:`.

    Returns
    -------
    StoreName
        Its parts; driver, run root and options make no difference here.

    Raises
    ------
    ImageError
        If it is no such name.

    Examples
    --------
    >>> parse_store_name("[overlay@/srv/store+/run/store]app").graph_root
    PosixPath('/srv/store')
    """
    graph_root, name = None, text
    if text.startswith("["):
        match = _SPECIFIER.fullmatch(text)
        if match is None:
            raise ImageError(f"{text[:200]!r}: wanted [DRIVER@/GRAPHROOT]NAME")
        graph_root, name = Path(match["root"]), match["name"]
    with_id = _NAME_AND_ID.fullmatch(name)
    name = with_id["id"] if with_id else name.removeprefix("@")
    if not name:
        raise ImageError(f"{text[:200]!r}: names no image")
    return StoreName(graph_root, name)


@dataclass(frozen=True)
class StoreImage:
    """One image of a store.

    Attributes
    ----------
    store : Store
        The store.
    record : ImageRecord
        The image.
    """

    store: Store
    record: ImageRecord

    @property
    def name(self) -> str:
        """Its first name, or its id."""
        return self.record.names[0] if self.record.names else self.record.id

    @cached_property
    def _layers(self) -> tuple[LayerRecord, ...]:
        return self.store.image_layers(self.record)

    def read_root(self) -> Document:
        """Read the manifest of the image that was pulled, even where its name is that of a list."""
        data, digest = self._read("manifest"), self.record.digest
        if digest is not None:
            parse_digest(digest, f"{self.record.store_root}: image {self.name}: digest")
        return Document(data, "", f"image {self.name}: manifest", digest)

    def read_manifest(self, descriptor: Descriptor) -> bytes:
        """Read a manifest that a list names."""
        return self._read(f"manifest-{descriptor.digest}")

    def read_config(self, descriptor: Descriptor) -> bytes:
        """Read the config."""
        return self._read(descriptor.digest)

    def find_toc(self, layer_no: int, descriptor: Descriptor) -> TocReader | None:
        """Find the TOC that the store keeps for a layer."""
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
        return StoredZstdChunkedToc(layer, found[1], parse_place(descriptor))

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
