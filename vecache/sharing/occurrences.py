"""List where a layer has each content, one row an occurrence, as the layer's TOC says.

1. Each file digest is an occurrence of the whole file.
2. Each chunk digest is an occurrence of a part of a file: of the size that the TOC gives, or of
   what remains of the file.
3. Each hard-link fingerprint is one of a file together with its metadata, if asked for.

`is_in_files` and `is_in_chunks` mark the rows that overlap counts; of those with one digest in one
layer it counts one. At the grain of files these are the regular files that are not empty. At the
grain of chunks these are the chunks that are neither empty nor holes, and each file without chunk
digests, which is one chunk with its own digest and size.

A row without a digest that can be parsed is skipped. eStargz landmarks count as files like any
other: a store does not record which format a TOC has.

`layer_tags` makes an Arrow table of all occurrences, which is what an export writes. Unlike the
tags of a cache file, these rows say what kind of digest they are, a chunk without a stated size
has its real one, and a chunk that occurs twice is there twice.
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

__all__ = [
    "TAG_SCHEMA",
    "TAG_TYPES",
    "OccurrenceKind",
    "Occurrences",
    "find_occurrences",
    "layer_tags",
]


class OccurrenceKind(IntEnum):
    """What a digest is of."""

    FILE = 0
    CHUNK = 1
    HOLE = 2  # a chunk of zeros
    FINGERPRINT = 3  # a file with its owner, mode and extended attributes; finds hard links


@dataclass(frozen=True, slots=True, repr=False)
class Occurrences:
    """Columns of equal length, one row an occurrence: files, chunks and holes, fingerprints.

    Attributes
    ----------
    kind : (n,) uint8
        `OccurrenceKind`.
    key : (n, 32) uint8
        The content's key, see `keys.py`.
    entry_row : (n,) int64
        Row in the TOC's entries, where the name is.
    offset, size : (n,) int64
        Bytes: where in the uncompressed file, and how many.
    is_in_files, is_in_chunks : (n,) bool
        Whether overlap counts the row at the grain of files, and at that of chunks.
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
        return f"<Occurrences: {len(self):,} rows>"


def find_occurrences(entries: Entries, *, with_fingerprints: bool = False) -> Occurrences:
    """List the occurrences of a layer: files in TOC order, then chunks, then fingerprints."""
    chunks = merge_entries(entries, TocFormat.ZSTD_CHUNKED, 0).chunks
    file_key, has_file_key = content_keys(entries.digest)
    chunk_key, has_chunk_key = content_keys(entries.chunk_digest)
    file_row = np.flatnonzero(has_file_key)
    digested = np.flatnonzero(has_chunk_key[chunks.entry_row])
    link_row = file_row if with_fingerprints else file_row[:0]  # each costs a sha256
    chunk_row, is_hole = chunks.entry_row[digested], chunks.kind[digested] == ChunkKind.ZEROS
    is_counted = (entries.kind[file_row] == EntryKind.REG) & (entries.size[file_row] > 0)
    is_whole = is_counted & _is_one_chunk(entries, chunks)[file_row]
    no_link = np.zeros(len(link_row), np.bool_)
    return Occurrences(
        kind=np.concatenate(
            [
                np.full(len(file_row), OccurrenceKind.FILE, np.uint8),
                np.where(is_hole, OccurrenceKind.HOLE, OccurrenceKind.CHUNK).astype(np.uint8),
                np.full(len(link_row), OccurrenceKind.FINGERPRINT, np.uint8),
            ]
        ),
        key=np.concatenate(
            [file_key[file_row], chunk_key[chunk_row], fingerprints(entries, link_row)]
        ),
        entry_row=np.concatenate([file_row, chunk_row, link_row]),
        offset=np.concatenate(
            [np.zeros_like(file_row), chunks.file_offset[digested], np.zeros_like(link_row)]
        ),
        size=np.concatenate(
            [entries.size[file_row], chunks.size[digested], entries.size[link_row]]
        ),
        is_in_files=np.concatenate([is_counted, np.zeros(len(digested), np.bool_), no_link]),
        is_in_chunks=np.concatenate([is_whole, ~is_hole & (chunks.size[digested] > 0), no_link]),
    )


def _is_one_chunk(entries: Entries, chunks: Chunks) -> Bool:
    """(n_entries,) bool: files without chunk digests, except those that consist of holes."""
    head = chunks.entry_row[np.searchsorted(chunks.file_row, chunks.file_row)]  # a file's
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
TAG_TYPES = pa.schema(
    [
        pa.field(
            field.name,
            pa.string() if pa.types.is_dictionary(field.type) else field.type,
            nullable=False,
        )
        for field in TAG_SCHEMA
    ]
)
"""The same with plain strings."""


def layer_tags(entries: Entries, layer: str) -> tuple[Any, U8]:
    """Return all tags of a layer, with `TAG_SCHEMA`, and the (n_tags, 32) keys that sort them."""
    occurrences = find_occurrences(entries, with_fingerprints=True)
    order, _ = order_keys(occurrences.key)
    path = binary_to_text(entries.name.take(pa.array(occurrences.entry_row[order])))
    kinds = pa.array([kind.name.lower() for kind in OccurrenceKind])
    only_layer = pa.array(np.zeros(len(order), np.int32))
    columns = {
        "digest": _digest_texts(entries, occurrences, order),
        "kind": pa.DictionaryArray.from_arrays(occurrences.kind[order].astype(np.int32), kinds),
        "layer": pa.DictionaryArray.from_arrays(only_layer, pa.array([layer], pa.string())),
        "path": path.dictionary_encode(),
        "offset": pa.array(occurrences.offset[order]),
        "size": pa.array(occurrences.size[order]),
        "in_files": pa.array(occurrences.is_in_files[order]),
        "in_chunks": pa.array(occurrences.is_in_chunks[order]),
    }
    return pa.table(columns, schema=TAG_SCHEMA), occurrences.key[order]


def _digest_texts(entries: Entries, occurrences: Occurrences, order: I64) -> Any:
    """Return digests as the TOC spells them, and fingerprints as sha256 digests."""
    n_files = int((occurrences.kind == OccurrenceKind.FILE).sum())
    is_link = occurrences.kind == OccurrenceKind.FINGERPRINT
    n_chunks = len(occurrences) - n_files - int(is_link.sum())
    file_row, chunk_row = np.split(occurrences.entry_row[: n_files + n_chunks], [n_files])
    texts = [
        entries.digest.to_text().take(pa.array(file_row)).cast(pa.string()),
        entries.chunk_digest.to_text().take(pa.array(chunk_row)).cast(pa.string()),
        format_digests(occurrences.key[is_link]),
    ]
    return pa.concat_arrays(texts).take(pa.array(order))
