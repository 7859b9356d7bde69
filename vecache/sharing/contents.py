"""The files and chunks that a set of layers and images holds: the input of all sharing figures.

1. Each layer with a TOC has two tables of distinct contents: its files and its chunks.
2. A layer without a TOC, or with a broken one, is excluded, with the reason.
3. A layer of an additional store counts in `overlap` and `shares`, which show what is stored, but
   not in `gather` and `what_if`, since a pull reuses nothing of it.
4. An image is the union of its layers, a host of all layers of its store.
5. Of several stores (`hosts.py`) each layer and image has its host in its record, and before its
   label. A layer that two stores have is one layer of each host.

`occurrences.py` defines what counts as a file or a chunk; `sources.py` reads a `Contents` from a
store, an image, a folder or a data set. 48 bytes for each distinct content of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa

from vecache.arrays import ArrowExport
from vecache.digest import format_digests
from vecache.index.load import ExcludedLayer
from vecache.sharing.intersections import Intersections
from vecache.store.names import name_layers
from vecache.text import count, html_table, short_command

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from vecache.arrays import I64
    from vecache.sharing.content_table import ContentTable
    from vecache.sharing.members import ContentImage, ContentLayer, TagSource
    from vecache.store.names import LayerNames
    from vecache.store.records import LayerRecord

__all__ = [
    "GRAINS",
    "MAX_BYTES",
    "By",
    "Contents",
    "Grain",
    "check_by",
    "check_grain",
]

By: TypeAlias = Literal["layer", "image", "host"]
"""The members that are compared."""

Grain: TypeAlias = Literal["file", "chunk"]
"""The contents that are compared."""

GRAINS: tuple[Grain, ...] = get_args(Grain)

_MAX_NAMES = 3
MAX_BYTES = 1 << 53
"""Integers are exact in a float64 up to here; all contents together have at most so many bytes."""


def check_by(by: str) -> None:
    """Raise ValueError for another member."""
    if by not in get_args(By):
        raise ValueError(f"by: found {by!r}, wanted 'layer', 'image' or 'host'")


def check_grain(grain: str) -> None:
    """Raise ValueError unless `grain` is "file" or "chunk"."""
    if grain not in GRAINS:
        raise ValueError(f"grain: found {grain!r}, wanted 'file' or 'chunk'")


@dataclass(frozen=True, eq=False, repr=False)
class Contents(ArrowExport):
    """The distinct contents of a set of layers, and the images that they make up.

    Attributes
    ----------
    layers : tuple of ContentLayer
        In store order; a `layer_no` is an index into it.
    excluded : tuple of ExcludedLayer
        Layers without a usable TOC, in store order.
    images : tuple of ContentImage
        In store order.
    source : TagSource or None
        What paths can be read from; None where there is nothing.
    additional_ids : frozenset of str
        The `key` of the records of layers and images that are in an additional store.
    hosts : tuple of str
        Names of the stores, where there are several.

    Examples
    --------
    >>> import vecache
    >>> contents = vecache.read_contents(vecache.open_sample())
    >>> contents
    <Contents: 5 layers, 5 images, 4,955,430 bytes in files>
    >>> contents.to_arrow().num_rows, contents.layers[0].files.n_bytes
    (1053, 1417884)
    """

    layers: tuple[ContentLayer, ...]
    excluded: tuple[ExcludedLayer, ...] = ()
    images: tuple[ContentImage, ...] = ()
    source: TagSource | None = None
    additional_ids: frozenset[str] = frozenset()
    hosts: tuple[str, ...] = ()

    @property
    def records(self) -> tuple[LayerRecord, ...]:
        """Records of all layers, those of excluded layers last."""
        return (
            *(layer.record for layer in self.layers),
            *(layer.record for layer in self.excluded),
        )

    def labels(self, by: By) -> tuple[str, ...]:
        """Return the names of the members.

        Parameters
        ----------
        by : {"layer", "image", "host"}
            The members.

        Returns
        -------
        tuple of str
            Ids of layers, or names of images; of several stores each begins with its host. Or the
            names of hosts.
        """
        if by == "layer":
            return tuple(layer.record.key for layer in self.layers)
        if by == "image":
            return tuple(image.label for image in self.images)
        return self.hosts

    @cached_property
    def layer_names(self) -> dict[str, LayerNames]:
        """What people know the layers by, by the `key` of their records: see `LayersCache`."""
        return name_layers(self.records, [image.record for image in self.images])

    def titles(self, by: By) -> tuple[str, ...]:
        """Return short names of the members for people.

        Parameters
        ----------
        by : {"layer", "image", "host"}
            The members.

        Returns
        -------
        tuple of str
            As `labels`, but a layer is the beginning of its id and what made it, or an image that
            has it.
        """
        if by != "layer" or self.hosts:
            return self.labels(by)
        return tuple(self.layer_names[layer.record.key].title(layer.id) for layer in self.layers)

    def member_hosts(self, by: By) -> tuple[str, ...]:
        """Return the host of each member.

        Parameters
        ----------
        by : {"layer", "image", "host"}
            The members.

        Returns
        -------
        tuple of str
            As many as `labels`; none where all are of one store.
        """
        if not self.hosts or by == "host":
            return self.hosts
        members = self.layers if by == "layer" else self.images
        return tuple(member.record.host for member in members)

    def content_tables(self, grain: Grain) -> list[ContentTable]:
        """Return the contents of each layer at one grain.

        Parameters
        ----------
        grain : {"file", "chunk"}
            The contents.

        Returns
        -------
        list of ContentTable
            One a layer.
        """
        return [layer.content_table(grain) for layer in self.layers]

    def intersections(self, by: By, grain: Grain) -> Intersections:
        """Find the sets of layers, images or hosts that share contents.

        Parameters
        ----------
        by : {"layer", "image", "host"}
            The members.
        grain : {"file", "chunk"}
            The contents.

        Returns
        -------
        Intersections
            Members are numbered as in `labels`.
        """
        sets = Intersections.from_tables(self.content_tables(grain))
        groups = self.groups(by)
        return sets if groups is None else sets.regroup(*groups)

    def groups(self, by: By) -> tuple[I64, I64, int] | None:
        """List the images or the hosts that have each layer, as `Intersections.regroup` takes them.

        Parameters
        ----------
        by : {"layer", "image", "host"}
            The members.

        Returns
        -------
        (start, group, n_groups), or None
            None for layers. The groups of layer i are the rows from `start[i]` up to
            `start[i + 1]` of `group`, which are indices into `labels`.
        """
        if by == "layer":
            return None
        if by == "image":
            return *self.image_numbers(), len(self.images)
        number = {host: n for n, host in enumerate(self.hosts)}
        host = np.array([number[layer.record.host] for layer in self.layers], np.int64)
        return np.arange(len(host) + 1), host, len(number)

    def to_arrow(self) -> Any:
        """Export the distinct contents of each layer, at both grains.

        Returns
        -------
        pyarrow.Table
            One row a content of a layer: `layer` (index in `layers`), `layer_id`, `grain` ("file"
            or "chunk"), `digest`, `size` (bytes of one copy), `n_copies` (in the layer); of several
            stores also `host`. Ordered by layer, grain and digest. A digest that is not a sha256
            stands as the sha256 of its text. About 0.2 kB a row.
        """
        tables = [
            (n, g, each.content_table(name))
            for n, each in enumerate(self.layers)
            for g, name in enumerate(GRAINS)
        ]
        n_rows = [len(table) for _, _, table in tables]
        layer = pa.array(np.repeat(np.array([n for n, _, _ in tables], np.int64), n_rows))
        grain = np.repeat(np.array([g for _, g, _ in tables], np.int8), n_rows)
        columns = {
            "layer": layer,
            "layer_id": _texts(layer, [each.id for each in self.layers]),
            "grain": _texts(pa.array(grain), GRAINS),
            "digest": pa.chunked_array(
                [format_digests(table.key) for *_, table in tables], pa.string()
            ),
            **{
                name: pa.chunked_array([getattr(table, name) for *_, table in tables], pa.int64())
                for name in ("size", "n_copies")
            },
        }
        if self.hosts:
            hosts = _texts(layer, [each.record.host for each in self.layers])
            columns = {"host": hosts, **columns}
        return pa.table(columns)

    def limited_to(self, layer_ids: Collection[str]) -> Contents:
        """Return the contents of some of the layers.

        Parameters
        ----------
        layer_ids : collection of str
            Ids of the layers.

        Returns
        -------
        Contents
            These layers, and the images whose layers are all among them.
        """
        wanted = frozenset(layer_ids)
        return replace(
            self,
            layers=tuple(layer for layer in self.layers if layer.id in wanted),
            excluded=tuple(layer for layer in self.excluded if layer.id in wanted),
            images=tuple(image for image in self.images if wanted.issuperset(image.layer_ids)),
        )

    def without_additional(self) -> Contents:
        """Return the contents that a pull can reuse.

        Returns
        -------
        Contents
            The same, with the layers of additional stores excluded.
        """
        reason = "in an additional store: a pull never reuses its files"
        others = (record for record in self.records if record.key in self.additional_ids)
        return replace(
            self,
            layers=tuple(
                each for each in self.layers if each.record.key not in self.additional_ids
            ),
            excluded=(
                *(each for each in self.excluded if each.record.key not in self.additional_ids),
                *(ExcludedLayer(record, reason) for record in others),
            ),
        )

    def image_numbers(self) -> tuple[I64, I64]:
        """List the images that have each layer.

        Returns
        -------
        start : (n_layers + 1,) int64
            The images of layer i are the rows from `start[i]` up to `start[i + 1]`.
        image : (n,) int64
            Indices into `images`.
        """
        layer_no = {layer.record.key: number for number, layer in enumerate(self.layers)}
        pairs = [  # images and layers, not rows
            (layer_no[key], number)
            for number, image in enumerate(self.images)
            for key in image.layer_keys
            if key in layer_no
        ]
        layer, image = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
        return np.searchsorted(layer, np.arange(len(self.layers) + 1)).astype(np.int64), image

    def __repr__(self) -> str:
        excluded = f", {len(self.excluded):,} excluded" if self.excluded else ""
        n_bytes = sum(layer.files.logical_bytes for layer in self.layers)
        hosts = f" of {len(self.hosts):,} hosts" if self.hosts else ""
        return (
            f"<Contents: {count(len(self.layers), 'layer')}{hosts}{excluded}, "
            f"{count(len(self.images), 'image')}, {n_bytes:,} bytes in files>"
        )

    def _repr_html_(self) -> str:
        return html_table(
            repr(self)[1:-1],
            (
                "layer",
                "files",
                "bytes in files",
                "chunks",
                "bytes in chunks",
                "images",
                "created by",
            ),
            (
                (
                    layer.record.key,
                    len(layer.files),
                    layer.files.n_bytes,
                    len(layer.chunks),
                    layer.chunks.n_bytes,
                    ", ".join(self.layer_names[layer.record.key].image_names[:_MAX_NAMES]),
                    short_command(self.layer_names[layer.record.key].created_by),
                )
                for layer in self.layers
            ),
            n_rows=len(self.layers),
        )


def _texts(rows: Any, texts: Sequence[str]) -> Any:
    """Return one of a few texts a row, by its number."""
    return pa.DictionaryArray.from_arrays(rows, pa.array(texts, pa.string()))
