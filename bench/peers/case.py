"""The data of one comparison: layers, queries and the answers that everybody must give.

A case is a folder, so that each peer can read it in a process of its own. Tags are numbered: layers
in order, in each its tags in the order of the file. The answer to a query is the lowest number of a
tag with that digest, the first in the first layer that has it; -1 where there is none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from bench.data import random_digests, write_store
from vecache import CacheFile, build_cache

if TYPE_CHECKING:
    from vecache.arrays import I64, U8

__all__ = ["SETS", "Case", "make_case", "make_real_case"]

SETS = {"unknown": 0.0, "half": 0.5, "known": 1.0}
"""How many of the queries some layer has."""

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
_REAL_QUERIES = 200_000


@dataclass(frozen=True)
class Case:
    """A comparison's data in its folder."""

    folder: Path
    name: str

    def layer_paths(self) -> list[Path]:
        """Return the cache files in layer order."""
        return sorted(self.folder.glob("*.cache"))

    def toc_paths(self) -> list[Path]:
        """Return the TOCs that the cache files were built from; none for synthetic layers."""
        return sorted(self.folder.glob("*.toc"))

    def starts(self) -> I64:
        """(n_layers,) int64: the number of each layer's first tag."""
        starts: I64 = np.load(self.folder / "starts.npy")
        return starts

    def digests(self) -> U8:
        """(n_tags, 32) uint8: the digest of every tag."""
        raw: U8 = np.fromfile(self.folder / "digests.bin", np.uint8).reshape(-1, 32)
        return raw

    def n_tags(self) -> int:
        """Return the number of tags in all layers."""
        return (self.folder / "digests.bin").stat().st_size // 32

    def query_path(self, which: str) -> Path:
        """Return the file of a set's raw digests."""
        return self.folder / f"queries-{which}.bin"

    def queries(self, which: str, n: int) -> U8:
        """(n, 32) uint8: the first queries of a set."""
        raw: U8 = np.fromfile(self.query_path(which), np.uint8, 32 * n).reshape(-1, 32)
        return raw

    def n_queries(self) -> int:
        """Return the number of queries in each set."""
        return next(self.folder.glob("queries-*.bin")).stat().st_size // 32

    def expected(self, which: str, n: int) -> I64:
        """(n,) int64: the answers to these queries."""
        answers: I64 = np.load(self.folder / f"expected-{which}.npy")[:n]
        return answers


def make_case(folder: Path, n_tags: int, n_layers: int, n_queries: int) -> Case:
    """Write a synthetic case; a fifth of the tags has its digest from a pool of all layers."""
    folder.mkdir()
    paths, raw, first = write_store(folder, n_tags, n_layers)
    counts = [CacheFile.open(path).n_tags for path in paths]
    return _write_case(folder, f"{_short(n_tags)} tags", counts, raw, first, n_queries)


def make_real_case(folder: Path) -> Case | None:
    """Write the case of 12 layers of real images; None where the golden data is not there."""
    tocs = [
        GOLDEN / "debian" / "layers" / f"{record['id']}.toc.json.zst"
        for record in json.loads(_read_text(GOLDEN / "debian" / "layers.json") or "[]")
    ]
    layered = list((GOLDEN / "layered" / "layers").glob("*.toc.zst"))
    tocs += sorted(layered, key=lambda path: (-path.stat().st_size, path.name))[: 12 - len(tocs)]
    if len(tocs) < 12:
        return None
    folder.mkdir()
    files = []
    for number, path in enumerate(tocs):
        with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
            toc = bytes(stream.read())
        data = build_cache(toc)
        (folder / f"{number:05}.toc").write_bytes(toc)
        (folder / f"{number:05}.cache").write_bytes(data)
        files.append(CacheFile.parse(data))
    raw = np.concatenate([file.packed[:, 7:] for file in files])
    # A dict that keeps the first of each digest: the slow way, and not one of ours.
    first_of: dict[bytes, int] = {}
    first = np.array(
        [
            first_of.setdefault(digest, row)
            for row, digest in enumerate(raw.view("V32")[:, 0].tolist())
        ]
    )
    counts = [file.n_tags for file in files]
    return _write_case(folder, "12 real layers", counts, raw, first, _REAL_QUERIES)


def _write_case(
    folder: Path, what: str, counts: list[int], raw: U8, first: I64, n_queries: int
) -> Case:
    raw.tofile(folder / "digests.bin")
    np.save(folder / "starts.npy", np.cumsum([0, *counts[:-1]]))
    rng = np.random.default_rng(8)
    for which, share in SETS.items():
        queries = random_digests(rng, n_queries)
        expected = np.full(n_queries, -1, np.int64)
        asked = rng.permutation(n_queries)[: round(share * n_queries)]
        tag = rng.integers(0, len(raw), len(asked))
        queries[asked], expected[asked] = raw[tag], first[tag]
        queries.tofile(folder / f"queries-{which}.bin")
        np.save(folder / f"expected-{which}.npy", expected)
    layers = "" if "layers" in what else f", {len(counts):,} layers"
    return Case(folder, f"{what}{layers}")


def _short(number: int) -> str:
    for unit, name in ((10**6, " M"), (10**3, " k")):
        if number >= unit and number % (unit // 10) == 0:
            return f"{number / unit:g}{name}"
    return f"{number:,}"


def _read_text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
