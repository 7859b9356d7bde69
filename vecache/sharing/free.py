"""Choose the images to remove in order to free so many bytes, greedily. Nothing is removed.

1. For each layer, find the images that must go before it can: all that have it or a layer above it.
   A layer that no image has, such as that of a container, stays, and so do all below it.
2. What some layers have in common goes with the last of them (`intersections.py`); where layers
   share nothing, each goes with its own files. So all bytes are sets of images that must all go.
3. Choose the image that frees most now, again and again. Of images that free equally much, which
   may be nothing as long as others have the same layers, that one is chosen which has most bytes,
   each divided by the number of remaining images that have it.

Greedy is not always best: fewer images may free as much. What each step frees is exact, except that
a layer without a TOC counts with the size of its tar archive, as if it shared nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import ArrowExport, column
from vecache.sharing.contents import check_grain
from vecache.sharing.intersections import Intersections
from vecache.sharing.removal import list_names
from vecache.sharing.sources import read_contents
from vecache.store.find import find_image
from vecache.text import html_table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from vecache.arrays import I64
    from vecache.sharing.contents import Contents, Grain
    from vecache.sharing.members import ContentImage

__all__ = ["RemovalOrder", "what_to_remove"]


@dataclass(frozen=True, eq=False, repr=False)
class RemovalOrder(ArrowExport):
    """Images to remove, one row each, in the order in which they are chosen.

    Attributes
    ----------
    contents : Contents
        The store as it is.
    grain : {"file", "chunk"} or None
        The contents that layers share; None where each layer has its own copies.
    wanted_bytes : int
        Bytes to free.
    images : tuple of n ContentImage
        The images.
    alone_bytes : (n,) int64
        What the removal of this image alone would free.
    added_bytes : (n,) int64
        What it frees besides what those before it do.
    freed_bytes : (n,) int64
        What all images up to and with it free.
    total_bytes : int
        What all of them free together.
    is_enough : bool
        Whether that is as much as was wanted.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> order = vecache.what_to_remove(store, 1_500_000, "chunk")
    >>> order.freed_bytes.tolist(), order.is_enough
    ([250618, 588749, 1052616, 1052616, 1993406], True)
    """

    contents: Contents
    grain: Grain | None
    wanted_bytes: int
    images: tuple[ContentImage, ...]
    alone_bytes: I64
    added_bytes: I64

    def __post_init__(self) -> None:
        column("alone_bytes", self.alone_bytes, np.int64, len(self.images))
        column("added_bytes", self.added_bytes, np.int64, len(self.images))

    @property
    def freed_bytes(self) -> I64:
        """(n,) int64, what all images up to and with it free."""
        freed: I64 = np.cumsum(self.added_bytes)
        return freed

    @property
    def total_bytes(self) -> int:
        """What all of them free together."""
        return int(self.added_bytes.sum())

    @property
    def is_enough(self) -> bool:
        """Whether that is as much as was wanted."""
        return self.total_bytes >= self.wanted_bytes

    def to_arrow(self) -> Any:
        """Export the images.

        Returns
        -------
        pyarrow.Table
            `step` (from 1), `image`, `image_id`, `alone_bytes`, `added_bytes`, `freed_bytes`.
        """
        return pa.table(
            {
                "step": np.arange(1, len(self) + 1),
                "image": pa.array([image.label for image in self.images], pa.string()),
                "image_id": pa.array([image.id for image in self.images], pa.string()),
                "alone_bytes": self.alone_bytes,
                "added_bytes": self.added_bytes,
                "freed_bytes": self.freed_bytes,
            }
        )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return (
            f"<RemovalOrder: {len(self):,} of {len(self.contents.images):,} images free "
            f"{self.total_bytes:,} of {self.wanted_bytes:,} bytes>"
        )

    def _repr_html_(self) -> str:
        columns = (self.alone_bytes, self.added_bytes, self.freed_bytes)
        labels = [image.label for image in self.images]
        return html_table(
            repr(self)[1:-1],
            ("image", "alone frees bytes", "adds bytes", "freed bytes so far"),
            zip(labels, *(each.tolist() for each in columns), strict=True),
            n_rows=len(self),
        )


def what_to_remove(
    source: Any, wanted_bytes: int, grain: Grain | None = "file", *, keep: Iterable[str] = ()
) -> RemovalOrder:
    """Choose the images to remove in order to free so many bytes.

    Parameters
    ----------
    source : LayersCache, Contents, or anything `read_contents` takes
        The store, which is not changed.
    wanted_bytes : int
        Bytes to free.
    grain : {"file", "chunk"} or None
        The contents that layers share by hard links ("file") or reflinks ("chunk"); None where each
        layer has its own copies of its files.
    keep : iterable of str
        Names or ids of images that remain, such as those that containers use.

    Returns
    -------
    RemovalOrder
        As many images as are needed; all that free anything where these are not enough.

    Raises
    ------
    ImageNotFoundError
        If an image to keep is not there.
    StoreError, DatasetError
        If the source cannot be read.
    ValueError
        If `grain` has another value, or there are several stores.

    Examples
    --------
    >>> import vecache
    >>> order = vecache.what_to_remove(vecache.open_sample(), 2_000_000)
    >>> order
    <RemovalOrder: 2 of 5 images free 2,372,764 of 2,000,000 bytes>
    >>> [(image.label, n) for image, n in zip(order.images, order.added_bytes.tolist())]
    [('localhost:5001/small/app1:latest', 1137860), ('localhost:5001/small/base:latest', 1234904)]
    """
    if grain is not None:
        check_grain(grain)
    contents = read_contents(source).without_additional()
    if contents.hosts:
        raise ValueError("what_to_remove: found several stores, wanted one")
    records = [image.record for image in contents.images]
    kept = {find_image(records, name).id for name in list_names(keep)}
    n_images = len(contents.images)
    sets = _own_files(contents) if grain is None else contents.intersections("layer", grain)
    sets = _with_tars(sets, [layer.record.diff_size for layer in contents.excluded])
    sets = sets.regroup(*_needed_images(contents, kept), n_images + 1)
    stays = np.arange(n_images + 1) == n_images
    sets = sets.take(np.flatnonzero(~sets.any_in(stays)))
    chosen, added = _choose(sets, wanted_bytes)
    alone = np.zeros(n_images + 1, np.int64)
    single = sets.take(np.flatnonzero(sets.set_sizes == 1))
    np.add.at(alone, single.member, single.n_bytes)
    images = tuple(contents.images[number] for number in chosen.tolist())
    return RemovalOrder(contents, grain, wanted_bytes, images, alone[chosen], added)


def _own_files(contents: Contents) -> Intersections:
    """Return one set a layer, with all of its files, every copy."""
    number = np.arange(len(contents.layers), dtype=np.int64)
    n_bytes = np.array([layer.files.logical_bytes for layer in contents.layers], np.int64)
    start = np.arange(len(number) + 1, dtype=np.int64)
    return Intersections(len(number), start, number, np.ones_like(number), n_bytes)


def _with_tars(sets: Intersections, tar_bytes: list[int]) -> Intersections:
    """Add a set for each layer without a TOC; its tar has -1 bytes where that is not known."""
    n_members = sets.n_members + len(tar_bytes)
    ones = np.ones(len(tar_bytes), np.int64)
    return Intersections(
        n_members,
        np.append(sets.start, sets.start[-1] + np.cumsum(ones)),
        np.append(sets.member, np.arange(sets.n_members, n_members)),
        np.append(sets.n_contents, ones),
        np.append(sets.n_bytes, np.maximum(np.array(tar_bytes, np.int64), 0)),
    )


def _needed_images(contents: Contents, kept: Collection[str]) -> tuple[I64, I64]:
    """List the images that must go before each layer can, as `Intersections.regroup` takes them.

    The number of images stands for one that never goes.
    """
    never = len(contents.images)
    owners: dict[str, set[int]] = {}
    for number, image in enumerate(contents.images):  # images and layers, not rows
        if image.id not in contents.additional_ids:
            for layer_id in image.layer_ids:
                owners.setdefault(layer_id, set()).add(never if image.id in kept else number)
    parents = {record.id: record.parent for record in contents.records}
    n_above = Counter(parent for parent in parents.values() if parent in parents)
    needed = {layer_id: owners.get(layer_id, {never}) for layer_id in parents}
    needed |= {layer_id: {never} for layer_id in parents.keys() & contents.additional_ids}
    waiting = [layer_id for layer_id in parents if not n_above[layer_id]]
    ordered = set(waiting)
    while waiting:  # from the top down, each layer once
        layer_id = waiting.pop()
        below = parents[layer_id]
        if below not in parents:
            continue
        both = needed[below] | needed[layer_id]
        needed[below] = {never} if never in both else both
        n_above[below] -= 1
        if not n_above[below]:
            waiting.append(below)
            ordered.add(below)
    lists = [
        sorted(needed[record.id]) if record.id in ordered else [never]
        for record in contents.records
    ]
    start = np.append(0, np.cumsum([len(each) for each in lists])).astype(np.int64)
    return start, np.array([number for each in lists for number in each], np.int64)


def _choose(sets: Intersections, wanted_bytes: int) -> tuple[I64, I64]:
    """Choose members step by step, and return them with the bytes that each frees."""
    missing = sets.set_sizes.copy()  # members of each set that are not chosen
    order = np.argsort(sets.member, kind="stable")
    sets_of = sets.expand(np.arange(len(sets)))[order]
    start = np.searchsorted(sets.member[order], np.arange(sets.n_members + 1))
    is_left = np.diff(start) > 0
    gain, share = np.zeros(sets.n_members, np.int64), np.zeros(sets.n_members)
    np.add.at(gain, sets.member, sets.expand(np.where(missing == 1, sets.n_bytes, 0)))
    np.add.at(share, sets.member, np.repeat(sets.n_bytes / missing, missing))
    chosen: list[int] = []
    added: list[int] = []
    while sum(added) < wanted_bytes and is_left.any():  # images, not rows
        most = is_left & (gain == gain[is_left].max())
        best = int(np.argmax(np.where(most, share, -np.inf)))  # the first of equal ones
        chosen.append(best)
        added.append(int(gain[best]))
        is_left[best] = False
        own = sets_of[start[best] : start[best + 1]]
        missing[own] -= 1
        own = own[missing[own] > 0]
        others = sets.take(own)
        n_left = others.expand(missing[own])
        n_bytes = others.expand(others.n_bytes)
        np.add.at(gain, others.member, np.where(n_left == 1, n_bytes, 0))
        np.add.at(share, others.member, n_bytes / n_left - n_bytes / (n_left + 1))
    return np.array(chosen, np.int64), np.array(added, np.int64)
