"""The tables: one a case, one of ratios, and one of building caches from TOCs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bench.peers.case import SETS
from bench.peers.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["render"]

_METHOD = """\
Wall time a query, of the fastest of {runs} runs (of fewer where these take over 2 s) of
{processes}, and CPU time of all threads in that run. The table of digests and the queries
are in each peer's own form before the clock starts; building is timed apart, once a process. All
answers were compared: the first tag in layer order, or that there is none. Memory is resident,
beyond the digests and queries that were loaded: its peak, and what is held anonymously at the end;
pages of mapped cache files count in the peak. `x` is the time as a multiple of vecache's with as
many threads, locations included where the peer reads them, half of the queries known. `n` is how
many queries were asked."""
_SETS_OF_TABLES = len(SETS)


class _Table(NamedTuple):
    title: str
    header: Sequence[str]
    rows: list[list[str]]


def render(report: dict[str, Any], command: str, *, is_markdown: bool) -> str:
    """Return the tables as Markdown or for a terminal."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    text = [f"Machine: {report['machine']}.", f"Versions: {versions}.", f"Command: `{command}`."]
    text += report["notes"]
    draw = _markdown if is_markdown else _plain
    tables = [draw(table) for table in _tables(report)]
    rounds = report["rounds"]
    processes = "one process" if rounds == 1 else f"{rounds} processes"
    method = _METHOD.format(runs=report["runs"], processes=processes)
    return "\n\n".join(["\n".join(f"{line}  " for line in text), method, *tables]) + "\n"


def _tables(report: dict[str, Any]) -> Iterator[_Table]:
    full = [case for case in report["cases"] if _is_full(case)]
    for case in full:
        yield _case_table(case)
    if full:
        yield _ratio_table(full)
    for case in full:
        if case["toc_bytes"]:
            yield _toc_table(case)


def _is_full(case: dict[str, Any]) -> bool:
    return any(len(row.get("sets", ())) == _SETS_OF_TABLES for row in case["rows"])


def _case_table(case: dict[str, Any]) -> _Table:
    header = ["peer", "build, s", *(f"{which}, ns" for which in SETS), "x", "CPU, ns"]
    rows = []
    for row in case["rows"]:
        title = KINDS[row["peer"]].title
        if "skipped" in row:
            rows.append([title, row["skipped"], *[""] * 8])
            continue
        half = row["sets"]["half"]
        rows.append(
            [
                title,
                f"{row['build']['wall']:.2f}",
                *(f"{_ns(row, which):,.0f}" for which in SETS),
                _ratio(case, row),
                f"{half['cpu'] / half['n'] * 1e9:,.0f}",
                *(f"{row[f'{which}_bytes'] / 1e6:,.0f}" for which in ("peak", "held")),
                f"{half['n']:,}",
            ]
        )
    title = f"{case['name']}, {case['n_queries']:,} queries"
    return _Table(title, [*header, "peak, MB", "held, MB", "n"], rows)


def _ratio_table(cases: list[dict[str, Any]]) -> _Table:
    """Return how many times longer each peer takes, half of the queries known."""
    rows = []
    for name, kind in KINDS.items():
        found = [_row(case, name) for case in cases]
        if any("sets" in row for row in found):
            ratios = [_ratio(*pair) for pair in zip(cases, found, strict=True)]
            rows.append([kind.title, *ratios])
    return _Table("Times vecache", ["peer", *(case["name"] for case in cases)], rows)


def _toc_table(case: dict[str, Any]) -> _Table:
    rows = []
    for row in case["rows"]:
        if row.get("tocs"):
            wall, cpu = (
                sum(toc[key] for toc in row["tocs"]) / case["toc_bytes"] * 1e9
                for key in ("wall", "cpu")
            )
            rows.append([KINDS[row["peer"]].title, f"{wall:.1f}", f"{cpu:.1f}"])
    title = f"TOC to cache file, {len(_tocs(case))} TOCs of {case['toc_bytes'] / 1e6:.1f} MB"
    return _Table(title, ["peer", "wall, ms a MB", "CPU, ms a MB"], rows)


def _tocs(case: dict[str, Any]) -> list[Any]:
    """Return the measurements of the TOCs of the first peer that has some."""
    return next((row["tocs"] for row in case["rows"] if row.get("tocs")), [])


def _row(case: dict[str, Any], name: str) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {row["peer"]: row for row in case["rows"]}
    return rows.get(name, {})


def _ns(row: dict[str, Any], which: str) -> float:
    times = row["sets"][which]
    ns: float = times["wall"] / times["n"] * 1e9
    return ns


def _ratio(case: dict[str, Any], row: dict[str, Any]) -> str:
    """Return a peer's time as a multiple of that of vecache doing the same with as many threads."""
    if "sets" not in row:
        return ""
    kind = KINDS[row["peer"]]
    ours = "vecache" + "-loc" * kind.locates + "-2" * (kind.threads == 2)
    base = _row(case, ours)
    return f"{_ns(row, 'half') / _ns(base, 'half'):.2f}" if "sets" in base else ""


def _markdown(table: _Table) -> str:
    rule = ["---", *["--:"] * (len(table.header) - 1)]
    lines = [f"| {' | '.join(row)} |" for row in (table.header, rule, *table.rows)]
    return "\n".join([f"**{table.title}**", "", *lines])


def _plain(table: _Table) -> str:
    widths = [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in (table.header, *table.rows)
    ]
    return "\n".join([table.title, *lines])
