"""Convert what either parser read to `Entries`.

1. `ParsedToc` holds the document's fields as columns under their names in JSON.
2. `build_entries` converts texts to codes and digests, checks all times, and gives empty regular
   files the digest that Go gives them.

JSON is read in `fast` and `exact`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vecache.arrays import frozen
from vecache.digest import EMPTY_SHA256, is_digest, parse_digests
from vecache.errors import TocError
from vecache.text import quoted
from vecache.toc.entries import ChunkKind, Entries, EntryKind
from vecache.toc.times import find_bad_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vecache.arrays import I64, U8, BinaryColumn, Bool
    from vecache.toc.entries import Xattrs

__all__ = ["INTEGERS", "MAX_XATTRS", "TEXTS", "TIMES", "ParsedToc", "build_entries", "check_times"]

TEXTS = ("type", "name", "linkName", "digest", "chunkDigest", "chunkType")
INTEGERS = (
    "mode",
    "size",
    "uid",
    "gid",
    "devMajor",
    "devMinor",
    "offset",
    "endOffset",
    "chunkSize",
    "chunkOffset",
)
TIMES = ("modtime", "accesstime", "changetime")

MAX_XATTRS = 2_000_000
"""Most extended attributes of a document, each of which takes some hundred bytes of memory."""

_KINDS = tuple(kind.name.lower().encode() for kind in EntryKind if kind)
_CHUNK_KINDS = (b"", b"zeros")


@dataclass(frozen=True, slots=True)
class ParsedToc:
    """The fields of a TOC as its JSON has them."""

    version: int  # 0 where there is none
    tar_split_digests: Sequence[bytes]  # all values; all must be digests, the last one counts
    # A column for each of `TEXTS` and `INTEGERS`, one row an entry: an empty text or 0, not null,
    # where the entry does not have the field.
    texts: Mapping[str, BinaryColumn]
    integers: Mapping[str, I64]
    times: BinaryColumn  # every text given as a time, in any order
    xattrs: Xattrs


def build_entries(parsed: ParsedToc) -> Entries:
    """Convert the fields of a document to entries; raise a `TocError` for a bad time or digest."""
    for text in parsed.tar_split_digests:  # one or none
        if not is_digest(text.decode("latin-1")):
            raise TocError(f"tarSplitDigest: {quoted(text)} is not a digest")
    check_times(parsed.times)
    texts, numbers = parsed.texts, parsed.integers
    kind = _codes(texts["type"], _KINDS, first=EntryKind.REG, other=EntryKind.OTHER)
    is_empty = (kind == EntryKind.REG) & (numbers["size"] == 0)
    return Entries(
        kind=kind,
        name=texts["name"],
        link_name=texts["linkName"],
        mode=numbers["mode"],
        size=numbers["size"],
        uid=numbers["uid"],
        gid=numbers["gid"],
        offset=numbers["offset"],
        end_offset=numbers["endOffset"],
        chunk_size=numbers["chunkSize"],
        chunk_offset=numbers["chunkOffset"],
        chunk_kind=_codes(
            texts["chunkType"], _CHUNK_KINDS, first=ChunkKind.DATA, other=ChunkKind.OTHER
        ),
        digest=parse_digests(_fill_empty_files(texts["digest"], is_empty)),
        chunk_digest=parse_digests(texts["chunkDigest"]),
        xattrs=parsed.xattrs,
    )


def check_times(times: BinaryColumn) -> None:
    """Raise a `TocError` for the first text that Go would not parse as a time."""
    row = find_bad_time(times)
    if row >= 0:
        raise TocError(f"{quoted(times[row].as_py())} is not an RFC 3339 time")


def _codes(texts: BinaryColumn, values: Sequence[bytes], *, first: int, other: int) -> U8:
    """(n,) uint8: `first` plus the index of each text in `values`, or `other`."""
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only parsing needs it

    index = pc.index_in(texts, value_set=pa.array(values, pa.binary())).fill_null(-1).to_numpy()
    return frozen(np.where(index < 0, other, first + index).astype(np.uint8))


def _fill_empty_files(digests: BinaryColumn, is_empty: Bool) -> BinaryColumn:
    """Give the digest of the empty input to the empty files that have none."""
    import pyarrow.compute as pc  # noqa: PLC0415 - 25 ms, and only parsing needs it

    missing = pc.and_(pa.array(is_empty), pc.equal(pc.binary_length(digests), 0))
    return pc.if_else(missing, pa.scalar(EMPTY_SHA256.encode(), pa.binary()), digests)
