"""Measure one peer on one case in this process, and print what came out as JSON.

Run by `run.py`: `python -m bench.peers.worker CASE PEER QUERIES RUNS SECONDS SET...`
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bench.peers.case import Case
from bench.peers.kinds import KINDS
from vecache import build_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["measure"]


def measure(
    case: Case, name: str, n_queries: int, runs: int, seconds: float, sets: Sequence[str]
) -> dict[str, Any]:
    """Build, ask each set of queries `runs` times, and check every answer.

    A set that took more than `seconds` is not asked again. Memory is counted from where the peer's
    own data and the queries are in memory.
    """
    kind = KINDS[name]
    peer = kind.load()(case, kind.threads)
    prepared = {which: peer.prepare(case.queries(which, n_queries)) for which in sets}
    gc.collect()
    resident, anonymous = _status("VmRSS"), _status("RssAnon")
    _reset_peak()
    _, build = _best(peer.build, 1, 0)
    results = {}
    for which in sets:
        answers, times = _best(partial(peer.ask, prepared[which]), runs, seconds)
        position = peer.positions(answers)
        if position is not None and not np.array_equal(position, case.expected(which, n_queries)):
            raise AssertionError(f"{kind.title}: other answers to {which} queries of {case.name}")
        results[which] = times | {"n": n_queries}
    peak, held = _status("VmHWM") - resident, _status("RssAnon") - anonymous
    memory = {"peak_bytes": peak, "held_bytes": held}
    tocs = _measure_tocs(case, runs, seconds) if name == "vecache" else []
    return {"build": build, "sets": results, **memory, "tocs": tocs}


def _measure_tocs(case: Case, runs: int, seconds: float) -> list[dict[str, Any]]:
    results = []
    for path, cache in zip(case.toc_paths(), case.layer_paths(), strict=False):
        toc = path.read_bytes()
        data, times = _best(partial(build_cache, toc), runs, seconds)
        if data != cache.read_bytes():
            raise AssertionError("build_cache: other bytes")
        results.append(times)
    return results


def _best(run: Callable[[], Any], runs: int, seconds: float) -> tuple[Any, dict[str, Any]]:
    """Return the result, and the wall and CPU seconds of the fastest run."""
    best, total, n_runs, result = (np.inf, np.inf), 0.0, 0, None
    while not n_runs or (n_runs < runs and total < seconds):
        result = None  # its memory is free again before the next
        cpu, wall = time.process_time(), time.perf_counter()
        result = run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        best, total, n_runs = min(best, (wall, cpu)), total + wall, n_runs + 1
    return result, {"wall": best[0], "cpu": best[1], "runs": n_runs}


def _status(key: str) -> int:
    """Return a size of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _reset_peak() -> None:
    """Let the peak of resident memory start again here, where the kernel can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _main(argv: list[str]) -> None:
    folder, name, n_queries, runs, seconds, *sets = argv
    case = Case(Path(folder), Path(folder).name)
    pa.set_cpu_count(KINDS[name].threads)
    result = measure(case, name, int(n_queries), int(runs), float(seconds), sets)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    _main(sys.argv[1:])
