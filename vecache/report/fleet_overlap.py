"""Write the overlap of the nodes of a fleet as text and as a JSON document.

1. What there is, and how much of it would be left: with each layer once, without repeated files,
   and without repeated chunks.
2. The matrix of nodes, or two lists where it does not fit, as for the layers of a store. Nodes with
   the same layers are one row.
3. The files whose copies take most bytes.
4. The nodes and layers that could not be read, and those that have no TOC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vecache.report.fleet_excluded import unread_fleet_documents, unread_fleet_notes
from vecache.report.overlap import matrix_texts
from vecache.report.terminal import (
    Column,
    count,
    human_bytes,
    human_share,
    render_facts,
    render_table,
)
from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecache.fleet.overlap import FleetOverlap
    from vecache.fleet.repeated import FleetFiles
    from vecache.report.terminal import Screen

__all__ = ["fleet_overlap_document", "fleet_overlap_text"]

_SCHEMA = "vecache.fleet-overlap/1"
_MAX_FILES = 5


def fleet_overlap_document(where: str, over: FleetOverlap) -> dict[str, Any]:
    """Describe an overlap of nodes; the matrices have a row and a column for each class."""
    contents = over.contents
    return {
        "schema": _SCHEMA,
        "fleet": where,
        "grain": over.grain,
        "nodes": contents.nodes,
        "classes": contents.classes,
        "n_layers": contents.n_node_layers,
        "n_distinct_layers": len(contents.layers),
        "files": over.files,
        "chunks": over.chunks,
        "bytes": over.bytes,
        "exclusive_bytes": over.exclusive_bytes,
        "dedup": {
            dedup.grain: {
                "logical_bytes": dedup.logical_bytes,
                "layer_bytes": dedup.layer_bytes,
                "unique_bytes": dedup.unique_bytes,
                "ratio": dedup.ratio,
            }
            for dedup in over.dedup
        },
        "repeated_files": over.repeated.to_arrow().to_pylist(),
        **unread_fleet_documents(contents),
    }


def fleet_overlap_text(where: str, over: FleetOverlap, metric: str, screen: Screen) -> str:
    """Write all parts."""
    parts = ["\n".join(_summary(where, over))]
    parts += matrix_texts(over, over.exclusive_bytes, metric, screen)
    if len(over.repeated):
        title = screen.paint("Files that take most bytes in copies", "bold")
        parts.append(f"{title}; EXTRA is all copies but one:\n{_repeated(over.repeated, screen)}")
    notes = unread_fleet_notes(over.contents)
    if notes:
        parts.append(render_facts(notes, screen))
    return "\n\n".join(parts)


def _summary(where: str, over: FleetOverlap) -> Iterator[str]:
    contents = over.contents
    by_files, by_chunks = over.dedup
    n_excluded = len(contents.excluded)
    yield (
        f"{printable(where)}: {count(len(contents.nodes), 'node')} with "
        f"{count(contents.n_node_layers, 'layer')}, {len(contents.layers):,} of them distinct"
        f"{f' and {n_excluded:,} not counted' if n_excluded else ''}; "
        f"{human_bytes(by_files.logical_bytes)} in files."
    )
    if by_files.logical_bytes:
        by_layer, by_file, by_chunk = (
            f"{human_bytes(n)} ({human_share(1 - n / by_files.logical_bytes)} less)"
            for n in (by_files.layer_bytes, by_files.unique_bytes, by_chunks.unique_bytes)
        )
        yield f"With each layer once it would be {by_layer}, without repeated files {by_file},"
        yield f"without repeated chunks and holes {by_chunk}."
    if len(over) < len(contents.nodes):
        yield f"Nodes with the same layers are one row, NAME +N: {count(len(over), 'row')}."


def _repeated(files: FleetFiles, screen: Screen) -> str:
    columns = [
        Column("EXTRA", "right"),
        Column("SIZE", "right"),
        Column("COPIES", "right"),
        Column("NODES", "right"),
        Column("PATH", truncate="start"),
    ]
    rows = (
        (
            human_bytes(row["repeated_bytes"]),
            human_bytes(row["size"]),
            row["n_copies"],
            row["n_nodes"],
            row["path"],
        )
        for row in files.to_arrow().slice(0, _MAX_FILES).to_pylist()
    )
    return render_table(columns, rows, screen)
