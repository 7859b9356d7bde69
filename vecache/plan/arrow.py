"""The plan of an image as one Arrow table, a row for every file and chunk.

A row for each entry of a layer that is pulled by its TOC, in TOC order; a file that needs data is
followed by its chunks. A layer that is present or fetched whole is one row of kind `blob`, because
nothing is known of its files.

    image, layer, blob        the image's reference, the number of the layer in it (from 1, from the
                              bottom), and the digest of the layer's blob
    created_by                what made the layer, as the image says; null where that is not known
    path, kind                file, dir, symlink, hardlink, char, block, fifo; chunk; blob
    digest, size              of the content, uncompressed; of the blob itself for a blob
    action                    nothing, empty, whiteout, reused, hole, fetched; present for a blob
    source_layer, source_path, source_offset
                              where reused bytes are: layer id, path in that layer, and byte in that
                              file; null where nothing is reused
    blob_first, blob_last     its own bytes in the blob, both included
    range                     index in the layer's `ranges` of the range that brings it; for a file,
                              the one that brings its first fetched chunk; null if not fetched

Under the flat layout a layer has one file per content, and paths are those of the flat layout.
About 200 bytes per row. No loop over rows: paths and layer ids are dictionaries, so the chunks of a
file repeat a number and not a text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import binary_to_text
from vecache.plan.files import Action
from vecache.plan.layer_plan import LayerState
from vecache.toc.entries import EntryKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vecache.arrays import I64
    from vecache.digest import Digests
    from vecache.index.result import LookupResult
    from vecache.plan.files import PullFiles
    from vecache.plan.layer_plan import LayerPlan
    from vecache.plan.replay import Replay

__all__ = ["plan_to_arrow"]

_TEXT = pa.dictionary(pa.int32(), pa.string())
_SCHEMA = pa.schema(
    {
        "image": _TEXT,
        "layer": pa.int32(),
        "blob": _TEXT,
        "created_by": _TEXT,
        "path": _TEXT,
        "kind": _TEXT,
        "digest": pa.string(),
        "size": pa.int64(),
        "action": _TEXT,
        "source_layer": _TEXT,
        "source_path": _TEXT,
        "source_offset": pa.int64(),
        "blob_first": pa.int64(),
        "blob_last": pa.int64(),
        "range": pa.int32(),
    }
)
_CHUNK = len(EntryKind)  # after the kinds of entries
_KINDS = ["file" if kind is EntryKind.REG else kind.name.lower() for kind in EntryKind] + ["chunk"]
_ACTIONS = [action.name.lower() for action in Action]


def plan_to_arrow(reference: str, plans: Iterable[LayerPlan]) -> Any:
    """Export every file and chunk of the layers of one image."""
    tables = [_SCHEMA.empty_table()]
    for number, plan in enumerate(plans, 1):  # layers, not rows
        columns = _blob_columns(plan) if plan.replay is None else _columns(plan.replay)
        n_rows = len(columns["size"])
        columns["image"] = _repeat(reference, n_rows)
        columns["layer"] = np.full(n_rows, number, np.int32)
        columns["blob"] = _repeat(plan.blob, n_rows)
        made = plan.created_by
        columns["created_by"] = _repeat(made, n_rows) if made else pa.nulls(n_rows, _TEXT)
        tables.append(pa.table([columns[name] for name in _SCHEMA.names], schema=_SCHEMA))
    return pa.concat_tables(tables).unify_dictionaries()


def _blob_columns(plan: LayerPlan) -> dict[str, Any]:
    """Make the one row of a layer that is not replayed."""
    layer = plan.layer
    is_fetched = plan.state is LayerState.WHOLE
    columns: dict[str, Any] = {
        name: pa.nulls(1, _SCHEMA.field(name).type) for name in _SCHEMA.names
    }
    columns["kind"] = _repeat("blob", 1)
    columns["digest"] = pa.array([layer.blob])
    columns["size"] = pa.array([layer.blob_bytes], pa.int64())
    columns["action"] = _repeat("fetched" if is_fetched else "present", 1)
    if is_fetched:
        columns["blob_first"] = pa.array([0], pa.int64())
        columns["blob_last"] = pa.array([layer.blob_bytes - 1], pa.int64())
    return columns


def _columns(replay: Replay) -> dict[str, Any]:
    """Make the columns of a replayed layer: files, then chunks, then each file with its chunks."""
    files, chunks = replay.files, replay.files.chunks
    chunk_rows = files.chunks_of(files.wanted)
    n_files = len(files.action)
    file_row = np.concatenate([np.arange(n_files), chunks.file_row[chunk_rows]])
    entry_kind = files.entries.kind[files.entry_row]
    kind = np.concatenate([entry_kind, np.full(len(chunk_rows), _CHUNK)])
    digests = [files.digests(np.arange(n_files)), files.chunk_digests(chunk_rows)]
    first, last = _blob_bytes(files, chunk_rows)
    is_nowhere = (first < 0) | (last < first) | (last >= files.blob_bytes)
    range_no = _range_numbers(replay, chunk_rows)
    columns = {
        "path": _dictionary(file_row, binary_to_text(files.name)),
        "kind": _dictionary(kind, _KINDS),
        "digest": pa.concat_arrays([_digest_texts(column) for column in digests]),
        "size": pa.array(np.concatenate([files.size, chunks.size[chunk_rows]])),
        "action": _dictionary(
            np.concatenate([replay.file_action, replay.chunk_action[chunk_rows]]), _ACTIONS
        ),
        **_source_columns(replay, chunk_rows),
        "blob_first": pa.array(first, mask=is_nowhere),
        "blob_last": pa.array(last, mask=is_nowhere),
        "range": pa.array(range_no.astype(np.int32), mask=range_no < 0),
    }
    order = pa.array(np.argsort(file_row, kind="stable"))  # a file, then its chunks
    return {name: values.take(order) for name, values in columns.items()}


def _blob_bytes(files: PullFiles, chunk_rows: I64) -> tuple[I64, I64]:
    """First and last byte in the blob of files, then of chunks; empty files end before them."""
    first, end = np.zeros((2, len(files.action)), np.int64)
    first[files.wanted] = files.entries.offset[files.entry_row[files.wanted]]
    end[files.wanted] = files.end_offset[files.wanted]
    return (
        np.concatenate([first, files.chunks.offset[chunk_rows]]),
        np.concatenate([end, files.chunks.end_offset[chunk_rows]]) - 1,
    )


def _range_numbers(replay: Replay, chunk_rows: I64) -> I64:
    """Range of files, by their first fetched chunk, then of chunks; -1 where there is none."""
    chunks = replay.files.chunks
    of_chunk = np.full(len(chunks), -1, np.int64)
    of_chunk[replay.missing_rows] = replay.ranges.range_of
    of_file = np.full(len(replay.files.action), -1, np.int64)
    fetched = np.flatnonzero(of_chunk >= 0)[::-1]  # a file's first chunk is written last
    of_file[chunks.file_row[fetched]] = of_chunk[fetched]
    return np.concatenate([of_file, of_chunk[chunk_rows]])


def _source_columns(replay: Replay, chunk_rows: I64) -> dict[str, Any]:
    """Layer, path and offset of reused files, and then chunks; null for all others."""
    files, chunks = replay.files, replay.files.chunks
    file_hits, chunk_hits = replay.file_hits, replay.chunk_hits
    # Row in both look-ups, one after the other; the chunks of a reused file have the file's row.
    of_file = np.full(len(files.action), -1, np.int64)
    of_file[files.wanted] = np.where(file_hits.is_found, np.arange(len(file_hits)), -1)
    of_chunk = of_file[chunks.file_row]
    offset = chunks.file_offset.copy()
    is_reused = replay.chunk_action[replay.chunk_rows] == Action.REUSED
    of_chunk[replay.chunk_rows[is_reused]] = len(file_hits) + np.flatnonzero(is_reused)
    offset[replay.chunk_rows[is_reused]] = chunk_hits.offset[is_reused]
    hit = np.concatenate([of_file, of_chunk[chunk_rows]])
    offset = np.concatenate([np.zeros(len(of_file), np.int64), offset[chunk_rows]])
    rows = pa.array(hit, mask=hit < 0)
    layers = pa.concat_arrays([_layer_ids(hits) for hits in (file_hits, chunk_hits)])
    paths = pa.concat_arrays([_path_texts(hits) for hits in (file_hits, chunk_hits)])
    return {
        "source_layer": layers.take(rows),
        "source_path": paths.take(rows),
        "source_offset": pa.array(offset, mask=hit < 0),
    }


def _layer_ids(hits: LookupResult) -> Any:
    return hits.layer_dictionary().cast(_TEXT)


def _path_texts(hits: LookupResult) -> Any:
    paths = hits.path_dictionary()
    return pa.DictionaryArray.from_arrays(
        paths.indices.cast(pa.int32()), binary_to_text(paths.dictionary)
    )


def _digest_texts(digests: Digests) -> Any:
    """Texts of digests, null where there is none."""
    rows = pa.array(np.arange(len(digests)), mask=~digests.is_present)
    return binary_to_text(digests.to_text().take(rows))


def _dictionary(codes: Any, values: Any) -> Any:
    texts = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), texts)


def _repeat(text: str, n_rows: int) -> Any:
    return _dictionary(np.zeros(n_rows, np.int32), [text])
