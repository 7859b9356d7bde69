"""The two growth curves: time a query against tags and against layers, as PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.peers.kinds import KINDS

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["draw_curves"]

_MIN_POINTS = 2


def draw_curves(report: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what the report has points for, and return the files."""
    cases = report["cases"]
    synthetic = [case for case in cases if not case["toc_bytes"]]
    if not synthetic:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    fewest: dict[int, Any] = {}
    for case in synthetic:  # of one number of tags, the case of the fewest layers
        if case["n_layers"] < fewest.get(case["n_tags"], case)["n_layers"] + 1:
            fewest[case["n_tags"]] = case
    counts = [case["n_tags"] for case in synthetic]
    fixed = max(sorted(set(counts)), key=counts.count)  # the size with the most numbers of layers
    layers = {case["n_layers"]: case for case in synthetic if case["n_tags"] == fixed}
    layer_note = f"{min(case['n_layers'] for case in fewest.values())} layers"
    return [
        path
        for path in (
            _draw(folder / "ns-by-tags.png", fewest, "tags", layer_note),
            _draw(folder / "ns-by-layers.png", layers, "layers", f"{fixed:,} tags"),
        )
        if path
    ]


def _draw(path: Path, cases: dict[int, Any], axis: str, where: str) -> Path | None:
    import matplotlib as mpl  # noqa: PLC0415 - only plots need it

    mpl.use("Agg")
    from matplotlib.figure import Figure  # noqa: PLC0415

    if len(cases) < _MIN_POINTS:
        return None
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    lines = [(name, _points(cases, name)) for name, kind in KINDS.items() if kind.colour]
    lines = [(name, points) for name, points in lines if len(points) >= _MIN_POINTS]
    for name, points in sorted(lines, key=lambda line: -line[1][-1][1]):  # the slowest first
        style, width = ("--", 1.2) if name.startswith("reads") else ("-", 1.8)
        axes.loglog(
            *zip(*points, strict=True), style, lw=width, marker="o", ms=3.5,
            color=KINDS[name].colour, label=KINDS[name].title,
        )  # fmt: skip
    axes.set_xlabel(axis)
    axes.set_ylabel("ns a query")
    axes.set_title(f"Look-up, half of the queries known ({where})", loc="left", fontsize=11)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    figure.savefig(path, dpi=120)
    return path


def _points(cases: dict[int, Any], name: str) -> list[tuple[int, float]]:
    """Return (tags or layers, ns a query) of a peer, ascending."""
    points = []
    for x, case in sorted(cases.items()):
        rows: dict[str, dict[str, Any]] = {row["peer"]: row for row in case["rows"]}
        times = rows.get(name, {}).get("sets", {}).get("half")
        if times:
            points.append((x, times["wall"] / times["n"] * 1e9))
    return points
