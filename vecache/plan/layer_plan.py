"""The plan of one layer of an image: the decisions of its pull, and their figures."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from vecache.plan.files import Action
from vecache.plan.ranges import RANGE_HEADER_BYTES
from vecache.plan.schedule import Transfer
from vecache.text import html_table

if TYPE_CHECKING:
    from vecache.arrays import I64
    from vecache.image.model import ImageLayer
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.replay import Replay

__all__ = ["LayerPlan", "LayerState"]


class LayerState(StrEnum):
    """How a layer is pulled."""

    PRESENT = "present"
    """Not pulled: the store has it."""
    PARTIAL = "partial"
    """Pulled by its TOC."""
    WHOLE = "whole"
    """Fetched as a whole blob: it has no TOC, or partial pulls are not enabled."""


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
        The decisions where the state is PARTIAL.
    cache : LayersCache
        The layers that count as present when this one is pulled.
    ignores_ranges : bool
        Whether the registry sends the blob from its start, whatever range is asked for.
    reads_toc : bool
        Whether the TOC is fetched: where the state is PARTIAL, and where only the TOC says that the
        blob has to come whole, as it has no tar-split.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> cache = vecache.LayersCache.load(store, present=["dd95d764", "3492096a"])
    >>> image = vecache.open_image("containers-storage:app2", store=store)
    >>> layer = vecache.plan_image(image, cache, reflink=False).layers[0]
    >>> layer
    <LayerPlan sha256:3ba79d9e5340: partial, 797,810 of 1,340,790 bytes missing>
    >>> layer.ranges.tolist()
    [[149, 341965], [433423, 527027]]
    """

    layer: ImageLayer
    state: LayerState
    replay: Replay | None
    cache: LayersCache
    ignores_ranges: bool = False
    reads_toc: bool = False

    @property
    def blob(self) -> str:
        """Digest of the layer's blob."""
        return self.layer.blob

    @property
    def created_by(self) -> str:
        """What made the layer, as the image says; empty where that is not known."""
        return self.layer.created_by

    @property
    def total_bytes(self) -> int | None:
        """Uncompressed bytes of all files, as Podman logs them; None where the blob comes whole."""
        if self.state is LayerState.WHOLE:
            return None
        return self.replay.files.total_bytes if self.replay else 0

    @property
    def missing_bytes(self) -> int | None:
        """Uncompressed bytes that no local layer has, as Podman logs them; None as above."""
        if self.state is LayerState.WHOLE:
            return None
        return self.replay.missing_bytes if self.replay else 0

    @property
    def fetch_bytes(self) -> int:
        """Bytes over the wire for data: all ranges, or the whole blob."""
        if self.state is LayerState.WHOLE:
            return self.layer.blob_bytes
        if self.ignores_ranges:  # read up to the last byte that is needed, and closed there
            return int(self.ranges[-1, 1]) + 1 if len(self.ranges) else 0
        return self.replay.ranges.fetch_bytes if self.replay else 0

    @property
    def slack_bytes(self) -> int:
        """Bytes over the wire that lie in gaps between the parts that are needed."""
        if self.replay is None:
            return 0
        needed = self.replay.ranges.fetch_bytes - self.replay.ranges.slack_bytes
        return self.fetch_bytes - needed

    @property
    def ranges(self) -> I64:
        """First and last byte of each range, both included: (n_ranges, 2) int64."""
        return self.replay.ranges.bounds if self.replay else np.empty((0, 2), np.int64)

    @property
    def toc_bytes(self) -> int:
        """Bytes over the wire for the TOC, with tar-split and footer."""
        if not self.reads_toc:
            return 0
        if not self.ignores_ranges:
            return self.layer.toc_bytes
        footer = self.layer.blob_bytes if self.toc_requests > 1 else 0  # it is at the blob's end
        return footer + self.layer.toc_offset + self.layer.toc_bytes

    @property
    def header_bytes(self) -> int:
        """Approximate bytes of the headers before each range, where there are several."""
        return RANGE_HEADER_BYTES * len(self.ranges) if len(self.ranges) > 1 else 0

    @property
    def n_refused(self) -> int:
        """Requests that the registry refuses, because they have too many ranges."""
        return self.replay.n_refused if self.replay else 0

    @property
    def toc_requests(self) -> int:
        """Requests for the TOC."""
        return self.layer.toc_requests if self.reads_toc else 0

    @property
    def data_transfer(self) -> Transfer:
        """What goes over the wire after the layer has looked for local content."""
        n_bytes = self.fetch_bytes + self.header_bytes
        return Transfer(n_bytes, self.requests - self.toc_requests)

    @property
    def may_find_more(self) -> bool:
        """Whether a layer that could not be read may have content that this one would reuse."""
        return self.replay is not None and any(each.is_unread for each in self.cache.excluded)

    @property
    def requests(self) -> int:
        """Requests: those for the TOC, refused ones, and one for data where a file is missing."""
        if self.replay is None:
            return self.toc_requests + int(self.state is LayerState.WHOLE)
        # Go asks even where all chunks of the missing files turn out to be local: for no bytes.
        has_missing = bool(len(self.replay.missing_rows))
        return self.toc_requests + self.n_refused + has_missing

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the layer, though Podman's pull of it goes on."""
        n_files = self.replay.n_misplaced if self.replay else 0
        text = (
            f"{n_files:,} of its files are at places that its blob does not have; the pull finds "
            "them in local layers, and fails where they are missing"
        )
        return (text,) if n_files else ()

    def count_files(self, action: Action) -> int:
        """Count the files with an action.

        Parameters
        ----------
        action : Action
            What a pull does with a file.

        Returns
        -------
        int
            0 where the layer is not replayed.
        """
        return self.replay.count_files(action) if self.replay else 0

    def count_chunks(self, action: Action) -> int:
        """Count the chunks with an action, of files that no layer has.

        Parameters
        ----------
        action : Action
            What a pull does with a chunk.

        Returns
        -------
        int
            0 where the layer is not replayed.
        """
        return self.replay.count_chunks(action) if self.replay else 0

    def __repr__(self) -> str:
        figures = f"{self.fetch_bytes:,} bytes to fetch"
        if self.state is not LayerState.WHOLE:
            figures = f"{self.missing_bytes:,} of {self.total_bytes:,} bytes missing"
        return f"<LayerPlan {self.blob[:19]}: {self.state}, {figures}>"

    def _repr_html_(self) -> str:
        is_known = self.state is not LayerState.WHOLE
        rows = (
            ("state", str(self.state)),
            ("files reused", self.count_files(Action.REUSED) if is_known else None),
            ("files fetched", self.count_files(Action.FETCHED) if is_known else None),
            ("bytes of files", self.total_bytes),
            ("bytes missing", self.missing_bytes),
            ("bytes to fetch", self.fetch_bytes),
            ("ranges", len(self.ranges)),
        )
        return html_table(self.blob, (), rows)
