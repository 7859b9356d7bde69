"""Which layers of an image are pulled, and how: the rules before any file is looked at.

1. A layer is present where its blob is a layer's `diff-digest` (an uncompressed blob) or
   `compressed-diff-digest`, or its TOC is a layer's `toc-digest`; or where Podman knows a diff-id
   for blob or TOC (`vecache.store.blob_info`) that is a layer's `diff-digest`. The diff-id of the
   image's config is not compared: the same content compressed otherwise is pulled again. Of the
   other layers of its image, only those count that are committed when it starts.
2. The id of a layer is its diff-id, for all but the first `sha256(parent id + "+" + diff-id)`. A
   layer with a TOC of which nothing vouches for the diff-id has `@TOC=` and the digest of the TOC
   in place of it, and a hash also where it is the first: one pulled in part with unpredictable
   contents allowed, or one that is present as such. What is pulled under an id that the store has
   is dropped: it adds no layer.
3. A layer is pulled in part where it has a TOC and partial pulls are enabled. For eStargz, and for
   a layer without tar-split, they also need `insecure_allow_unpredictable_image_contents`.

Source: containers/image storage/storage_dest.go tryReusingBlobAsPending, PutBlobPartial,
trustedLayerIdentityDataLocked, layerID; containers/storage pkg/chunked/storage_linux.go NewDiffer,
makeZstdChunkedDiffer, ApplyDiff.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from vecache.plan.layer_plan import LayerState
from vecache.store.blob_info import BlobInfo
from vecache.toc.files import TocFormat

if TYPE_CHECKING:
    from vecache.image.model import ImageLayer
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.options import PlanOptions
    from vecache.store.records import LayerRecord

__all__ = ["PresentLayers", "has_tar_split", "layer_id", "state_of"]


def state_of(layer: ImageLayer, options: PlanOptions) -> LayerState:
    """Return how a layer that is not present is pulled."""
    if layer.toc_format is None or not options.partial:
        return LayerState.WHOLE
    return LayerState.PARTIAL if options.estargz or has_tar_split(layer) else LayerState.WHOLE


def has_tar_split(layer: ImageLayer) -> bool:
    """Return whether the tar of a layer with a TOC can be made again, and so its diff-id."""
    return layer.toc_format is TocFormat.ZSTD_CHUNKED and layer.toc.tar_split_digest is not None


class PresentLayers:
    """The digests and ids of the layers that count as present.

    Each is there once so many layers of the image are committed: 0 for what the store has before.
    """

    def __init__(self, cache: LayersCache) -> None:
        self.ids: set[str] = set()
        self._diff_digests: dict[str | None, int] = {}
        self._compressed: dict[str | None, int] = {}
        self._tocs: dict[str | None, int] = {}
        self._compressed_of: dict[str | None, str | None] = {}  # by diff-id, of the first layer
        self._tocs_with_diff_id: set[str | None] = set()  # of the first layer that has the TOC
        self._known_blobs: dict[str, tuple[str, int]] = {}
        self._known_tocs: dict[str, tuple[str, int]] = {}
        self._before = cache.blob_info
        self._is_any_unpredictable = any(
            record.toc_digest is not None and record.diff_digest is None for record in cache.records
        )
        for record in cache.records:
            self.add(record, 0)

    def add(self, record: LayerRecord, number: int) -> None:
        """Count one more layer as present, once `number` layers are committed."""
        self.ids.add(record.id)
        self._diff_digests.setdefault(record.diff_digest, number)
        self._compressed.setdefault(record.compressed_diff_digest, number)
        self._compressed_of.setdefault(record.diff_digest, record.compressed_diff_digest)
        if record.toc_digest not in self._tocs and record.diff_digest is not None:
            self._tocs_with_diff_id.add(record.toc_digest)
        self._tocs.setdefault(record.toc_digest, number)

    def learn_blob(self, layer: ImageLayer, number: int) -> None:
        """Add what Podman writes down of a layer that it has pulled whole."""
        self._known_blobs.setdefault(layer.blob, (layer.diff_id, number))

    def learn_toc(self, layer: ImageLayer, number: int) -> None:
        """Add what Podman writes down of a layer whose diff-id it has computed."""
        if layer.toc_digest is not None:
            self._known_tocs.setdefault(layer.toc_digest, (layer.diff_id, number))

    @property
    def blob_info(self) -> BlobInfo:
        """What Podman knows of blobs and TOCs in the end."""
        blobs = {digest: diff_id for digest, (diff_id, _) in self._known_blobs.items()}
        tocs = {digest: diff_id for digest, (diff_id, _) in self._known_tocs.items()}
        if not (blobs or tocs):
            return self._before
        return BlobInfo({**self._before.blobs, **blobs}, {**self._before.tocs, **tocs})

    def have(self, layer: ImageLayer, n_committed: int) -> bool:
        """Return whether a layer is present, and so not pulled, once so many are committed."""
        toc = layer.toc_digest
        return self._have_diff_id(layer, n_committed) or (
            toc is not None and _is_there(self._tocs, toc, n_committed)
        )

    def knows_diff_id(self, layer: ImageLayer, n_committed: int) -> bool:
        """Return whether something vouches for the diff-id of a layer that is present."""
        return (
            self._have_diff_id(layer, n_committed)
            or layer.toc_digest in self._tocs_with_diff_id
            or self.knows_toc(layer, n_committed)
        )

    def comes_from_blob(self, layer: ImageLayer) -> bool:
        """Return whether the first local layer with a layer's diff-id came from its blob."""
        return self._compressed_of.get(layer.diff_id) == layer.blob

    def knows_toc(self, layer: ImageLayer, n_committed: int) -> bool:
        """Return whether Podman knows the diff-id of a layer's TOC."""
        return self._known_by_toc(layer, n_committed) is not None

    def computes_diff_id(self, layer: ImageLayer, options: PlanOptions) -> bool:
        """Return whether Podman computes the diff-id of a layer that it pulls in part."""
        is_allowed = options.unpredictable
        if is_allowed is None:  # then the layers that were pulled with the setting tell
            is_allowed = self._is_any_unpredictable
        return not is_allowed and has_tar_split(layer)

    def _have_diff_id(self, layer: ImageLayer, n_committed: int) -> bool:
        """Return whether a layer is present for anything but its TOC's own digest."""
        known = self._before.uncompressed(layer.blob)
        diff_id, number = self._known_blobs.get(layer.blob, (None, 0))
        if known is None and number <= n_committed:
            known = diff_id
        by_toc = self._known_by_toc(layer, n_committed)
        return _is_there(self._compressed, layer.blob, n_committed) or any(
            digest is not None and _is_there(self._diff_digests, digest, n_committed)
            for digest in (layer.blob, known, by_toc)
        )

    def _known_by_toc(self, layer: ImageLayer, n_committed: int) -> str | None:
        if layer.toc_digest is None:
            return None
        diff_id, number = self._known_tocs.get(layer.toc_digest, (None, 0))
        known = self._before.uncompressed_for_toc(layer.toc_digest)
        return known or (diff_id if number <= n_committed else None)


def layer_id(parent: str, layer: ImageLayer, *, by_toc: bool) -> str:
    """Return the id of a layer on top of another one; of the first, whose parent is empty."""
    part = layer.diff_id.partition(":")[2]
    if by_toc:
        part = f"@TOC={(layer.toc_digest or '').partition(':')[2]}"
    elif not parent:
        return part
    return hashlib.sha256(f"{parent}+{part}".encode()).hexdigest()


def _is_there(numbers: dict[str | None, int], digest: str, n_committed: int) -> bool:
    number = numbers.get(digest)
    return number is not None and number <= n_committed
