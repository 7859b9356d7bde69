"""How does the bytes-requests curve look to people? A few of its points, evenly told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vecache.report.terminal import Column, human_bytes, render_table
from vecache.text import printable

if TYPE_CHECKING:
    from vecache.plan.curve import RangeCurve
    from vecache.plan.image_plan import ImagePlan
    from vecache.report.terminal import Cell, Screen

__all__ = ["curve_table", "curve_text"]

_COLUMNS = (
    Column("RANGES ALLOWED", "right"),
    Column("RANGES", "right"),
    Column("FETCH", "right"),
    Column("GAPS", "right"),
    Column("TIME", "right"),
)


def curve_table(curve: RangeCurve, line: tuple[float, float] | None) -> Any:
    """Make a table of a curve, with a column of seconds where the line is known."""
    table = curve.to_arrow()
    return table if line is None else table.append_column("seconds", [curve.seconds(*line)])


def curve_text(plan: ImagePlan, table: Any, screen: Screen) -> str:
    """Lay out some points of the curve by ranges: 1, 2, 4, 8 and so on, and the last."""
    n_points = table.num_rows
    places = {int(place) for place in 2 ** np.arange(n_points.bit_length()) - 1}
    places = {place for place in places if place < n_points} | ({n_points - 1} & {*range(n_points)})
    rows = [_row(point) for point in table.take(sorted(places)).to_pylist()]
    name = printable(plan.image.reference)
    head = f"Bytes on the wire for {name}, by the ranges that one request may have"
    return f"{head}\n\n{render_table(_COLUMNS, rows, screen)}"


def _row(point: dict[str, Any]) -> tuple[Cell, ...]:
    seconds = point.get("seconds")
    return (
        point["max_ranges"],
        point["n_ranges"],
        human_bytes(point["fetch_bytes"]),
        human_bytes(point["slack_bytes"]),
        None if seconds is None else f"{seconds:.2f} s",
    )
