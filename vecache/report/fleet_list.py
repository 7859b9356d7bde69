"""List the nodes of a fleet: how old they are, what they hold, and how much of it others hold too.

A layer is the same on two nodes if its tar is: by its digest, or where the store could not compute
that, by the one of the image's config, or of the TOC. The bytes of a layer are those of its tar, as
the store has them; a layer of which it has none counts as 0.

Nodes are read one after another; about 200 bytes of memory for each layer of a node.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vecache.atomic import folder_bytes
from vecache.errors import VecacheError
from vecache.report.output import Report
from vecache.report.terminal import (
    Column,
    count,
    human_age,
    human_bytes,
    human_share,
    render_facts,
    render_table,
)
from vecache.store.fleet import NODES
from vecache.store.objects import OBJECTS
from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from vecache.report.terminal import Screen
    from vecache.store.fleet import Fleet
    from vecache.store.graphroot import Store
    from vecache.store.records import LayerRecord

__all__ = ["FleetList", "fleet_report", "list_fleet"]

_MAX_BYTES = 2**63 - 1
_COLUMNS = (
    Column("NODE", truncate="end"),
    Column("AGE", "right"),
    Column("LAYERS", "right"),
    Column("IMAGES", "right"),
    Column("BYTES", "right"),
    Column("SHARED", "right"),
    Column("UNREAD", "right"),
)


@dataclass(frozen=True, slots=True)
class FleetList:
    """What a fleet holds."""

    fleet: Fleet
    nodes: list[dict[str, Any]]  # one row of the table each
    errors: list[dict[str, str]]  # `node` and `error` of those that could not be read
    n_distinct_layers: int
    distinct_bytes: int  # of each distinct layer once
    stored_bytes: int  # of the folder

    @property
    def layer_bytes(self) -> int:
        """Bytes of the layers of all nodes."""
        return sum(node["layer_bytes"] for node in self.nodes)


def list_fleet(fleet: Fleet, progress: Callable[[], object] | None = None) -> FleetList:
    """Read all nodes of a fleet; `progress` is called after each."""
    rows: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []
    layers_of: list[list[tuple[str, int]]] = []  # key and bytes of the layers of each node
    for name in fleet.nodes():
        try:
            store = fleet.open_node(name)
        except VecacheError as error:
            errors.append({"node": name, "error": str(error)})
        else:
            rows.append(_row(name, store))
            layers_of.append([(_key(each), max(each.diff_size, 0)) for each in store.layers()])
        if progress is not None:
            progress()
    n_nodes = Counter(key for layers in layers_of for key in dict(layers))
    for row, layers in zip(rows, layers_of, strict=True):
        shared = sum(size for key, size in layers if n_nodes[key] > 1)
        row["layer_bytes"] = min(sum(size for _, size in layers), _MAX_BYTES)
        row["shared_bytes"] = min(shared, _MAX_BYTES)
    distinct = {key: size for layers in layers_of for key, size in layers}
    stored = sum(folder_bytes(fleet.path / each) for each in (NODES, OBJECTS))
    return FleetList(fleet, rows, errors, len(distinct), sum(distinct.values()), stored)


def _row(name: str, store: Store) -> dict[str, Any]:
    assert store.snapshot is not None
    layers, images = store.layers(), store.images()
    return {
        "node": name,
        "host": store.snapshot.host,
        "time": store.snapshot.time,
        "n_layers": len(layers),
        "n_images": len(images),
        "n_unread": sum(bool(each.unreadable) for each in layers)
        + sum(bool(each.unreadable) for each in images),
    }


def _key(layer: LayerRecord) -> str:
    return layer.diff_digest or layer.expected_diff_digest or layer.toc_digest or layer.id


def fleet_report(listed: FleetList) -> Report:
    """Return the list in all its forms."""
    return Report(
        text=lambda screen: _text(listed, screen),
        document=lambda: {
            "schema": "vecache.fleet-list/1",
            "fleet": str(listed.fleet.path),
            "nodes": [{**node, "time": node["time"].isoformat()} for node in listed.nodes],
            "errors": listed.errors,
            "layer_bytes": listed.layer_bytes,
            "n_distinct_layers": listed.n_distinct_layers,
            "distinct_bytes": listed.distinct_bytes,
            "stored_bytes": listed.stored_bytes,
        },
        table=lambda: _table(listed),
    )


def _table(listed: FleetList) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - the text needs none

    number = pa.int64()
    schema = pa.schema(
        {
            "node": pa.string(),
            "host": pa.string(),
            "time": pa.timestamp("us", "UTC"),
            "n_layers": number,
            "n_images": number,
            "layer_bytes": number,
            "shared_bytes": number,
            "n_unread": number,
        }
    )
    return pa.Table.from_pylist(listed.nodes, schema=schema)


def _text(listed: FleetList, screen: Screen) -> str:
    now = datetime.now(UTC)
    rows = [
        (
            node["node"],
            human_age((now - node["time"]).total_seconds()),
            node["n_layers"],
            node["n_images"],
            human_bytes(node["layer_bytes"]),
            _share(node["shared_bytes"], node["layer_bytes"]),
            node["n_unread"] or None,
        )
        for node in listed.nodes
    ]
    n_layers = sum(node["n_layers"] for node in listed.nodes)
    facts = [
        ("In all", f"{count(n_layers, 'layer')} of {human_bytes(listed.layer_bytes)}"),
        (
            "Distinct",
            f"{count(listed.n_distinct_layers, 'layer')} of {human_bytes(listed.distinct_bytes)}",
        ),
        ("In the folder", human_bytes(listed.stored_bytes)),
    ]
    title = f"{printable(str(listed.fleet.path))}: {count(len(rows), 'node')}"
    table = [render_table(_COLUMNS, rows, screen)] if rows else []
    return "\n\n".join([title, *table, render_facts(facts, screen)])


def _share(part: int, whole: int) -> str:
    return human_share(part / whole if whole else None)
