"""Where does a layer have each content? One row a place, from the layer's TOC.

1. Each file digest is a place: the whole file.
2. So is each chunk digest: a part of a file, of the size that the TOC gives, or what remains.
3. So is, where it is asked for, each hard-link fingerprint.

The first two are what overlap counts, with two exceptions each:

- at the grain of files, no empty file, and nothing that is not a regular file;
- at the grain of chunks, no hole and no empty chunk, but every file without chunk digests: it is
  one chunk, with its own digest and size.

A text that is no digest is no place. eStargz landmarks are files like any other here: a store does
not say which format a TOC has.

All tags of a layer as one Arrow table: what an export writes.

The rows are those of `places.py`: each file digest, chunk digest and hard-link fingerprint, with
the path, offset and size of what it is of. They come from the TOC, so unlike the tags of a cache
file they say what kind of digest they are, chunks without a stated size have the one they really
have, and a chunk that comes twice is there twice.

`in_files` and `in_chunks` mark the rows that overlap counts at either grain; of those with one
digest in one layer it counts one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import binary_to_text, column, frozen
from vecache.digest import format_digests
from vecache.sharing.keys import content_keys, order_keys
from vecache.toc.entries import ChunkKind, EntryKind
from vecache.toc.files import TocFormat, merge_entries
from vecache.toc.fingerprint import fingerprints

if TYPE_CHECKING:
    from vecache.arrays import I64, U8, Bool
    from vecache.toc.entries import Entries
    from vecache.toc.files import Chunks

__all__ = ["TAG_SCHEMA", "PlaceKind", "Places", "find_places", "layer_tags"]


class PlaceKind(IntEnum):
    """What a digest is of."""

    FILE = 0
    CHUNK = 1
    HOLE = 2
    """A chunk of zeros."""
    FINGERPRINT = 3
    """Of a file with its owner, mode and extended attributes, by which hard links go."""


@dataclass(frozen=True, slots=True, repr=False)
class Places:
    """Columns of equal length, one row a place: files, chunks and holes, fingerprints.

    Attributes
    ----------
    kind : (n,) uint8
        `PlaceKind`.
    key : (n, 32) uint8
        The content's key.
    entry_row : (n,) int64
        Row in the TOC's entries, where the name is.
    offset, size : (n,) int64
        Bytes: where in the uncompressed file, and how many.
    is_in_files, is_in_chunks : (n,) bool
        Whether overlap counts it at the grain of files, and at that of chunks.
    """

    kind: U8
    key: U8
    entry_row: I64
    offset: I64
    size: I64
    is_in_files: Bool
    is_in_chunks: Bool

    def __post_init__(self) -> None:
        n_rows = len(self.kind)
        column("kind", self.kind, np.uint8, n_rows)
        for name in ("entry_row", "offset", "size"):
            column(name, getattr(self, name), np.int64, n_rows)
        for name in ("is_in_files", "is_in_chunks"):
            column(name, getattr(self, name), np.bool_, n_rows)
        frozen(self.key)

    def __len__(self) -> int:
        return len(self.kind)

    def __repr__(self) -> str:
        return f"<Places: {len(self):,} rows>"


def find_places(entries: Entries, *, with_fingerprints: bool = False) -> Places:
    """List the places of a layer."""
    chunks = merge_entries(entries, TocFormat.ZSTD_CHUNKED, 0).chunks
    file_key, has_file_key = content_keys(entries.digest)
    chunk_key, has_chunk_key = content_keys(entries.chunk_digest)
    file_row = np.flatnonzero(has_file_key)
    chunk_at = np.flatnonzero(has_chunk_key[chunks.entry_row])
    link_row = file_row if with_fingerprints else file_row[:0]
    chunk_row, is_hole = chunks.entry_row[chunk_at], chunks.kind[chunk_at] == ChunkKind.ZEROS
    is_counted = (entries.kind[file_row] == EntryKind.REG) & (entries.size[file_row] > 0)
    is_whole = is_counted & _is_one_chunk(entries, chunks)[file_row]
    no_link = np.zeros(len(link_row), np.bool_)
    return Places(
        kind=np.concatenate(
            [
                np.full(len(file_row), PlaceKind.FILE, np.uint8),
                np.where(is_hole, PlaceKind.HOLE, PlaceKind.CHUNK).astype(np.uint8),
                np.full(len(link_row), PlaceKind.FINGERPRINT, np.uint8),
            ]
        ),
        key=np.concatenate(
            [file_key[file_row], chunk_key[chunk_row], fingerprints(entries, link_row)]
        ),
        entry_row=np.concatenate([file_row, chunk_row, link_row]),
        offset=np.concatenate(
            [np.zeros_like(file_row), chunks.file_offset[chunk_at], np.zeros_like(link_row)]
        ),
        size=np.concatenate(
            [entries.size[file_row], chunks.size[chunk_at], entries.size[link_row]]
        ),
        is_in_files=np.concatenate([is_counted, np.zeros(len(chunk_at), np.bool_), no_link]),
        is_in_chunks=np.concatenate([is_whole, ~is_hole & (chunks.size[chunk_at] > 0), no_link]),
    )


def _is_one_chunk(entries: Entries, chunks: Chunks) -> Bool:
    """(n_entries,) bool: files without chunk digests, save those that are nothing but holes."""
    head = chunks.entry_row[np.searchsorted(chunks.file_row, chunks.file_row)]  # of each chunk
    has_digest = np.zeros(len(entries), np.bool_)
    has_data = np.zeros(len(entries), np.bool_)
    has_digest[head[entries.chunk_digest.is_present[chunks.entry_row]]] = True
    has_data[head[chunks.kind != ChunkKind.ZEROS]] = True
    return has_data & ~has_digest


_TEXT = pa.dictionary(pa.int32(), pa.string())

TAG_SCHEMA = pa.schema(
    [
        pa.field("digest", pa.string(), nullable=False),
        pa.field("kind", _TEXT, nullable=False),
        pa.field("layer", _TEXT, nullable=False),
        pa.field("path", _TEXT, nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("in_files", pa.bool_(), nullable=False),
        pa.field("in_chunks", pa.bool_(), nullable=False),
    ]
)


def layer_tags(entries: Entries, layer: str) -> tuple[Any, U8]:
    """List all tags of a layer.

    Parameters
    ----------
    entries : Entries
        The layer's TOC.
    layer : str
        Its id.

    Returns
    -------
    tags : pyarrow.Table
        With `TAG_SCHEMA`, in order of the keys.
    key : (n_tags, 32) uint8
        The key of each.

    Raises
    ------
    TocError
        If the TOC breaks a rule.
    """
    places = find_places(entries, with_fingerprints=True)
    order, _ = order_keys(places.key)
    path = binary_to_text(entries.name.take(pa.array(places.entry_row[order])))
    kinds = pa.array([kind.name.lower() for kind in PlaceKind])
    nothing = pa.array(np.zeros(len(order), np.int32))
    columns = {
        "digest": _digest_texts(entries, places, order),
        "kind": pa.DictionaryArray.from_arrays(places.kind[order].astype(np.int32), kinds),
        "layer": pa.DictionaryArray.from_arrays(nothing, pa.array([layer], pa.string())),
        "path": path.dictionary_encode(),
        "offset": pa.array(places.offset[order]),
        "size": pa.array(places.size[order]),
        "in_files": pa.array(places.is_in_files[order]),
        "in_chunks": pa.array(places.is_in_chunks[order]),
    }
    return pa.table(columns, schema=TAG_SCHEMA), places.key[order]


def _digest_texts(entries: Entries, places: Places, order: I64) -> Any:
    """Digests as text: as the TOC has them, and fingerprints formatted."""
    n_files = int((places.kind == PlaceKind.FILE).sum())
    is_link = places.kind == PlaceKind.FINGERPRINT
    n_chunks = len(places) - n_files - int(is_link.sum())
    file_row, chunk_row = np.split(places.entry_row[: n_files + n_chunks], [n_files])
    texts = [
        entries.digest.to_text().take(pa.array(file_row)).cast(pa.string()),
        entries.chunk_digest.to_text().take(pa.array(chunk_row)).cast(pa.string()),
        format_digests(places.key[is_link]),
    ]
    return pa.concat_arrays(texts).take(pa.array(order))
