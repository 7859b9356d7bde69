"""Write what a removal on all nodes of a fleet would free, as text and as a JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vecache.fleet.classes import class_label
from vecache.report.fleet_excluded import unread_fleet_documents
from vecache.report.terminal import Column, count, human_bytes, render_facts, render_table
from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecache.fleet.removal import FleetRemoval, NodeRemoval
    from vecache.report.terminal import Screen

__all__ = ["fleet_removal_document", "fleet_removal_text"]

_SCHEMA = "vecache.fleet-rm/1"
_MAX_ROWS = 20
_MAX_REASONS = 10
_SUMS = ("freed_now_bytes", "stored_bytes", "freed_bytes", "unknown_bytes")


def fleet_removal_document(where: str, removal: FleetRemoval) -> dict[str, Any]:
    """Describe a removal; figures of a class are those of each of its nodes."""
    return {
        "schema": _SCHEMA,
        "fleet": where,
        **{name: getattr(removal, name) for name in _SUMS},
        "lost_bytes": dict(removal.lost_bytes),
        "classes": [
            {
                "nodes": each.nodes,
                "grain": each.grain,
                **{name: getattr(each, name) for name in _SUMS},
                "layers": each.layer_ids,
                "unknown_layers": each.unknown_ids,
                "images": each.image_names,
                "kept_layers": [
                    {"layer": layer, "reason": reason} for layer, reason in each.remaining.items()
                ],
                "problems": each.problems,
            }
            for each in removal.removals
        ],
        **unread_fleet_documents(removal.contents),
    }


def fleet_removal_text(removal: FleetRemoval, screen: Screen) -> str:
    """Write the sums, the nodes and what remains."""
    affected = [each for each in removal.removals if _n_layers(each) or each.image_names]
    n_nodes = sum(len(each.nodes) for each in affected)
    n_layers = sum(len(each.nodes) * _n_layers(each) for each in affected)
    n_images = sum(len(each.nodes) * len(each.image_names) for each in affected)
    going = f"{count(n_layers, 'layer')} and {count(n_images, 'image')} would go"
    where = f"from {n_nodes:,} of {count(len(removal.contents.nodes), 'node')}"
    parts = [
        f"Nothing is removed. {going}, {where}.",
        render_facts(_facts(removal), screen),
    ]
    if affected:
        parts.append(_nodes(affected, screen))
    reasons = list(_remaining(removal))
    if reasons:
        title = screen.paint("Layers that remain", "bold")
        shown = f", {_MAX_REASONS} of {len(reasons):,}" if len(reasons) > _MAX_REASONS else ""
        parts.append(f"{title}{shown}:\n{render_facts(reasons[:_MAX_REASONS], screen)}")
    return "\n\n".join(parts)


def _n_layers(removal: NodeRemoval) -> int:
    return len(removal.layer_ids) + len(removal.unknown_ids)


def _facts(removal: FleetRemoval) -> Iterator[tuple[str, str]]:
    yield "Freed in all", f"{human_bytes(removal.freed_now_bytes)}, as each node shares or not"
    yield "If none shares", f"{human_bytes(removal.stored_bytes)}, all files of these layers"
    freed = f"{human_bytes(removal.freed_bytes)}, what no remaining layer of the same node has"
    yield "If all share", freed
    for grain, n_bytes in removal.lost_bytes.items():
        yield "Then gone", f"{human_bytes(n_bytes)}, the {grain}s that no node has any more"
    if removal.unknown_bytes or any(each.unknown_ids for each in removal.removals):
        size = f"{human_bytes(removal.unknown_bytes)} as tar archives"
        yield "Besides", f"layers of unknown content, {size}"


def _nodes(affected: list[NodeRemoval], screen: Screen) -> str:
    """Write the nodes, those first that free most."""
    ordered = sorted(affected, key=lambda each: -len(each.nodes) * each.freed_now_bytes)
    columns = [
        Column("NODE", truncate="end"),
        Column("LAYERS", "right"),
        Column("IMAGES", "right"),
        Column("FREED HERE", "right"),
        Column("ALL FILES", "right"),
        Column("NOT SHARED", "right"),
    ]
    rows = (
        (
            class_label(each.nodes),
            _n_layers(each),
            len(each.image_names),
            human_bytes(each.freed_now_bytes),
            human_bytes(each.stored_bytes),
            f"{human_bytes(each.freed_bytes)} of {each.grain}s",
        )
        for each in ordered[:_MAX_ROWS]
    )
    title = screen.paint("On each node", "bold")
    shown = f", {_MAX_ROWS} of {len(ordered):,} rows" if len(ordered) > _MAX_ROWS else ""
    note = "NAME +N is one of N more that are equal"
    return f"{title}{shown}; {note}:\n{render_table(columns, rows, screen)}"


def _remaining(removal: FleetRemoval) -> Iterator[tuple[str, str]]:
    nodes: dict[tuple[str, str], list[str]] = {}
    for each in removal.removals:
        for layer, reason in each.remaining.items():
            nodes.setdefault((layer, reason), []).extend(each.nodes)
    for (layer, reason), names in nodes.items():
        yield printable(layer[:12]), f"on {class_label(names)}: {reason}"
