"""All tags of a layer as one Arrow table: what an export writes.

The rows are those of `places.py`: each file digest, chunk digest and hard-link fingerprint, with
the path, offset and size of what it is of. They come from the TOC, so unlike the tags of a cache
file they say what kind of digest they are, chunks without a stated size have the one they really
have, and a chunk that comes twice is there twice.

`in_files` and `in_chunks` mark the rows that overlap counts at either grain; of those with one
digest in one layer it counts one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vecache.arrays import binary_to_text
from vecache.digest import format_digests
from vecache.sharing.keys import order_keys
from vecache.sharing.places import PlaceKind, find_places

if TYPE_CHECKING:
    from vecache.arrays import I64, U8
    from vecache.sharing.places import Places
    from vecache.toc.entries import Entries

__all__ = ["TAG_SCHEMA", "layer_tags"]

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
