"""How far is a pull from the best possible? The gap, split by cause.

The least that any client could fetch, given the same layers: any match in any layer counts, chunks
are reused whatever the file system, and content that is repeated in the image is fetched once.

From the replay to there one rule after another is lifted, and what that saves is the rule's share:

1. `hard_links`: a file is found by its content, whatever its owner, mode and attributes.
2. `no_reflink`: chunks are reused on any file system.
3. `first_match`: every tag of every layer counts, not the first that a look-up comes upon; and a
   chunk to which the TOC gives no size, which Podman cannot check.
4. `flat_layout`: flat layers are known by all their chunks, not by the first of each file.
5. `repeated`: equal files and equal chunks of one layer are fetched once. In later layers they are
   found already, for each layer joins what the next is held against.

Each step only adds to what is found, so no share is negative, and together they are the gap. Bytes
are uncompressed, as in Podman's "missing". A layer that is present or fetched whole has no gap:
Podman logs no figure for it. About 20 bytes a chunk while it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vecache.arrays import binary_buffers, first_rows
from vecache.plan.files import Action
from vecache.plan.replay import can_rehash
from vecache.toc.entries import ChunkKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vecache.arrays import I64, BinaryColumn, Bool
    from vecache.digest import Digests
    from vecache.index.layers_cache import LayersCache
    from vecache.plan.files import LayerFiles
    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.options import PlanOptions
    from vecache.plan.replay import Replay

__all__ = ["Best", "Cause", "LayerBest", "find_best"]


class Cause(StrEnum):
    """What keeps a pull from the best possible."""

    NO_REFLINK = "no_reflink"
    FLAT_LAYOUT = "flat_layout"
    HARD_LINKS = "hard_links"
    FIRST_MATCH = "first_match"
    REPEATED = "repeated"


_CURES = MappingProxyType(
    {
        Cause.NO_REFLINK: "a file system with reflinks (xfs, btrfs)",
        Cause.FLAT_LAYOUT: "layers stored without composefs, whose caches know every chunk",
        Cause.HARD_LINKS: "storage.conf without use_hard_links, so that owners may differ",
        Cause.FIRST_MATCH: "a client that takes any match, not the first alone",
        Cause.REPEATED: "a client that fetches what the image repeats once",
    }
)


@dataclass(frozen=True, slots=True)
class LayerBest:
    """The least that one layer could cost."""

    missing_bytes: int  # uncompressed bytes that would have to be fetched
    # bytes of each `Cause`, all of them; together they are what the replay misses more
    gap: Mapping[str, int]


@dataclass(frozen=True, slots=True, repr=False)
class Best:
    """The least that an image could cost.

    Attributes
    ----------
    layers : tuple of LayerBest
        From the bottom up.
    """

    layers: tuple[LayerBest, ...]

    @property
    def missing_bytes(self) -> int:
        """Uncompressed bytes that would have to be fetched."""
        return sum(layer.missing_bytes for layer in self.layers)

    @property
    def gap(self) -> dict[str, int]:
        """Bytes of each `Cause`; together they are what the plan misses more."""
        return {str(cause): sum(layer.gap[cause] for layer in self.layers) for cause in Cause}

    def advice(self) -> list[str]:
        """Say what would close the gap.

        Returns
        -------
        list of str
            A line for each cause that costs anything, the dearest first.
        """
        gap = self.gap
        dearest_first = sorted(Cause, key=lambda cause: -gap[cause])
        return [f"{_CURES[cause]}: {gap[cause]:,} bytes" for cause in dearest_first if gap[cause]]

    def __repr__(self) -> str:
        gap = sum(self.gap.values())
        return f"<Best: {self.missing_bytes:,} bytes missing, {gap:,} less than the plan>"


def find_best(plan: ImagePlan) -> Best:
    """Find the least that a planned image could cost."""
    if not plan.layers:
        return Best(())
    sets = [*(layer.cache for layer in plan.layers), plan.cache_after]
    complete = sets[0].with_all_chunks()
    layers = []
    for layer, (before, after) in zip(plan.layers, pairwise(sets), strict=True):
        layers.append(_find_layer_best(layer.replay, before, complete, plan.options))
        complete = _follow(complete, before, after)
    return Best(tuple(layers))


def _follow(complete: LayersCache, before: LayersCache, after: LayersCache) -> LayersCache:
    """Let the layer that joined `before` join the set that knows all chunks, too."""
    has_joined = len(after.layers) > len(before.layers)
    layer = after.layers[-1].with_all_chunks if has_joined else None
    if complete is before and (layer is None or layer is after.layers[-1]):
        return after
    return complete if layer is None else complete.append(layer)


def _find_layer_best(
    replay: Replay | None, cache: LayersCache, complete: LayersCache, options: PlanOptions
) -> LayerBest:
    if replay is None:
        return LayerBest(0, {str(cause): 0 for cause in Cause})
    rows = _OpenRows(replay)
    missing, gap = replay.missing_bytes, dict.fromkeys(map(str, Cause), 0)
    for cause in _lift_rules(rows, cache, complete, options):
        # A TOC whose chunks are larger than their file can make a step cost more: then it is void.
        fewer = min(missing, rows.missing_bytes())
        gap[cause], missing = missing - fewer, fewer
    return LayerBest(missing, gap)


def _lift_rules(
    rows: _OpenRows, cache: LayersCache, complete: LayersCache, options: PlanOptions
) -> Iterator[Cause]:
    """Lift one rule after another; yield the name of each once it is gone."""
    if options.hard_links:
        rows.drop_files(lambda digests: cache.find_files(digests).is_found)
    yield Cause.HARD_LINKS
    if not options.reflink:
        rows.drop_chunks(lambda digests: cache.find_chunks(digests).is_found, can_rehash)
    yield Cause.NO_REFLINK
    rows.drop_files(cache.holds)
    rows.drop_chunks(cache.holds)
    yield Cause.FIRST_MATCH
    if complete is not cache:
        rows.drop_files(complete.holds)
        rows.drop_chunks(complete.holds)
    yield Cause.FLAT_LAYOUT
    rows.drop_repeats()
    yield Cause.REPEATED


class _OpenRows:
    """Files and chunks of a layer that are still to be fetched."""

    def __init__(self, replay: Replay) -> None:
        self._files = replay.files
        self._is_open = replay.file_action == Action.FETCHED
        self._is_saved = replay.chunk_action != Action.FETCHED

    def missing_bytes(self) -> int:
        """Count as Podman does: the size of the open files, less their chunks that are saved."""
        size = int(self._files.size[self._is_open].sum())
        chunks = self._files.toc.chunks
        return size - int(chunks.size[self._is_saved & self._is_open[chunks.file_row]].sum())

    def drop_files(self, holds: Callable[[Digests], Bool]) -> None:
        """Close the files whose digest something holds."""
        rows = np.flatnonzero(self._is_open)
        self._is_open[rows[holds(self._files.digests(rows))]] = False

    def drop_chunks(
        self,
        holds: Callable[[Digests], Bool],
        is_usable: Callable[[LayerFiles, I64], Bool] | None = None,
    ) -> None:
        """Save the chunks whose digest something holds."""
        rows = self._open_chunks()
        if is_usable is not None:
            rows = rows[is_usable(self._files, rows)]
        self._is_saved[rows[holds(self._files.chunk_digests(rows))]] = True

    def drop_repeats(self) -> None:
        """Close and save what comes a second time. Content without a digest is like no other."""
        files = np.flatnonzero(self._is_open)
        digests = self._files.digests(files)
        self._is_open[files[_find_repeats(digests.to_text())]] = False
        chunks = self._open_chunks()
        self._is_saved[chunks[_find_repeats(self._content_texts(chunks))]] = True

    def _open_chunks(self) -> I64:
        """Rows of the chunks to fetch that are plain data: only those are ever looked up."""
        chunks = self._files.toc.chunks
        is_data = chunks.kind == ChunkKind.DATA
        rows: I64 = np.flatnonzero(is_data & ~self._is_saved & self._is_open[chunks.file_row])
        return rows

    def _content_texts(self, rows: I64) -> BinaryColumn:
        """Take each chunk's digest; a file that is one chunk without a digest lends its own."""
        import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms that only a gap with repeats needs

        toc = self._files.toc
        file_row = toc.chunks.file_row[rows]
        is_only = np.diff(toc.chunk_start)[file_row] == 1
        of_chunk, of_file = self._files.chunk_digests(rows), self._files.digests(file_row)
        is_borrowed = pa.array(is_only & ~of_chunk.is_present)
        return pc.if_else(is_borrowed, of_file.to_text(), of_chunk.to_text())


def _find_repeats(texts: BinaryColumn) -> Bool:
    """(n,) bool: texts that stood before, the empty one apart."""
    _, lengths, _ = binary_buffers(texts)
    is_repeat: Bool = lengths > 0
    is_repeat[first_rows(texts)] = False
    return is_repeat
