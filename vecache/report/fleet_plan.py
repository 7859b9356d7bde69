"""Write the plan of images on the nodes of a fleet as text and as a JSON document.

1. What there is.
2. Bytes over the wire, class by image. Nodes that are equal in layers and settings are one row,
   with their number. On a narrow screen only the sums are shown, and of many classes those that
   fetch most.
3. For each image what all nodes together fetch, the node that fetches least, and what reflinks on
   all nodes would save.
4. What could not be planned.

Nodes and images are named by their index in the document; what is not known is null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vecache.report.documents import options_document
from vecache.report.terminal import Column, count, human_bytes, render_table
from vecache.text import display_width, printable, short_labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecache.arrays import I64, Bool
    from vecache.fleet.fleet_plan import FleetPlan
    from vecache.plan.options import PlanOptions
    from vecache.report.terminal import Cell, Screen

__all__ = ["fleet_plan_document", "fleet_plan_errors", "fleet_plan_text", "fleet_plan_unread"]

_SCHEMA = "vecache.fleet-plan/1"
_FIGURES = (
    *("total_bytes", "missing_bytes", "fetch_bytes", "toc_bytes", "requests"),
    *("whole_layers", "whole_bytes", "missing_bounds", "fetch_bounds"),
)
_SUMS = ("missing_bytes", "fetch_bytes", "toc_bytes", "wire_bytes", "requests")
_PIPE_WIDTH = 132
_MAX_CLASSES = 30
_MOST_LINES = 20


def fleet_plan_document(
    where: str, plan: FleetPlan, errors: Sequence[dict[str, str]] = ()
) -> dict[str, Any]:
    """Describe a plan; its matrices have a row for each node and a column for each image.

    `errors` has image and error of those that could not be opened or read.
    """
    return {
        "schema": _SCHEMA,
        "fleet": where,
        "nodes": plan.nodes,
        "classes": plan.classes,
        "images": plan.images,
        "options": [_options_document(each) for each in plan.options],
        **{name: _with_nulls(getattr(plan, name), plan.is_planned) for name in _FIGURES},
        "reflink_missing_bytes": _with_nulls(
            plan.reflink_missing_bytes, plan.is_planned & (plan.reflink_missing_bytes >= 0)
        ),
        "sums": {name: plan.image_sums(name) for name in _SUMS},
        "cheapest": [None if node < 0 else node for node in plan.cheapest.tolist()],
        "dearest": None if plan.dearest < 0 else plan.dearest,
        "excluded": [
            {"class": each.class_no, "layer": each.layer, "reason": each.reason}
            for each in plan.unread
        ],
        "errors": [
            *({"node": None, **each} for each in errors),
            *_error_documents(plan),
        ],
    }


def _error_documents(plan: FleetPlan) -> Iterator[dict[str, str | None]]:
    """Describe what could not be planned, node by node."""
    for each in plan.errors:
        if each.class_no >= 0:  # others are images
            image = None if each.image_no < 0 else plan.images[each.image_no]
            for node in plan.classes[each.class_no]:
                yield {"node": plan.nodes[node], "image": image, "error": each.reason}


def _options_document(options: PlanOptions | None) -> dict[str, Any] | None:
    if options is None:
        return None
    return {**options_document(options), "partial": options.partial}


def _with_nulls(figures: I64, is_known: Bool) -> list[list[Any]]:
    """Return rows of figures, None where there is none."""
    return [
        [each if known else None for each, known in zip(row, flags, strict=True)]
        for row, flags in zip(figures.tolist(), is_known.tolist(), strict=True)
    ]


def fleet_plan_text(where: str, plan: FleetPlan, screen: Screen) -> str:
    """Write all parts."""
    n_nodes, n_images = count(len(plan.nodes), "node"), count(len(plan.images), "image")
    n_classes = count(len(plan.classes), "class", "classes")
    head = f"Pulls of {n_images}, each by itself, on {n_nodes}, {n_classes}\nof {printable(where)}"
    if not plan.nodes:
        return f"{head}\n\nThe fleet has no nodes."
    names = short_labels(plan.images)
    parts = [head, _class_table(plan, names, screen), _image_table(plan, names, screen)]
    return "\n\n".join([*parts, "\n".join(_summary(plan, names))])


def _class_table(plan: FleetPlan, names: list[str], screen: Screen) -> str:
    """Lay out bytes over the wire, class by image, those that fetch most first."""
    first = [nodes[0] for nodes in plan.classes]
    wire_bytes = _with_nulls(plan.wire_bytes[first], plan.is_planned[first])
    sums = [sum(n for n in row if n is not None) for row in wire_bytes]
    order = list(range(len(plan.classes)))
    if len(order) > _MAX_CLASSES:
        order = sorted(order, key=lambda number: -sums[number])[:_MAX_CLASSES]
    labels = plan.labels
    rows: list[list[Cell]] = []
    for number in order:
        nodes = plan.classes[number]
        cells = [None if n is None else human_bytes(n) for n in wire_bytes[number]]
        rows.append([labels[number], len(nodes), *cells, human_bytes(sums[number])])
    totals = plan.image_sums("wire_bytes")
    last = [human_bytes(each) for each in (*totals, sum(totals))]
    rows.append(["in all", len(plan.nodes), *last])
    is_matrix = len(names) > 1 and _fits(names, rows, screen)
    if not is_matrix:
        rows = [[*row[:2], row[-1]] for row in rows]
    columns = [Column("NODES", truncate="end"), Column("COUNT", "right")]
    columns += [Column(name, "right") for name in names if is_matrix]
    table = render_table([*columns, Column("IN ALL", "right")], rows, screen)
    n_more = len(plan.classes) - len(order)
    more = f"\nThose that fetch most; {n_more:,} more rows are in the sums." if n_more else ""
    title = screen.paint("Bytes on the wire for one node", "bold")
    return f"{title}; the last row is all nodes together:\n{table}{more}"


def _fits(names: list[str], rows: Sequence[Sequence[Cell]], screen: Screen) -> bool:
    """Return whether all images fit beside each other."""
    width = sum(max(display_width(name), 7) + 2 for name in names)
    first = max(display_width(str(row[0])) for row in rows)
    return width + min(first, 24) + 20 <= (screen.width or _PIPE_WIDTH)


_IMAGE_COLUMNS = (
    Column("IMAGE", truncate="start"),
    Column("NODES", "right"),
    Column("MISSING", "right"),
    Column("FETCH", "right"),
    Column("REQUESTS", "right"),
    Column("LEAST", "right"),
    Column("CHEAPEST", truncate="end"),
    Column("MOST", "right"),
    Column("REFLINKS SAVE", "right"),
)


def _image_table(plan: FleetPlan, names: list[str], screen: Screen) -> str:
    """Lay out what each image costs all nodes together, and one of them at least and at most."""
    missing, wire, requests = (
        plan.image_sums(name) for name in ("missing_bytes", "wire_bytes", "requests")
    )
    saved, wire_bytes, is_planned = _saved_by_reflinks(plan), plan.wire_bytes, plan.is_planned
    rows: list[Sequence[Cell]] = []
    for number, name in enumerate(names):
        sums = (missing[number], wire[number], requests[number])
        node = int(plan.cheapest[number])
        if node < 0:
            rows.append((name, 0, *[None] * 7))
            continue
        least, most = int(wire_bytes[node, number]), int(wire_bytes[:, number].max())
        n_nodes = int(is_planned[:, number].sum())
        rows.append((name, n_nodes, *_sums(*sums), human_bytes(least), plan.nodes[node]))
        rows[-1] = (*rows[-1], human_bytes(most), human_bytes(saved[number]))
    if len(rows) > 1:
        sums = (sum(missing), sum(wire), sum(requests))
        rows.append(("in all", None, *_sums(*sums), None, None, None, human_bytes(sum(saved))))
    columns: tuple[Column, ...] = _IMAGE_COLUMNS
    if is_planned.all():  # then NODES says nothing, and 80 characters are few
        columns, rows = (*columns[:1], *columns[2:]), [(*row[:1], *row[2:]) for row in rows]
    title = screen.paint("All nodes together", "bold")
    text = f"{title}; LEAST and MOST for one node, FETCH with TOCs:"
    return f"{text}\n{render_table(columns, rows, screen)}"


def _sums(missing: int, wire: int, requests: int) -> tuple[Cell, Cell, Cell]:
    return human_bytes(missing), human_bytes(wire), requests


def _saved_by_reflinks(plan: FleetPlan) -> list[int]:
    """Return how many bytes fewer all nodes together would miss of each image with reflinks."""
    reflinked = plan.reflink_missing_bytes
    saved = np.where(reflinked >= 0, plan.missing_bytes - reflinked, 0)
    return [sum(column) for column in saved.T.tolist()]


def _summary(plan: FleetPlan, names: list[str]) -> Iterator[str]:
    """Say what stands out."""
    if plan.dearest >= 0:
        total = plan.image_sums("wire_bytes")[plan.dearest]
        if total and len(names) > 1:
            yield f"Dearest image:   {names[plan.dearest]}, {human_bytes(total)} on all nodes."
    saved = sum(_saved_by_reflinks(plan))
    missing = sum(plan.image_sums("missing_bytes"))
    if saved > 0:
        less = f"{human_bytes(saved)} of {human_bytes(missing)} less"
        yield f"With reflinks:   {less} would be missing (xfs, btrfs)."
    least, most = (sum(plan.fetch_bounds[plan.is_planned][:, end].tolist()) for end in (0, 1))
    if least != most:
        text = f"{human_bytes(least)} to {human_bytes(most)} of data"
        unread = ", and by layers that could not be read" if plan.unread else ""
        yield f"Bounds:          {text}: by timing{unread}."
    n_lost = int((~plan.is_planned).sum())
    if n_lost:
        yield f"Not planned:     {n_lost:,} of {plan.is_planned.size:,} pulls; they are in no sum."


def fleet_plan_errors(plan: FleetPlan) -> list[str]:
    """Return lines that say what could not be planned, and why."""
    labels, lines = plan.labels, []
    for each in plan.errors:
        if each.class_no < 0:  # an image, which is listed with those that cannot be opened
            continue
        names = printable(labels[each.class_no])
        what = names if each.image_no < 0 else f"{names}: {plan.images[each.image_no]}"
        lines.append(f"{what}: {each.reason}")
    n_more = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], f"and {n_more:,} more"] if n_more > 0 else lines


def fleet_plan_unread(plan: FleetPlan, effect: str) -> list[str]:
    """Return lines that say which layers could not be read; none if all could.

    `effect` says what that does to the figures.
    """
    if not plan.unread:
        return []
    sizes = plan.class_sizes.tolist()
    n_unread = sum(sizes[each.class_no] for each in plan.unread)
    n_layers = sum(n * size for n, size in zip(plan.n_layers, sizes, strict=True))
    labels = plan.labels
    head = f"{n_unread:,} of {count(n_layers, 'layer')} of nodes could not be read: {effect}"
    lines = [
        f"layer {each.layer[:12]} of {labels[each.class_no]}: {each.reason}" for each in plan.unread
    ]
    n_more = len(lines) - _MOST_LINES
    more = [f"and {n_more:,} more"] if n_more > 0 else []
    return [head, *lines[:_MOST_LINES], *more]
