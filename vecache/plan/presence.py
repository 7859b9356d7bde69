"""Which layers of an image are pulled, and how: the rules before any file is looked at.

1. A layer is present where its blob is a layer's `diff-digest` (an uncompressed blob) or
   `compressed-diff-digest`, or its TOC is a layer's `toc-digest`; or where Podman knows a diff-id
   for blob or TOC (`vecache.store.blob_info`) that is a layer's `diff-digest`. The diff-id of the
   image's config is not compared: the same content compressed otherwise is pulled again.
2. The id of a layer is its diff-id, for all but the first `sha256(parent id + "+" + diff-id)`. A
   layer whose contents are unpredictable is identified by its TOC instead. What is pulled under an
   id that the store has is dropped: it adds no layer.
3. A layer is pulled in part where it has a TOC and partial pulls are enabled. For eStargz, and for
   a layer without tar-split, they also need `insecure_allow_unpredictable_image_contents`.

Source: containers/image storage/storage_dest.go tryReusingBlobAsPending, layerID, createNewLayer;
containers/storage pkg/chunked/storage_linux.go NewDiffer, makeZstdChunkedDiffer.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from vecache.plan.layer_plan import LayerState
from vecache.store.blob_info import BlobInfo
from vecache.toc.files import TocFormat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecache.image.model import ImageLayer
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.options import PlanOptions
    from vecache.store.records import LayerRecord

__all__ = ["ImageStack", "PresentLayers", "state_of"]


def state_of(layer: ImageLayer, options: PlanOptions) -> LayerState:
    """Return how a layer that is not present is pulled."""
    if layer.toc_format is None or not options.partial:
        return LayerState.WHOLE
    if not options.estargz and (
        layer.toc_format is TocFormat.ESTARGZ or layer.toc.tar_split_digest is None
    ):
        return LayerState.WHOLE
    return LayerState.PARTIAL


class PresentLayers:
    """The digests and ids of the layers that count as present."""

    def __init__(self, cache: LayersCache) -> None:
        self.ids: set[str] = set()
        self._diff_digests: set[str | None] = set()
        self._compressed: set[str | None] = set()
        self._tocs: set[str | None] = set()
        self.blob_info = cache.blob_info
        for record in cache.records:
            self.add(record)

    def add(self, record: LayerRecord) -> None:
        """Count one more layer as present."""
        self.ids.add(record.id)
        self._diff_digests.add(record.diff_digest)
        self._compressed.add(record.compressed_diff_digest)
        self._tocs.add(record.toc_digest)

    def learn(self, layer: ImageLayer, state: LayerState) -> BlobInfo:
        """Add what Podman writes down of a pulled layer, and return all that is known."""
        blobs, tocs = dict(self.blob_info.blobs), dict(self.blob_info.tocs)
        if state is LayerState.PARTIAL and layer.toc_digest is not None:
            tocs[layer.toc_digest] = layer.diff_id
        else:
            blobs[layer.blob] = layer.diff_id
        self.blob_info = BlobInfo(blobs, tocs)
        return self.blob_info

    def have(self, layer: ImageLayer) -> bool:
        """Return whether a layer is present, and so not pulled."""
        toc = layer.toc_digest
        known = [self.blob_info.uncompressed(layer.blob)]
        if toc is not None:
            known.append(self.blob_info.uncompressed_for_toc(toc))
        return (
            layer.blob in self._diff_digests
            or layer.blob in self._compressed
            or (toc is not None and toc in self._tocs)
            or any(digest is not None and digest in self._diff_digests for digest in known)
        )


class ImageStack:
    """The ids of an image's layers, from the bottom up."""

    def __init__(self, present: PresentLayers) -> None:
        self._present = present
        self._parents: list[str] = [""]

    @property
    def top(self) -> str:
        """The id of the last layer; empty where there is none yet."""
        return self._parents[0]

    def add(self, layer: ImageLayer, *, by_toc: bool) -> tuple[str, bool]:
        """Return the id of the next layer, and whether the store has it already.

        Which of two ids a layer got cannot always be known: how the layers below were identified
        depends on the pulls that made them. An id that the store has decides.
        """
        ids = list(self._ids(layer, by_toc=by_toc))
        existing = [layer_id for layer_id in ids if layer_id in self._present.ids]
        self._parents = (existing or ids)[:2]
        return self._parents[0], bool(existing)

    def _ids(self, layer: ImageLayer, *, by_toc: bool) -> Iterable[str]:
        for parent in self._parents:
            diff_id = layer.diff_id.partition(":")[2]
            yield _digest(f"{parent}+{diff_id}") if parent else diff_id
            if by_toc and layer.toc_digest is not None:
                yield _digest(f"{parent}+@TOC={layer.toc_digest.partition(':')[2]}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
