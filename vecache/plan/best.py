"""The least that a pull could miss, and what the plan misses in excess of it, by cause.

The least that any client could fetch given the same layers: any match in any layer counts, chunks
are reused whatever the file system, and content that an image repeats is fetched once. From the
replay to there one rule after another is lifted, and what that saves is the rule's share:

1. `hard_links`: a file is found by its content, whatever its owner, mode and attributes.
2. `no_reflink`: chunks are reused on any file system.
3. `first_match`: every tag of every layer counts, not only the first that a look-up finds; and a
   chunk without a size in the TOC, which Podman cannot verify.
4. `flat_layout`: flat layers offer all their chunks, not only the first of each file.
5. `repeated`: equal files and equal chunks of one layer are fetched once. Later layers find them
   anyway, because each layer is appended to the set that the next one is planned against.

All of this is for layers that are pulled one after the other. What the expected plan misses beyond
that, because several layers are copied at a time, is the share of `parallel`.

Each step only adds to what is found, so no share is negative, and all shares together are the
excess. Bytes are uncompressed, as in Podman's "missing". A layer that is present or fetched whole
has no excess: Podman logs no figure for it. About 20 bytes per chunk while it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vecache.arrays import binary_buffers, first_rows
from vecache.plan.files import Action
from vecache.toc.entries import ChunkKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from vecache.arrays import I64, BinaryColumn, Bool
    from vecache.digest import Digests
    from vecache.index.layers_cache import LayersCache
    from vecache.index.load import ExcludedLayer
    from vecache.plan.layer_plan import LayerPlan
    from vecache.plan.options import PlanOptions
    from vecache.plan.replay import Replay

__all__ = ["Best", "Cause", "find_best"]


class Cause(StrEnum):
    """Why a plan misses more than the least possible."""

    NO_REFLINK = "no_reflink"
    FLAT_LAYOUT = "flat_layout"
    HARD_LINKS = "hard_links"
    FIRST_MATCH = "first_match"
    REPEATED = "repeated"
    PARALLEL = "parallel"


@dataclass(frozen=True, slots=True, repr=False)
class Best:
    """The least that the pull of a layer, an image or several images could miss.

    Attributes
    ----------
    missing_bytes : int
        Uncompressed bytes that would have to be fetched.
    excess : mapping of str to int
        Bytes that the plan misses beyond that, for each `Cause`.
    unread : tuple of ExcludedLayer
        Flat layers of the store whose TOC could not be read, with the reason. Only the chunks that
        their caches know count, so the least may be less.
    layers : tuple of Best
        The same for each layer from the bottom up; empty for one layer.
    """

    missing_bytes: int
    excess: Mapping[str, int]
    unread: tuple[ExcludedLayer, ...] = ()
    layers: tuple[Best, ...] = ()

    @classmethod
    def sum(cls, layers: Iterable[Best]) -> Best:
        """Add up layers."""
        layers = tuple(layers)
        unread = {layer.id: layer for each in layers for layer in each.unread}
        return cls(
            missing_bytes=sum(each.missing_bytes for each in layers),
            excess={str(cause): sum(each.excess[cause] for each in layers) for cause in Cause},
            unread=tuple(unread.values()),
            layers=layers,
        )

    def with_parallel(self, plans: Sequence[LayerPlan]) -> Best:
        """Return the same least, with what the expected plans of the layers miss beyond it."""
        layers = []
        for each, plan in zip(self.layers, plans, strict=True):
            more = (plan.missing_bytes or 0) - each.missing_bytes - sum(each.excess.values())
            # With chunks larger than their file a layer that finds fewer may miss less.
            least = each.missing_bytes + min(more, 0)
            excess = {**each.excess, str(Cause.PARALLEL): max(more, 0)}
            layers.append(replace(each, missing_bytes=least, excess=excess))
        return Best.sum(layers)

    def __repr__(self) -> str:
        excess = sum(self.excess.values())
        return f"<Best: {self.missing_bytes:,} bytes missing, {excess:,} less than the plan>"


def find_best(plans: Sequence[LayerPlan], options: PlanOptions) -> Best:
    """Find the least that the planned layers of an image could miss."""
    if not any(plan.replay for plan in plans):  # spares reading the TOCs of flat layers
        return Best.sum(Best(0, dict.fromkeys(map(str, Cause), 0)) for _ in plans)
    complete = plans[0].cache.with_all_chunks()
    layers = [_find_layer_best(plans[0], complete, options)]
    for lower, plan in pairwise(plans):
        complete = _append_complete(complete, lower.cache, plan.cache)
        layers.append(_find_layer_best(plan, complete, options))
    return Best.sum(layers)


def _append_complete(complete: LayersCache, before: LayersCache, after: LayersCache) -> LayersCache:
    """Append the layer that `after` has and `before` has not, with all of its chunks."""
    if len(after.layers) == len(before.layers):
        return after if complete is before else complete
    layer = after.layers[-1].with_all_chunks
    if complete is before and layer is after.layers[-1]:
        return after  # nothing is flat: the set itself is complete
    return complete.append(layer)


def _find_layer_best(plan: LayerPlan, complete: LayersCache, options: PlanOptions) -> Best:
    excess = dict.fromkeys(map(str, Cause), 0)
    if plan.replay is None:
        return Best(0, excess)
    missing = plan.replay.missing_bytes
    rows = _OpenRows(plan.replay)
    for cause in _lift_rules(rows, plan.cache, complete, options):
        # A TOC with chunks larger than their file can make a step cost more: then it is void.
        fewer = min(missing, rows.missing_bytes())
        excess[cause], missing = missing - fewer, fewer
    return Best(missing, excess, complete.unread)


def _lift_rules(
    rows: _OpenRows, cache: LayersCache, complete: LayersCache, options: PlanOptions
) -> Iterator[Cause]:
    """Lift one rule after another; yield its cause when it is lifted."""
    if options.hard_links:
        rows.close_files(lambda digests: cache.find_files(digests).is_found)
    yield Cause.HARD_LINKS
    if not options.reflink:
        rows.close_chunks(lambda digests: cache.find_chunks(digests).is_found, verifiable=True)
    yield Cause.NO_REFLINK
    rows.close_files(cache.holds)
    rows.close_chunks(cache.holds)
    yield Cause.FIRST_MATCH
    if complete is not cache:
        rows.close_files(complete.holds)
        rows.close_chunks(complete.holds)
    yield Cause.FLAT_LAYOUT
    rows.close_repeats()
    yield Cause.REPEATED


class _OpenRows:
    """Files and chunks of a layer that are still to be fetched; they are closed step by step."""

    def __init__(self, replay: Replay) -> None:
        self._files = replay.files
        self._is_open = replay.file_action == Action.FETCHED
        self._is_saved = replay.chunk_action != Action.FETCHED

    def missing_bytes(self) -> int:
        """Count as Podman does: the size of the open files, less their chunks that are saved."""
        chunks = self._files.chunks
        size = int(self._files.size[self._is_open].sum())
        return size - int(chunks.size[self._is_saved & self._is_open[chunks.file_row]].sum())

    def close_files(self, is_held: Callable[[Digests], Bool]) -> None:
        """Close the files whose digest is held."""
        rows = np.flatnonzero(self._is_open)
        self._is_open[rows[is_held(self._files.digests(rows))]] = False

    def close_chunks(self, is_held: Callable[[Digests], Bool], *, verifiable: bool = False) -> None:
        """Close the chunks whose digest is held, or only those that a pull could verify."""
        rows = self._open_chunks()
        if verifiable:
            rows = rows[self._files.can_verify(rows)]
        self._is_saved[rows[is_held(self._files.chunk_digests(rows))]] = True

    def close_repeats(self) -> None:
        """Close every later occurrence of a content. Content without a digest equals no other."""
        files = np.flatnonzero(self._is_open)
        self._is_open[files[_is_repeat(self._files.digests(files).to_text())]] = False
        chunks = self._open_chunks()
        self._is_saved[chunks[_is_repeat(self._content_texts(chunks))]] = True

    def _open_chunks(self) -> I64:
        """Rows of the chunks to fetch that are plain data: only those are ever looked up."""
        chunks = self._files.chunks
        is_data = chunks.kind == ChunkKind.DATA
        rows: I64 = np.flatnonzero(is_data & ~self._is_saved & self._is_open[chunks.file_row])
        return rows

    def _content_texts(self, rows: I64) -> BinaryColumn:
        """Digest of each chunk; of the file, where that is one chunk without a digest."""
        import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms that only repeats need

        file_row = self._files.chunks.file_row[rows]
        is_only = np.diff(self._files.chunk_start)[file_row] == 1
        of_chunk, of_file = self._files.chunk_digests(rows), self._files.digests(file_row)
        takes_file_digest = pa.array(is_only & ~of_chunk.is_present)
        return pc.if_else(takes_file_digest, of_file.to_text(), of_chunk.to_text())


def _is_repeat(texts: BinaryColumn) -> Bool:
    """(n,) bool: whether an equal text that is not empty comes before."""
    _, lengths, _ = binary_buffers(texts)
    is_repeat: Bool = lengths > 0
    is_repeat[first_rows(texts)] = False
    return is_repeat
