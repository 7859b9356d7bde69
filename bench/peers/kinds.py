"""The peers by name: what each is called, and within which sizes it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from bench.peers.case import Case
    from vecache.arrays import I64, U8

__all__ = ["KINDS", "Kind", "Peer"]


class Peer(Protocol):
    """One way to answer. Created with its data loaded, before any clock starts."""

    def __init__(self, case: Case, threads: int) -> None: ...

    def prepare(self, raw: U8) -> Any:
        """Bring (n, 32) queries into the peer's own form; not timed."""

    def build(self) -> None:
        """Make ready for queries; timed apart."""

    def ask(self, prepared: Any) -> Any:
        """Answer all queries; timed."""

    def positions(self, answers: Any) -> I64 | None:
        """(n,) int64: the answers as numbers of tags, -1 where absent; None where it gives none."""


@dataclass(frozen=True)
class Kind:
    """One row of the tables."""

    title: str
    where: str
    threads: int = 1
    locates: bool = False  # whether the time includes reading locations
    max_tags: int = 10**9
    scanned: int = 0  # most queries times layers in one run; 0 for no bound
    colour: str = ""  # in the plots; empty where it is not drawn

    def load(self) -> type[Peer]:
        """Import the peer; ImportError where its package is not installed."""
        module, _, name = self.where.partition(":")
        peer: type[Peer] = getattr(import_module(f"bench.peers.{module}"), name)
        return peer

    def n_asked(self, n_queries: int, n_layers: int) -> int:
        """Return how many of the queries a run asks: fewer where each takes long."""
        return min(n_queries, self.scanned // n_layers) if self.scanned else n_queries


KINDS = {
    "vecache": Kind("vecache", "own:Vecache", colour="#9ecae1"),
    "vecache-2": Kind("vecache, 2 threads", "own:Vecache", 2, colour="#08519c"),
    "vecache-loc": Kind("vecache, with locations", "own:VecacheLocations", locates=True),
    "vecache-loc-2": Kind(
        "vecache, with locations, 2 threads", "own:VecacheLocations", 2, locates=True
    ),
    "duckdb": Kind("DuckDB join, 2 threads", "joins:DuckDB", 2, colour="#e6550d"),
    "polars": Kind("Polars join, 2 threads", "joins:Polars", 2, colour="#31a354"),
    "pyarrow": Kind(
        "pyarrow join, 2 threads", "joins:PyArrow", 2, max_tags=2 * 10**7, colour="#756bb1"
    ),
    "pandas": Kind("pandas get_indexer", "joins:Pandas", max_tags=2 * 10**7, colour="#636363"),
    "dict": Kind("dict of bytes", "joins:Dict", max_tags=2 * 10**7, colour="#bcbd22"),
    "layers": Kind("layer by layer, numpy", "own:LayerByLayer", scanned=10**7, colour="#e377c2"),
    "go": Kind("Go original", "go", locates=True, scanned=10**7, colour="#00add8"),
    "go-2": Kind("Go original, 2 goroutines", "go", 2, locates=True, scanned=10**7),
    "reads": Kind("random reads alone", "own:RandomReads"),
    "reads-2": Kind("random reads alone, 2 threads", "own:RandomReads", 2, colour="#000000"),
}
"""`pyarrow`, `pandas` and `dict` take hundreds of bytes a tag and end at 20 M tags."""
