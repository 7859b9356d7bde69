"""What do the layers and images of a store hold? The one value that all figures are made from.

1. Each layer with a TOC has two tables of distinct contents: its files and its chunks.
2. A layer without a TOC, or with one that cannot be trusted, is left out, and the reason kept.
3. An image is the union of its layers.

What counts as a file or a chunk, `places.py` says; `sources.py` makes a `Contents` from whatever
there is. 48 bytes a content and layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vecache.sharing.intersections import Intersections
from vecache.text import html_table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from vecache.arrays import I64, U8
    from vecache.sharing.content_table import ContentTable
    from vecache.store.records import ImageRecord, LayerRecord

__all__ = [
    "MAX_BYTES",
    "By",
    "ContentImage",
    "ContentLayer",
    "Contents",
    "Grain",
    "LeftOutLayer",
    "TagSource",
]

MAX_BYTES = 1 << 53
"""Sums of sizes stay exact in a double up to here: 9 petabytes."""


class Grain(StrEnum):
    """What is compared."""

    FILE = "file"
    CHUNK = "chunk"


class By(StrEnum):
    """Who holds contents."""

    LAYER = "layer"
    IMAGE = "image"


class TagSource(Protocol):
    """What can still be asked for names: a store, a folder of TOCs, a data set."""

    def find_paths(self, record: LayerRecord, key: U8) -> list[str | None]:
        """Name the first file of a layer with each (n, 32) key; None where it is gone."""
        ...

    def tags(self, records: Sequence[LayerRecord]) -> Iterator[tuple[Any, U8]]:
        """List all tags of each layer, as `tags.layer_tags` does."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class ContentLayer:
    """A layer and what it holds."""

    record: LayerRecord  # what its store says of it
    files: ContentTable  # its distinct contents at either grain
    chunks: ContentTable  # its distinct contents at either grain

    @property
    def id(self) -> str:
        """The layer's id."""
        return self.record.id

    def content_table(self, grain: Grain) -> ContentTable:
        """Return the contents at one grain."""
        return self.files if grain is Grain.FILE else self.chunks

    def __repr__(self) -> str:
        return (
            f"<ContentLayer {self.id[:12]}: {len(self.files):,} files, {len(self.chunks):,} chunks>"
        )


@dataclass(frozen=True, slots=True)
class LeftOutLayer:
    """A layer whose contents nobody knows."""

    record: LayerRecord  # what its store says of it
    reason: str  # why, for people


@dataclass(frozen=True, slots=True)
class ContentImage:
    """An image and its layers."""

    record: ImageRecord  # what its store says of it
    layer_ids: tuple[str, ...]  # from the bottom up, with those that were left out

    @property
    def label(self) -> str:
        """Its first name, else its id."""
        return self.record.names[0] if self.record.names else self.record.id


@dataclass(frozen=True, eq=False, repr=False)
class Contents:
    """What a set of layers holds.

    Attributes
    ----------
    layers : tuple of ContentLayer
        In store order; a `layer_no` is a place in it.
    left_out : tuple of LeftOutLayer
        The others, in store order.
    images : tuple of ContentImage
        In store order.
    source : TagSource or None
        Where to look for paths; None where there are none.
    """

    layers: tuple[ContentLayer, ...]
    left_out: tuple[LeftOutLayer, ...] = ()
    images: tuple[ContentImage, ...] = ()
    source: TagSource | None = None

    @property
    def records(self) -> tuple[LayerRecord, ...]:
        """Records of all layers, of those that were left out too."""
        return (
            *(layer.record for layer in self.layers),
            *(layer.record for layer in self.left_out),
        )

    def labels(self, by: By) -> tuple[str, ...]:
        """Name the members.

        Parameters
        ----------
        by : By
            Which ones.

        Returns
        -------
        tuple of str
            Ids of the layers, or names of the images.
        """
        if by is By.LAYER:
            return tuple(layer.id for layer in self.layers)
        return tuple(image.label for image in self.images)

    def content_table(self, grain: Grain) -> list[ContentTable]:
        """List what each layer holds at one grain.

        Parameters
        ----------
        grain : Grain
            Files or chunks.

        Returns
        -------
        list of ContentTable
            One a layer.
        """
        return [layer.content_table(grain) for layer in self.layers]

    def intersections(self, by: By, grain: Grain) -> Intersections:
        """Find the sets of layers or images that have contents in common.

        Parameters
        ----------
        by : By
            Layers or images.
        grain : Grain
            Files or chunks.

        Returns
        -------
        Intersections
            Holders are numbered as in `labels`.
        """
        sets = Intersections.of_holdings(self.content_table(grain))
        if by is By.LAYER:
            return sets
        owner_start, owner = self.image_numbers()
        return sets.regroup(owner_start, owner, len(self.images))

    def limited_to(self, layer_ids: Collection[str]) -> Contents:
        """Take some layers for all there are.

        Parameters
        ----------
        layer_ids : collection of str
            Their ids.

        Returns
        -------
        Contents
            Those layers, and the images that have no others.
        """
        kept = frozenset(layer_ids)
        return Contents(
            tuple(layer for layer in self.layers if layer.id in kept),
            tuple(layer for layer in self.left_out if layer.record.id in kept),
            tuple(image for image in self.images if kept.issuperset(image.layer_ids)),
            self.source,
        )

    def image_numbers(self) -> tuple[I64, I64]:
        """List the images of each layer.

        Returns
        -------
        start : (n_layers + 1,) int64
            The images of layer i are the rows from `start[i]` to before `start[i + 1]`.
        image : (n,) int64
            Places in `images`.
        """
        layer_no = {layer.id: number for number, layer in enumerate(self.layers)}
        pairs = [  # images and layers, not rows
            (layer_no[layer_id], number)
            for number, image in enumerate(self.images)
            for layer_id in image.layer_ids
            if layer_id in layer_no
        ]
        layer, image = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
        return np.searchsorted(layer, np.arange(len(self.layers) + 1)).astype(np.int64), image

    def __repr__(self) -> str:
        left_out = f", {len(self.left_out):,} left out" if self.left_out else ""
        n_bytes = sum(layer.files.logical_bytes for layer in self.layers)
        return (
            f"<Contents: {len(self.layers):,} layers{left_out}, {len(self.images):,} images, "
            f"{n_bytes:,} bytes in files>"
        )

    def _repr_html_(self) -> str:
        grains = [(layer.id, layer.files, layer.chunks) for layer in self.layers]
        return html_table(
            repr(self)[1:-1],
            ("layer", "files", "bytes in files", "chunks", "bytes in chunks"),
            (
                (label, len(files), files.n_bytes, len(chunks), chunks.n_bytes)
                for label, files, chunks in grains
            ),
            n_rows=len(self.layers),
        )
