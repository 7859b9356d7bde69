"""Convert the package's tables to the oracle's lists, so that tests can use `==`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vecache.errors import VecacheError
from vecache.toc.entries import ChunkKind, Entries, EntryKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.toc import oracle
    from vecache.toc.files import TocFiles

COLUMNS = {
    "name": "name",
    "linkname": "link_name",
    "mode": "mode",
    "size": "size",
    "uid": "uid",
    "gid": "gid",
    "offset": "offset",
    "endoffset": "end_offset",
    "chunksize": "chunk_size",
    "chunkoffset": "chunk_offset",
}


def entry_rows(entries: Entries) -> list[dict[str, Any]]:
    """All columns, one dictionary an entry."""
    columns = {key: getattr(entries, name).tolist() for key, name in COLUMNS.items()}
    columns["digest"] = entries.digest.to_text().to_pylist()
    columns["chunkdigest"] = entries.chunk_digest.to_text().to_pylist()
    columns["kind"] = entries.kind.tolist()
    columns["chunk_kind"] = entries.chunk_kind.tolist()
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    xattrs: list[dict[bytes, bytes]] = [{} for _ in rows]
    names, values = entries.xattrs.name.to_pylist(), entries.xattrs.value.to_pylist()
    for row, name, value in zip(entries.xattrs.entry_row.tolist(), names, values, strict=True):
        assert not xattrs[row] or max(xattrs[row]) < name  # sorted by name, none twice
        xattrs[row][name] = value
    for row, of_entry in zip(rows, xattrs, strict=True):
        row["xattrs"] = of_entry
    return rows


def oracle_rows(entries: list[oracle.Entry]) -> list[dict[str, Any]]:
    """The oracle's entries with the columns of `entry_rows`."""
    kinds = {kind.name.lower().encode(): int(kind) for kind in EntryKind if kind}
    chunk_kinds = {b"": int(ChunkKind.DATA), b"zeros": int(ChunkKind.ZEROS)}
    return [
        {
            **{key: entry[key] for key in (*COLUMNS, "digest", "chunkdigest", "xattrs")},
            "kind": kinds.get(entry["type"], int(EntryKind.OTHER)),
            "chunk_kind": chunk_kinds.get(entry["chunktype"], int(ChunkKind.OTHER)),
        }
        for entry in entries
    ]


def file_rows(files: TocFiles) -> list[dict[str, Any]]:
    """Files and chunks as the oracle's `merge` lists them."""
    chunks = files.chunks
    starts = files.chunk_start.tolist()
    listed = [
        {"row": row, "end": end, "size": size}
        for row, end, size in zip(
            chunks.entry_row.tolist(),
            chunks.end_offset.tolist(),
            chunks.size.tolist(),
            strict=True,
        )
    ]
    return [
        {
            "row": row,
            "name": name,
            "offset": int(files.entries.offset[row]),
            "end": end,
            "chunks": listed[starts[i] : starts[i + 1]],
        }
        for i, (row, name, end) in enumerate(
            zip(
                files.entry_row.tolist(),
                files.name.to_pylist(),
                files.end_offset.tolist(),
                strict=True,
            )
        )
    ]


def outcome(call: Callable[[], Any], refusal: type[Exception] = VecacheError) -> Any:
    """What a call returns, or "refused" where it raises `refusal`; other errors fail the test."""
    try:
        return call()
    except refusal:
        return "refused"
