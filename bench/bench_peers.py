"""Every peer gives the same answers, at a small size; `python -m bench.peers` measures them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.peers.case import SETS, Case, make_case, make_real_case
from bench.peers.curves import draw_curves
from bench.peers.go import GoMissingError, GoOriginal
from bench.peers.kinds import KINDS
from bench.peers.report import render
from bench.peers.run import Plan, Size, run_all
from bench.peers.worker import measure
from tests.golden import needs_debian

if TYPE_CHECKING:
    from collections.abc import Callable

N_QUERIES = 1000
PEERS = [name for name, kind in KINDS.items() if kind.where != "go"]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("peers") / "case", 1000, 10, N_QUERIES)


@pytest.mark.parametrize("name", PEERS)
def bench_peer(case: Case, name: str) -> None:
    try:
        KINDS[name].load()
        result = measure(case, name, N_QUERIES, 1, 0, tuple(SETS))
    except ImportError as error:
        pytest.skip(str(error))
    assert set(result["sets"]) == set(SETS)


@needs_debian
@pytest.mark.parametrize("name", ["vecache-loc", "layers", "dict"])
def bench_real_layers(tmp_path: Path, name: str) -> None:
    case = make_real_case(tmp_path / "real")
    assert case
    measure(case, name, N_QUERIES, 1, 0, tuple(SETS))


def bench_go_original(case: Case, tmp_path: Path) -> None:
    try:
        go = GoOriginal.build(Path(os.environ.get("VECACHE_BENCH_GO", "/")), tmp_path)
    except GoMissingError as error:
        pytest.skip(str(error))
    result = go.measure(case, "go-2", N_QUERIES, 1, 0, tuple(SETS))
    assert set(result["sets"]) == set(SETS)


def bench_go_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GoMissingError, match="apt install golang-go"):
        GoOriginal.build(tmp_path, tmp_path)


def wrong_answers(expected: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: expected(*arguments) + 1


def bench_other_answers_are_an_error(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Case, "expected", wrong_answers(Case.expected))
    with pytest.raises(AssertionError, match="other answers"):
        measure(case, "dict", N_QUERIES, 1, 0, ("half",))


def bench_report(tmp_path: Path) -> None:
    sizes = [
        Size(1000, 10, N_QUERIES),
        Size(2000, 10, N_QUERIES),
        Size(1000, 20, N_QUERIES, ("half",)),
    ]
    peers = ("vecache", "go")
    lines: list[str] = []
    plan = Plan(
        sizes, peers, is_real=False, rounds=2, go_root=tmp_path, folder=tmp_path, say=lines.append
    )
    report = json.loads(json.dumps(run_all(plan)))
    assert [len(case["rows"]) for case in report["cases"]] == [1, 1, 1]
    assert any("Go original: skipped" in line for line in lines)
    for is_markdown in (False, True):
        text = render(report, "the command", is_markdown=is_markdown)
        assert "2 k tags, 10 layers, 1,000 queries" in text
        assert "the command" in text
    names = [path.name for path in draw_curves(report, tmp_path / "plots")]
    assert names == ["ns-by-tags.png", "ns-by-layers.png"]


def bench_no_time_left(tmp_path: Path) -> None:
    plan = Plan([Size(1000, 10, N_QUERIES)], ("vecache",), minutes=0, is_real=False, say=str)
    report = run_all(plan)
    assert not report["cases"]
    assert "1,000 tags: skipped, no time left" in report["notes"]
    assert "no time left" in render(report, "", is_markdown=True)
