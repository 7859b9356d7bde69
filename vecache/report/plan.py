"""Plans of images as text: a table of layers, a summary in sentences, the curve of ranges."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from vecache.plan.best import Best, Cause
from vecache.plan.files import Action
from vecache.plan.layer_plan import LayerState
from vecache.report.layer_names import command_column, render_named
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

__all__ = ["advice", "curve_table", "curve_text", "image_text", "images_text", "options_text"]

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

_SUMS = (
    *("total_bytes", "missing_bytes", "fetch_bytes", "slack_bytes", "toc_bytes", "requests"),
    *("whole_layers", "whole_bytes"),
)
_SHOWN = (Action.REUSED, Action.FETCHED)
_STATES = {"present": "green", "partial": "yellow", "whole": "red"}
_COLUMNS = (
    Column("BLOB"),
    Column("STATE", styles=_STATES),
    Column("FILES", "right"),
    Column("CHUNKS", "right"),
    Column("TOTAL", "right"),
    Column("MISSING", "right"),
    Column("FETCH", "right"),
    Column("RANGES", "right"),
)
_OPTIONAL = ("RANGES", "CHUNKS", "TOTAL")
_LEGEND = "BLOB: digest in the registry. FILES, CHUNKS: reused/needed."
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
    head = [f"Pull of {printable(plan.image.reference)}", *_origins([plan])]
    head.append(f"into {printable(store)}, {options_text(plan.options)}")
    names = [command_column([layer.created_by for layer in plan.layers])]
    table = render_named(_COLUMNS, rows, names, screen, optional=_OPTIONAL)
    parts = [
        "\n".join(head),
        f"{table}\n{screen.paint(_LEGEND, 'dim')}",
        "\n".join([*_summary([plan], seconds), *_best_lines(plan.layers, plan.best, screen)]),
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
    """Lay out the plans of several images; none where no image could be planned."""
    if not plans:
        return "No image could be planned."
    layers = [layer for plan in plans for layer in plan.layers]
    best = Best.sum(each for plan in plans for each in plan.best.layers)
    rows = [_image_row(plan.image.reference, plan.layers, plan.best) for plan in plans]
    rows.append(_image_row("in all", layers, best))
    head = f"Pulls of {count(len(plans), 'image')}, one after another\ninto {printable(store)}, "
    parts = [head + options_text(plans[0].options), render_table(_IMAGE_COLUMNS, rows, screen)]
    notes = [*([note] if note else ()), *_origins(plans)]
    notes += [*_summary(plans, seconds), *_best_lines(layers, best, screen)]
    return "\n\n".join([*parts, "\n".join(notes)])


def _origins(plans: Sequence[ImagePlan]) -> list[str]:
    """Say which images were read from a registry or mirror that their names do not name."""
    found = [plan.image for plan in plans if plan.image.origin]
    if len(plans) == 1:
        return [f"read from {printable(image.origin)}" for image in found]
    return [printable(f"{image.reference} was read from {image.origin}.") for image in found]


def options_text(options: PlanOptions) -> str:
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
        return (name, str(layer.state), *[None] * 4, human_bytes(layer.fetch_bytes), None)
    return (name, str(layer.state), *_counts([layer]), *_figures([layer]))


def _image_row(name: str, layers: Sequence[LayerPlan], best: Best) -> tuple[Cell, ...]:
    n_pulled = sum(layer.state is not LayerState.PRESENT for layer in layers)
    least = human_bytes(best.missing_bytes) if _is_known(layers) else None
    return (name, len(layers), n_pulled, *_figures(layers), least)


def _counts(layers: Sequence[LayerPlan]) -> tuple[Cell, Cell]:
    """`reused/all` of files that need data, and of chunks of those not found; None as below."""
    if not _is_known(layers):
        return None, None
    files, chunks = (
        [sum(getattr(layer, count)(action) for layer in layers) for action in _SHOWN]
        for count in ("count_files", "count_chunks")
    )
    return (f"{files[0]:,}/{sum(files):,}", f"{chunks[0]:,}/{sum(chunks):,}")


def _figures(layers: Sequence[LayerPlan]) -> tuple[Cell, ...]:
    """Sum up total, missing and fetched bytes, and ranges; None where all comes whole."""
    is_known = _is_known(layers)
    return (
        human_bytes(sum(layer.total_bytes or 0 for layer in layers)) if is_known else None,
        human_bytes(sum(layer.missing_bytes or 0 for layer in layers)) if is_known else None,
        human_bytes(sum(layer.fetch_bytes for layer in layers)),
        sum(len(layer.ranges) for layer in layers) if is_known else None,
    )


def _is_known(layers: Sequence[LayerPlan]) -> bool:
    """Return whether any figure but the bytes over the wire is known: not all comes whole."""
    is_whole = any(layer.state is LayerState.WHOLE for layer in layers)
    return not is_whole or any(layer.replay is not None for layer in layers)


def _summary(plans: Sequence[ImagePlan], seconds: float | None) -> list[str]:
    """Say in sentences what the pulls reuse and fetch, all together."""
    if all(layer.state is LayerState.PRESENT for plan in plans for layer in plan.layers):
        return ["The store has all layers: nothing is pulled."]
    lines = []
    total, missing, fetch, slack, toc, requests, n_whole, whole = (
        sum(getattr(plan, name) for plan in plans) for name in _SUMS
    )
    if total:
        by_toc = " by their TOC" if n_whole else ""
        lines.append(
            f"Here already: {human_bytes(total - missing)} of {human_bytes(total)} "
            f"({human_share((total - missing) / total)}) in the layers that are pulled{by_toc}."
        )
    gaps = f", {human_bytes(slack)} of it gaps" if slack else ""
    lines.append(
        f"On the wire:  {human_bytes(fetch)} of data{gaps}, and {human_bytes(toc)} of TOCs, "
        f"in {count(requests, 'request')}."
    )
    if seconds is not None:
        lines.append(f"In time:      {seconds:.1f} s, estimated.")
    if n_whole:
        lines.append(
            f"Whole blobs:  {n_whole:,} of {human_bytes(whole)}; nothing is reused in a layer that "
            "is fetched whole, nor counted in TOTAL and MISSING."
        )
    warned = [layer for plan in plans for layer in plan.layers if layer.warnings]
    lines += [f"Layer {layer.blob[7:19]}: {', '.join(layer.warnings)}." for layer in warned]
    return lines + _bounds_lines(plans)


def _bounds_lines(plans: Sequence[ImagePlan]) -> list[str]:
    """Say how far the figures may be off, and why."""
    lines = []
    by_timing = (
        [plan.missing_by_timing for plan in plans],
        [plan.fetch_by_timing for plan in plans],
    )
    least, most = ([sum(bounds[end] for bounds in each) for each in by_timing] for end in (0, 1))
    if least != most:
        saved = sum(plan.best.excess[Cause.PARALLEL] for plan in plans)
        advice = f"image_parallel_copies = 1 saves {human_bytes(saved)}" if saved else "an estimate"
        missing, fetch = (
            human_bytes(low) if low == high else f"{human_bytes(low)} to {human_bytes(high)}"
            for low, high in zip(least, most, strict=True)
        )
        lines.append(
            f"By timing:    {missing} missing and {fetch} of data, {plans[0].options.parallel} "
            f"layers at a time; {advice}."
        )
    at_least = [sum(plan.missing_bounds[0] for plan in plans)]
    at_least.append(sum(plan.fetch_bounds[0] for plan in plans))
    if at_least != least:
        missing, fetch = map(human_bytes, at_least)
        lines.append(
            f"At least:     {missing} missing and {fetch} of data, if layers whose content is not "
            "known hold the rest."
        )
    return lines


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
        f"{_REMEDIES[cause]}: {human_bytes(best.excess[cause])}"
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
