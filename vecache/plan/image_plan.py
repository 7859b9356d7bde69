"""What will the pull of a whole image cost? Layer after layer, each joining what the next can use.

1. A layer that the store has, by diff-id, blob digest or TOC digest, is not pulled. If it has
   another parent there, Podman makes a copy that has no TOC and no cache: nothing joins.
2. A layer without a TOC is fetched whole, and nothing of it can be reused by chunk or file.
3. Any other layer is replayed (`replay.py`), and then joins the layers that the next one is held
   against, with the cache file that Podman will write for it.

Frozen values: planning again with other options shares the parsed TOCs. Reads nothing from disk
itself; an image gives its TOCs when asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vecache.cache.writer import pack_cache
from vecache.plan.options import PlanOptions
from vecache.plan.replay import Action, replay_layer, select_files
from vecache.store.records import LayerRecord
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecache.arrays import I64
    from vecache.image.model import Image, ImageLayer
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.replay import Replay

__all__ = ["ImagePlan", "LayerPlan", "LayerState", "plan_image", "plan_images", "plan_with"]


class LayerState(StrEnum):
    """How a layer is pulled."""

    PRESENT = "present"
    """Not at all: the store has it."""
    PARTIAL = "partial"
    """By its TOC."""
    WHOLE = "whole"
    """All of the blob: it has no TOC, or the registry sends no ranges."""


@dataclass(frozen=True, eq=False, repr=False)
class LayerPlan:
    """The pull of one layer.

    Attributes
    ----------
    layer : ImageLayer
        The layer of the image.
    state : LayerState
        How it is pulled.
    replay : Replay or None
        The decisions; only where the state is PARTIAL.
    cache : LayersCache
        What it was held against.
    """

    layer: ImageLayer
    state: LayerState
    replay: Replay | None
    cache: LayersCache

    @property
    def total_bytes(self) -> int:
        """Uncompressed bytes of all files, as Podman logs them; 0 where it logs none."""
        return self.replay.files.total_bytes if self.replay else 0

    @property
    def missing_bytes(self) -> int:
        """Uncompressed bytes that no local layer gives, as Podman logs them."""
        return self.replay.missing_bytes if self.replay else 0

    @property
    def fetch_bytes(self) -> int:
        """Bytes over the wire for data: all ranges, or the whole blob."""
        if self.state is LayerState.WHOLE:
            return self.layer.blob_bytes
        return self.replay.ranges.fetch_bytes if self.replay else 0

    @property
    def slack_bytes(self) -> int:
        """Bytes over the wire that are there only because gaps are fetched along."""
        return self.replay.ranges.slack_bytes if self.replay else 0

    @property
    def ranges(self) -> I64:
        """(n_ranges, 2) int64, first and last byte of each range asked for, both included."""
        return self.replay.ranges.bounds if self.replay else np.empty((0, 2), np.int64)

    @property
    def toc_bytes(self) -> int:
        """Bytes over the wire for the TOC, with tar-split and footer."""
        return self.layer.toc_bytes if self.state is LayerState.PARTIAL else 0

    @property
    def requests(self) -> int:
        """Requests: those for the TOC, and one for data where there is any to fetch."""
        if self.state is LayerState.PARTIAL:
            return self.layer.toc_requests + bool(len(self.ranges))
        return int(self.state is LayerState.WHOLE)

    def count_files(self, action: Action) -> int:
        """Count the files with an action; 0 where the layer is not replayed."""
        return self.replay.count_files(action) if self.replay else 0

    def count_chunks(self, action: Action) -> int:
        """Count the chunks with an action, of files that no layer holds."""
        return self.replay.count_chunks(action) if self.replay else 0

    def __repr__(self) -> str:
        return (
            f"<LayerPlan {self.layer.blob[:19]}: {self.state}, "
            f"{self.missing_bytes:,} of {self.total_bytes:,} bytes missing>"
        )


@dataclass(frozen=True, eq=False, repr=False)
class ImagePlan:
    """The pull of one image.

    Attributes
    ----------
    image : Image
        What is pulled.
    options : PlanOptions
        How.
    layers : tuple of LayerPlan
        From the bottom up.
    cache_after : LayersCache
        The layers that the next image is held against.
    """

    image: Image
    options: PlanOptions
    layers: tuple[LayerPlan, ...]
    cache_after: LayersCache

    @property
    def total_bytes(self) -> int:
        """Uncompressed bytes of all files in the layers that are pulled by their TOC."""
        return sum(layer.total_bytes for layer in self.layers)

    @property
    def missing_bytes(self) -> int:
        """Uncompressed bytes of them that no local layer gives."""
        return sum(layer.missing_bytes for layer in self.layers)

    @property
    def fetch_bytes(self) -> int:
        """Bytes over the wire for data."""
        return sum(layer.fetch_bytes for layer in self.layers)

    @property
    def slack_bytes(self) -> int:
        """Bytes over the wire that are there only because gaps are fetched along."""
        return sum(layer.slack_bytes for layer in self.layers)

    @property
    def toc_bytes(self) -> int:
        """Bytes over the wire for TOCs."""
        return sum(layer.toc_bytes for layer in self.layers)

    @property
    def requests(self) -> int:
        """Requests for TOCs and data; manifest and config not counted."""
        return sum(layer.requests for layer in self.layers)

    def __repr__(self) -> str:
        return (
            f"<ImagePlan {self.image.reference}: {self.missing_bytes:,} of {self.total_bytes:,} "
            f"bytes missing, {self.fetch_bytes:,} to fetch in {self.requests} requests>"
        )


def plan_image(
    image: Image,
    cache: LayersCache,
    *,
    reflink: bool = False,
    hard_links: bool = False,
    layout: str = Layout.DIR,
    **options: Any,
) -> ImagePlan:
    """Plan the pull of an image.

    Parameters
    ----------
    image : Image
        From `open_image`.
    cache : LayersCache
        The layers that count as present.
    reflink : bool
        Whether the store's file system can reflink; `vecache.store.reflink.can_reflink` asks it.
    hard_links : bool
        Whether files are reused by hard link.
    layout : {"dir", "flat"}
        How pulled layers are stored; flat is composefs.
    **options
        `max_ranges`, `gap_bytes` and `whole_blobs` of `PlanOptions`.

    Returns
    -------
    ImagePlan
        What Podman will reuse, fetch and ask for.

    Raises
    ------
    ImageError, TocError, DigestError
        If a layer's TOC cannot be read or breaks a rule.
    LocationError
        If a cache file is corrupt where the pull would look: Podman's pull fails.
    """
    return plan_with(image, cache, PlanOptions(reflink, hard_links, Layout(layout), **options))


def plan_with(image: Image, cache: LayersCache, options: PlanOptions) -> ImagePlan:
    """Plan the pull of an image, as `plan_image` does, with options made beforehand.

    Parameters
    ----------
    image : Image
        From `open_image`.
    cache : LayersCache
        The layers that count as present.
    options : PlanOptions
        Machine and registry.

    Returns
    -------
    ImagePlan
        What Podman will reuse, fetch and ask for.
    """
    plans = []
    for layer in image.layers:  # each is held against what the ones before it left
        plan, cache = _plan_layer(layer, cache, options)
        plans.append(plan)
    return ImagePlan(image, options, tuple(plans), cache)


def _plan_layer(
    layer: ImageLayer, cache: LayersCache, options: PlanOptions
) -> tuple[LayerPlan, LayersCache]:
    if _is_present(layer, cache):
        return LayerPlan(layer, LayerState.PRESENT, None, cache), cache
    record = _joining_record(layer)
    if layer.toc_format is None or options.whole_blobs:
        return LayerPlan(layer, LayerState.WHOLE, None, cache), cache.join(record, None)
    files = select_files(layer.toc, layer.toc_format, layer.toc_offset, options.layout)
    replay = replay_layer(files, cache, options)
    packed = pack_cache(layer.toc.entries, options.layout)
    return LayerPlan(layer, LayerState.PARTIAL, replay, cache), cache.join(record, packed)


def plan_images(
    images: Iterable[Image], cache: LayersCache, options: PlanOptions
) -> tuple[ImagePlan, ...]:
    """Plan the pulls of several images, one after another.

    Parameters
    ----------
    images : iterable of Image
        In the order of the pulls.
    cache : LayersCache
        The layers that count as present before the first.
    options : PlanOptions
        Machine and registry.

    Returns
    -------
    tuple of ImagePlan
        Each held against what the ones before it left.

    Raises
    ------
    ImageError, TocError, DigestError, LocationError
        As `plan_image`.
    """
    plans = []
    for image in images:
        plans.append(plan_with(image, cache, options))
        cache = plans[-1].cache_after
    return tuple(plans)


def _is_present(layer: ImageLayer, cache: LayersCache) -> bool:
    return any(
        record.diff_digest == layer.diff_id
        or record.compressed_diff_digest == layer.blob
        or (layer.toc_digest is not None and record.toc_digest == layer.toc_digest)
        for record in cache.records
    )


def _joining_record(layer: ImageLayer) -> LayerRecord:
    """Make the record that the store will have of a pulled layer, as far as a plan needs it."""
    return LayerRecord(
        id=layer.diff_id.partition(":")[2],
        parent=None,
        names=(),
        diff_digest=layer.diff_id,
        compressed_diff_digest=layer.blob,
        toc_digest=layer.toc_digest,
        expected_diff_digest=None,
        diff_size=-1,
        big_data_names=(),
        store_root=Path(),
        files_root=Path(),
        is_read_only=False,
    )
