"""Why is this file fetched, or where does it come from? One path's story, in plain sentences.

1. Find the entries of that path, and whiteouts of it, in the layers that are pulled; if there are
   none, in those that are not. Paths are compared as Go's path.Clean leaves them, without the root.
2. Tell each layer's part: what the entry is, where its content was found or why it was not, what
   became of its chunks, and which ranges bring them.

Reads the TOC of a layer that is not pulled by it only where no other layer has the path.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vecache.plan.files import Action
from vecache.plan.layer_plan import LayerState
from vecache.plan.near_paths import path_error, path_text
from vecache.toc.entries import EntryKind
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecache.arrays import I64
    from vecache.index.result import LookupResult
    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.layer_plan import LayerPlan
    from vecache.plan.options import PlanOptions
    from vecache.plan.replay import Replay
    from vecache.toc.entries import Entries

__all__ = ["explain"]

_MAX_RANGES_SHOWN = 3
_CHUNK_WORDS = {Action.REUSED: "reused", Action.HOLE: "holes", Action.FETCHED: "fetched"}
_WHAT = {
    EntryKind.OTHER: "something of an unknown type",
    EntryKind.REG: "a file",
    EntryKind.HARDLINK: "a hard link",
    EntryKind.CHAR: "a character device",
    EntryKind.BLOCK: "a block device",
    EntryKind.DIR: "a directory",
    EntryKind.FIFO: "a fifo",
    EntryKind.SYMLINK: "a symbolic link",
}


def explain(plan: ImagePlan, path: str | bytes) -> list[str]:
    """Tell the story of one path."""
    wanted = _clean(os.fsencode(path))
    pulled = [item for item in enumerate(plan.layers, 1) if item[1].replay is not None]
    others = [item for item in enumerate(plan.layers, 1) if item[1].replay is None]
    for layers in (pulled, others):
        story = [
            sentence
            for number, layer in layers
            if layer.layer.toc_format is not None
            for row in _find_rows(layer.layer.toc.entries, wanted).tolist()
            for sentence in _Teller(plan, layer, number, row).tell()
        ]
        if story:
            return story
    raise path_error(plan, wanted)


def _clean(name: bytes) -> bytes:
    return posixpath.normpath(b"/" + name).lstrip(b"/")


def _find_rows(entries: Entries, wanted: bytes) -> I64:
    """Find the entries of a path, and of whiteouts that delete it."""
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms that only a story needs

    folder, base = posixpath.split(wanted)
    paths = {wanted, posixpath.join(folder, b".wh." + base)}
    is_near = pc.match_substring(entries.name, base).to_numpy(zero_copy_only=False)
    near = np.flatnonzero(is_near & (entries.kind != EntryKind.CHUNK))
    if not wanted:  # the root has no name to look for, only a few spellings
        near = near[pc.binary_length(entries.name.take(pa.array(near))).to_numpy() <= len("./")]
    names = entries.name.take(pa.array(near)).to_pylist()
    return near[np.array([_clean(name) in paths for name in names], np.bool_)]


@dataclass(frozen=True, slots=True)
class _Teller:
    """Tells one entry's part of the story."""

    plan: ImagePlan
    layer: LayerPlan
    number: int
    row: int

    @property
    def entries(self) -> Entries:
        return self.layer.layer.toc.entries

    def tell(self) -> Iterator[str]:
        blob = self.layer.layer.blob.partition(":")[2][:12]
        yield (
            f"Layer {self.number} of {len(self.plan.layers)} ({blob}) has {self._name()}: "
            f"{self._describe()}."
        )
        replay = self.layer.replay
        if replay is None:
            is_present = self.layer.state is LayerState.PRESENT
            why = "The store has this layer: nothing of it is pulled"
            yield f"{why if is_present else 'The whole blob of this layer is fetched'}."
            return
        file_row = self._file_row(replay)
        if file_row is None:
            yield "It is not stored: nothing is fetched for it."
        else:
            yield from _tell_action(replay, file_row, self.layer, self.plan.options)

    def _name(self) -> str:
        return path_text(self.entries.name[self.row].as_py())

    def _describe(self) -> str:
        kind = EntryKind(int(self.entries.kind[self.row]))
        what = _WHAT[kind]
        if kind is EntryKind.REG:
            digest = path_text(self.entries.digest.to_text()[self.row].as_py())
            return f"{what} of {int(self.entries.size[self.row]):,} bytes, {digest or 'no digest'}"
        if kind in (EntryKind.HARDLINK, EntryKind.SYMLINK):
            return f"{what} to {path_text(self.entries.link_name[self.row].as_py())}"
        return what

    def _file_row(self, replay: Replay) -> int | None:
        """Row of the file that stands for the entry; with the flat layout one of equal content."""
        entry_row = replay.files.toc.entry_row
        if self.plan.options.layout is Layout.FLAT:
            if self.entries.kind[self.row] != EntryKind.REG:
                return None
            digest = self.entries.digest.raw
            found = np.flatnonzero((digest[entry_row] == digest[self.row]).all(axis=1))
        else:
            found = np.flatnonzero(entry_row == self.row)
        return int(found[0]) if len(found) else None


def _tell_action(
    replay: Replay, file_row: int, layer: LayerPlan, options: PlanOptions
) -> Iterator[str]:
    if options.layout is Layout.FLAT:
        name = path_text(replay.files.toc.name[file_row].as_py())
        yield f"It is stored as {name}, once for all files of that content."
    match replay.file_action[file_row]:
        case Action.NOTHING:
            yield "It is made on the spot: nothing is fetched for it."
        case Action.EMPTY:
            yield "It is empty and made on the spot: nothing is fetched for it."
        case Action.WHITEOUT:
            yield "It deletes what lower layers have: nothing is fetched for it."
        case Action.REUSED:
            place = int(np.searchsorted(replay.files.wanted, file_row))
            how = "reflinked" if options.reflink else "copied"
            how = "hard-linked" if options.hard_links else how
            yield f"Found in {_source(replay.file_hits, place)}, and {how} from there."
        case _:
            yield _why_not_found(replay, file_row, layer, options)
            yield from _tell_chunks(replay, file_row, layer, options)


def _why_not_found(replay: Replay, file_row: int, layer: LayerPlan, options: PlanOptions) -> str:
    digests = replay.files.digests(np.array([file_row]))
    if options.hard_links:
        hits = layer.cache.find_files(digests)
        if hits.is_found[0]:
            return (
                f"Its content is in {_source(hits, 0)}, but with another owner, mode or extended "
                "attribute, and with hard links these must be equal."
            )
    hits = layer.cache.lookup(digests)
    if hits.is_found[0]:
        return (
            f"The first match is in {_source(hits, 0)}, from byte {int(hits.offset[0]):,} on: only "
            "a match at the start of a file counts."
        )
    return "No layer has a file with its content."


def _tell_chunks(
    replay: Replay, file_row: int, layer: LayerPlan, options: PlanOptions
) -> Iterator[str]:
    files, chunks = replay.files, replay.files.toc.chunks
    rows = files.chunks_of(np.array([file_row]))
    action, size = replay.chunk_action[rows], chunks.size[rows]
    counts = [
        f"{int((action == which).sum()):,} {word} ({int(size[action == which].sum()):,} bytes)"
        for which, word in _CHUNK_WORDS.items()
        if (action == which).any()
    ]
    yield f"Chunks: {len(rows):,}, of them {', '.join(counts)}."
    fetched = rows[action == Action.FETCHED]
    held = fetched[layer.cache.find_chunks(files.chunk_digests(fetched)).is_found]
    if len(held):
        but = "the TOC gives no size to check them by"
        yield (
            f"Other layers have {len(held):,} of those fetched ({int(chunks.size[held].sum()):,} "
            f"bytes), but {but if options.reflink else 'without reflinks no chunk is reused'}."
        )
    if len(fetched):
        yield _tell_ranges(replay, fetched)


def _tell_ranges(replay: Replay, chunk_rows: I64) -> str:
    """Say which ranges bring some chunks."""
    place = np.searchsorted(replay.missing_rows, chunk_rows)
    numbers = np.unique(replay.ranges.range_of[place])
    bounds = replay.ranges.bounds[numbers[:_MAX_RANGES_SHOWN]].tolist()
    shown = [f"{first:,}-{last:,}" for first, last in bounds]
    if len(numbers) > _MAX_RANGES_SHOWN:
        shown.append("...")
    of_all = f"{len(numbers):,} of the request's {len(replay.ranges):,} ranges"
    return f"They come with {of_all}: bytes {', '.join(shown)} of the blob."


def _source(hits: LookupResult, row: int) -> str:
    layer_id = hits.layer_dictionary()[row].as_py()
    path = hits.path_dictionary()[row].as_py()
    return f"layer {layer_id[:12]} as {path_text(path)}"
