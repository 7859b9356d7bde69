"""Which few local layers hold most of a new image? Those that a greedy search picks.

First the layer that holds most bytes of the image, then the one that holds most of what is left,
until no layer adds anything.

How far can that be from the fewest layers that do the same? The layers chosen are at most
1 + ln(b) times as many, b being the bytes of the image that the first one holds (Chvatal 1979, with
each byte as an element to cover); and the first k hold at least 63 % of what any k layers could
hold together (Nemhauser, Wolsey and Fisher 1978). `n_at_least` bounds the fewest from below: so
many layers are needed for their bytes to add up, were none held twice.

Each set of members (`intersections.py`) is covered once, so all steps together go once over rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import column, ragged_arange
from vecache.sharing.contents import check_grain
from vecache.sharing.intersections import Intersections
from vecache.sharing.sources import read_contents
from vecache.text import html_table

if TYPE_CHECKING:
    from vecache.arrays import I64
    from vecache.sharing.contents import Grain

__all__ = ["Cover", "gather"]


@dataclass(frozen=True, eq=False, repr=False)
class Cover:
    """The layers that cover an image, one row a step.

    Attributes
    ----------
    grain : {"file", "chunk"}
        Whether files or chunks were counted.
    layer_ids : tuple of str
        Ids of all local layers.
    layer : (n_steps,) int64
        Place in `layer_ids` of the layer chosen.
    added_bytes : (n_steps,) int64
        Bytes of the image that it holds and none chosen before.
    total_bytes : int
        Bytes of the image, each content once.
    uncovered_bytes : int
        What no local layer holds.
    n_at_least : int
        No fewer layers can hold as much.
    n_unknown_layers : int
        Layers of the image without a good TOC, of which nothing is known.
    """

    grain: Grain
    layer_ids: tuple[str, ...]
    layer: I64
    added_bytes: I64
    total_bytes: int
    uncovered_bytes: int
    n_at_least: int
    n_unknown_layers: int

    def __post_init__(self) -> None:
        column("layer", self.layer, np.int64, len(self.layer))
        column("added_bytes", self.added_bytes, np.int64, len(self.layer))

    @property
    def left_bytes(self) -> I64:
        """(n_steps,) int64, bytes of the image that no layer up to this step holds."""
        left: I64 = self.total_bytes - np.cumsum(self.added_bytes)
        return left

    @property
    def covered_bytes(self) -> int:
        """Bytes of the image that the layers hold."""
        return self.total_bytes - self.uncovered_bytes

    def to_arrow(self) -> Any:
        """Export the steps.

        Returns
        -------
        pyarrow.Table
            `step` (from 1), `layer` (place in store order), `layer_id`, `added_bytes`,
            `left_bytes`.
        """
        return pa.table(
            {
                "step": np.arange(1, len(self) + 1),
                "layer": self.layer,
                "layer_id": pa.array([self.layer_ids[row] for row in self.layer], pa.string()),
                "added_bytes": self.added_bytes,
                "left_bytes": self.left_bytes,
            }
        )

    def __len__(self) -> int:
        return len(self.layer)

    def __repr__(self) -> str:
        return (
            f"<Cover: {len(self):,} of {len(self.layer_ids):,} layers hold "
            f"{self.covered_bytes:,} of {self.total_bytes:,} bytes by {self.grain}>"
        )

    def _repr_html_(self) -> str:
        return html_table(
            repr(self)[1:-1],
            ("step", "layer", "adds bytes", "left bytes"),
            (
                (step, self.layer_ids[layer], added, left)
                for step, (layer, added, left) in enumerate(
                    zip(
                        self.layer.tolist(),
                        self.added_bytes.tolist(),
                        self.left_bytes.tolist(),
                        strict=True,
                    ),
                    1,
                )
            ),
            n_rows=len(self),
        )


def gather(image: Any, source: Any, grain: Grain = "file") -> Cover:
    """Find few local layers that hold what an image needs.

    Parameters
    ----------
    image : Image, or anything `read_contents` takes
        What is to be covered: all of its layers together.
    source : LayersCache, Contents, or anything `read_contents` takes
        The local layers.
    grain : {"file", "chunk"}
        What is counted: without reflinks a pull reuses whole files only.

    Returns
    -------
    Cover
        One row a step. Of layers that add equally much the earliest is chosen.

    Raises
    ------
    StoreError, DatasetError, ImageError
        If the image or the layers cannot be read.
    ValueError
        If `grain` is none of the two.
    """
    check_grain(grain)
    local, wanted = read_contents(source), read_contents(image)
    n_local = len(local.layers)
    sets = Intersections.from_tables([*local.content_tables(grain), *wanted.content_tables(grain)])
    is_wanted = np.arange(sets.n_members) >= n_local
    sets = sets.take(np.flatnonzero(sets.any_in(is_wanted)))
    is_local = sets.member < n_local
    layer, added = _choose(
        sets.member[is_local],
        sets.expand(np.arange(len(sets)))[is_local],
        sets.n_bytes,
        n_local,
    )
    total, covered = int(sets.n_bytes.sum()), int(added.sum())
    held = np.zeros(n_local, np.int64)
    np.add.at(held, sets.member[is_local], sets.expand(sets.n_bytes)[is_local])
    most_first = np.cumsum(np.sort(held)[::-1])
    return Cover(
        grain=grain,
        layer_ids=tuple(each.id for each in local.layers),
        layer=layer,
        added_bytes=added,
        total_bytes=total,
        uncovered_bytes=total - covered,
        n_at_least=int(np.searchsorted(most_first, covered)) + 1 if covered else 0,
        n_unknown_layers=len(wanted.excluded),
    )


def _choose(layer: I64, item: I64, n_bytes: I64, n_layers: int) -> tuple[I64, I64]:
    """Choose layers step by step, given pairs (layer, item it holds) and the items' bytes."""
    gain = np.zeros(n_layers, np.int64)
    np.add.at(gain, layer, n_bytes[item])
    order = np.argsort(layer, kind="stable")
    items_of, layer_start = item[order], np.searchsorted(layer[order], np.arange(n_layers + 1))
    item_start = np.searchsorted(item, np.arange(len(n_bytes) + 1))
    is_left = np.ones(len(n_bytes), np.bool_)
    chosen, added = [], []
    while gain.max(initial=0) > 0:  # steps, at most one a layer
        best = int(np.argmax(gain))  # the earliest of equal ones
        chosen.append(best)
        added.append(int(gain[best]))
        items = items_of[layer_start[best] : layer_start[best + 1]]
        items = items[is_left[items]]
        is_left[items] = False
        n_held = item_start[items + 1] - item_start[items]
        rows = ragged_arange(item_start[items], n_held)
        np.subtract.at(gain, layer[rows], np.repeat(n_bytes[items], n_held))
    return np.array(chosen, np.int64), np.array(added, np.int64)
