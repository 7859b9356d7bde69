"""List the layers and nodes of a fleet that figures exclude, with the reason, and warn of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vecache.report.excluded import reason_notes
from vecache.report.terminal import count
from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vecache.fleet.contents import ExcludedNodeLayer, FleetContents

__all__ = ["unread_fleet_documents", "unread_fleet_notes", "unread_fleet_warning"]

_MOST_NODES = 3


def unread_fleet_documents(contents: FleetContents) -> dict[str, Any]:
    """Describe the layers that are not counted, each with its nodes, and the nodes without any."""
    return {
        "excluded": [
            {
                "layer": each.layer.id,
                "reason": each.layer.reason,
                "is_unread": each.layer.is_unread,
                "nodes": [contents.nodes[node] for node in each.nodes],
            }
            for each in contents.excluded
        ],
        "unread_nodes": [
            {"node": name, "reason": reason} for name, reason in contents.unread_nodes
        ],
    }


def unread_fleet_warning(contents: FleetContents, effect: str) -> list[str]:
    """Return lines that say which nodes and layers could not be read; none if all could.

    `effect` says what that does to the figures.
    """
    unread = [each for each in contents.excluded if each.layer.is_unread]
    n_nodes = len(contents.nodes) + len(contents.unread_nodes)
    what = []
    if contents.unread_nodes:
        what.append(f"{len(contents.unread_nodes):,} of {count(n_nodes, 'node')}")
    if unread:
        n_unread = sum(len(each.nodes) for each in unread)
        what.append(f"{n_unread:,} of {count(contents.n_node_layers, 'layer')} of nodes")
    if not what:
        return []
    lines = [f"{' and '.join(what)} could not be read: {effect}"]
    lines += [f"node {name}: {reason}" for name, reason in contents.unread_nodes]
    lines += [
        f"layer {each.layer.id[:12]} of {_names(each, contents.nodes)}: {each.layer.reason}"
        for each in unread
    ]
    return lines


def unread_fleet_notes(contents: FleetContents) -> list[tuple[str, str]]:
    """Return a name and a reason for each node and layer that is not counted."""
    notes = [(name, f"not counted: {reason}") for name, reason in contents.unread_nodes]
    notes += reason_notes(_reasons(contents))
    return [(printable(name), text) for name, text in notes]


def _reasons(contents: FleetContents) -> Iterable[tuple[str, str]]:
    for each in contents.excluded:
        nodes = _names(each, contents.nodes) if each.layer.is_unread else ""
        on = f", on {nodes}" if nodes else ""
        yield each.layer.id, f"not counted{on}: {each.layer.reason}"


def _names(excluded: ExcludedNodeLayer, nodes: Sequence[str]) -> str:
    """Name the nodes that have a layer, or count them."""
    if len(excluded.nodes) > _MOST_NODES:
        return f"{len(excluded.nodes):,} nodes"
    return ", ".join(nodes[node] for node in excluded.nodes)
