"""Which layers and images go when some are removed? What Podman can do, and no more.

1. Removing an image removes its layers from the top down, as long as no other image has the layer
   on its own way down and no other layer stands on it. What stays, stays for a reason, and the
   reason is reported.
2. Removing a layer that others stand on is impossible. So a layer that is named goes together
   with all that stand on it, and with every image that needs one of them. The layers below stay.

Knows nothing of bytes; loops over layers and images, of which there are thousands at most.

What would a removal free, and what would it cost to pull again? Arithmetic, nothing is removed.

Which layers and images go, `removed.py` says. Their bytes are counted twice over, since it depends
on the store what is freed:

- `stored_bytes`: all files of the removed layers, every copy, holes too. So much is freed where
  each layer has its own copies: a store without reflinks and hard links.
- `freed_bytes`: contents that no remaining layer holds. So much is freed where copies share their
  blocks, and so much is lost: what a later pull cannot find here any more.

An image costs `pull_bytes` when it is pulled again alone, and `in_turn_bytes` after those removed
images that stand before it in the store. Both are uncompressed bytes of contents that are no longer
here, the least that a pull fetches; `vecache plan` says what Podman does. All `in_turn_bytes`
together, and `orphaned_bytes` of removed layers that no image has, are `freed_bytes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.errors import ImageNotFoundError, LayerNotFoundError
from vecache.sharing.contents import check_grain
from vecache.sharing.sources import read_contents
from vecache.store.find import find_image, find_layer
from vecache.text import html_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from vecache.arrays import I64, Bool
    from vecache.sharing.contents import ContentImage, Contents, Grain
    from vecache.sharing.intersections import Intersections

__all__ = ["KeptLayer", "Removal", "find_removed", "what_if"]


@dataclass(frozen=True, slots=True)
class KeptLayer:
    """A layer of a removed image that stays."""

    layer_id: str  # which one
    reason: str  # who needs it, for people


def find_removed(
    contents: Contents, remove: Iterable[str]
) -> tuple[AbstractSet[str], tuple[ContentImage, ...], tuple[KeptLayer, ...]]:
    """Find what goes and what stays, before any bytes are counted."""
    named_images, named_layers = _find_named(contents, remove)
    gone = _with_all_above(contents, named_layers)
    images = tuple(
        image
        for image in contents.images
        if image.record.id in named_images or not gone.isdisjoint(image.layer_ids)
    )
    going = {image.record.id for image in images}
    needed = {
        layer_id: image.label
        for image in contents.images
        if image.record.id not in going
        for layer_id in image.layer_ids
    }
    kept: dict[str, str] = {}
    parents = {record.id: record.parent for record in contents.records}
    # Only an image that was named takes its layers along. Top down, over all of them at once: a
    # layer goes when the last one that stands on it has gone.
    candidates = {
        layer_id
        for image in images
        if image.record.id in named_images
        for layer_id in image.layer_ids
        if layer_id not in gone
    }
    depth = {layer_id: _depth(layer_id, parents) for layer_id in candidates}
    for layer_id in sorted(candidates, key=depth.__getitem__, reverse=True):
        above = [
            each for each, parent in parents.items() if parent == layer_id and each not in gone
        ]
        if layer_id in needed:
            kept[layer_id] = f"image {needed[layer_id]} needs it"
        elif above:
            kept[layer_id] = f"layer {above[0][:12]} stands on it"
        else:
            gone.add(layer_id)
    order = [record.id for record in contents.records if record.id in kept]
    return gone, images, tuple(KeptLayer(layer_id, kept[layer_id]) for layer_id in order)


def _find_named(contents: Contents, remove: Iterable[str]) -> tuple[set[str], set[str]]:
    """Ids of the images, and of the layers, that are named."""
    image_records = [image.record for image in contents.images]
    images, layers = set(), set()
    for name in remove:
        try:
            images.add(find_image(image_records, name).id)
            continue
        except ImageNotFoundError as error:
            no_image = str(error)
        try:
            layers.add(find_layer(contents.records, name).id)
        except LayerNotFoundError:
            raise LayerNotFoundError(f"{no_image}; nor is it a layer's id") from None
    return images, layers


def _with_all_above(contents: Contents, layers: set[str]) -> set[str]:
    """Add every layer that stands on one of these, however far up."""
    above: dict[str, list[str]] = {}
    for record in contents.records:
        if record.parent is not None:
            above.setdefault(record.parent, []).append(record.id)
    found: set[str] = set()
    waiting = sorted(layers)
    while waiting:  # layers, not rows
        layer_id = waiting.pop()
        if layer_id not in found:
            found.add(layer_id)
            waiting += above.get(layer_id, [])
    return found


def _depth(layer_id: str, parents: dict[str, str | None]) -> int:
    seen: set[str] = set()
    at: str | None = layer_id
    while at is not None and at not in seen:  # a damaged store may have a layer below itself
        seen.add(at)
        at = parents.get(at)
    return len(seen)


@dataclass(frozen=True, eq=False, repr=False)
class Removal:
    """What a removal would do.

    Attributes
    ----------
    contents : Contents
        The store as it is.
    grain : {"file", "chunk"}
        Whether contents are files or chunks.
    layer_ids : tuple of str
        The layers that would go, in store order.
    images : tuple of ContentImage
        The images that would go, in store order.
    kept : tuple of KeptLayer
        Layers of these images that would stay.
    stored_bytes, freed_bytes : int
        See above. Layers without a TOC count nothing in either.
    unknown_ids : tuple of str
        Layers that would go and have no TOC.
    unknown_bytes : int
        Their size as tar archives, where the store knows it.
    layer_bytes, layer_freed_bytes : (n_layer_ids,) int64
        Of each layer that would go: bytes of its files, every copy; and bytes that no other layer
        of the store holds, remaining or not.
    pull_bytes, in_turn_bytes : (n_images,) int64
        What pulling each removed image again would cost, alone and one after the other.
    orphaned_bytes : int
        Contents that go and that none of these images has.
    """

    contents: Contents
    grain: Grain
    layer_ids: tuple[str, ...]
    images: tuple[ContentImage, ...]
    kept: tuple[KeptLayer, ...]
    stored_bytes: int
    freed_bytes: int
    unknown_ids: tuple[str, ...]
    unknown_bytes: int
    layer_bytes: I64
    layer_freed_bytes: I64
    pull_bytes: I64
    in_turn_bytes: I64
    orphaned_bytes: int

    def to_arrow(self) -> Any:
        """Export what pulling each image of the store would cost afterwards.

        Returns
        -------
        pyarrow.Table
            One row an image, in store order: `image`, `image_id`, `is_removed`, `pull_bytes`,
            `in_turn_bytes`; an image that stays costs nothing.
        """
        cost = {
            image.record.id: (alone, in_turn)
            for image, alone, in_turn in zip(
                self.images, self.pull_bytes.tolist(), self.in_turn_bytes.tolist(), strict=True
            )
        }
        images = self.contents.images
        costs = [cost.get(image.record.id, (0, 0)) for image in images]
        return pa.table(
            {
                "image": pa.array([image.label for image in images], pa.string()),
                "image_id": pa.array([image.record.id for image in images], pa.string()),
                "is_removed": pa.array([image.record.id in cost for image in images], pa.bool_()),
                "pull_bytes": pa.array([alone for alone, _ in costs], pa.int64()),
                "in_turn_bytes": pa.array([in_turn for _, in_turn in costs], pa.int64()),
            }
        )

    def __repr__(self) -> str:
        return (
            f"<Removal: {len(self.layer_ids):,} layers and {len(self.images):,} images go, "
            f"{self.freed_bytes:,} of {self.stored_bytes:,} bytes are nowhere else>"
        )

    def _repr_html_(self) -> str:
        return html_table(
            repr(self)[1:-1],
            ("image", "pulled again alone", "after those above"),
            (
                (image.label, alone, in_turn)
                for image, alone, in_turn in zip(
                    self.images, self.pull_bytes.tolist(), self.in_turn_bytes.tolist(), strict=True
                )
            ),
            n_rows=len(self.images),
        )


def what_if(source: Any, remove: Iterable[str], grain: Grain = "file") -> Removal:
    """Say what removing layers or images would free and cost.

    Parameters
    ----------
    source : LayersCache, Contents, or anything `read_contents` takes
        The store; it stays as it is.
    remove : iterable of str
        Names or ids of images, ids of layers; the beginning of an id will do.
    grain : {"file", "chunk"}
        What counts as one content: without reflinks a pull reuses whole files only.

    Returns
    -------
    Removal
        What goes, what stays, and the bytes.

    Raises
    ------
    LayerNotFoundError
        If a name is neither an image's nor a layer's.
    ImageError, StoreError
        If a name fits several.
    StoreError, DatasetError
        If the source cannot be read.
    """
    if isinstance(remove, str):
        raise TypeError("what_if wants several names, not one text")
    check_grain(grain)
    contents = read_contents(source)
    layer_ids, images, kept = find_removed(contents, remove)
    is_gone = np.array([layer.id in layer_ids for layer in contents.layers], np.bool_)
    sets = contents.intersections("layer", grain)
    lost = sets.take(np.flatnonzero(sets.all_in(is_gone)))
    pull, in_turn = _pull_costs(contents, images, lost)
    freed = int(lost.n_bytes.sum())
    unknown = [each.record for each in contents.excluded if each.record.id in layer_ids]
    own = lost.take(np.flatnonzero(lost.set_sizes == 1))
    exclusive_bytes = np.zeros(len(contents.layers), np.int64)
    np.add.at(exclusive_bytes, own.member, own.n_bytes)
    layer_bytes = np.array([layer.files.logical_bytes for layer in contents.layers], np.int64)
    known = [layer.id for layer in contents.layers if layer.id in layer_ids]
    return Removal(
        contents=contents,
        grain=grain,
        layer_ids=tuple(known),
        images=images,
        kept=kept,
        stored_bytes=int(layer_bytes[is_gone].sum()),
        freed_bytes=freed,
        unknown_ids=tuple(record.id for record in unknown),
        unknown_bytes=sum(max(record.diff_size, 0) for record in unknown),
        layer_bytes=layer_bytes[is_gone],
        layer_freed_bytes=exclusive_bytes[is_gone],
        pull_bytes=pull,
        in_turn_bytes=in_turn,
        orphaned_bytes=freed - int(in_turn.sum()),
    )


def _pull_costs(
    contents: Contents, images: Sequence[ContentImage], lost: Intersections
) -> tuple[I64, I64]:
    """Bytes of lost contents that each image needs: alone, and after those before it."""
    alone, in_turn = [], []
    is_back: Bool = np.zeros(len(lost), np.bool_)
    for image in images:  # images, not rows
        of_image = set(image.layer_ids)
        is_needed = lost.any_in(
            np.array([layer.id in of_image for layer in contents.layers], np.bool_)
        )
        alone.append(int(lost.n_bytes[is_needed].sum()))
        in_turn.append(int(lost.n_bytes[is_needed & ~is_back].sum()))
        is_back |= is_needed
    return np.array(alone, np.int64), np.array(in_turn, np.int64)
