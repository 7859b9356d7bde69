"""Plans of images as text: a table of layers, a summary in sentences, the curve of ranges."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from vecache.plan.best import Best, Cause
from vecache.plan.files import Action
from vecache.plan.layer_plan import LayerState
from vecache.report.terminal import Column, count, human_bytes, human_share, render_table
from vecache.store.settings import DEFAULT_PARALLEL
from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vecache.plan.curve import RangeCurve
    from vecache.plan.image_plan import ImagePlan
    from vecache.plan.layer_plan import LayerPlan
    from vecache.plan.options import PlanOptions
    from vecache.report.terminal import Cell, Screen

__all__ = ["advice", "curve_table", "curve_text", "image_text", "images_text"]

_REMEDIES = MappingProxyType(
    {
        Cause.NO_REFLINK: "a file system with reflinks (xfs, btrfs)",
        Cause.FLAT_LAYOUT: "layers stored without composefs, whose caches know every chunk",
        Cause.HARD_LINKS: "storage.conf without use_hard_links, so that owners may differ",
        Cause.FIRST_MATCH: "a client that takes any match, not only the first",
        Cause.REPEATED: "a client that fetches repeated content once",
        Cause.PARALLEL: "image_parallel_copies = 1 in containers.conf",
    }
)

_SHOWN = (Action.REUSED, Action.FETCHED)
_STATES = {"present": "green", "partial": "yellow", "whole": "red"}
_COLUMNS = (
    Column("LAYER"),
    Column("STATE", styles=_STATES),
    Column("FILES REUSED", "right"),
    Column("CHUNKS REUSED", "right"),
    Column("TOTAL", "right"),
    Column("MISSING", "right"),
    Column("FETCH", "right"),
    Column("RANGES", "right"),
)
_IMAGE_COLUMNS = (
    Column("IMAGE", truncate="start"),
    Column("LAYERS", "right"),
    Column("TO PULL", "right"),
    *_COLUMNS[4:],
    Column("BEST", "right"),
)
_CURVE_COLUMNS = (
    Column("RANGES ALLOWED", "right"),
    Column("RANGES", "right"),
    Column("FETCH", "right"),
    Column("GAPS", "right"),
    Column("TIME", "right"),
)


def image_text(plan: ImagePlan, store: str, screen: Screen, *, seconds: float | None = None) -> str:
    """Lay out the plan of one image."""
    rows = [_layer_row(layer) for layer in plan.layers]
    if len(rows) > 1:
        rows.append(("in all", "", *_counts(plan.layers), *_figures(plan.layers)))
    where = f"into {printable(store)}, {_options_text(plan.options)}"
    parts = [
        f"Pull of {printable(plan.image.reference)}\n{where}",
        render_table(_COLUMNS, rows, screen),
        "\n".join([*_summary(plan, seconds), *_best_lines(plan.layers, plan.best, screen)]),
    ]
    return "\n\n".join(parts)


def images_text(
    plans: Sequence[ImagePlan],
    store: str,
    screen: Screen,
    *,
    note: str = "",
    seconds: float | None = None,
) -> str:
    """Lay out the plans of several images."""
    layers = [layer for plan in plans for layer in plan.layers]
    best = Best.sum(each for plan in plans for each in plan.best.layers)
    rows = [_image_row(plan.image.reference, plan.layers, plan.best) for plan in plans]
    rows.append(_image_row("in all", layers, best))
    head = f"Pulls of {len(plans)} images, one after another\ninto {printable(store)}, "
    parts = [head + _options_text(plans[0].options), render_table(_IMAGE_COLUMNS, rows, screen)]
    notes = [note] if note else []
    if seconds is not None:
        notes.append(f"Estimated time on the wire: {seconds:.1f} s.")
    notes += _best_lines(layers, best, screen)
    return "\n\n".join([*parts, "\n".join(notes)] if notes else parts)


def _options_text(options: PlanOptions) -> str:
    """Describe in words how a pull is made."""
    words = [
        "with reflinks" if options.reflink else "without reflinks",
        "with hard links" if options.hard_links else "without hard links",
        f"layout {options.layout}",
    ]
    if options.parallel != DEFAULT_PARALLEL:
        words.append(f"{count(options.parallel, 'layer')} at a time")
    if options.whole_blobs:
        words.append("from a registry that ignores ranges")
    return ", ".join(words)


def _layer_row(layer: LayerPlan) -> tuple[Cell, ...]:
    name = layer.blob.partition(":")[2][:12]
    if layer.state is LayerState.PRESENT:
        return (name, str(layer.state), *[None] * 6)
    if layer.replay is None:
        return (name, str(layer.state), None, None, None, None, human_bytes(layer.fetch_bytes), 1)
    return (name, str(layer.state), *_counts([layer]), *_figures([layer]))


def _image_row(name: str, layers: Sequence[LayerPlan], best: Best) -> tuple[Cell, ...]:
    n_pulled = sum(layer.state is not LayerState.PRESENT for layer in layers)
    return (name, len(layers), n_pulled, *_figures(layers), human_bytes(best.missing_bytes))


def _counts(layers: Sequence[LayerPlan]) -> tuple[str, str]:
    """`reused/all` of files that need data, and of chunks of those not found."""
    files, chunks = (
        [sum(getattr(layer, count)(action) for layer in layers) for action in _SHOWN]
        for count in ("count_files", "count_chunks")
    )
    return (f"{files[0]:,}/{sum(files):,}", f"{chunks[0]:,}/{sum(chunks):,}")


def _figures(layers: Sequence[LayerPlan]) -> tuple[Cell, ...]:
    names = ("total_bytes", "missing_bytes", "fetch_bytes")
    sums = (human_bytes(sum(getattr(layer, name) or 0 for layer in layers)) for name in names)
    return (*sums, sum(len(layer.ranges) for layer in layers))


def _summary(plan: ImagePlan, seconds: float | None) -> list[str]:
    if all(layer.state is LayerState.PRESENT for layer in plan.layers):
        return ["The store has all layers: nothing is pulled."]
    lines = []
    if plan.total_bytes:
        here = plan.total_bytes - plan.missing_bytes
        lines.append(
            f"Here already: {human_bytes(here)} of {human_bytes(plan.total_bytes)} "
            f"({human_share(here / plan.total_bytes)}) in the layers that are pulled."
        )
    gaps = f", {human_bytes(plan.slack_bytes)} of it gaps" if plan.slack_bytes else ""
    lines.append(
        f"On the wire:  {human_bytes(plan.fetch_bytes)} of data{gaps}, and "
        f"{human_bytes(plan.toc_bytes)} of TOCs, in {plan.requests} requests."
    )
    if seconds is not None:
        lines.append(f"In time:      {seconds:.1f} s, estimated.")
    if plan.whole_layers:
        lines.append(
            f"Whole blobs:  {plan.whole_layers} of {human_bytes(plan.whole_bytes)}; nothing is "
            "reused in a layer that is fetched whole."
        )
    if plan.missing_bounds[0] != plan.missing_bounds[1]:
        lines.append(_bounds_line(plan))
    return lines


def _bounds_line(plan: ImagePlan) -> str:
    least, most = map(human_bytes, plan.missing_bounds)
    line = f"By timing:    {least} to {most} missing, as {plan.options.parallel} layers are copied"
    saved = plan.best.excess[Cause.PARALLEL]
    advice = f"image_parallel_copies = 1 saves {human_bytes(saved)}" if saved else "an estimate"
    return f"{line} at a time; {advice}."


def _best_lines(layers: Sequence[LayerPlan], best: Best, screen: Screen) -> list[str]:
    if not any(layer.replay for layer in layers):
        return []
    excess = sum(best.excess.values())
    line = f"Best possible: {human_bytes(best.missing_bytes)} missing"
    if excess:
        remedies = (f"  {screen.paint(words, 'dim')}" for words in advice(best))
        lines = [f"{line}, {human_bytes(excess)} less:", *remedies]
    else:
        lines = [f"{line}; no client could do better with these layers."]
    if best.unread:
        first = best.unread[0]
        lines.append(
            f"It may be less: the TOC of {count(len(best.unread), 'flat layer')} could not be "
            f"read; {first.id[:12]}: {printable(first.reason)}"
        )
    return lines


def advice(best: Best) -> list[str]:
    """Return what would save each part of the excess, the largest first."""
    largest_first = sorted(Cause, key=lambda cause: -best.excess[cause])
    return [
        f"{_REMEDIES[cause]}: {best.excess[cause]:,} bytes"
        for cause in largest_first
        if best.excess[cause]
    ]


def curve_table(curve: RangeCurve, network: tuple[float, float] | None) -> Any:
    """Make a table of a curve; with seconds, given bytes per second and a round trip."""
    table = curve.to_arrow()
    return table if network is None else table.append_column("seconds", [curve.seconds(*network)])


def curve_text(plan: ImagePlan, table: Any, screen: Screen) -> str:
    """Lay out some points of the curve by ranges: 1, 2, 4, 8 and so on, and the last."""
    n_points = table.num_rows
    shown = np.unique([*2 ** np.arange(n_points.bit_length()) - 1, n_points - 1])
    rows = [_curve_row(point) for point in table.take(shown).to_pylist()]
    name = printable(plan.image.reference)
    head = f"Bytes on the wire for {name}, by the ranges that one request may have"
    return f"{head}\n\n{render_table(_CURVE_COLUMNS, rows, screen)}"


def _curve_row(point: dict[str, Any]) -> tuple[Cell, ...]:
    seconds = point.get("seconds")
    return (
        point["max_ranges"],
        point["n_ranges"],
        human_bytes(point["fetch_bytes"]),
        human_bytes(point["slack_bytes"]),
        None if seconds is None else f"{seconds:.2f} s",
    )
