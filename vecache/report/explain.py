"""Explain where one path of an image comes from, or why it is fetched, in plain sentences.

1. Find the entries of that path, and whiteouts of it, in the layers that are pulled; if there are
   none, in those that are not. Paths are compared as Go's path.Clean leaves them, without the root.
2. Explain each entry: what it is, where its content was found or why it was not, what becomes of
   its chunks, and which ranges bring them.
3. If no layer has the path, suggest similar ones.

Reads the TOC of a layer that is not pulled by it only where no other layer has the path.
"""

from __future__ import annotations

import difflib
import os
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vecache.errors import PathNotFoundError
from vecache.plan.files import Action
from vecache.plan.image_plan import ImagePlan
from vecache.plan.layer_plan import LayerState
from vecache.text import count
from vecache.toc.entries import EntryKind
from vecache.toc.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecache.arrays import I64, BinaryColumn
    from vecache.index.result import LookupResult
    from vecache.plan.layer_plan import LayerPlan
    from vecache.plan.options import PlanOptions
    from vecache.plan.replay import Replay
    from vecache.toc.entries import Entries

__all__ = ["explain"]

_MAX_RANGES_SHOWN = 3
_MAX_SUGGESTIONS = 3
_MAX_COMPARED = 2_000
_CHUNK_WORDS = {Action.REUSED: "reused", Action.HOLE: "holes", Action.FETCHED: "fetched"}
_KIND_WORDS = {
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
    """Explain what a plan does with one path.

    Parameters
    ----------
    plan : ImagePlan
        From `plan_image`.
    path : str or bytes
        Path in the image; it may begin with `/`, `./` or neither.

    Returns
    -------
    list of str
        Sentences, layer by layer from the bottom up. Paths in them are untrusted text.

    Raises
    ------
    TypeError
        If `plan` is not an ImagePlan.
    PathNotFoundError
        If no layer has the path; the message suggests similar ones.
    ImageError, TocError
        If the TOC of a layer that is not pulled by it cannot be read.

    Examples
    --------
    >>> import vecache
    >>> store = vecache.open_sample()
    >>> cache = vecache.LayersCache.load(store, present=["dd95d764", "3492096a"])
    >>> image = vecache.open_image("containers-storage:app2", store=store)
    >>> plan = vecache.plan_image(image, cache, reflink=False)
    >>> print(vecache.explain(plan, "data/su")[-1])
    Found in layer dd95d764c505 as usr/bin/su, and copied from there.
    """
    found: object = plan
    if not isinstance(found, ImagePlan):
        raise TypeError(
            f"plan: found {type(found).__name__}, wanted an ImagePlan, from vecache.plan_image(...)"
        )
    wanted = _clean(os.fsencode(path))
    numbered = [(n, pull) for n, pull in enumerate(plan.layers, 1) if pull.layer.toc_format]
    pulled = [item for item in numbered if item[1].replay is not None]
    others = [item for item in numbered if item[1].replay is None]
    for layers in (pulled, others):
        sentences = [
            sentence
            for number, pull in layers
            for row in _find_rows(pull.layer.toc.entries, wanted).tolist()
            for sentence in _EntryExplainer(plan, pull, number, row).sentences()
        ]
        if sentences:
            return sentences
    raise _not_found(plan, wanted)


def _clean(name: bytes) -> bytes:
    return posixpath.normpath(b"/" + name).lstrip(b"/")


def _find_rows(entries: Entries, wanted: bytes) -> I64:
    """Find the entries of a path, and of whiteouts that delete it."""
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms that only an explanation needs

    folder, base = posixpath.split(wanted)
    paths = {wanted, posixpath.join(folder, b".wh." + base)}
    has_base = pc.match_substring(entries.name, base).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(has_base & (entries.kind != EntryKind.CHUNK))
    if not wanted:  # every name has the empty base; the root has only short spellings
        rows = rows[pc.binary_length(entries.name.take(pa.array(rows))).to_numpy() <= len("./")]
    names = entries.name.take(pa.array(rows)).to_pylist()
    return rows[np.array([_clean(name) in paths for name in names], np.bool_)]


@dataclass(frozen=True, slots=True)
class _EntryExplainer:
    """Explains one entry of one layer."""

    plan: ImagePlan
    pull: LayerPlan
    number: int  # of the layer, from 1
    row: int

    @property
    def entries(self) -> Entries:
        return self.pull.layer.toc.entries

    def sentences(self) -> Iterator[str]:
        blob = self.pull.blob.partition(":")[2][:12]
        name = _path_text(self.entries.name[self.row].as_py())
        yield (
            f"Layer {self.number} of {len(self.plan.layers)} ({blob}) has {name}: "
            f"{self._describe()}."
        )
        replay = self.pull.replay
        if replay is None:
            is_present = self.pull.state is LayerState.PRESENT
            why = "The store has this layer: nothing of it is pulled"
            yield f"{why if is_present else 'The whole blob of this layer is fetched'}."
            return
        file_row = self._file_row(replay)
        if file_row is None:
            yield "It is not stored: nothing is fetched for it."
        else:
            yield from _explain_action(replay, file_row, self.pull, self.plan.options)

    def _describe(self) -> str:
        kind = EntryKind(int(self.entries.kind[self.row]))
        what = _KIND_WORDS[kind]
        if kind is EntryKind.REG:
            digest = _path_text(self.entries.digest.to_text()[self.row].as_py())
            return f"{what} of {int(self.entries.size[self.row]):,} bytes, {digest or 'no digest'}"
        if kind in (EntryKind.HARDLINK, EntryKind.SYMLINK):
            return f"{what} to {_path_text(self.entries.link_name[self.row].as_py())}"
        return what

    def _file_row(self, replay: Replay) -> int | None:
        """Row of the file that stands for the entry; with the flat layout one of equal content."""
        entry_row = replay.files.entry_row
        if self.plan.options.layout is Layout.FLAT:
            if self.entries.kind[self.row] != EntryKind.REG:
                return None
            digest = self.entries.digest.raw
            found = np.flatnonzero((digest[entry_row] == digest[self.row]).all(axis=1))
        else:
            found = np.flatnonzero(entry_row == self.row)
        return int(found[0]) if len(found) else None


def _explain_action(
    replay: Replay, file_row: int, pull: LayerPlan, options: PlanOptions
) -> Iterator[str]:
    if options.layout is Layout.FLAT:
        name = _path_text(replay.files.name[file_row].as_py())
        yield f"It is stored as {name}, once for all files of that content."
    match replay.file_action[file_row]:
        case Action.NOTHING:
            yield "It is created without data: nothing is fetched for it."
        case Action.EMPTY:
            yield "It is empty: nothing is fetched for it."
        case Action.WHITEOUT:
            yield "It deletes what lower layers have: nothing is fetched for it."
        case Action.REUSED:
            hit = int(np.searchsorted(replay.files.wanted, file_row))
            how = "reflinked" if options.reflink else "copied"
            how = "hard-linked" if options.hard_links else how
            yield f"Found in {_source(replay.file_hits, hit)}, and {how} from there."
        case _:
            yield _why_not_found(replay, file_row, pull, options)
            yield from _explain_chunks(replay, file_row, pull, options)


def _why_not_found(replay: Replay, file_row: int, pull: LayerPlan, options: PlanOptions) -> str:
    digests = replay.files.digests(np.array([file_row]))
    if options.hard_links:
        hits = pull.cache.find_files(digests)
        if hits.is_found[0]:
            return (
                f"Its content is in {_source(hits, 0)}, but with another owner, mode or extended "
                "attribute, and with hard links these must be equal."
            )
    hits = pull.cache.lookup(digests)
    if hits.is_found[0]:
        return (
            f"The first match is in {_source(hits, 0)}, from byte {int(hits.offset[0]):,} on: only "
            "a match at the start of a file counts."
        )
    return "No layer has a file with its content."


def _explain_chunks(
    replay: Replay, file_row: int, pull: LayerPlan, options: PlanOptions
) -> Iterator[str]:
    files, chunks = replay.files, replay.files.chunks
    rows = files.chunks_of(np.array([file_row]))
    action, size = replay.chunk_action[rows], chunks.size[rows]
    counts = [
        f"{int((action == which).sum()):,} {word} ({int(size[action == which].sum()):,} bytes)"
        for which, word in _CHUNK_WORDS.items()
        if (action == which).any()
    ]
    yield f"Chunks: {len(rows):,}, of them {', '.join(counts)}."
    fetched = rows[action == Action.FETCHED]
    held = fetched[pull.cache.find_chunks(files.chunk_digests(fetched)).is_found]
    if len(held):
        but = "the TOC gives no size to check them by"
        yield (
            f"Other layers have {len(held):,} of those fetched ({int(chunks.size[held].sum()):,} "
            f"bytes), but {but if options.reflink else 'without reflinks no chunk is reused'}."
        )
    if len(fetched):
        yield _explain_ranges(replay, fetched)


def _explain_ranges(replay: Replay, chunk_rows: I64) -> str:
    """Explain which ranges bring some chunks."""
    of_chunk = replay.ranges.range_of[np.searchsorted(replay.missing_rows, chunk_rows)]
    range_rows = np.unique(of_chunk)
    bounds = replay.ranges.bounds[range_rows[:_MAX_RANGES_SHOWN]].tolist()
    shown = [f"{first:,}-{last:,}" for first, last in bounds]
    if len(range_rows) > _MAX_RANGES_SHOWN:
        shown.append("...")
    of_all = f"{len(range_rows):,} of the request's {count(len(replay.ranges), 'range')}"
    return f"They come with {of_all}: bytes {', '.join(shown)} of the blob."


def _source(hits: LookupResult, row: int) -> str:
    layer_id = hits.layer_dictionary()[row].as_py()
    path = hits.path_dictionary()[row].as_py()
    return f"layer {layer_id[:12]} as {_path_text(path)}"


def _path_text(name: bytes) -> str:
    r"""Decode a path; bytes that are not UTF-8 become `\xNN`."""
    return name.decode(errors="backslashreplace")


def _not_found(plan: ImagePlan, wanted: bytes) -> PathNotFoundError:
    """Make the error for a path that no layer has."""
    suggestions = _find_suggestions(plan, wanted)
    n_unknown = sum(pull.layer.toc_format is None for pull in plan.layers)
    message = f"{plan.image.reference}: no layer has {_path_text(wanted) or '/'!r}"
    if n_unknown:
        message += f"; {n_unknown} without a TOC may have it, which only their blobs can show"
    if suggestions:
        message += f"; did you mean {' or '.join(map(repr, suggestions))}?"
    return PathNotFoundError(message)


def _find_suggestions(plan: ImagePlan, wanted: bytes) -> list[str]:
    """Paths of the same base name in any folder, then paths of similar spelling."""
    folder, base = posixpath.split(wanted)
    paths: dict[str, None] = {}  # in the order found, each once
    for pull in plan.layers:  # an image's few layers
        if pull.replay is not None:
            names = _similar_names(pull.layer.toc.entries.name, folder, base)
            paths |= dict.fromkeys(_path_text(name.rstrip(b"/")) for name in names)
    same = [path for path in paths if posixpath.basename(path) == _path_text(base)]
    close = difflib.get_close_matches(_path_text(wanted), paths, _MAX_SUGGESTIONS)
    return list(dict.fromkeys([*same, *close]))[:_MAX_SUGGESTIONS]


def _similar_names(names: BinaryColumn, folder: bytes, base: bytes) -> list[bytes]:
    """Names that end in `base`, and names in `folder`; few enough to compare one by one."""
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms that only a wrong path needs

    ends = pc.or_(pc.ends_with(names, b"/" + base), pc.ends_with(names, b"/" + base + b"/"))
    starts = pc.starts_with(names, folder + b"/" if folder else b"")
    return [
        name
        for is_similar in (ends, starts)
        for name in names.filter(is_similar).slice(0, _MAX_COMPARED).to_pylist()
    ]
