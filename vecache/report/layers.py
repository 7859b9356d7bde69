"""What do the layers of a store hold, and why has one no cache? One row a layer, in store order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vecache.report.figures import cache_figures

if TYPE_CHECKING:
    from vecache.index.layers_cache import LayersCache

__all__ = ["layers_table"]

_SCHEMA = {
    "layer": pa.int64(),
    "layer_id": pa.string(),
    "parent": pa.string(),
    "cache": pa.string(),
    "n_tags": pa.int64(),
    "n_files": pa.int64(),
    "file_bytes": pa.int64(),
    "cache_bytes": pa.int64(),
    "bloom_fill": pa.float64(),
    "false_positive_rate": pa.float64(),
    "reason": pa.string(),
    "diff_digest": pa.string(),
    "compressed_diff_digest": pa.string(),
    "toc_digest": pa.string(),
    "target": pa.string(),
    "is_read_only": pa.bool_(),
}


def layers_table(cache: LayersCache) -> Any:
    """Describe every layer that counts as present."""
    places = {layer.record: place for place, layer in enumerate(cache.layers)}
    reasons = {layer.record: layer.reason for layer in cache.excluded}
    rows = []
    for record in cache.records:  # layers, not rows of data
        place = places.get(record)
        row: dict[str, Any] = {
            "layer": place,
            "layer_id": record.id,
            "parent": record.parent,
            "cache": "none",
            "reason": reasons.get(record),
            "diff_digest": record.diff_digest,
            "compressed_diff_digest": record.compressed_diff_digest,
            "toc_digest": record.toc_digest,
            "target": str(record.target),
            "is_read_only": record.is_read_only,
        }
        if place is not None:
            layer = cache.layers[place]
            row |= cache_figures(layer.cache)
            row |= {"cache": str(layer.source), "reason": layer.problem or None}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=pa.schema(_SCHEMA))
