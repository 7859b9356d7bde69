"""What the store has once the layers of an image are committed.

Layers are committed from the bottom up, whenever they are done. The record of each says under which
id and by which digests later pulls find it; with a TOC comes the cache file that Podman will write.

1. A layer pulled in part has the digest of its TOC, and its diff-id where that was computed: not
   where unpredictable contents are allowed.
2. A layer pulled whole has no TOC. One that Podman converts gets a TOC that nobody knows before the
   pull.
3. A layer that is present, but under another parent, is made from the local one, without a TOC.

Source: containers/image storage/storage_dest.go PutBlobPartial, commitLayer, createNewLayer.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vecache.cache.reader import CacheFile
from vecache.cache.writer import pack_cache
from vecache.errors import DigestError, TocError
from vecache.index.load import CachedLayer, CacheSource, ExcludedLayer
from vecache.plan.presence import PresentLayers, layer_id
from vecache.store.records import ImageRecord, LayerRecord

if TYPE_CHECKING:
    from vecache.image.model import Image, ImageLayer
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.options import PlanOptions
    from vecache.toc.layout import Layout

__all__ = ["Commits", "pulled_layer"]


class Commits:
    """Commits the layers of one image, one after the other.

    Attributes
    ----------
    present : PresentLayers
        What makes a layer present.
    caches : list of LayersCache
        The layers that are there before the pull, and after each layer that is possibly pulled.
    layer_ids : list of str
        Ids of the layers that were committed, or were there under that id.
    """

    def __init__(self, cache: LayersCache, options: PlanOptions) -> None:
        self.present = PresentLayers(cache)
        self.caches = [cache]
        self._options = options
        self.layer_ids: list[str] = []
        self._files: set[str] = set()  # blobs that this pull has in a temporary file

    def add_present(self, layer: ImageLayer, *, may_be_pulled: bool) -> None:
        """Commit a layer that is present; it may be pulled where its own image makes it so."""
        by_toc = not self.present.knows_diff_id(layer, len(self.caches) - 1)
        if may_be_pulled:
            self.caches.append(self.caches[-1])
        comes_from_blob = layer.blob in self._files or self.present.comes_from_blob(layer)
        # Of unpredictable contents Podman makes a tar of its own, with a diff-id of its own.
        record = LayerRecord(
            "",
            diff_digest=None if by_toc else layer.diff_id,
            compressed_diff_digest=layer.blob if comes_from_blob else None,
            is_read_only=False,
        )
        made = ExcludedLayer(record, "no TOC: made from a local layer")
        self._append(layer, made, by_toc=by_toc)

    def add_whole(self, layer: ImageLayer) -> None:
        """Commit a layer that is pulled whole."""
        record = LayerRecord(
            "", diff_digest=layer.diff_id, compressed_diff_digest=layer.blob, is_read_only=False
        )
        new = ExcludedLayer(record, "no TOC: pulled whole")
        if self._options.convert and self._options.partial:
            reason = "converted: its TOC is not known before the pull"
            new = ExcludedLayer(record, reason, is_unread=True)
        else:
            self._files.add(layer.blob)
        self.caches.append(self.caches[-1])
        self._append(layer, new, by_toc=False)
        self.present.learn_blob(layer, len(self.caches) - 1)

    def add_partial(self, layer: ImageLayer, pulled: CachedLayer | ExcludedLayer) -> None:
        """Commit a layer that is pulled in part."""
        is_predictable = self.present.computes_diff_id(layer, self._options)
        knows = is_predictable or self.present.knows_toc(layer, len(self.caches) - 1)
        if not knows:
            record = replace(pulled.record, diff_digest=None, expected_diff_digest=layer.diff_id)
            pulled = replace(pulled, record=record)
        self.caches.append(self.caches[-1])
        self._append(layer, pulled, by_toc=not knows)
        if is_predictable:
            self.present.learn_toc(layer, len(self.caches) - 1)

    def finish(self, image: Image) -> LayersCache:
        """Return all layers, with the image and with what Podman has learnt of blobs and TOCs."""
        cache = self.caches[-1].with_blob_info(self.present.blob_info)
        return cache.with_image(_image_record(image, self._top))

    @property
    def _top(self) -> str:
        """Id of the last layer; empty before the first."""
        return self.layer_ids[-1] if self.layer_ids else ""

    def _append(self, layer: ImageLayer, new: CachedLayer | ExcludedLayer, *, by_toc: bool) -> None:
        parent = self._top
        self.layer_ids.append(layer_id(parent, layer, by_toc=by_toc))
        if self._top in self.present.ids:
            return
        record = replace(new.record, id=self._top, parent=parent or None)
        self.present.add(record, len(self.caches) - 1)
        self.caches[-1] = self.caches[-1].append(replace(new, record=record))


def pulled_layer(layer: ImageLayer, layout: Layout) -> CachedLayer | ExcludedLayer:
    """Return a layer pulled in part, with the cache file that Podman will write for it."""
    record = LayerRecord(
        "", diff_digest=layer.diff_id, toc_digest=layer.toc_digest, is_read_only=False
    )
    entries = layer.toc.entries
    try:
        cache = CacheFile.parse(pack_cache(entries, layout))
    except (DigestError, TocError) as error:
        # The pull itself does not check each digest. The next one fails to write this cache,
        # logs that, and goes on without: source containers/storage cache_linux.go load.
        return ExcludedLayer(record, str(error))
    return CachedLayer(record, cache, CacheSource.APPENDED, entries=entries, layout=layout)


def _image_record(image: Image, top_layer: str) -> ImageRecord:
    """Return the record of a pulled image; its id depends on the config, which is not retained."""
    return ImageRecord(
        id=image.digest.partition(":")[2],
        digest=image.digest,
        names=tuple(dict.fromkeys(filter(None, (image.name, image.reference)))),
        top_layer=top_layer or None,
        big_data_names=(),
        store_root=Path(),
        is_read_only=False,
        created_by=tuple(layer.created_by for layer in image.layers),
        manifest_digest=image.digest,
    )
