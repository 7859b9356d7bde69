"""The few local layers that together have most of an image, chosen greedily.

1. Choose the layer with most bytes of the image.
2. Of what is still missing, choose the layer with most bytes of that; repeat until no layer adds
   anything.

The fewest layers that cover as much may be fewer. Greedy layers are at most 1 + ln(b) times as
many, where b is the bytes that the first one covers (Chvatal 1979, with each byte as an element to
cover); and the first k of them cover at least 63 % of what any k layers could cover together
(Nemhauser, Wolsey and Fisher 1978). `n_at_least` is a lower bound on the fewest: so many layers are
needed for their bytes to add up, even if no two had any in common.

Each set of members (`intersections.py`) is covered once, so that all steps together go over the
rows once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import ArrowExport, column, ragged_arange
from vecache.sharing.contents import check_grain
from vecache.sharing.intersections import Intersections
from vecache.sharing.sources import read_contents
from vecache.store.records import with_host
from vecache.text import count, html_table

if TYPE_CHECKING:
    from vecache.arrays import I64
    from vecache.sharing.contents import Grain

__all__ = ["Cover", "gather"]


def gather(image: Any, source: Any, grain: Grain = "file") -> Cover:
    """Choose few local layers that have what an image needs.

    Parameters
    ----------
    image : Image, or anything `read_contents` takes
        What to cover: all of its layers together.
    source : LayersCache, Contents, or anything `read_contents` takes
        The local layers. Those of additional stores do not count: a pull reuses nothing of them.
        Several stores are a list, or a mapping of names to them: then the fewest layers of any.
    grain : {"file", "chunk"}
        What is counted: without reflinks a pull reuses whole files only.

    Returns
    -------
    Cover
        One row a step. Of layers that add equally many bytes the first is chosen.

    Raises
    ------
    StoreError, DatasetError, ImageError
        If the image or the layers cannot be read.
    ValueError
        If `grain` has another value.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> image = vecache.open_image("containers-storage:app2", store=store)
    >>> vecache.gather(image, {"web1": store, "web2": store}, "chunk")
    <Cover: 2 of 10 layers hold 1,360,896 of 1,360,896 bytes by chunk>
    """
    check_grain(grain)
    local, wanted = read_contents(source).without_additional(), read_contents(image)
    n_local = len(local.layers)
    sets = Intersections.from_tables([*local.content_tables(grain), *wanted.content_tables(grain)])
    is_wanted = np.arange(sets.n_members) >= n_local
    sets = sets.take(np.flatnonzero(sets.any_in(is_wanted)))
    is_local = sets.member < n_local
    layer, set_no = sets.member[is_local], sets.expand(np.arange(len(sets)))[is_local]
    has_bytes = np.zeros(n_local, np.int64)
    np.add.at(has_bytes, layer, sets.n_bytes[set_no])
    chosen, added = _choose(layer, set_no, sets.n_bytes, has_bytes)
    total, covered = int(sets.n_bytes.sum()), int(added.sum())
    return Cover(
        grain=grain,
        layer_ids=tuple(each.id for each in local.layers),
        hosts=local.member_hosts("layer"),
        layer=chosen,
        added_bytes=added,
        total_bytes=total,
        uncovered_bytes=total - covered,
        n_at_least=_count_at_least(has_bytes, covered),
        n_excluded_layers=len(wanted.excluded),
    )


@dataclass(frozen=True, eq=False, repr=False)
class Cover(ArrowExport):
    """The local layers that cover an image, one row a step.

    Attributes
    ----------
    grain : {"file", "chunk"}
        What is counted.
    layer_ids : tuple of str
        Ids of all local layers that a pull can reuse content of.
    hosts : tuple of str
        The host of each of these layers; empty where all are of one store.
    layer : (n_steps,) int64
        Index into `layer_ids` of the layer chosen.
    added_bytes, left_bytes : (n_steps,) int64
        Bytes of the image that the layer has and none chosen before it; and those that no layer up
        to this step has.
    total_bytes : int
        Bytes of the image, each content once.
    covered_bytes, uncovered_bytes : int
        Of these, bytes that a local layer has, and bytes that none has.
    n_at_least : int
        No fewer layers can cover as much.
    n_excluded_layers : int
        Layers of the image without a usable TOC, which are not counted.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> image = vecache.open_image("containers-storage:app2", store=store)
    >>> cover = vecache.gather(image, store)
    >>> cover
    <Cover: 2 of 5 layers hold 2,284,135 of 2,284,135 bytes by file>
    >>> cover.added_bytes.tolist(), cover.left_bytes.tolist()
    ([1340790, 943345], [943345, 0])
    """

    grain: Grain
    layer_ids: tuple[str, ...]
    hosts: tuple[str, ...]
    layer: I64
    added_bytes: I64
    total_bytes: int
    uncovered_bytes: int
    n_at_least: int
    n_excluded_layers: int

    def __post_init__(self) -> None:
        column("layer", self.layer, np.int64, len(self.layer))
        column("added_bytes", self.added_bytes, np.int64, len(self.layer))

    @property
    def left_bytes(self) -> I64:
        """(n_steps,) int64, bytes of the image that no layer up to this step has."""
        left: I64 = self.total_bytes - np.cumsum(self.added_bytes)
        return left

    @property
    def covered_bytes(self) -> int:
        """Bytes of the image that a local layer has."""
        return self.total_bytes - self.uncovered_bytes

    def to_arrow(self) -> Any:
        """Export the steps.

        Returns
        -------
        pyarrow.Table
            `step` (from 1), `layer` (index in store order), `layer_id`, `added_bytes`,
            `left_bytes`. Of several stores also `host`.
        """
        hosts = {"host": pa.array([self.hosts[row] for row in self.layer])} if self.hosts else {}
        return pa.table(
            {
                "step": np.arange(1, len(self) + 1),
                **hosts,
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
            f"<Cover: {len(self):,} of {count(len(self.layer_ids), 'layer')} hold "
            f"{self.covered_bytes:,} of {self.total_bytes:,} bytes by {self.grain}>"
        )

    def _repr_html_(self) -> str:
        return html_table(
            repr(self)[1:-1],
            ("step", "layer", "adds bytes", "left bytes"),
            zip(
                range(1, len(self) + 1),
                (
                    with_host(self.hosts[row] if self.hosts else "", self.layer_ids[row])
                    for row in self.layer
                ),
                self.added_bytes.tolist(),
                self.left_bytes.tolist(),
                strict=True,
            ),
            n_rows=len(self),
        )


def _choose(layer: I64, set_no: I64, n_bytes: I64, has_bytes: I64) -> tuple[I64, I64]:
    """Choose layers step by step, and return them with the bytes that each adds.

    `layer` and `set_no` are pairs in ascending order of `set_no`: the layer has the contents of
    that set, which are `n_bytes[set_no]`. `has_bytes` is the sum of these for each layer.
    """
    gain = has_bytes.copy()
    order = np.argsort(layer, kind="stable")
    sets_of, layer_start = set_no[order], np.searchsorted(layer[order], np.arange(len(gain) + 1))
    set_start = np.searchsorted(set_no, np.arange(len(n_bytes) + 1))
    is_missing = np.ones(len(n_bytes), np.bool_)
    chosen, added = [], []
    while gain.max(initial=0) > 0:  # steps, at most one a layer
        best = int(np.argmax(gain))  # the first of equal ones
        chosen.append(best)
        added.append(int(gain[best]))
        sets = sets_of[layer_start[best] : layer_start[best + 1]]
        sets = sets[is_missing[sets]]
        is_missing[sets] = False
        n_members = set_start[sets + 1] - set_start[sets]
        rows = ragged_arange(set_start[sets], n_members)
        np.subtract.at(gain, layer[rows], np.repeat(n_bytes[sets], n_members))
    return np.array(chosen, np.int64), np.array(added, np.int64)


def _count_at_least(has_bytes: I64, covered: int) -> int:
    """Count the layers, largest first, whose bytes add up to what is covered."""
    sums = accumulate(sorted(has_bytes.tolist(), reverse=True), initial=0)
    return next(n_layers for n_layers, n_bytes in enumerate(sums) if n_bytes >= covered)
