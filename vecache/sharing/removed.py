"""Which layers and images go when some are removed? What Podman can do, and no more.

1. Removing an image removes its layers from the top down, as long as no other image has the layer
   on its own way down and no other layer stands on it. What stays, stays for a reason, and the
   reason is reported.
2. Removing a layer that others stand on is impossible. So a layer that is named goes together
   with all that stand on it, and with every image that needs one of them. The layers below stay.

Knows nothing of bytes; loops over layers and images, of which there are thousands at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vecache.errors import ImageNotFoundError, LayerNotFoundError
from vecache.store.find import find_image, find_layer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from vecache.sharing.contents import ContentImage, Contents

__all__ = ["KeptLayer", "find_removed"]


@dataclass(frozen=True, slots=True)
class KeptLayer:
    """A layer of a removed image that stays.

    Attributes
    ----------
    layer_id : str
        Which one.
    reason : str
        Who needs it, for people.
    """

    layer_id: str
    reason: str


def find_removed(
    contents: Contents, remove: Iterable[str]
) -> tuple[AbstractSet[str], tuple[ContentImage, ...], tuple[KeptLayer, ...]]:
    """Find what goes and what stays, before any bytes are counted.

    Parameters
    ----------
    contents : Contents
        The store.
    remove : iterable of str
        Names, as `what_if` takes them.

    Returns
    -------
    layer_ids : set of str
        The layers that go.
    images : tuple of ContentImage
        The images that go.
    kept : tuple of KeptLayer
        Layers of these images that stay.

    Raises
    ------
    LayerNotFoundError, ImageError, StoreError
        As `what_if` says.
    """
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
