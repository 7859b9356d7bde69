"""Pictures of plans: a bar for each layer of an image, or for each of several images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vecache.draw.bars import stacked_bars
from vecache.draw.picture import bytes_text
from vecache.plan.layer_plan import LayerState
from vecache.store.names import LayerNames
from vecache.text import short_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecache.draw.picture import Picture
    from vecache.plan.best import Best
    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.layer_plan import LayerPlan

__all__ = ["plot_images", "plot_layers"]

_PARTS = (
    "here already",
    "missing, at best",
    "missing beyond the best possible",
    "whole blobs, compressed",
)


def plot_layers(plan: ImagePlan) -> Picture:
    """Draw a bar for each layer of an image, from the bottom up."""
    rows = [([layer], best) for layer, best in zip(plan.layers, plan.best.layers, strict=True)]
    labels = [LayerNames(created_by=layer.created_by).title(layer.blob) for layer in plan.layers]
    return _draw(rows, labels, f"Pull of {plan.image.reference}")


def plot_images(plans: Sequence[ImagePlan]) -> Picture:
    """Draw a bar for each image, in the order of the pulls."""
    names = short_labels([plan.image.reference for plan in plans])
    rows = [(plan.layers, plan.best) for plan in plans]
    return _draw(rows, names, f"Pulls of {len(plans):,} images, one after another")


def _draw(
    rows: Sequence[tuple[Sequence[LayerPlan], Best]], labels: Sequence[str], title: str
) -> Picture:
    parts = np.array([_parts(layers, best) for layers, best in rows], np.float64)
    return stacked_bars(
        dict(zip(_PARTS, parts.reshape(-1, len(_PARTS)).T, strict=True)),
        labels,
        [_end(layers) for layers, _ in rows],
        title=title,
        note="Bytes in files that are pulled, uncompressed; on the right what comes over the wire.",
    )


def _parts(layers: Sequence[LayerPlan], best: Best) -> list[int]:
    total, missing = (
        sum(getattr(layer, name) or 0 for layer in layers)
        for name in ("total_bytes", "missing_bytes")
    )
    whole = sum(layer.fetch_bytes for layer in layers if layer.state is LayerState.WHOLE)
    return [max(total - missing, 0), best.missing_bytes, missing - best.missing_bytes, whole]


def _end(layers: Sequence[LayerPlan]) -> str:
    """Return what the pull of a row's layers fetches, in words."""
    if all(layer.state is LayerState.PRESENT for layer in layers):
        return "present"
    fetched = bytes_text(sum(layer.fetch_bytes for layer in layers))
    n_ranges = sum(len(layer.ranges) for layer in layers)
    if not n_ranges:
        return fetched
    return f"{fetched} in {n_ranges:,} {'range' if n_ranges == 1 else 'ranges'}"
