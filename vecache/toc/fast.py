"""Parse a plain TOC with Arrow's JSON reader, or leave it to `exact`.

Arrow reads JSON by other rules than Go, so this parser accepts only documents on which the two
cannot differ. `parse_fast` returns None, and never raises, for any other document:

1. The document does not begin with `{`, or holds a NUL byte (Arrow stops reading there), a `null`
   (which Arrow does not distinguish from an absent field) or the escape of a surrogate.
2. It has more than 64 names of extended attributes, or so many that their columns would be larger
   than the document.
3. Arrow refuses it. The schema is explicit, so a field in other letter case, an unknown field, a
   repeated field or a value of another type is an error, and many distinct names cannot make Arrow
   infer a schema (which takes quadratic time). One document must give one row.

Three fields of eStargz that Go skips are in the schema and dropped. About 6 ms a megabyte, of which
Arrow takes 4.8.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from vecache.arrays import frozen
from vecache.toc.columns import INTEGERS, TEXTS, TIMES, ParsedToc
from vecache.toc.entries import Xattrs

__all__ = ["parse_fast"]

_SKIPPED_TEXTS = ("userName", "groupName")
_SKIPPED_INTEGERS = ("innerOffset",)
_MAX_XATTR_NAMES = 64
_MAX_XATTR_CELLS = 1 << 25

_NULL = re.compile(rb"null[\s,}\]]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# The literal x in front makes the search fast: hex digests have no x.
_XATTRS = re.compile(rb'x(?=attrs"\s*:\s*\{([^{}]+)\})')
_XATTR_NAME = re.compile(rb'"([^"\\]+)"\s*:')


def parse_fast(data: bytes) -> ParsedToc | None:
    """Parse a plain TOC; return None where Go might read the document otherwise."""
    names = _find_xattr_names(data) if _is_plain(data) else None
    row = None if names is None else _read_one_row(data, names)
    if row is None or names is None:
        return None
    entries = row["entries"].flatten()
    columns = {name: entries.field(name) for name in TEXTS + INTEGERS + TIMES}
    times = pa.concat_arrays([columns.pop(name).drop_null() for name in TIMES])
    tar_split_digest = row["tarSplitDigest"][0].as_py()
    return ParsedToc(
        version=row["version"][0].as_py() or 0,
        tar_split_digests=[] if tar_split_digest is None else [tar_split_digest],
        fields=columns,
        times=times,
        xattrs=_gather_xattrs(entries.field("xattrs"), names),
    )


def _is_plain(data: bytes) -> bool:
    return (
        data.startswith(b"{")
        and b"\0" not in data
        and not _NULL.search(data)
        and not (b"\\" in data and _SURROGATE.search(data))
    )


def _find_xattr_names(data: bytes) -> list[bytes] | None:
    """Collect names for the schema, or None if too many. A missed one makes Arrow refuse."""
    names: set[bytes] = set()
    for found in _XATTRS.finditer(data):  # one an entry with attributes: usually few
        names.update(_XATTR_NAME.findall(found[1]))
        if len(names) > _MAX_XATTR_NAMES:
            return None
    if names and len(names) * data.count(b"{") > _MAX_XATTR_CELLS:
        return None
    return sorted(names)


def _read_one_row(data: bytes, xattr_names: list[bytes]) -> Any:
    """Read the document with the schema; return a record batch of one row, or None."""
    try:
        table = pj.read_json(
            pa.BufferReader(data),
            pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
            pj.ParseOptions(
                explicit_schema=_schema([name.decode() for name in xattr_names]),
                newlines_in_values=True,
                unexpected_field_behavior="error",
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    batches = table.to_batches()
    return batches[0] if len(batches) == 1 and table.num_rows == 1 else None


def _schema(xattr_names: list[str]) -> Any:
    fields: list[tuple[str, Any]] = [
        *((name, pa.binary()) for name in TEXTS + TIMES + _SKIPPED_TEXTS),
        *((name, pa.int64()) for name in INTEGERS + _SKIPPED_INTEGERS),
        ("xattrs", pa.struct([(name, pa.binary()) for name in xattr_names])),
    ]
    return pa.schema(
        [
            ("version", pa.int64()),
            ("tarSplitDigest", pa.binary()),
            ("entries", pa.list_(pa.struct(fields))),
        ]
    )


def _gather_xattrs(column: Any, names: list[bytes]) -> Xattrs:
    """Convert one column a name to one row an attribute, sorted by entry and then by name."""
    values = column.flatten()
    rows = [np.flatnonzero(value.is_valid()) for value in values]  # 64 names at most
    entry_row = np.concatenate([np.empty(0, np.int64), *rows])
    order = np.argsort(entry_row, kind="stable")  # names are sorted, and stay sorted in each entry
    name_no = np.repeat(np.arange(len(names)), [len(found) for found in rows])
    return Xattrs(
        entry_row=frozen(entry_row[order]),
        name=pa.array(names, pa.binary()).take(pa.array(name_no[order])),
        value=pa.concat_arrays(
            [pa.array([], pa.binary()), *(value.drop_null() for value in values)]
        ).take(pa.array(order)),
    )
