"""Measure all peers on all cases, each in a process of its own, within a bound of minutes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.peers.case import SETS, make_case, make_real_case
from bench.peers.go import GoMissingError, GoOriginal
from bench.peers.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.peers.case import Case

__all__ = ["Plan", "Size", "run_all"]

_RUNS = 7
_BUSY = 0.5
_PACKAGES = ("vecache", "numpy", "pyarrow", "duckdb", "polars", "pandas")
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Size:
    """A synthetic case; with `sets` of one, it is for the curves only."""

    n_tags: int
    n_layers: int
    n_queries: int
    sets: tuple[str, ...] = tuple(SETS)


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    sizes: Sequence[Size]
    peers: Sequence[str] = tuple(KINDS)
    minutes: float = 10.0
    rounds: int = 1
    seconds: float = 2.0  # a set that took longer is not asked again
    is_real: bool = True
    go_root: Path = Path("/")
    folder: Path | None = None  # for the data, several GB; a temporary one by default
    say: Callable[[str], object] = field(default=lambda line: sys.stderr.write(f"{line}\n"))


def run_all(plan: Plan) -> dict[str, Any]:
    """Return a document with machine, versions, cases and a row for each peer and case."""
    end = time.monotonic() + 60 * plan.minutes
    report: dict[str, Any] = {"machine": _machine(), "versions": _versions(), "notes": []}
    report |= {"runs": _RUNS, "rounds": plan.rounds, "cases": []}
    load = os.getloadavg()[0]
    if load > _BUSY:
        report["notes"].append(f"The machine was busy (load {load:.1f}): wall times are too long.")
    with tempfile.TemporaryDirectory(prefix="vecache-peers-", dir=plan.folder) as name:
        folder = Path(name)
        go = _build_go(plan, folder, report)
        if plan.is_real:
            real = make_real_case(folder / "real")
            if real is None:
                report["notes"].append(
                    "real layers: skipped, shared/golden is not beside the checkout"
                )
            else:
                report["cases"].append(_run_case(plan, real, tuple(SETS), go, end))
        for size in plan.sizes:
            with tempfile.TemporaryDirectory(dir=folder) as inner:
                if time.monotonic() > end:
                    report["notes"].append(f"{size.n_tags:,} tags: skipped, no time left")
                    continue
                case = make_case(Path(inner) / "case", size.n_tags, size.n_layers, size.n_queries)
                report["cases"].append(_run_case(plan, case, size.sets, go, end))
    for note in report["notes"]:
        plan.say(note)
    return report


def _build_go(plan: Plan, folder: Path, report: dict[str, Any]) -> GoOriginal | None:
    if not {"go", "go-2"} & set(plan.peers):
        return None
    plan.say("Go original: building its test")
    try:
        go = GoOriginal.build(plan.go_root, folder)
    except GoMissingError as error:
        report["notes"].append(f"Go original: skipped, {error}")
        return None
    report["versions"]["go"] = go.version
    return go


def _run_case(
    plan: Plan, case: Case, sets: Sequence[str], go: GoOriginal | None, end: float
) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {}
    for _ in range(plan.rounds):  # of all peers in turn: noise that lasts then meets all of them
        for name in plan.peers:
            if KINDS[name].where == "go" and go is None:
                continue
            row = {"peer": name} | _run_peer(plan, case, name, sets, go, end)
            plan.say(f"{case.name}: {KINDS[name].title}: {_summary(row)}")
            rows[name] = _fastest(rows.get(name, row), row)
    toc_bytes = sum(path.stat().st_size for path in case.toc_paths())
    what = {"name": case.name, "n_tags": case.n_tags(), "n_layers": len(case.starts())}
    what |= {"n_queries": case.n_queries(), "toc_bytes": toc_bytes}
    return what | {"rows": list(rows.values())}


def _run_peer(
    plan: Plan, case: Case, name: str, sets: Sequence[str], go: GoOriginal | None, end: float
) -> dict[str, Any]:
    kind = KINDS[name]
    n_queries = kind.n_asked(case.n_queries(), len(case.starts()))
    arguments = (case, name, n_queries, _RUNS, plan.seconds, sets)
    if case.n_tags() > kind.max_tags:
        return {"skipped": f"not above {kind.max_tags:,} tags"}
    if time.monotonic() > end:
        return {"skipped": "no time left"}
    try:
        return go.measure(*arguments) if go and kind.where == "go" else _spawn(*arguments)
    except RuntimeError as error:
        return {"skipped": str(error)}


def _fastest(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the row of the fastest of two builds, and of each set; memory is the larger."""
    if "skipped" in other or "skipped" in one:
        return one if "skipped" in other else other
    row = one | {"build": min(one["build"], other["build"], key=_wall)}
    row["sets"] = {
        which: min(times, other["sets"][which], key=_wall) for which, times in one["sets"].items()
    }
    row["tocs"] = [min(*pair, key=_wall) for pair in zip(one["tocs"], other["tocs"], strict=True)]
    return row | {key: max(one[key], other[key]) for key in ("peak_bytes", "held_bytes")}


def _wall(times: dict[str, float]) -> float:
    return times["wall"]


def _spawn(
    case: Case, name: str, n_queries: int, runs: int, seconds: float, sets: Sequence[str]
) -> dict[str, Any]:
    """Measure in a process of its own, whose cache folder is empty."""
    with tempfile.TemporaryDirectory(dir=case.folder) as home:
        environment = os.environ | {
            "POLARS_MAX_THREADS": str(KINDS[name].threads),
            "XDG_CACHE_HOME": home,
        }
        numbers = [str(n_queries), str(runs), str(seconds)]
        command = [sys.executable, "-m", "bench.peers.worker", str(case.folder), name, *numbers]
        ran = subprocess.run(
            [*command, *sets], env=environment, cwd=_ROOT, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    if ran.returncode:
        lines = ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"]
        if lines[-1].startswith("AssertionError"):
            raise AssertionError(lines[-1])
        raise RuntimeError(lines[-1])
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def _summary(row: dict[str, Any]) -> str:
    if "skipped" in row:
        return f"skipped, {row['skipped']}"
    times = ", ".join(
        f"{which} {times['wall'] / times['n'] * 1e9:.0f}" for which, times in row["sets"].items()
    )
    return f"{times} ns a query"


def _machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    system = f"{platform.system()} {platform.release()}"
    return f"{len(os.sched_getaffinity(0))} cores, {model}, {memory:.0f} GiB, {system}"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "missing"
    return versions
