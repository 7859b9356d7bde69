"""Compute what removing layers or images would free, and what pulling them again would cost.

Nothing is removed. What goes follows the rules of Podman:

1. A named layer goes with all layers above it, and with every image that has one of them.
2. A named image goes with its layers, from the top down, except a layer that a remaining image has
   or that a remaining layer has as its parent. Each exception is reported with the reason.
3. Nothing goes from an additional store, which is only read, and nothing that it has counts as
   remaining: a pull reuses none of it.

Its bytes are counted in two ways, because the store decides which of them are freed:

- `stored_bytes`: all files of the removed layers, copies and holes included. This is freed where
  each layer has its own copies, in a store without reflinks and hard links.
- `freed_bytes`: contents that no remaining layer holds. This is freed where copies share blocks,
  and it is what a later pull cannot find locally any more.

Pulling an image again costs `pull_bytes` if it is the only one, and `in_turn_bytes` after those
removed images that are before it in the store. Both are uncompressed bytes of freed contents, and a
lower bound: `vecache plan` computes what Podman fetches. The sum of `in_turn_bytes`, plus
`orphaned_bytes` of removed layers that no image has, is `freed_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from vecache.arrays import ArrowExport, column
from vecache.errors import ImageNotFoundError, LayerNotFoundError, StoreError
from vecache.sharing.contents import check_grain
from vecache.sharing.sources import read_contents
from vecache.store.find import find_image, find_layer
from vecache.text import count, html_table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from vecache.arrays import I64
    from vecache.sharing.contents import Contents, Grain
    from vecache.sharing.intersections import Intersections
    from vecache.sharing.members import ContentImage
    from vecache.store.records import LayerRecord

__all__ = ["Records", "Removal", "find_named", "find_removed", "list_names", "what_if"]


class Records(Protocol):
    """What decides which layers and images go."""

    @property
    def records(self) -> Sequence[LayerRecord]:
        """All layers."""

    @property
    def images(self) -> Sequence[ContentImage]:
        """All images."""

    @property
    def additional_ids(self) -> frozenset[str]:
        """Ids of the layers and images that are in an additional store."""


@dataclass(frozen=True, eq=False, repr=False)
class Removal(ArrowExport):
    """What a removal would free, and what pulling again would cost.

    Layers without a TOC count in `unknown_bytes` only.

    Attributes
    ----------
    contents : Contents
        The store as it is.
    grain : {"file", "chunk"}
        The contents that are compared.
    layer_ids : tuple of n_layers str
        The layers that go, in store order, except those without a TOC.
    images : tuple of n_images ContentImage
        The images that go, in store order.
    remaining : dict of str to str
        Ids of the layers of named images that remain, with the reason, in store order.
    stored_bytes : int
        Bytes of all files of the layers that go, every copy.
    freed_bytes : int
        Bytes of contents that no remaining layer holds.
    unknown_ids : tuple of str
        The layers that go and have no TOC.
    unknown_bytes : int
        Their size as tar archives, as far as the store has recorded it.
    layer_bytes : (n_layers,) int64
        Bytes of all files of each layer, every copy.
    exclusive_bytes : (n_layers,) int64
        Bytes of contents that no other layer of the store holds, removed layers included.
    pull_bytes : (n_images,) int64
        Bytes to pull each image again, and no other.
    in_turn_bytes : (n_images,) int64
        Bytes to pull each image again after those before it.
    orphaned_bytes : int
        Freed bytes that belong to none of the images.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> removal = vecache.what_if(store, ["app2"])
    >>> removal
    <Removal: 1 layer, 1 image, 983,345 bytes stored, 886,060 bytes freed>
    >>> removal.freed_bytes, removal.pull_bytes.tolist(), len(removal.remaining)
    (886060, [886060], 2)
    """

    contents: Contents
    grain: Grain
    layer_ids: tuple[str, ...]
    images: tuple[ContentImage, ...]
    remaining: Mapping[str, str]
    stored_bytes: int
    freed_bytes: int
    unknown_ids: tuple[str, ...]
    unknown_bytes: int
    layer_bytes: I64
    exclusive_bytes: I64
    pull_bytes: I64
    in_turn_bytes: I64
    orphaned_bytes: int

    def __post_init__(self) -> None:
        column("layer_bytes", self.layer_bytes, np.int64, len(self.layer_ids))
        column("exclusive_bytes", self.exclusive_bytes, np.int64, len(self.layer_ids))
        column("pull_bytes", self.pull_bytes, np.int64, len(self.images))
        column("in_turn_bytes", self.in_turn_bytes, np.int64, len(self.images))

    def to_arrow(self) -> Any:
        """Export what pulling each image of the store would cost afterwards.

        Returns
        -------
        pyarrow.Table
            One row an image, in store order: `image`, `image_id`, `is_removed`, `pull_bytes`,
            `in_turn_bytes`. An image that remains costs nothing.
        """
        images = self.contents.images
        removed = {image.record.id for image in self.images}
        is_removed = np.array([image.record.id in removed for image in images], np.bool_)
        pull_bytes, in_turn_bytes = np.zeros((2, len(images)), np.int64)
        pull_bytes[is_removed] = self.pull_bytes
        in_turn_bytes[is_removed] = self.in_turn_bytes
        return pa.table(
            {
                "image": pa.array([image.label for image in images], pa.string()),
                "image_id": pa.array([image.record.id for image in images], pa.string()),
                "is_removed": is_removed,
                "pull_bytes": pull_bytes,
                "in_turn_bytes": in_turn_bytes,
            }
        )

    def __repr__(self) -> str:
        return (
            f"<Removal: {count(len(self.layer_ids), 'layer')}, {count(len(self.images), 'image')}, "
            f"{self.stored_bytes:,} bytes stored, {self.freed_bytes:,} bytes freed>"
        )

    def _repr_html_(self) -> str:
        labels = [image.label for image in self.images]
        return html_table(
            repr(self)[1:-1],
            ("image", "pull bytes", "in turn bytes"),
            zip(labels, self.pull_bytes.tolist(), self.in_turn_bytes.tolist(), strict=True),
            n_rows=len(labels),
        )


def what_if(source: Any, remove: Iterable[str], grain: Grain = "file") -> Removal:
    """Compute what removing layers or images would free and what pulling them again would cost.

    Parameters
    ----------
    source : LayersCache, Contents, or anything `read_contents` takes
        The store, which is not changed.
    remove : iterable of str
        Names or ids of images, ids of layers. Ids can be abbreviated.
    grain : {"file", "chunk"}
        The contents that are compared. Without reflinks, a pull reuses whole files only.

    Returns
    -------
    Removal
        What goes, what remains, and the bytes.

    Raises
    ------
    LayerNotFoundError
        If a name is neither that of an image nor that of a layer.
    ImageError, StoreError
        If a name is ambiguous.
    StoreError, DatasetError
        If the source cannot be read, or a name is of something in an additional store.
    ValueError
        If `grain` has another value, or there are several stores.

    Examples
    --------
    >>> import vecache
    >>> vecache.what_if(vecache.open_sample(), ["app2", "dirs"])
    <Removal: 2 layers, 2 images, 983,345 bytes stored, 886,060 bytes freed>
    """
    names = list_names(remove)
    check_grain(grain)
    contents = read_contents(source).without_additional()
    if contents.hosts:
        raise ValueError("what_if: found several stores, wanted one; what_if_fleet takes many")
    gone, images, remaining = find_removed(contents, names)
    is_gone = np.array([layer.id in gone for layer in contents.layers], np.bool_)
    sets = contents.intersections("layer", grain)
    freed = sets.take(np.flatnonzero(sets.all_in(is_gone)))
    freed_bytes = int(freed.n_bytes.sum())
    single = freed.take(np.flatnonzero(freed.set_sizes == 1))
    exclusive_bytes = np.zeros(len(contents.layers), np.int64)
    np.add.at(exclusive_bytes, single.member, single.n_bytes)
    layer_bytes = np.array([layer.files.logical_bytes for layer in contents.layers], np.int64)
    pull_bytes, in_turn_bytes = _pull_costs(contents, images, freed)
    unknown = [layer.record for layer in contents.excluded if layer.id in gone]
    return Removal(
        contents=contents,
        grain=grain,
        layer_ids=tuple(layer.id for layer in contents.layers if layer.id in gone),
        images=images,
        remaining=remaining,
        stored_bytes=int(layer_bytes[is_gone].sum()),
        freed_bytes=freed_bytes,
        unknown_ids=tuple(record.id for record in unknown),
        unknown_bytes=sum(max(record.diff_size, 0) for record in unknown),
        layer_bytes=layer_bytes[is_gone],
        exclusive_bytes=exclusive_bytes[is_gone],
        pull_bytes=pull_bytes,
        in_turn_bytes=in_turn_bytes,
        orphaned_bytes=freed_bytes - int(in_turn_bytes.sum()),
    )


def list_names(remove: object) -> list[str]:
    """Return a list of names; a TypeError for a single one, and for what is no text."""
    if isinstance(remove, str) or not isinstance(remove, Iterable):
        raise TypeError(f"remove: found {remove!r:.80}, wanted a list of names or ids")
    names = list(remove)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"remove: found {name!r:.80} in the list, wanted names or ids as text")
    return names


def find_removed(
    contents: Records, remove: Iterable[str]
) -> tuple[set[str], tuple[ContentImage, ...], dict[str, str]]:
    """Return the layers and images that go, and why other layers of named images remain."""
    named_images, named_layers = find_named(contents, remove)
    parents = {record.id: record.parent for record in contents.records}
    children: dict[str, list[str]] = {}
    for layer_id, parent in parents.items():
        if parent is not None:
            children.setdefault(parent, []).append(layer_id)
    gone = _with_descendants(named_layers, children)
    images: list[ContentImage] = []
    candidates: set[str] = set()
    needed_by: dict[str, str] = {}
    for image in contents.images:
        if image.record.id in contents.additional_ids:
            continue  # it stays, and has a copy of each layer that it needs
        is_named = image.record.id in named_images
        if is_named:  # an image that only goes with one of its layers leaves the others
            candidates.update(image.layer_ids)
        if is_named or not gone.isdisjoint(image.layer_ids):
            images.append(image)
        else:
            needed_by.update(dict.fromkeys(image.layer_ids, image.label))
    candidates -= gone
    fixed = needed_by.keys() | contents.additional_ids
    gone |= _removable(candidates - fixed, gone, parents, children)
    remaining = {}
    for layer_id in parents:
        if layer_id in candidates and layer_id not in gone:
            if layer_id in needed_by:
                remaining[layer_id] = f"image {needed_by[layer_id]} needs it"
            elif layer_id in contents.additional_ids:
                remaining[layer_id] = "an additional store has it, which is only read"
            else:
                above = next(each for each in children[layer_id] if each not in gone)
                remaining[layer_id] = f"layer {above[:12]} is above it"
    return gone, tuple(images), remaining


def find_named(contents: Records, remove: Iterable[str]) -> tuple[set[str], set[str]]:
    """Return the ids of the images and of the layers that are named."""
    image_records = [image.record for image in contents.images]
    images, layers = set(), set()
    for name in remove:
        try:
            images.add(find_image(image_records, name).id)
            continue
        except ImageNotFoundError as error:
            no_image = str(error)
        try:
            layers.add(find_layer(contents.records, name, image_records).id)
        except LayerNotFoundError as error:
            no_layer = str(error).partition(": ")[2]
            raise LayerNotFoundError(f"{no_image}; as a layer: {no_layer}") from None
    if found := contents.additional_ids & (images | layers):
        raise StoreError(
            f"{min(found)[:12]}: in an additional store, which is only read; nothing goes from it"
        )
    return images, layers


def _with_descendants(layer_ids: Iterable[str], children: Mapping[str, list[str]]) -> set[str]:
    """Return these layers and all above them."""
    found: set[str] = set()
    waiting = list(layer_ids)
    while waiting:  # layers, not rows
        layer_id = waiting.pop()
        if layer_id not in found:  # a damaged store may have a layer above itself
            found.add(layer_id)
            waiting += children.get(layer_id, [])
    return found


def _removable(
    candidates: Collection[str],
    gone: Collection[str],
    parents: Mapping[str, str | None],
    children: Mapping[str, list[str]],
) -> set[str]:
    """Return the candidates that have only such layers above them, and layers that are gone."""
    n_above = {
        layer_id: sum(each not in gone for each in children.get(layer_id, []))
        for layer_id in candidates
    }
    removable: set[str] = set()
    waiting = [layer_id for layer_id, n in n_above.items() if n == 0]
    while waiting:  # from the top down, each layer once
        layer_id = waiting.pop()
        removable.add(layer_id)
        parent = parents.get(layer_id)
        if parent in n_above:
            n_above[parent] -= 1
            if n_above[parent] == 0:
                waiting.append(parent)
    return removable


def _pull_costs(
    contents: Contents, images: tuple[ContentImage, ...], freed: Intersections
) -> tuple[I64, I64]:
    """Sum the freed bytes that each image needs: (n_images,) alone, and after those before it."""
    # Every image that has a freed content goes: each of them has one of the layers that go.
    by_image = freed.regroup(*contents.image_numbers(), len(contents.images))
    pull_bytes, in_turn_bytes = np.zeros((2, len(contents.images)), np.int64)
    np.add.at(pull_bytes, by_image.member, by_image.expand(by_image.n_bytes))
    np.add.at(in_turn_bytes, by_image.member[by_image.start[:-1]], by_image.n_bytes)
    removed = {image.record.id for image in images}
    rows = [row for row, image in enumerate(contents.images) if image.record.id in removed]
    return pull_bytes[rows], in_turn_bytes[rows]
