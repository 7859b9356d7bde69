"""The plan of images on the nodes of a fleet: a table of figures, node by image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from vecache.arrays import ArrowExport, frozen, masked_column
from vecache.fleet.cells import FIGURES
from vecache.fleet.classes import class_label
from vecache.text import count, html_table

if TYPE_CHECKING:
    from vecache.arrays import I64, Bool
    from vecache.draw.picture import Picture
    from vecache.plan.options import PlanOptions

__all__ = ["CellReason", "FleetPlan", "UnreadLayer"]


class CellReason(NamedTuple):
    """Why something could not be planned."""

    class_no: int  # -1 for all nodes: an image that could not be read
    image_no: int  # -1 for all images: a node that could not be opened
    reason: str


class UnreadLayer(NamedTuple):
    """A layer of the nodes of a class that could not be read, so figures are upper bounds."""

    class_no: int
    layer: str
    reason: str


@dataclass(frozen=True, eq=False, repr=False)
class FleetPlan(ArrowExport):
    """The pull of each image on each node, as if it were the only one.

    Made by `plan_fleet`. Where an image could not be planned on a node its figures are -1, and
    `is_planned` is False.

    Attributes
    ----------
    nodes : tuple of str, n_nodes of them
        Names.
    classes : tuple of tuple of int
        Indices of the nodes that are equal in layers, their order and settings.
    images : tuple of str, n_images of them
        References.
    options : tuple of PlanOptions or None
        How the nodes of each class pull; None for a node that could not be opened.
    figures : (n_classes, n_images, n_figures) int64
        All figures, in the order of `vecache.fleet.cells.FIGURES`.
    errors : tuple of CellReason
        Which images could not be planned on the nodes of which class.
    unread : tuple of UnreadLayer
        Layers that could not be read. The figures of nodes that have one are upper bounds.
    n_layers : tuple of int
        Layers of a node of each class.

    Examples
    --------
    >>> import os, tempfile
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> image = vecache.open_image("containers-storage:app2", store=store)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     os.mkdir(f"{folder}/overlay-layers")  # a store without layers
    ...     nodes = {"web1": store, "new": vecache.open_store(folder)}
    ...     plan = vecache.plan_fleet([image], nodes, reflink=False)
    >>> plan.missing_bytes.tolist(), plan.nodes[plan.cheapest[0]]
    ([[0], [1924135]], 'web1')
    """

    nodes: tuple[str, ...]
    classes: tuple[tuple[int, ...], ...]
    images: tuple[str, ...]
    options: tuple[PlanOptions | None, ...]
    figures: I64
    errors: tuple[CellReason, ...]
    unread: tuple[UnreadLayer, ...]
    n_layers: tuple[int, ...]

    @cached_property
    def class_of(self) -> I64:
        """(n_nodes,) int64, the class of each node."""
        class_of = np.zeros(len(self.nodes), np.int64)
        for number, nodes in enumerate(self.classes):
            class_of[list(nodes)] = number
        return frozen(class_of)

    @property
    def labels(self) -> tuple[str, ...]:
        """The first node of each class, and how many others there are."""
        return tuple(class_label([self.nodes[node] for node in each]) for each in self.classes)

    @property
    def class_sizes(self) -> I64:
        """(n_classes,) int64, nodes of each class."""
        return np.array([len(nodes) for nodes in self.classes], np.int64)

    @property
    def is_planned(self) -> Bool:
        """(n_nodes, n_images) bool, whether there are figures."""
        is_planned: Bool = self._column("requests") >= 0
        return is_planned

    @property
    def total_bytes(self) -> I64:
        """(n_nodes, n_images) int64, uncompressed bytes of the layers that are pulled."""
        return self._column("total_bytes")

    @property
    def missing_bytes(self) -> I64:
        """(n_nodes, n_images) int64, those of them that no local layer has."""
        return self._column("missing_bytes")

    @property
    def fetch_bytes(self) -> I64:
        """(n_nodes, n_images) int64, bytes over the wire for data."""
        return self._column("fetch_bytes")

    @property
    def toc_bytes(self) -> I64:
        """(n_nodes, n_images) int64, bytes over the wire for TOCs."""
        return self._column("toc_bytes")

    @property
    def wire_bytes(self) -> I64:
        """(n_nodes, n_images) int64, bytes over the wire for data and TOCs."""
        wire_bytes = self.fetch_bytes + self.toc_bytes
        return np.where(self.is_planned, wire_bytes, -1)

    @property
    def requests(self) -> I64:
        """(n_nodes, n_images) int64, requests for TOCs and data."""
        return self._column("requests")

    @property
    def whole_layers(self) -> I64:
        """(n_nodes, n_images) int64, layers that are fetched as whole blobs."""
        return self._column("whole_layers")

    @property
    def whole_bytes(self) -> I64:
        """(n_nodes, n_images) int64, bytes over the wire for them."""
        return self._column("whole_bytes")

    @property
    def missing_bounds(self) -> I64:
        """(n_nodes, n_images, 2) int64, least and most of `missing_bytes`."""
        return np.stack([self._column("missing_least"), self._column("missing_most")], axis=-1)

    @property
    def fetch_bounds(self) -> I64:
        """(n_nodes, n_images, 2) int64, least and most of `fetch_bytes`."""
        return np.stack([self._column("fetch_least"), self._column("fetch_most")], axis=-1)

    @property
    def reflink_missing_bytes(self) -> I64:
        """(n_nodes, n_images) int64, `missing_bytes` if all nodes had reflinks."""
        return self._column("reflink_missing_bytes")

    @property
    def cheapest(self) -> I64:
        """(n_images,) int64, the first node with least `wire_bytes`; -1 where there is none."""
        if not len(self.nodes):
            return np.full(len(self.images), -1, np.int64)
        wire_bytes = np.where(self.is_planned, self.wire_bytes, np.iinfo(np.int64).max)
        return np.where(self.is_planned.any(axis=0), wire_bytes.argmin(axis=0), -1)

    @property
    def dearest(self) -> int:
        """The image with most `wire_bytes` on all nodes together; -1 where there is none."""
        sums = self.image_sums("wire_bytes")
        is_any = self.is_planned.any(axis=0) if len(self.nodes) else np.zeros(0, np.bool_)
        return max(np.flatnonzero(is_any).tolist(), key=sums.__getitem__, default=-1)

    def image_sums(self, figure: str) -> list[int]:
        """Add up a figure over all nodes.

        Parameters
        ----------
        figure : str
            Name of an attribute of this class.

        Returns
        -------
        list of n_images int
            What could not be planned counts as 0.
        """
        found: I64 = getattr(self, figure)
        # Of Python's integers: a fleet may exceed 64 bits where a node does not.
        columns = zip(found.T, self.is_planned.T, strict=True)
        return [sum(column[is_planned].tolist()) for column, is_planned in columns]

    def to_arrow(self) -> Any:
        """Export one row for each node and image.

        Returns
        -------
        pyarrow.Table of n_nodes * n_images rows
            `node`, `class`, `image`, all figures, and `reason`; figures are null where there is a
            reason.
        """
        import pyarrow as pa  # noqa: PLC0415 - a plan in text does not need it

        n_nodes, n_images = len(self.nodes), len(self.images)
        node = np.repeat(np.arange(n_nodes, dtype=np.int32), n_images)
        image = np.tile(np.arange(n_images, dtype=np.int32), n_nodes)
        columns = {
            "node": _dictionary(node, self.nodes),
            "class": masked_column(np.repeat(self.class_of, n_images)),
            "image": _dictionary(image, self.images),
        }
        is_unknown = ~self.is_planned.reshape(-1)
        for name in FIGURES:
            column = self._column(name).reshape(-1)
            is_null = is_unknown | (column < 0 if name == "reflink_missing_bytes" else False)
            columns[name] = masked_column(column, is_null)
        reasons = sorted({each.reason for each in self.errors})
        code = np.full((len(self.classes), n_images), -1, np.int32)
        for each in self.errors:  # classes and images, not rows
            class_no, image_no = (n if n >= 0 else slice(None) for n in each[:2])
            code[class_no, image_no] = reasons.index(each.reason)
        reason = code[self.class_of].reshape(-1)
        columns["reason"] = pa.DictionaryArray.from_arrays(
            masked_column(reason, reason < 0), pa.array(reasons, pa.string())
        )
        return pa.table(columns)

    def plot(
        self, shown: Literal["wire_bytes", "fetch_bytes", "missing_bytes"] = "wire_bytes"
    ) -> Picture:
        """Draw a heat map: a row for each class of nodes, a column for each image.

        Parameters
        ----------
        shown : {"wire_bytes", "fetch_bytes", "missing_bytes"}
            What the colours mean, for one node.

        Returns
        -------
        Picture
            Shows itself in a notebook; `save` writes SVG or PNG.

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        ValueError
            If `shown` is something else.
        """
        notes = {
            "wire_bytes": "Bytes that one node fetches, data and TOCs",
            "fetch_bytes": "Bytes of data that one node fetches",
            "missing_bytes": "Bytes that one node misses, uncompressed",
        }
        if shown not in notes:
            raise ValueError(f"shown: found {shown!r:.60}, wanted one of {', '.join(notes)}")
        from vecache.draw.grid import byte_grid  # noqa: PLC0415 - matplotlib is an extra

        first = [nodes[0] for nodes in self.classes]
        n_images, n_nodes = len(self.images), len(self.nodes)
        return byte_grid(
            np.where(self.is_planned, getattr(self, shown), -1)[first],
            self.labels,
            self.images,
            title=f"Pulls of {count(n_images, 'image')} on {count(n_nodes, 'node')}",
            note=f"{notes[shown]}; nodes that are equal are one row.",
        )

    def _column(self, name: str) -> I64:
        """(n_nodes, n_images) int64: one of the figures."""
        column: I64 = self.figures[:, :, FIGURES.index(name)][self.class_of]
        return column

    def _repr_html_(self) -> str:
        rows = (
            (image, *(sums[number] for sums in self._summary_columns), self._cheapest_name(number))
            for number, image in enumerate(self.images)
        )
        titles = ("image", "missing", "to fetch", "requests", "cheapest node")
        return html_table(repr(self)[1:-1], titles, rows, n_rows=len(self.images))

    @property
    def _summary_columns(self) -> list[list[int]]:
        return [self.image_sums(name) for name in ("missing_bytes", "wire_bytes", "requests")]

    def _cheapest_name(self, image_no: int) -> str | None:
        node = int(self.cheapest[image_no])
        return None if node < 0 else self.nodes[node]

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        n_bytes = sum(self.image_sums("wire_bytes"))
        return (
            f"<FleetPlan: {count(len(self.nodes), 'node')} in "
            f"{count(len(self.classes), 'class', 'classes')}, "
            f"{count(len(self.images), 'image')}, {n_bytes:,} bytes to fetch in all>"
        )


def _dictionary(code: Any, values: tuple[str, ...]) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - as above

    return pa.DictionaryArray.from_arrays(masked_column(code), pa.array(values, pa.string()))
